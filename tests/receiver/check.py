"""The receiver's cases, by name: `check.py CASE`. tests/system/receiver.sh runs them all."""

from __future__ import annotations

import html
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from bench import PATH, RECEIVER, TREE, Nginx, Receive, directory, line, look, record


def expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        sys.exit(f"{what}: {found!r}, not {expected!r}")


def lines_of(spool: Path) -> list[str]:
    """The bodies of the whole lines."""
    bodies = []
    for file in spool.glob("*.jsonl"):
        for text in file.read_text(errors="replace").split("\n"):
            try:
                bodies.append(str(json.loads(text)["body"]))
            except (ValueError, TypeError):
                continue
    return bodies


def answers(at: Path) -> None:
    """What nginx says to whom, and what it does not keep."""
    nginx = Nginx(at / "nginx", limits=True)
    try:
        body = record()
        expect("a record", nginx.post(body), 200)
        expect("too big", nginx.post(b"x" * 8193), 413)
        expect("as big as may be", nginx.post(b"x" * 8192), 200)
        expect("another path", nginx.post(body, path="/"), 404)
        connection = nginx.connect()
        for method, path, status in [("GET", PATH, 405), ("PUT", PATH, 405), ("GET", "/health", 200)]:
            connection.request(method, path, headers={"User-Agent": "Mozilla/5.0 (secret)"})
            answer = connection.getresponse()
            answer.read()
            expect(f"{method} {path}", answer.status, status)
        connection.request("POST", PATH, body, {"User-Agent": "Mozilla/5.0 (secret)", "Cookie": "secret"})
        expect("a browser", connection.getresponse().read(), b"{}")
        kept = "".join(file.read_text() for file in nginx.spool.glob("*"))
        expect("lines", kept.count("\n{"), 3)
        expect("version of the program", kept.count('"version":"0.1.0"'), 2)
        keys = {key for text in kept.splitlines() if text for key in json.loads(text)}
        expect("keys", keys, {"time", "request", "version", "body"})
        kept += (nginx.directory / "error.log").read_text()
        expect("address or agent kept", ("127.0.0.1" in kept, "secret" in kept), (False, False))
        statuses = []
        for _ in range(400):
            connection = nginx.connect()
            connection.request("POST", PATH, body)
            answer = connection.getresponse()
            answer.read()
            connection.close()
            statuses.append((answer.status, answer.getheader("Retry-After")))
            if answer.status == 429:
                break
        expect("too many", statuses[-1], (429, "60"))
    finally:
        nginx.stop()


def killed_nginx(at: Path) -> None:
    """nginx is killed ten times while four clients post: what was answered 200 is there, once."""
    nginx = Nginx(at / "nginx")
    answered: list[str] = []
    posted: list[str] = []
    over = threading.Event()

    def client() -> None:
        while not over.is_set():
            try:
                connection = nginx.connect()
                while not over.is_set():
                    identity = str(uuid.uuid4())
                    posted.append(identity)
                    if nginx.post(record(id=identity), connection) == 200:
                        answered.append(identity)
            except (OSError, ValueError, HTTPException):
                time.sleep(0.05)

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    for _ in range(10):
        time.sleep(0.4)
        nginx.kill()
        nginx.start()
    time.sleep(0.4)
    over.set()
    for thread in clients:
        thread.join()
    nginx.stop()
    receive = Receive(at / "store", nginx.spool)
    receive.load()
    stored = [str(row[0]) for row in receive.rows("SELECT id FROM records_once")]
    expect("answered and lost", set(answered) - set(stored), set())
    expect("stored and not posted", set(stored) - set(posted), set())
    expect("stored twice", len(stored), len(set(stored)))
    expect("something was answered", len(answered) > 50, True)
    print(f"{len(answered)} answered, {len(stored)} stored")


