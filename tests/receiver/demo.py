"""`make receiver-demo`: 200 real runs of the binary, over TLS into nginx, through `load`, on the page; all counted.

demo.py BINARY [DIRECTORY]      the page stays in DIRECTORY, which is made
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path

from bench import TREE, Nginx, Receive, directory, look, record

SYSTEMS = ["Debian GNU/Linux 12 (bookworm)", "Oracle Linux Server 8.8", "Ubuntu 22.04.3 LTS", "Rocky Linux 9.3"]
FAMILIES = ["PRODUCT_FAMILY_PS", "PRODUCT_FAMILY_PXC", "PRODUCT_FAMILY_PSMDB", "PRODUCT_FAMILY_PMM"]
MACHINES = 25


def machine(at: Path, number: int) -> None:
    """A system tree for `--root`."""
    name, _, version = SYSTEMS[number % len(SYSTEMS)].rpartition(" ")
    files = {
        "etc/os-release": f'PRETTY_NAME="{SYSTEMS[number % len(SYSTEMS)]}"\nNAME="{name}"\nVERSION="{version}"\n',
        "etc/machine-id": f"{number:032x}\n",
        "etc/memgraph/memgraph.conf": "--telemetry-enabled=true\n",
        "proc/1/comm": "systemd\n",
        "proc/sys/kernel/osrelease": "6.1.0-18-amd64\n",
        "proc/sys/kernel/version": "#1 SMP Debian 6.1.76-1\n",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: EPYC\n",
        "proc/meminfo": "MemTotal: 4096 kB\nSwapTotal: 0 kB\n",
        "srv/app/package.json": f'{{"strapi":{{"uuid":"{uuid.uuid4()}"}}}}\n',
        "home/dev/.profile": "\n",
        "srv/data/.keep": "",
    }
    for path, text in files.items():
        (at / path).parent.mkdir(parents=True, exist_ok=True)
        (at / path).write_text(text)


def runs(number: int) -> list[tuple[str, list[str], int]]:
    """What is run on a machine, and how many records it makes: 8 runs."""
    family, old, new = FAMILIES[number % len(FAMILIES)], "2.3.1", "2.4.0"
    memgraph = ["--profile", "memgraph", "--state-dir", "/srv/data"]
    return [
        ("percona", ["-f", family, "-v", "8.0.36-28"], 1),
        ("percona", ["-f", family, "-v", "8.0.37-29"], 0),  # an upgrade: it has reported
        ("percona", ["-f", "PRODUCT_FAMILY_PBM", "-v", "2.4.1"], 1),
        ("medusa", ["--profile", "medusa", "--event", "start", "--project", "/srv/app", "-v", "1.20.10"], 1),
        ("wundergraph", ["--profile", "wundergraph", "--set", "command=wunderctl up", "-v", "0.180.0"], 1),
        ("strapi", ["--profile", "strapi", "--project", "/srv/app", "-v", "4.1.0" if number % 2 else "4.2.0"], 1),
        ("memgraph", [*memgraph, "-v", old], 1),
        ("memgraph", [*memgraph, "-v", new], 1),
    ]


def check(what: str, found: object, expected: object) -> None:
    if found != expected:
        sys.exit(f"   NOT TRUE: {what}: {found!r}, not {expected!r}")
    print(f"   ok: {what}: {found if isinstance(found, int) else 'equal'}")


def main(binary: str, at: Path, spool: Path) -> None:
    nginx = Nginx(spool / "nginx")
    receive = Receive(at / "store", nginx.spool)
    environment = {"PATH": os.environ["PATH"], "HOME": "/home/dev", "SSL_CERT_FILE": str(nginx.ca)}
    installs: Counter[str] = Counter()
    sent, ran = 0, 0
    try:
        print(f"== {MACHINES} machines, 8 runs each, to {nginx.url}")
        for number in range(MACHINES):
            root = at / f"machine-{number}"
            machine(root, number)
            reported = set()
            for profile, arguments, records in runs(number):
                more = ["--root", str(root), "-u", nginx.url, "-c", "10", "-t", "20", "--strict"]
                command = [binary, "send", *arguments, *more]
                ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
                if ended.returncode:
                    sys.exit(f"{command}: {ended.returncode}\n{ended.stderr}")
                ran += 1
                sent += records
                reported.add(arguments[1] if profile == "percona" else profile)
            installs.update(reported)
        check("runs of the binary", ran, 200)
        bodies = sorted(receive_lines(nginx.spool))
        check("records in nginx's lines", len(bodies), sent)
        print("== What else arrives: 20 of them again, and 30 that are no record")
        for body in bodies[::8][:20]:
            check_status(nginx.post(body.encode()))
        malformed = [b"", b"not JSON", b"[1,2", b"<script>alert(1)</script>", b'{"reports":[]}', record("a b")]
        for junk in malformed * 5:
            check_status(nginx.post(junk))
        print("== load, and load again")
        print("  ", receive.load().strip())
        print("  ", receive.load().strip())
    finally:
        nginx.stop()
    counts = receive.requests()
    check("requests", counts["requests"], sent + 20 + 30)
    check("records", counts["records"], sent)
    check("sent again", counts["sent again"], 20)
    check("rejected", sum(n for kind, n in counts.items() if kind.startswith("rejected")), 30)
    rows = receive.rows("SELECT product, installs FROM installs_by_product")
    check("installs by product", {str(product): int(n) for product, n in rows}, dict(installs))
    upgrades = {str(step): int(n) for _, step, n in receive.rows("SELECT * FROM upgrades_by_version")}
    check("upgrades", upgrades, {"2.3.1 → 2.4.0": MACHINES})
    rows = receive.rows("SELECT os, sum(installs) FROM installs_by_os WHERE product LIKE 'PRODUCT%' GROUP BY os")
    expected = Counter(SYSTEMS[number % len(SYSTEMS)] for number in range(MACHINES))
    check("systems", {str(name): int(n) for name, n in rows}, {name: 2 * n for name, n in expected.items()})
    print("== report")
    page = receive.report(at / "report.html")
    for product, count in installs.items():
        cell = f"<tr><td>{product}</td><td class=n>{count:,}</td></tr>"
        check(f"on the page: {product}", count if cell in page else None, count)
    check("on the page: requests", f"<td>requests</td><td class=n>{sent + 50}</td>" in page, True)
    receive.report(at / "public.html", "--public")
    print(f"   {at}/report.html, public.html")
    if shutil.which("chromium"):
        print("== In a browser")
        check("charts", look(at / "report.html", at / "report.png"), (7, []))
        print(f"   {at}/report.png")


def receive_lines(spool: Path) -> list[str]:
    import json

    return [json.loads(text)["body"] for file in spool.glob("*") for text in file.read_text().splitlines() if text]


def check_status(status: int) -> None:
    if status != 200:
        sys.exit(f"   NOT TRUE: answered {status}")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(f"usage: demo.py BINARY [DIRECTORY]   ({TREE})")
    # nginx's workers are another user, who cannot enter every directory.
    with directory("demo") as made:
        at = Path(sys.argv[2]).resolve() if len(sys.argv) == 3 else made / "page"
        at.mkdir(parents=True)
        main(sys.argv[1], at, made)
