"""The receiver's cases: `check.py CASE`. tests/system/receiver.sh runs them all, `make receiver-demo` the last."""

import html
import json
import os
import random
import shutil
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from threading import Event

from bench import PATH, PROFILES, TREE, Nginx, Receive, directory, expect, line, look, record, synthetic


def answers(at: Path) -> None:
    """What nginx says to whom, and what it does not keep."""
    body, browser = record(), "Mozilla/5.0 (secret)"
    with Nginx(at / "nginx", limits=True) as nginx:
        expect("a record", nginx.ask(f"POST {PATH}", body), (200, b"{}", None))
        expect("too big", nginx.post(b"x" * 12289), 413)
        expect("as big as may be", nginx.post(b"x" * 12288), 200)
        expect("another path", nginx.ask("POST /", body)[0], 404)
        connection = nginx.connect()
        for how, status in {f"GET {PATH}": 405, f"PUT {PATH}": 405, "GET /health": 200, f"POST {PATH}": 200}.items():
            expect(f"{how} of a browser", nginx.ask(how, body, connection, browser)[0], status)
        kept = nginx.lines()
        expect("lines by program", [text["version"] for text in kept].count("0.1.0"), 2)
        expect("keys", [set(text) for text in kept], [{"time", "request", "version", "body"}] * 3)
        texts = json.dumps(kept) + (nginx.at / "error.log").read_text()
        expect("address or agent kept", ("127.0.0.1" in texts, "secret" in texts), (False, False))
        busy = (nginx.ask(f"POST {PATH}", body)[::2] for _ in range(400))
        expect("too many", next(found for found in busy if found != (200, None)), (429, "60"))


def killed_nginx(at: Path) -> None:
    """nginx is killed ten times while four clients post: what was answered 200 is there, once."""
    posted, answered, over = set[str](), set[str](), Event()

    def client(nginx: Nginx) -> None:
        connection = nginx.connect()
        while not over.is_set():
            identity = str(uuid.uuid4())
            posted.add(identity)
            try:
                if nginx.post(record(id=identity), connection) == 200:
                    answered.add(identity)
            except (OSError, ValueError, HTTPException):
                connection.close()
                time.sleep(0.05)

    with Nginx(at / "nginx") as nginx, ThreadPoolExecutor() as threads:
        clients = [threads.submit(client, nginx) for _ in range(4)]
        for _ in range(10):
            time.sleep(0.4)
            nginx.kill()
            nginx.start()
        time.sleep(0.4)
        over.set()
        for ended in clients:
            ended.result()
    receive = Receive(at / "store", nginx.spool)
    receive.load()
    stored = receive.ids()
    expect("answered and lost", answered - set(stored), set())
    expect("stored and not posted", set(stored) - posted, set())
    expect("stored twice", len(stored), len(set(stored)))
    expect("something was answered", len(answered) > 50, True)


def full_disk(at: Path) -> None:
    """A spool of 64 KB: what is answered 200 is there, the rest is answered 503."""
    with Nginx(at / "nginx", tmpfs="size=64k") as nginx:
        connection, statuses = nginx.connect(), {}
        for number in range(300):
            # Of different lengths, so that the last one is cut somewhere.
            identity = str(uuid.uuid4())
            statuses[identity] = nginx.post(record(id=identity, hardware_arch="x" * (number % 97)), connection)
        expect("statuses", set(statuses.values()), {200, 503})
        expect("health", nginx.ask("GET /health", used=connection)[0], 503)
        shutil.copytree(Path(f"/proc/{nginx.process.pid}/root") / nginx.spool.relative_to("/"), at / "copy")
    receive = Receive(at / "store", at / "copy")
    receive.load()
    expect("stored", set(receive.ids()), {identity for identity, status in statuses.items() if status == 200})


