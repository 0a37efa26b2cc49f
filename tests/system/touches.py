"""Runs every command with every profile under strace and compares what it opened, wrote and connected to with the table in
docs/security.md: BINARY, the page, a directory for the trace. Prints every difference. tests/system/touches.sh starts it in a
throwaway copy of the machine, with a receiver on loopback. That a refused run only reads is shown by tests/shipped/consent.rs.

The table's first column is read, write or "read, write", or connect; paths are in backticks, `*` is anything. What is observed
and in no row is a difference, and so is a path of the table that no run has touched.
"""

import fnmatch
import os
import re
import subprocess
import sys
from pathlib import Path

binary, page, directory = sys.argv[1:]
URL = "https://check.percona.com:8443/v1/telemetry/GenericReport"
PROFILES = {
    "percona": "-f PRODUCT_FAMILY_PS -v 8.0.36-28",
    "medusa": "-v 1.20.10 --event start --project /srv/project",
    "wundergraph": "-v 0.180.0 --set command=wunderctl",
    "strapi": "-v 4.15.0 --project /srv/project",
    "memgraph": "-v 2.3.1 --state-dir /var/lib/memgraph",
}
COMMANDS = "show send send status flush off send flush on forget check".split()
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/root", "SSL_CERT_FILE": "/share/receiver/ca.pem"}
WRITES = re.compile("creat|mkdir|mknod|unlink|rmdir|rename|(sym)?link|f?ch(mod|own)|lchown|f?truncate|utime|setxattr")
# They name a path, and neither read nor write what is there. What is sent and received is no path, though a DNS message whose
# random identifier begins with a slash looks like one.
UNASKED = re.compile("execve|getcwd|chdir|send|recv")

# What the table calls by a name, and where it is here.
NAMES = {"~": "/root", "PROJECT": "/srv/project", "DATADIR": "/var/lib/memgraph",
         "BESIDE": "/home/user", "$SSL_CERT_FILE": "/share/receiver/ca.pem",
         "NAMESERVER": "127.0.0.53", "ENDPOINT": "127.0.0.1:8443", "PROXY": "127.0.0.3:3128"}


def expanded(pattern):
    for name, value in NAMES.items():
        if pattern == name or pattern.startswith((name + "/", name + ":")):
            pattern = value + pattern[len(name):]
    return pattern.rstrip("/")


def table():
    rows = Path(page).read_text().split("<!-- touches: begin -->")[1].split("<!-- touches: end -->")[0]
    allowed = {"read": [], "write": [], "connect": []}
    for cells in (row.split("|") for row in rows.splitlines()):
        for what in cells[1].strip().split(", ") if len(cells) > 3 else []:
            if what in allowed:
                allowed[what] += map(expanded, re.findall(r"`([^`]+)`", cells[2]))
    return allowed


