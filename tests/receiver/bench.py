"""What the tests and the figures of the receiver share: nginx on loopback, `receive`, and bodies made from profiles."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[2]
RECEIVER = TREE / "receiver"
PATH = "/v1/records"


class Nginx:
    """nginx with the project's own configuration on a free port of loopback; `limits` as they are, or none."""

    def __init__(self, directory: Path, *, limits: bool = False, tmpfs: str = "") -> None:
        self.directory, self.tmpfs = directory, tmpfs
        self.spool = directory / "spool"
        for name in ("tls", "spool", "body"):
            (directory / name).mkdir(parents=True)
            (directory / name).chmod(0o777)  # for the workers' user
        directory.chmod(0o755)
        make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
        make += "-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
        make += " -keyout tls/key.pem -out tls/cert.pem"
        subprocess.run(make.split(), cwd=directory, check=True, capture_output=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        text = (RECEIVER / "nginx.conf").read_text()
        text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl")
        text = re.sub(r"^.*listen \[::\].*$", "", text, flags=re.M)
        text = text.replace("/var/lib/install-record-receiver", str(directory))
        text = text.replace("from records.js", f"from {RECEIVER}/records.js")
        if not limits:
            text = re.sub(r"rate=\d+r/s", "rate=1000000r/s", text)
            text = re.sub(r"burst=\d+", "burst=1000000", text)
        (directory / "nginx.conf").write_text(text)
        self.context = ssl.create_default_context(cafile=str(self.ca))
        self.start()

    @property
    def ca(self) -> Path:
        return self.directory / "tls/cert.pem"

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}{PATH}"

    def start(self) -> None:
        command = ["nginx", "-p", str(self.directory), "-c", str(self.directory / "nginx.conf"), "-g", "daemon off;"]
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

    def stop(self) -> None:
        self.kill(signal.SIGTERM)

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("localhost", self.port, timeout=10, context=self.context)

    def post(self, body: bytes, connection: http.client.HTTPSConnection | None = None, path: str = PATH) -> int:
        used = connection or self.connect()
        used.request("POST", path, body, {"User-Agent": "install-record/0.1.0"})
        answer = used.getresponse()
        answer.read()
        if connection is None:
            used.close()
        return answer.status


class Receive:
    """`receive` with a store of its own."""

    def __init__(self, store: Path, spool: Path, profiles: Path = TREE / "profiles") -> None:
        self.store, self.spool = store, spool
        self.base = [sys.executable, str(RECEIVER / "receive"), "--store", str(store), "--profiles", str(profiles)]

    def run(self, *arguments: str, ok: bool = True) -> str:
        ended = subprocess.run([*self.base, *arguments], capture_output=True, text=True, timeout=900)
        if ok and ended.returncode:
            sys.exit(f"receive {' '.join(arguments)}: {ended.returncode}\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def load(self) -> str:
        return self.run("load", "--spool", str(self.spool))

    def rows(self, sql: str) -> list[list[Any]]:
        return [json.loads(line) for line in self.run("query", sql, "--format", "JSONCompactEachRow").splitlines()]

    def requests(self) -> dict[str, int]:
        return {str(kind): int(count) for kind, count in self.rows("SELECT * FROM requests")}

    def report(self, output: Path, *more: str) -> str:
        self.run("report", "--output", str(output), *more)
        return output.read_text()


def record(
    family: str = "PRODUCT_FAMILY_PS", version: str = "8.0.36-28", os_name: str = "Debian", **more: str
) -> bytes:
    """A body of the percona profile."""
    values = {"deployment": "PACKAGE", "arch": "x86_64 x86_64", "id": str(uuid.uuid4()), "instance": str(uuid.uuid4())}
    values.update(more)
    metrics = {
        "deployment": values["deployment"],
        "pillar_version": version,
        "OS": os_name,
        "hardware_arch": values["arch"],
    }
    report = {
        "id": values["id"],
        "product_family": family,
        "instanceId": values["instance"],
        "createTime": "2026-11-01T10:46:23Z",
        "metrics": [{"key": key, "value": value} for key, value in metrics.items()],
    }
    return json.dumps({"reports": [report]}, separators=(",", ":"), ensure_ascii=False).encode()


def line(body: str, when: float, dice: random.Random) -> str:
    """What records.js writes."""
    made = {"time": round(when, 3), "request": f"{dice.getrandbits(128):032x}", "version": "0.1.0", "body": body}
    return "\n" + json.dumps(made, separators=(",", ":"), ensure_ascii=False) + "\n"


@contextlib.contextmanager
def directory(name: str) -> Iterator[Path]:
    made = Path(os.environ.get("TMPDIR", "/tmp")) / f"receiver-{name}-{os.getpid()}"
    made.mkdir()
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def look(page: Path, picture: Path) -> tuple[int, list[str]]:
    """In headless Chromium: how many charts the page has, and what it asked a network for (Chromium's own aside)."""
    log = picture.with_suffix(".netlog")
    command = "unshare --net chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage "
    command += "--disable-background-networking --disable-component-update --no-first-run --window-size=900,4600 "
    command += f"--user-data-dir={picture.with_suffix('.profile')} --log-net-log={log} "
    address = page.resolve().as_uri()
    dom = ""
    for what in ("--dump-dom", f"--screenshot={picture}"):
        ended = subprocess.run(
            [*command.split(), what, address], capture_output=True, text=True, timeout=90, check=True
        )
        dom += ended.stdout
    asked = re.findall(r'"url":"((?:https?|wss?|ftp)://[^"]*)"', log.read_text())
    own = re.compile(r"https?://[a-z0-9.-]*\.?(?:google|googleapis|gvt1)\.com/")
    return dom.count("<figure"), sorted({url for url in asked if not own.match(url)})