def full_store(at: Path) -> None:
    """`load` onto a full disk fails and says so; with room again, it loads what is missing, once."""
    (at / "store").mkdir()
    receive = Receive(at / "store", at / "spool")
    whole = synthetic(receive.spool, 20_000, 20_000)
    script = (
        'mount -t tmpfs -o size=6m none "$0" || exit 9; "$@" && exit 8; mount -o remount,size=400m "$0"; '
        '"$@" && cp -a "$0" "$0.copy"'
    )
    command = ["unshare", "--mount", "sh", "-c", script, str(receive.store), *receive.base, "load", "--spool"]
    ended = subprocess.run([*command, str(receive.spool)], capture_output=True, text=True)
    expect("status", (ended.returncode, ended.stderr[-2000:] if ended.returncode else ""), (0, ""))
    expect("says so", "receive: " in ended.stderr and "Traceback" not in ended.stderr, True)
    expect("counts", Receive(at / "store.copy", receive.spool).requests(), whole)


def killed_load(at: Path) -> None:
    """`load` is killed at 50 points of its time, and goes on each time: every line is there, and is there once."""
    receive = Receive(at / "store", at / "spool")
    whole = synthetic(receive.spool, 18_000, 3000)
    receive.run("query", "SELECT 1")
    started = time.monotonic()
    Receive(at / "whole", receive.spool).load()
    took = time.monotonic() - started
    points, killed, attempt = int(os.environ.get("POINTS", "50")), 0, 0
    while killed < points:
        limit = took * (0.25 + 0.75 * (attempt * 7 % points) / points)
        attempt += 1
        try:
            # At its limit, it is killed.
            subprocess.run([*receive.base, "load", "--spool", str(receive.spool)], capture_output=True, timeout=limit)
        except subprocess.TimeoutExpired:
            killed += 1
        else:
            # It came to its end: all is there, and the next one begins anew, so that all parts of a load are met.
            expect("counts", receive.requests(), whole)
            shutil.rmtree(receive.store)
    receive.load()
    expect("counts", receive.requests(), whole)


MARKS = [
    "<script>alert(1)</script>",
    "<img src=http://evil.example/x onerror=alert(1)>",
    "</style></svg><svg onload=alert(1)>",
    "'); DROP TABLE records; --",
    "$\\frac{1}{2}$ {{7*7}} ${7*7} %s %n",
    "\u202eesrever\u202c \u2028 \u0007 \x7f\x85 𝕳\U0001f4a9\u0301\u0301",
    "\\N{DIGIT ONE} \\x00 ]]><!--&lt;&#x3c; \\",
]
WORDS = [b"null", b"1e999", b"[]", b"{}", b'"\\u0000"', b'"\\ud800"']
HOSTILE: list[Callable[[random.Random], bytes]] = [
    lambda dice: dice.randbytes(dice.randrange(200)),
    lambda dice: dice.choice([b"[", b'{"reports":']) * dice.randrange(700),
    lambda dice: b'{"reports":[' + b"9" * dice.randrange(8000) + b"]}",
    lambda dice: record()[: dice.randrange(300)],
    lambda dice: record().replace(b'"PACKAGE"', dice.choice(WORDS)),
    lambda dice: record().replace(b'"id"', b'"id":1,"id"'),
    lambda dice: record(**{dice.choice(["OS", "pillar_version", "deployment"]): dice.choice(MARKS)}),
    lambda dice: record(dice.choice(MARKS)),
    lambda dice: record(OS="x" * dice.randrange(7000)),
    lambda dice: json.dumps({"batch": [{"id": MARKS}], "timestamp": None}).encode(),
    lambda dice: record().replace(b"{", b"{\n\r\t "),
]


def hostile(at: Path) -> None:
    """10,000 bodies that mean harm: none breaks a load, none is on the page but as text."""
    posts, count, dice = 1000, 10_000, random.Random(19)
    bodies = [HOSTILE[number % len(HOSTILE)](dice) for number in range(count)]
    with Nginx(at / "nginx") as nginx:
        connection = nginx.connect()
        for body in bodies[:posts]:
            expect("answer", nginx.post(body, connection), 200)
    lines = [line(body.decode("utf-8", "replace"), time.time()) for body in bodies[posts:]]
    (nginx.spool / "more.jsonl").write_text("".join(lines))
    receive = Receive(at / "store", nginx.spool)
    expect("load", receive.load(), f"{count} new lines")
    counts = receive.requests()
    expect("requests", (counts["requests"], sum(counts.values())), (count, 2 * count))
    expect("some of each", (counts["records"] > 1000, counts["rejected"] > 1000), (True, True))
    pages = receive.report(at / "page.html"), receive.report(at / "public.html", "--public")
    tags = ["<script", "<img", "onload=alert(1)>", "onerror=alert(1)>", *(mark for mark in MARKS if "<" in mark)]
    expect("not escaped", [tag for page in pages for tag in tags if tag in page], [])
    expect("a mark is there, as text", html.escape(MARKS[0]) in pages[0], True)
    if shutil.which("chromium"):
        expect("in a browser", look(at / "page.html", at / "page.png"), (7, []))


