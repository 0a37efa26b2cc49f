"""`make receiver-figures`: what docs/receiving.md says of sizes and times, measured again. Loopback only.

figures.py SECONDS LINES...    POSTs a second that nginx answers, by wrk; `load` of so many lines, its store, every view
"""

import os
import re
import subprocess
import sys
import time

from bench import OURS, RECEIVER, Nginx, Receive, directory, record, synthetic

PARTS = "SELECT table, sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'receiver' GROUP BY table"


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
    with directory() as at:
        expected = synthetic(at / "spool", lines, 500_000)
        receive = Receive(at / "store", at / "spool")
        took = measured(f"load of {lines:,} lines", *receive.base, "load", "--spool", str(receive.spool))
        files = [path for path in at.rglob("*") if path.is_file() and not path.is_symlink()]
        for what in "spool", "store":
            size = sum(path.stat().st_size for path in files if path.is_relative_to(at / what))
            print(f"{what}: {size / 1e6:,.0f} MB, {size / lines:.0f} bytes a line")
        for table, size in receive.rows(PARTS):
            print(f"  {table}: {int(size) / 1e6:,.0f} MB")
        print(f"{lines / took:,.0f} lines a second, counted as sent: {receive.requests() == expected}")
        start = measured("start", *receive.base, "query", "SELECT 1 FORMAT Null")
        for view in re.findall(r"CREATE OR REPLACE VIEW (\w+)", (RECEIVER / "views.sql").read_text()):
            measured(f"  {view}", *receive.base, "query", f"SELECT * FROM {view} FORMAT Null", start=start)


def posts(seconds: int) -> None:
    """A TLS client of its own for each connection and keepalive, as wrk does; then a handshake for each post."""
    with directory() as at, Nginx(at / "nginx") as nginx:
        script = at / "post.lua"
        script.write_text(f"wrk.method = 'POST'\nwrk.body = [==[{record().decode()}]==]\n")
        for connection in "keep-alive", "close":
            before = len(nginx.lines())
            command = ["wrk", "-t2", "-c32", f"-d{seconds}s", "-s", str(script), "-H", f"Connection: {connection}"]
            command += ["-H", f"User-Agent: {OURS}", nginx.url]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            answered, written = int(re.findall(r"(\d+) requests in", said)[0]), len(nginx.lines()) - before
            print(f"{connection}: {answered / seconds:,.0f} posts a second, {answered:,} answered, {written:,} lines")
            print(f"  another answer than 200: {'Non-2xx' in said}")


if __name__ == "__main__":
    posts(int(sys.argv[1]))
    for argument in sys.argv[2:]:
        load(int(argument))
