"""What the tests and the figures of the receiver share: nginx on loopback, `receive`, and bodies made from profiles.

bench.py SECONDS LINES...    `make receiver-figures`, what docs/receiving.md says of sizes and times, measured again:
                             POSTs a second that nginx answers, by wrk; `load` of so many lines, its store, every view
"""

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[2]
RECEIVER, PROFILES = TREE / "receiver", TREE / "profiles"
PATH = "/v1/records"
OURS = "install-record/0.1.0"
PARTS = "SELECT table, sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'receiver' GROUP BY table"
CERTIFICATE = """openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE
    -keyout etc/tls/key.pem -out etc/tls/cert.pem"""
Connection = http.client.HTTPSConnection | None
# A status, a body, and Retry-After.
Answer = tuple[int, bytes, str | None]


def expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        sys.exit(f"   NOT TRUE: {what}: {found!r}, not {expected!r}")


class Nginx(contextlib.AbstractContextManager["Nginx"]):
    """nginx with the project's own configuration on a free port of loopback; `limits` as they are, or none."""

    def __init__(self, at: Path, *, limits: bool = False, tmpfs: str = "") -> None:
        self.at, self.spool, self.ca, self.tmpfs = at, at / "spool", at / "etc/tls/cert.pem", tmpfs
        for name in ("etc/tls", "spool", "body"):
            (at / name).mkdir(parents=True)
            (at / name).chmod(0o777)  # for the workers' user
        at.chmod(0o755)
        subprocess.run(CERTIFICATE.split(), cwd=at, check=True, capture_output=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"https://localhost:{self.port}{PATH}"
        changes = {
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            r"(?m)^.*listen \[::\].*$": "",
            "/var/lib/install-record-receiver": str(at),
            "/etc/install-record-receiver": str(at / "etc"),
            "from records.js": f"from {RECEIVER}/records.js",
        }
        if not limits:
            changes[r"\b(rate|burst)=\d+"] = r"\g<1>=1000000"
        text = (RECEIVER / "nginx.conf").read_text()
        for pattern, replacement in changes.items():
            text = re.sub(pattern, replacement, text)
        # Not in the prefix, as on a server: relative paths of some directives are looked up beside this file.
        (at / "etc/nginx.conf").write_text(text)
        self.context = ssl.create_default_context(cafile=str(self.ca))
        self.start()

    def start(self) -> None:
        command = ["nginx", "-p", str(self.at), "-c", str(self.at / "etc/nginx.conf"), "-g", "daemon off;"]
        if self.tmpfs:  # a disk that is full soon, in a mount namespace of its own
            mount = f'mount -t tmpfs -o {self.tmpfs},mode=1777 none "$0" && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", mount, str(self.spool), *command]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.1)
        sys.exit("nginx does not listen")

    def kill(self, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        self.process.wait()

    def __exit__(self, *_: object) -> None:
        self.kill(signal.SIGTERM)

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("localhost", self.port, timeout=10, context=self.context)

    def ask(self, how: str, body: bytes = b"", used: Connection = None, agent: str = OURS) -> Answer:
        connection, (method, path) = used or self.connect(), how.split()
        connection.request(method, path, body, {"User-Agent": agent, "Cookie": "secret"})
        answer = connection.getresponse()
        found = answer.status, answer.read(), answer.getheader("Retry-After")
        if used is None:
            connection.close()
        return found

    def post(self, body: bytes, used: Connection = None) -> int:
        return self.ask(f"POST {PATH}", body, used)[0]

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(text) for file in self.spool.glob("*") for text in file.read_text().splitlines() if text]


class Receive:
    """`receive` with a store of its own; `bodies` are what it finds in the spool."""

    def __init__(self, store: Path, spool: Path, profiles: Path = PROFILES, bodies: list[str] | None = None) -> None:
        self.store, self.spool = store, spool
        self.base = [sys.executable, str(RECEIVER / "receive"), "--store", str(store), "--profiles", str(profiles)]
        if bodies is not None:
            spool.mkdir()
            (spool / "a.jsonl").write_text("".join(line(body, time.time() + at) for at, body in enumerate(bodies)))
            self.load()

    def run(self, *arguments: str) -> str:
        ended = subprocess.run([*self.base, *arguments], capture_output=True, text=True, timeout=900)
        expect(f"receive {' '.join(arguments)}", (ended.returncode, ended.stderr if ended.returncode else ""), (0, ""))
        return ended.stdout

    def load(self) -> str:
        return self.run("load", "--spool", str(self.spool)).strip()

    def rows(self, sql: str) -> list[list[Any]]:
        return [json.loads(line) for line in self.run("query", sql, "--format", "JSONCompactEachRow").splitlines()]

    def ids(self) -> list[str]:
        return [str(row[0]) for row in self.rows("SELECT id FROM records_once")]

    def requests(self) -> dict[str, int]:
        """How many there were of each kind; all rejected ones are one kind."""
        counts = Counter(rejected=0)
        for kind, count in self.rows("SELECT * FROM requests"):
            counts[str(kind).split(":")[0]] += int(count)
        return dict(counts)

    def report(self, output: Path, *more: str) -> str:
        self.run("report", "--output", str(output), *more)
        return output.read_text()


def record(family: str = "PRODUCT_FAMILY_PS", id: str = "", instance: str = "", **more: str) -> bytes:
    """A body of the percona profile; `more` are metrics."""
    metrics = {"deployment": "PACKAGE", "pillar_version": "8", "OS": "Debian", "hardware_arch": "x86_64 x86_64"}
    report = {
        "id": id or str(uuid.uuid4()),
        "product_family": family,
        "instanceId": instance or str(uuid.uuid4()),
        "createTime": "2026-11-01T10:46:23Z",
        "metrics": [{"key": key, "value": value} for key, value in {**metrics, **more}.items()],
    }
    return json.dumps({"reports": [report]}, separators=(",", ":"), ensure_ascii=False).encode()


def line(body: str, when: float) -> str:
    """What records.js writes."""
    made = {"time": round(when, 3), "request": f"{random.getrandbits(128):032x}", "version": "0.1.0", "body": body}
    return "\n" + json.dumps(made, separators=(",", ":"), ensure_ascii=False) + "\n"


def synthetic(spool: Path, lines: int, in_a_file: int) -> dict[str, int]:
    """Lines over four weeks, a tenth of them records that were sent before; what `receive` must count."""
    instances = [str(uuid.uuid4()) for _ in range(lines // 3)]
    recent = deque[str](maxlen=10_000)

    def body(number: int) -> str:
        if number % 10 == 9:
            return random.choice(recent)
        family, version, system = f"PRODUCT_FAMILY_{number % 7}", f"8.0.{number % 11}", f"System {number % 41}"
        made = record(family, instance=random.choice(instances), pillar_version=version, OS=system)
        recent.append(made.decode())
        return recent[-1]

    spool.mkdir()
    for first in range(0, lines, in_a_file):
        numbers = range(first, min(first + in_a_file, lines))
        with open(spool / f"{first:09}.jsonl", "w") as file:
            file.writelines(line(body(number), time.time() - random.random() * 28 * 86400) for number in numbers)
    return {"requests": lines, "records": lines - lines // 10, "sent again": lines // 10, "rejected": 0}


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """A directory that goes away. nginx's workers are another user, and can enter it."""
    with tempfile.TemporaryDirectory(prefix="receiver-", ignore_cleanup_errors=True) as made:
        os.chmod(made, 0o755)
        yield Path(made)


def look(page: Path, picture: Path) -> tuple[int, list[str]]:
    """In headless Chromium: how many charts the page has, and what it asked a network for (Chromium's own aside)."""
    log = picture.with_suffix(".netlog")
    command = "unshare --net chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage "
    command += "--disable-background-networking --disable-component-update --no-first-run --window-size=900,4600 "
    command += f"--user-data-dir={picture.with_suffix('.profile')} --log-net-log={log} --dump-dom "
    command += f"--screenshot={picture} {page.resolve().as_uri()}"
    dom = subprocess.run(command.split(), capture_output=True, text=True, timeout=90, check=True).stdout
    asked = re.findall(r'"url":"((?:https?|wss?|ftp)://[^"]*)"', log.read_text())
    own = re.compile(r"https?://[a-z0-9.-]*\.?(?:google|googleapis|gvt1)\.com/")
    return dom.count("<figure"), sorted({url for url in asked if not own.match(url)})


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