def sixth(at: Path) -> None:
    """A product whose profile this code has never seen: the profile's file is enough."""
    shutil.copytree(PROFILES, at / "profiles")
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
    # It has the first one's id: it is the same record.
    more = '{"first":2,' + good[1:].replace('"Ubuntu\\"/22"', '"Ubuntu/24","more":{"a":[1,"}"]}')
    bodies = [good, more, good.replace(who, "short"), more.replace('"}"]}', '"}"'), good[:-1] + ',"evil":1}']
    receive = Receive(at / "store", at / "spool", at / "profiles", bodies)
    rows = receive.rows("SELECT product, version, os, instance, toInt32(records) FROM installs")
    expect("installs", rows, [["newcomer", "1.3", 'Ubuntu"/22', who, 1]])
    expect("rejected", receive.requests()["rejected"], 3)


def public(at: Path) -> None:
    """For publication: nothing that fewer than five installs have in common, nor by subtraction."""
    bodies = [record(OS=name).decode() for name in ["Common"] * 20 + ["Five"] * 5 + ["Rare"] * 3 + ["Single"]]
    bodies += [record("PRODUCT_FAMILY_FEW").decode() for _ in range(2)]
    receive = Receive(at / "store", at / "spool", bodies=bodies)
    whole, page = receive.report(at / "a.html"), receive.report(at / "b.html", "--public")
    names = ["Common", "Rare", "Single", "PRODUCT_FAMILY_FEW", *(f"<td class=n>{few}</td>" for few in range(1, 5))]
    expect("on the full page", [name in whole for name in names[:4]], [True] * 4)
    expect("in public", [name for name in names if name in page], ["Common"])


def retention(at: Path) -> None:
    """Raw lines go after 30 days and the spool's files after a week; records stay."""
    then = time.time() - 60 * 86400
    (at / "spool").mkdir()
    old = [line(record().decode(), then) for _ in range(10)]
    (at / "spool/old.jsonl").write_text("".join([*old, line("junk", then)]))
    os.utime(at / "spool/old.jsonl", (then, then))
    (at / "spool/new.jsonl").write_text(line(record().decode(), time.time()))
    receive = Receive(at / "store", at / "spool")
    receive.load()
    receive.load()
    expect("files", [path.name for path in receive.spool.iterdir()], ["new.jsonl"])
    counts = [receive.rows(f"SELECT toInt32(count()) FROM {table}") for table in ("raw", "rejected", "records_once")]
    expect("raw lines, rejected, records", counts, [[[1]], [[0]], [[11]]])


SYSTEMS = ["Debian GNU/Linux 12 (bookworm)", "Oracle Linux Server 8.8", "Ubuntu 22.04.3 LTS", "Rocky Linux 9.3"]
FAMILIES = ["PRODUCT_FAMILY_PS", "PRODUCT_FAMILY_PXC", "PRODUCT_FAMILY_PSMDB", "PRODUCT_FAMILY_PMM"]
MACHINES = 25
# One after the other, on every machine: the product of which a run sends a record, if it does, and its arguments.
RUNS = [
    ("{family}", "-f {family} -v 8.0.36-28"),
    ("", "-f {family} -v 8.0.37-29"),
    ("PRODUCT_FAMILY_PBM", "-f PRODUCT_FAMILY_PBM -v 2.4.1"),
    ("medusa", "--profile medusa --event start --project /srv/app -v 1.20.10"),
    ("wundergraph", "--profile wundergraph --set command=wunderctl -v 0.180.0"),
    ("strapi", "--profile strapi --project /srv/app -v 4.2.0"),
    ("memgraph", "--profile memgraph --state-dir /srv/data -v 2.3.1"),
    ("memgraph", "--profile memgraph --state-dir /srv/data -v 2.4.0"),
]
MALFORMED = [b"", b"not JSON", b"[1,2", b"<script>alert(1)</script>", b'{"reports":[]}', record("a b")]