# 12 openat(3</etc/install-record>, "off", O_RDONLY|O_CLOEXEC) = 4
CALL = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)(?: resumed>)?\((.*)$")
PATH = re.compile(r'(?:^|(?:AT_FDCWD|\d+)(?:<([^>]*)>)?, )"((?:[^"\\]|\\.)*)"')
FD = re.compile(r"^\d+(<([^>]*)>)")
ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"')


def deeds(line):
    """What a line of a trace reads, writes or connects to."""
    call = CALL.match(line)
    name, rest = call.groups() if call else ("getcwd", "")
    if name == "connect" or (name in ("sendto", "sendmsg", "sendmmsg") and "sin" in rest):
        address = ADDRESS.search(rest)
        if address or "AF_UNIX" in rest:
            yield "connect", f"{address[2]}:{address[1]}" if address else rest
    elif not UNASKED.match(name):
        is_write = WRITES.match(name)
        paths = PATH.findall(rest) or (is_write and FD.findall(rest)) or []
        for path in (os.path.join(directory or "/", path) for directory, path in paths):
            # A file is replaced by a fresh one: .NAME.1234abcd.new beside it is NAME.
            path = re.sub(r"/\.([^/]+)\.[0-9a-f]{8}\.new$", r"/\1", os.path.normpath(path))
            yield "write" if is_write or re.search(r"O_(WRONLY|RDWR|CREAT)", rest) else "read", path


seen = {"read": {}, "write": {}, "connect": {}}
problems = []
TRACE = "strace -f -y -s 300 -e trace=%file,%network,fchmod,fchown,ftruncate -o".split()


def run(words, user=(), **variables):
    """Traces one run. `user` is a command that runs it. `variables` are more environment, where None takes one away."""
    trace = Path(directory, "trace")
    environment = {name: value for name, value in (ENVIRONMENT | variables).items() if value is not None}
    subprocess.run([*user, *TRACE, trace, binary, *words.split()], env=environment, stdin=subprocess.DEVNULL,
                   capture_output=True, cwd="/", timeout=60, check=False)
    for what, path in (deed for line in trace.read_text(errors="replace").splitlines() for deed in deeds(line)):
        seen[what].setdefault(path, f"{words} {variables}")
    trace.unlink()


SENDING = f"-c 10 -t 20 -u {URL}"
for profile, options in PROFILES.items():
    place = re.findall("--(?:project|state-dir) .*", options)
    for command in COMMANDS:
        more = {"send": f"{options} {SENDING}", "show": f"{options} {SENDING}"}.get(command, " ".join(place))
        words = {"flush": "flush", "check": f"check {profile}"}.get(command, f"{command} --profile {profile} {more}")
        run(words)
for words in ("status", "status --json", "facts", "off", "on", "flush", "forget", "help", "--version"):
    run(words)

# As a user who cannot write /var/lib: the state is beside the identity file.
os.chmod(directory, 0o777)
os.makedirs("/home/user", exist_ok=True)
os.chown("/home/user", 1000, 1000)
percona = f"send {PROFILES['percona']} {SENDING}"
run(f"{percona} -j /home/user/telemetry_uuid", "setpriv --reuid 1000 --regid 1000 --clear-groups".split(), HOME="/home/user")
# A name that hosts(5) does not have, a proxy, the system's own authorities, and a system without an os-release or authorities.
run("send -f PBM -v 1 -t 2 -u https://records.example/")
run("send -f PXB -v 1 -t 2 -u https://records.example/", HTTPS_PROXY="http://127.0.0.3:3128")
run(f"send -f PMM -v 1 -t 2 -u {URL}", SSL_CERT_FILE=None)
for path in ("/etc/ssl/certs/ca-certificates.crt", "/etc/os-release", "/usr/lib/os-release", "/etc/machine-id", "/var/lib/dbus/machine-id"):
    Path(path).unlink(missing_ok=True)
run(f"send -f PXC -v 1 -t 2 -u {URL}", SSL_CERT_FILE=None)
run("facts")

allowed = table()
# The directories that identity files are in. Only where one cannot write /var/lib is state beside them.
for beside in ("/usr/local/percona", "/root/.config/medusa", "/root", "/srv/project", "/var/lib/memgraph"):
    seen["read"].pop(f"{beside}/.install-record", None)
for what, patterns in allowed.items():
    # What is written may be read.
    named = patterns + (allowed["write"] if what == "read" else [])
    for path, by in sorted(seen[what].items()):
        # A directory on the way to what is named is opened to hold it.
        on_the_way = what == "read" and any(pattern.startswith(path.rstrip("/") + "/") for pattern in named) or path == "/"
        # What is beside a file whose name begins with a dot has only that one dot.
        names = path, os.path.join(os.path.dirname(path), "." + os.path.basename(path))
        if not on_the_way and not any(fnmatch.filter(names, pattern) for pattern in named):
            problems.append(f"not in the table: {what} {path} (first by: {by})")
    touched = [*seen[what], *(seen["write"] if what == "read" else [])]
    problems += [f"in the table, and not touched: {what} {it}" for it in patterns if not fnmatch.filter(touched, it)]
print("\n".join(problems) or f"{sum(map(len, seen.values()))} paths and addresses")
sys.exit(bool(problems))