def full_disk(at: Path) -> None:
    """A spool of 64 KB: what is answered 200 is there, the rest is answered 503; then there is room again."""
    nginx = Nginx(at / "nginx", tmpfs="size=64k")
    try:
        spool = Path(f"/proc/{nginx.process.pid}/root") / nginx.spool.relative_to("/")
        connection = nginx.connect()
        answered, refused = [], 0
        for number in range(300):
            identity = str(uuid.uuid4())
            # Of different lengths, so that the last one is cut somewhere.
            status = nginx.post(record(id=identity, arch="x" * (number % 97)), connection)
            if status == 200:
                answered.append(identity)
            else:
                expect("refused", status, 503)
                refused += 1
        expect("refused at all", refused > 100, True)
        connection.request("GET", "/health")
        health = connection.getresponse()
        health.read()
        expect("health", health.status, 503)
        inside = ["nsenter", "--mount", "--target", str(nginx.process.pid)]
        subprocess.run([*inside, "mount", "-o", "remount,size=1m", str(nginx.spool)], check=True)
        last = str(uuid.uuid4())
        expect("room again", nginx.post(record(id=last), connection), 200)
        shutil.copytree(spool, at / "copy")
    finally:
        nginx.stop()
    receive = Receive(at / "store", at / "copy")
    receive.load()
    stored = {str(row[0]) for row in receive.rows("SELECT id FROM records_once")}
    expect("stored", stored, {*answered, last})