def machine(at: Path, number: int) -> None:
    """A system tree for `--root`, on which all products are."""
    shutil.copytree(TREE / "tests/roots/server", at)
    name, _, version = SYSTEMS[number % len(SYSTEMS)].rpartition(" ")
    (at / "etc/os-release").write_text(f'PRETTY_NAME="{name} {version}"\nNAME="{name}"\nVERSION="{version}"\n')
    for path in "etc/machine-id", "var/lib/dbus/machine-id":
        (at / path).write_text(f"{number:032x}\n")


def shown(what: str, found: object, expected: object) -> None:
    expect(what, found, expected)
    print(f"   ok: {what}: {found if isinstance(found, int) else 'equal'}", flush=True)


def demo(at: Path) -> None:
    """200 real runs of the binary, over TLS into nginx, through `load`, on the page, which stays in KEPT."""
    installs, sent, kept = Counter[str](), 0, Path(os.environ.get("KEPT", at)).resolve()
    with Nginx(at / "nginx") as nginx:
        environment = {"HOME": "/home/dev", "SSL_CERT_FILE": str(nginx.ca)}
        print(f"== {MACHINES} machines, {len(RUNS)} runs each, to {nginx.url}")
        for number in range(MACHINES):
            root, family = at / f"machine-{number}", FAMILIES[number % len(FAMILIES)]
            machine(root, number)
            products = {product.format(family=family) for product, _ in RUNS if product}
            installs.update(products)
            for product, arguments in RUNS:
                command = f"{os.environ['BINARY']} send {arguments.format(family=family)} --root {root} -u {nginx.url}"
                command += " -c 10 -t 20 --strict"
                ended = subprocess.run(command.split(), env=environment, capture_output=True, text=True, timeout=60)
                expect(f"{command}: {ended.stderr}", ended.returncode, 0)
                sent += bool(product)
        bodies = sorted(str(made["body"]) for made in nginx.lines())
        shown("records in nginx's lines", len(bodies), sent)
        print("== What else arrives: 20 of them again, and 30 that are no record")
        for body in [*(body.encode() for body in bodies[::8][:20]), *MALFORMED * 5]:
            expect("answered", nginx.post(body), 200)
    print("== load, and load again")
    receive = Receive(at / "store", nginx.spool)
    print("  ", receive.load())
    print("  ", receive.load())
    counts = receive.requests()
    shown("requests", counts, {"requests": sent + 50, "records": sent, "sent again": 20, "rejected": 30})
    rows = receive.rows("SELECT product, toInt32(installs) FROM installs_by_product")
    shown("installs by product", dict(rows), dict(installs))
    rows = receive.rows("SELECT product, step, toInt32(installs) FROM upgrades_by_version")
    shown("upgrades", rows, [["memgraph", "2.3.1 → 2.4.0", MACHINES]])
    rows = receive.rows("SELECT os, toInt32(sum(installs)) FROM installs_by_os WHERE product LIKE 'P%' GROUP BY os")
    expected = Counter(SYSTEMS[number % len(SYSTEMS)] for number in range(MACHINES))
    shown("systems", dict(rows), {name: 2 * count for name, count in expected.items()})
    print("== report")
    page = receive.report(kept / "report.html")
    cells = {product: f"<tr><td>{product}</td><td class=n>{count:,}</td></tr>" for product, count in installs.items()}
    cells["requests"] = f"<td>requests</td><td class=n>{sent + 50}</td>"
    shown("missing on the page", [what for what, cell in cells.items() if cell not in page], [])
    receive.report(kept / "public.html", "--public")
    if shutil.which("chromium"):
        shown("charts in a browser", look(kept / "report.html", kept / "report.png"), (7, []))
    print("== report.html, public.html, report.png: in", kept)


CASES = [answers, killed_nginx, full_disk, full_store, killed_load, hostile, sixth, public, retention, demo]

if __name__ == "__main__":
    with directory() as at:
        {case.__name__: case for case in CASES}[sys.argv[1]](at)
