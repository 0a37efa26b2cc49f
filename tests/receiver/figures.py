"""`make receiver-figures`: what docs/receiving.md says of sizes and times, measured again. Loopback only.

figures.py LINES...         for example 500000 5000000: `load`, the store's size, every view, `report`
figures.py posts SECONDS    POSTs a second that nginx answers, by wrk, bounded in time
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from bench import OURS, PATH, RECEIVER, Nginx, Receive, directory, record, synthetic


def size(at: Path) -> float:
    return sum(path.stat().st_size for path in at.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def measured(what: str, *command: str, start: float = 0) -> float:
    """Prints seconds, seconds of processor time and peak memory of a process of ours; the seconds beyond `start`."""
    started = time.monotonic()
    _, status, usage = os.wait4(os.posix_spawn(command[0], command, os.environ), 0)
    if status:
        sys.exit(f"{command}: status {status}")
    took = max(0.0, time.monotonic() - started - start)
    busy, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
    print(f"{what}: {took:.1f} s ({busy:.1f} s of processor, start included), {memory:,.0f} MB", flush=True)
    return took


def load(lines: int) -> None:
    with directory(f"figures-{lines}") as at:
        expected = synthetic(at / "spool", lines, 500_000)
        print(f"== {lines:,} lines, {size(at / 'spool'):,.0f} MB", flush=True)
        receive = Receive(at / "store", at / "spool")
        took = measured("load", *receive.base, "load", "--spool", str(receive.spool))
        print(f"  {lines / took:,.0f} lines a second")
        stored = size(at / "store")
        print(f"store: {stored:,.0f} MB, {stored * 1e6 / lines:.0f} bytes a line")
        sql = (
            "SELECT table, sum(bytes_on_disk) / 1e6, count() FROM system.parts WHERE active AND database = 'receiver' "
        )
        for table, megabytes, parts in receive.rows(sql + "GROUP BY table ORDER BY table"):
            print(f"  {table}: {megabytes:,.0f} MB in {parts} parts")
        counts = receive.requests()
        print(f"counts: {counts}, as sent: {counts == expected}")
        start = measured("start", *receive.base, "query", "SELECT 1 FORMAT Null")
        for view in re.findall(r"CREATE OR REPLACE VIEW (\w+)", (RECEIVER / "views.sql").read_text()):
            measured(f"  {view}", *receive.base, "query", f"SELECT * FROM {view} FORMAT Null", start=start)
        measured("report", *receive.base, "report", "--output", str(at / "report.html"))


def posts(seconds: int) -> None:
    """A TLS client of its own for each connection and keepalive, as wrk does; then a handshake for each post."""
    with directory("posts") as at, Nginx(at / "nginx") as nginx:
        script = at / "post.lua"
        script.write_text(
            f"wrk.method = 'POST'\nwrk.path = '{PATH}'\nwrk.body = [==[{record().decode()}]==]\n"
            f"wrk.headers['User-Agent'] = '{OURS}'\n"
            "if os.getenv('CLOSE') then wrk.headers['Connection'] = 'close' end\n"
        )
        for what, environment in {"kept connections": {}, "a handshake a post": {"CLOSE": "1"}}.items():
            before = len(nginx.lines())
            command = ["wrk", "-t2", "-c32", f"-d{seconds}s", "-s", str(script), nginx.url]
            said = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True).stdout
            written = len(nginx.lines()) - before
            answered = int((re.search(r"(\d+) requests in", said) or ["", "0"])[1])
            print(f"{what}: {answered / seconds:,.0f} posts a second, {answered:,} answered, {written:,} lines")
            lost = max(0, answered - written)
            print(f"  another answer than 200: {'Non-2xx' in said}, answered and not written: {lost}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["posts"]:
        posts(min(60, int(sys.argv[2])))
    elif not sys.argv[1:]:
        sys.exit(__doc__)
    else:
        for argument in sys.argv[1:]:
            load(int(argument))