def full_store(at: Path) -> None:
    """`load` onto a full disk fails and says so; with room again, it loads what is missing, once."""
    lines, spool = 20_000, at / "spool"
    spool.mkdir()
    write(spool / "2026-11-26T00.jsonl", lines, random.Random(7))
    (at / "store").mkdir()
    receive = Receive(at / "store", spool)
    script = (
        'mount -t tmpfs -o size=6m none "$0" || exit 9; "$@" && exit 8; mount -o remount,size=400m "$0"; '
        '"$@" && cp -a "$0" "$0.copy"'
    )
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        script,
        str(receive.store),
        *receive.base,
        "load",
        "--spool",
        str(spool),
    ]
    ended = subprocess.run(command, capture_output=True, text=True)
    expect("status", (ended.returncode, ended.stderr[-2000:] if ended.returncode else ""), (0, ""))
    expect("says so", "receive: " in ended.stderr and "Traceback" not in ended.stderr, True)
    copy = Receive(at / "store.copy", spool)
    expect("counts", copy.requests(), {"requests": lines, "records": lines - lines // 10, "sent again": lines // 10})


def write(path: Path, lines: int, dice: random.Random) -> None:
    """A tenth of them again."""
    body, now = "", time.time()
    with open(path, "w") as file:
        for number in range(lines):
            if number % 10 != 9:
                body = record(os_name=f"System {number % 7}").decode()
            file.write(line(body, now - dice.random() * 86400, dice))


def killed_load(at: Path) -> None:
    """`load` is killed at 50 points of its time, and goes on each time: every line is there, and is there once."""
    lines, spool = 3000, at / "spool"
    spool.mkdir()
    for hour in range(6):
        write(spool / f"2026-11-26T0{hour}.jsonl", lines, random.Random(hour))
    receive = Receive(at / "store", spool)
    command = [*receive.base, "load", "--spool", str(spool)]
    receive.run("query", "SELECT 1")
    started = time.monotonic()
    whole = Receive(at / "whole", spool)
    whole.load()
    took = time.monotonic() - started
    points, killed, attempt = int(os.environ.get("POINTS", "50")), 0, 0
    while killed < points:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            child.wait(timeout=took * (0.25 + 0.75 * (attempt * 7 % points) / points))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            killed += 1
        else:
            # It came to its end: all is there, and the next one begins anew, so that all parts of a load are met.
            expect("counts", receive.requests(), whole.requests())
            shutil.rmtree(receive.store)
        child.wait()
        attempt += 1
    receive.load()
    expect("counts", receive.requests(), whole.requests())
    expect(
        "counts",
        whole.requests(),
        {"requests": 6 * lines, "records": 6 * lines * 9 // 10, "sent again": 6 * lines // 10},
    )
    print(f"killed {killed} times in {attempt} loads, at a quarter to all of {took:.1f} s")


MARKS = [
    "<script>alert(1)</script>",
    "<img src=http://evil.example/x onerror=alert(1)>",
    "</style></svg><svg onload=alert(1)>",
    "'); DROP TABLE records; --",
    "$\\frac{1}{2}$ $x",
    "{{7*7}} ${7*7} %s %n",
    "\u202eesrever\u202c \u2028 \u0007 \x7f\x85",
    "\\N{DIGIT ONE} \\x00 \\",
    "]]><!--&lt;&#x3c;",
    "𝕳\U0001f4a9\u0301\u0301",
]


HOSTILE: list[Callable[[random.Random], bytes]] = [
    lambda dice: bytes(dice.getrandbits(8) for _ in range(dice.randrange(200))),
    lambda dice: b"[" * dice.randrange(8192),
    lambda dice: b'{"reports":' * dice.randrange(700),
    lambda dice: b'{"reports":[' + b"9" * dice.randrange(8000) + b"]}",
    lambda dice: record()[: dice.randrange(300)],
    lambda dice: record().replace(
        b'"PACKAGE"', dice.choice([b"null", b"1e999", b"[]", b"{}", b'"\\u0000"', b'"\\ud800"'])
    ),
    lambda dice: record().replace(b'"id"', b'"id":1,"id"'),
    lambda dice: record(os_name=dice.choice(MARKS)),
    lambda dice: record(version=dice.choice(MARKS)),
    lambda dice: record(deployment=dice.choice(MARKS), arch=dice.choice(MARKS)),
    lambda dice: record(family=dice.choice(MARKS)),
    lambda dice: record(os_name="x" * dice.randrange(7000)),
    lambda dice: b"'; DROP TABLE raw; --",
    lambda dice: json.dumps({"batch": [{"id": MARKS}], "timestamp": None}).encode(),
    lambda dice: record().replace(b"{", b"{\n\r\t "),
]


def hostile(at: Path) -> None:
    """10,000 bodies that mean harm: none breaks a load, none is on the page but as text."""
    posts, count, dice = 1000, 10_000, random.Random(19)
    nginx = Nginx(at / "nginx")
    try:
        connection = nginx.connect()
        for number in range(posts):
            expect("answer", nginx.post(HOSTILE[number % len(HOSTILE)](dice), connection), 200)
    finally:
        nginx.stop()
    with open(nginx.spool / "2026-11-26T00.jsonl", "a") as file:
        for number in range(count - posts):
            body = HOSTILE[number % len(HOSTILE)](dice).decode("utf-8", "replace")
            file.write(line(body, time.time(), dice))
    receive = Receive(at / "store", nginx.spool)
    expect("load", receive.load().strip(), f"{count} new lines")
    counts = receive.requests()
    expect("requests", counts["requests"], count)
    rejected = sum(n for kind, n in counts.items() if kind.startswith("rejected"))
    expect("none is missing", counts["records"] + counts["sent again"] + rejected, count)
    expect("some of each", (counts["records"] > 1000, rejected > 1000), (True, True))
    for page in (receive.report(at / "page.html"), receive.report(at / "public.html", "--public")):
        for mark in MARKS:
            if "<" in mark and mark in page:
                sys.exit(f"not escaped: {mark}")
        expect(
            "tags", {tag for tag in ("<script", "<img", "onload=alert(1)>", "onerror=alert(1)>") if tag in page}, set()
        )
    expect("a mark is there, as text", html.escape(MARKS[0]) in receive.report(at / "page.html"), True)
    if shutil.which("chromium"):
        expect("in a browser", look(at / "page.html", at / "page.png"), (7, []))
    print(counts)


def sixth(at: Path) -> None:
    """A product whose profile this code has never seen: the profile's file is enough."""
    shutil.copytree(TREE / "profiles", at / "profiles")
    profile = {
        "name": "newcomer",
        "identity": {"instance.id": {"file": "x", "format": "ksuid"}},
        "set": {"extra": {}},
        "body": {
            "first?": "$cpu.count",
            "record": "r-${record.uuid}",
            "who": "$instance.id",
            "says": {"release": "$product.version", "system": "${os.name}/${os.version}", "more?": "$set.extra"},
        },
    }
    (at / "profiles/newcomer.json").write_text(json.dumps(profile))
    who = "2Ie8ynG6f1hTKs3EVjItsy0DBcn"
    good = f'{{"record":"r-{uuid.uuid4()}","who":"{who}","says":{{"release":"1.3","system":"Ubuntu\\"/22"}}}}'
    more = good.replace('"Ubuntu\\"/22"', '"Ubuntu/24","more":{"a":[1,"}"]}').replace(
        '{"record', '{"first":2,"record', 1
    )
    bodies = [good, more, good.replace(who, "short"), more.replace('"}"]}', '"}"'), good[:-1] + ',"evil":1}']
    bodies.append(more.replace('"a":[1,"}"]}', '"a":1},"evil":{}'))
    (at / "spool").mkdir()
    dice = random.Random(1)
    (at / "spool/a.jsonl").write_text("".join(line(body, time.time() + n, dice) for n, body in enumerate(bodies)))
    receive = Receive(at / "store", at / "spool", at / "profiles")
    receive.load()
    rows = receive.rows("SELECT product, version, os, instance, records FROM installs")
    # The second has the first one's id: it is the same record.
    expect("installs", rows, [["newcomer", "1.3", 'Ubuntu"/22', who, "1" if isinstance(rows[0][4], str) else 1]])
    counts = receive.requests()
    expect("rejected", sum(n for kind, n in counts.items() if kind.startswith("rejected")), 4)


def public(at: Path) -> None:
    """For publication: nothing that fewer than five installs have in common, nor by subtraction."""
    (at / "spool").mkdir()
    dice, now = random.Random(1), time.time()
    systems = {"Common": 20, "Five": 5, "Rare": 3, "Single": 1}
    bodies = [record(os_name=name).decode() for name, count in systems.items() for _ in range(count)]
    bodies += [record("PRODUCT_FAMILY_FEW").decode() for _ in range(2)]
    (at / "spool/a.jsonl").write_text("".join(line(body, now, dice) for body in bodies))
    receive = Receive(at / "store", at / "spool")
    receive.load()
    whole, page = receive.report(at / "a.html"), receive.report(at / "b.html", "--public")
    for name in ("Common", "Five", "Rare", "Single", "PRODUCT_FAMILY_FEW"):
        expect(f"{name} on the full page", name in whole, True)
    for name, there in {"Common": True, "Rare": False, "Single": False, "PRODUCT_FAMILY_FEW": False}.items():
        expect(f"{name} in public", name in page, there)
    for few in range(1, 5):
        expect(f"{few} in public", f"<td class=n>{few}</td>" in page, False)


def retention(at: Path) -> None:
    """Raw lines go after 30 days and the spool's files after a week; records stay."""
    (at / "spool").mkdir()
    dice, now = random.Random(1), time.time()
    old = [record().decode() for _ in range(10)]
    (at / "spool/old.jsonl").write_text("".join(line(body, now - 60 * 86400, dice) for body in [*old, "junk"]))
    os.utime(at / "spool/old.jsonl", (now - 60 * 86400, now - 60 * 86400))
    (at / "spool/new.jsonl").write_text(line(record().decode(), now, dice))
    receive = Receive(at / "store", at / "spool")
    receive.load()
    receive.load()
    expect("files", sorted(path.name for path in (at / "spool").iterdir()), ["new.jsonl"])
    expect("raw lines", receive.rows("SELECT count() FROM raw"), [[1]])
    expect("rejected", receive.rows("SELECT count() FROM rejected"), [[0]])
    expect("records", receive.rows("SELECT count() FROM records_once"), [[11]])


CASES = [answers, killed_nginx, full_disk, full_store, killed_load, hostile, sixth, public, retention]


def main() -> None:
    cases = {case.__name__: case for case in CASES}
    if len(sys.argv) != 2 or sys.argv[1] not in cases:
        sys.exit(f"usage: check.py {'|'.join(cases)}   (of {RECEIVER})")
    with directory(sys.argv[1]) as at:
        cases[sys.argv[1]](at)


if __name__ == "__main__":
    main()
