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

from bench import Nginx, Receive, directory, expect, look, record

SYSTEMS = ["Debian GNU/Linux 12 (bookworm)", "Oracle Linux Server 8.8", "Ubuntu 22.04.3 LTS", "Rocky Linux 9.3"]
FAMILIES = ["PRODUCT_FAMILY_PS", "PRODUCT_FAMILY_PXC", "PRODUCT_FAMILY_PSMDB", "PRODUCT_FAMILY_PMM"]
MACHINES = 25
STEP = "2.3.1", "2.4.0"


def machine(at: Path, number: int) -> None:
    """A system tree for `--root`."""
    system = SYSTEMS[number % len(SYSTEMS)]
    name, _, version = system.rpartition(" ")
    files = {
        "etc/os-release": f'PRETTY_NAME="{system}"\nNAME="{name}"\nVERSION="{version}"\n',
        "etc/machine-id": f"{number:032x}\n",
        "etc/memgraph/memgraph.conf": "--telemetry-enabled=true\n",
        "proc/1/comm": "systemd\n",
        "srv/app/package.json": f'{{"strapi":{{"uuid":"{uuid.uuid4()}"}}}}\n',
        "home/dev/.profile": "\n",
        "srv/data/.keep": "",
    }
    for path, text in files.items():
        (at / path).parent.mkdir(parents=True, exist_ok=True)
        (at / path).write_text(text)


def runs(number: int) -> dict[str, str]:
    """The arguments of 8 runs on a machine, and the product of which each sends a record; an upgrade sends none."""
    family = FAMILIES[number % len(FAMILIES)]
    memgraph = "--profile memgraph --state-dir /srv/data -v"
    return {
        f"-f {family} -v 8.0.36-28": family,
        f"-f {family} -v 8.0.37-29": "",
        "-f PRODUCT_FAMILY_PBM -v 2.4.1": "PRODUCT_FAMILY_PBM",
        "--profile medusa --event start --project /srv/app -v 1.20.10": "medusa",
        "--profile wundergraph --set command=wunderctl -v 0.180.0": "wundergraph",
        f"--profile strapi --project /srv/app -v {'4.1.0' if number % 2 else '4.2.0'}": "strapi",
        f"{memgraph} {STEP[0]}": "memgraph",
        f"{memgraph} {STEP[1]}": "memgraph",
    }


def check(what: str, found: object, expected: object) -> None:
    expect(what, found, expected)
    print(f"   ok: {what}: {found if isinstance(found, int) else 'equal'}")


def main(binary: str, at: Path, spool: Path) -> None:
    installs: Counter[str] = Counter()
    sent, ran = 0, 0
    with Nginx(spool / "nginx") as nginx:
        receive = Receive(at / "store", nginx.spool)
        environment = {"PATH": os.environ["PATH"], "HOME": "/home/dev", "SSL_CERT_FILE": str(nginx.ca)}
        print(f"== {MACHINES} machines, 8 runs each, to {nginx.url}")
        for number in range(MACHINES):
            root = at / f"machine-{number}"
            machine(root, number)
            products = runs(number)
            for arguments in products:
                command = f"{binary} send {arguments} --root {root} -u {nginx.url} -c 10 -t 20 --strict".split()
                ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
                expect(f"{command}: {ended.stderr}", ended.returncode, 0)
            ran += len(products)
            sent += sum(map(bool, products.values()))
            installs.update({product for product in products.values() if product})
        check("runs of the binary", ran, 200)
        bodies = sorted(str(made["body"]) for made in nginx.lines())
        check("records in nginx's lines", len(bodies), sent)
        print("== What else arrives: 20 of them again, and 30 that are no record")
        malformed = [b"", b"not JSON", b"[1,2", b"<script>alert(1)</script>", b'{"reports":[]}', record("a b")]
        for body in [*(body.encode() for body in bodies[::8][:20]), *malformed * 5]:
            expect("answered", nginx.post(body), 200)
    print("== load, and load again")
    print("  ", receive.load())
    print("  ", receive.load())
    counts = receive.requests()
    check("requests", counts, {"requests": sent + 50, "records": sent, "sent again": 20, "rejected": 30})
    rows = receive.rows("SELECT product, installs FROM installs_by_product")
    check("installs by product", {str(product): int(n) for product, n in rows}, dict(installs))
    upgrades = {str(step): int(n) for _, step, n in receive.rows("SELECT * FROM upgrades_by_version")}
    check("upgrades", upgrades, {" → ".join(STEP): MACHINES})
    rows = receive.rows("SELECT os, sum(installs) FROM installs_by_os WHERE product LIKE 'PRODUCT%' GROUP BY os")
    expected = Counter(SYSTEMS[number % len(SYSTEMS)] for number in range(MACHINES))
    check("systems", {str(name): int(n) for name, n in rows}, {name: 2 * n for name, n in expected.items()})
    print("== report")
    page = receive.report(at / "report.html")
    cells = {product: f"<tr><td>{product}</td><td class=n>{count:,}</td></tr>" for product, count in installs.items()}
    cells["requests"] = f"<td>requests</td><td class=n>{sent + 50}</td>"
    check("missing on the page", [what for what, cell in cells.items() if cell not in page], [])
    receive.report(at / "public.html", "--public")
    print(f"   {at}/report.html, public.html")
    if shutil.which("chromium"):
        print("== In a browser")
        check("charts", look(at / "report.html", at / "report.png"), (7, []))
        print(f"   {at}/report.png")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    # nginx's workers are another user, who cannot enter every directory.
    with directory("demo") as made:
        at = Path(sys.argv[2]).resolve() if len(sys.argv) == 3 else made / "page"
        at.mkdir(parents=True)
        main(sys.argv[1], at, made)
