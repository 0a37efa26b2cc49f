"""`make receiver-figures`: what docs/receiving.md says of sizes and times, measured again. Loopback only.

figures.py LINES...         for example 500000 5000000: `load`, the store's size, every view, `report`
figures.py posts SECONDS    POSTs a second that nginx answers, by wrk, bounded in time
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path

from bench import PATH, RECEIVER, Nginx, Receive, directory, line, record

SYSTEMS = [f"System {number}.{minor}" for number in range(8) for minor in range(5)]
WEEKS = 4


def spool(at: Path, lines: int) -> int:
    """Synthetic lines over four weeks, a tenth of them records that were sent before. Returns the bytes."""
    dice, now = random.Random(lines), time.time()
    templates = [
        record(f"PRODUCT_FAMILY_{name}", f"8.0.{minor}", system, id="@ID@", instance="@IN@").decode()
        for name in ("PS", "PXC", "PSMDB", "PBM", "PMM")
        for minor in range(10)
        for system in SYSTEMS
    ]
    instances = [str(uuid.UUID(int=dice.getrandbits(128), version=4)) for _ in range(max(1, lines // 3))]
    recent: list[str] = []
    at.mkdir()
    for part in range(max(1, lines // 500_000)):
        with open(at / f"{part:05}.jsonl", "w") as file:
            for number in range(min(lines, 500_000)):
                when = now - dice.random() * WEEKS * 7 * 86400
                if number % 10 == 9:
                    body = recent[dice.randrange(len(recent))]
                else:
                    identity = str(uuid.UUID(int=dice.getrandbits(128), version=4))
                    template = templates[dice.randrange(len(templates))]
                    body = template.replace("@ID@", identity).replace("@IN@", instances[dice.randrange(len(instances))])
                    recent.append(body)
                    if len(recent) > 10_000:
                        recent.pop(0)
                file.write(line(body, when, dice))
    return sum(path.stat().st_size for path in at.iterdir())


def size(at: Path) -> float:
    return sum(path.stat().st_size for path in at.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def measured(command: list[str]) -> tuple[float, float, float]:
    """Seconds, seconds of processor time, and peak memory in MB of a process of ours."""
    started = time.monotonic()
    child = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"{command}: status {status}")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def load(lines: int) -> None:
    with directory(f"figures-{lines}") as at:
        written = spool(at / "spool", lines)
        print(f"== {lines:,} lines, {written / 1e6:,.0f} MB", flush=True)
        receive = Receive(at / "store", at / "spool")
        seconds, busy, memory = measured([*receive.base, "load", "--spool", str(receive.spool)])
        print(f"load: {seconds:.1f} s ({busy:.1f} s of processor), {memory:,.0f} MB")
        print(f"  {lines / seconds:,.0f} lines a second")
        stored = size(at / "store")
        print(f"store: {stored:,.0f} MB, {stored * 1e6 / lines:.0f} bytes a line")
        sql = (
            "SELECT table, sum(bytes_on_disk) / 1e6, count() FROM system.parts WHERE active AND database = 'receiver' "
        )
        for table, megabytes, parts in receive.rows(sql + "GROUP BY table ORDER BY table"):
            print(f"  {table}: {megabytes:,.0f} MB in {parts} parts")
        counts = receive.requests()
        expected = {"requests": lines, "records": lines - lines // 10, "sent again": lines // 10}
        print(f"counts: {counts}, as sent: {counts == expected}")
        views = re.findall(r"CREATE OR REPLACE VIEW (\w+)", (RECEIVER / "views.sql").read_text())
        start, _, _ = measured([*receive.base, "query", "SELECT 1 FORMAT Null"])
        for view in views:
            seconds, busy, memory = measured([*receive.base, "query", f"SELECT * FROM {view} FORMAT Null"])
            took = max(0.0, seconds - start)
            print(f"  {view}: {took:.1f} s ({busy:.1f} s of processor, start included), {memory:,.0f} MB", flush=True)
        seconds, busy, memory = measured([*receive.base, "report", "--output", str(at / "report.html")])
        print(f"report: {seconds:.1f} s ({busy:.1f} s of processor), {memory:,.0f} MB", flush=True)


def posts(seconds: int) -> None:
    """A TLS client of its own for each connection and keepalive, as wrk does; then a handshake for each post."""
    with directory("posts") as at:
        nginx = Nginx(at / "nginx")
        script = at / "post.lua"
        body = record().decode()
        script.write_text(
            f"wrk.method = 'POST'\nwrk.path = '{PATH}'\nwrk.body = [==[{body}]==]\n"
            "wrk.headers['User-Agent'] = 'install-record/0.1.0'\n"
            "if os.getenv('CLOSE') then wrk.headers['Connection'] = 'close' end\n"
        )
        try:
            for what, environment in {"kept connections": {}, "a handshake a post": {"CLOSE": "1"}}.items():
                before = sum(1 for file in nginx.spool.glob("*") for text in file.open() if text != "\n")
                command = ["wrk", "-t2", "-c32", f"-d{seconds}s", "-s", str(script), nginx.url]
                ended = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
                after = sum(1 for file in nginx.spool.glob("*") for text in file.open() if text != "\n")
                answered = int((re.search(r"(\d+) requests in", ended.stdout) or ["", "0"])[1])
                wrong = "Non-2xx" in ended.stdout
                print(
                    f"{what}: {answered / seconds:,.0f} posts a second, {answered:,} answered, {after - before:,} lines"
                )
                print(
                    f"  another answer than 200: {wrong}, answered and not written: {max(0, answered - after + before)}"
                )
        finally:
            nginx.stop()


if __name__ == "__main__":
    if sys.argv[1:2] == ["posts"]:
        posts(min(60, int(sys.argv[2])))
    elif sys.argv[1:]:
        for argument in sys.argv[1:]:
            load(int(argument))
    else:
        sys.exit(__doc__)
