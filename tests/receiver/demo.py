"""`make receiver-demo`: 200 real runs of the binary, over TLS into nginx, through `load`, on the page; all counted.

demo.py BINARY DIRECTORY      the page stays in DIRECTORY, which is made
"""

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from bench import TREE, Nginx, Receive, directory, expect, look, record

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


def check(what: str, found: object, expected: object) -> None:
    expect(what, found, expected)
    print(f"   ok: {what}: {found if isinstance(found, int) else 'equal'}", flush=True)


def main(binary: str, at: Path, spool: Path) -> None:
    installs: Counter[str] = Counter()
    sent = 0
    with Nginx(spool / "nginx") as nginx:
        environment = {"HOME": "/home/dev", "SSL_CERT_FILE": str(nginx.ca)}
        print(f"== {MACHINES} machines, {len(RUNS)} runs each, to {nginx.url}")
        for number in range(MACHINES):
            root, family = at / f"machine-{number}", FAMILIES[number % len(FAMILIES)]
            machine(root, number)
            products = {product.format(family=family) for product, _ in RUNS if product}
            installs.update(products)
            for product, arguments in RUNS:
                command = f"{binary} send {arguments.format(family=family)} --root {root} -u {nginx.url}"
                command += " -c 10 -t 20 --strict"
                ended = subprocess.run(command.split(), env=environment, capture_output=True, text=True, timeout=60)
                expect(f"{command}: {ended.stderr}", ended.returncode, 0)
                sent += bool(product)
        bodies = sorted(str(made["body"]) for made in nginx.lines())
        check("records in nginx's lines", len(bodies), sent)
        print("== What else arrives: 20 of them again, and 30 that are no record")
        for body in [*(body.encode() for body in bodies[::8][:20]), *MALFORMED * 5]:
            expect("answered", nginx.post(body), 200)
    print("== load, and load again")
    receive = Receive(at / "store", nginx.spool)
    print("  ", receive.load())
    print("  ", receive.load())
    counts = receive.requests()
    check("requests", counts, {"requests": sent + 50, "records": sent, "sent again": 20, "rejected": 30})
    rows = receive.rows("SELECT product, toInt32(installs) FROM installs_by_product")
    check("installs by product", dict(rows), dict(installs))
    rows = receive.rows("SELECT product, step, toInt32(installs) FROM upgrades_by_version")
    check("upgrades", rows, [["memgraph", "2.3.1 → 2.4.0", MACHINES]])
    rows = receive.rows("SELECT os, toInt32(sum(installs)) FROM installs_by_os WHERE product LIKE 'P%' GROUP BY os")
    expected = Counter(SYSTEMS[number % len(SYSTEMS)] for number in range(MACHINES))
    check("systems", dict(rows), {name: 2 * count for name, count in expected.items()})
    print("== report")
    page = receive.report(at / "report.html")
    cells = {product: f"<tr><td>{product}</td><td class=n>{count:,}</td></tr>" for product, count in installs.items()}
    cells["requests"] = f"<td>requests</td><td class=n>{sent + 50}</td>"
    check("missing on the page", [what for what, cell in cells.items() if cell not in page], [])
    receive.report(at / "public.html", "--public")
    if shutil.which("chromium"):
        check("charts in a browser", look(at / "report.html", at / "report.png"), (7, []))
    print("== report.html, public.html, report.png: in", at)


if __name__ == "__main__":
    # nginx's workers are another user, who cannot enter every directory.
    with directory() as made:
        at = Path(sys.argv[2]).resolve()
        at.mkdir(parents=True)
        main(sys.argv[1], at, made)
