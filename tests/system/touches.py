"""Runs every command with every profile under strace and compares what it opened, wrote and connected to with the table in
docs/security.md: BINARY, the page, a directory for the trace. Prints every difference. tests/system/touches.sh starts it in a
throwaway copy of the machine, with a receiver on loopback.

The table's first column is read, write or "read, write", or connect; paths are in backticks, `*` is anything. What is observed
and in no row is a difference, and so is a path of the table that no run has touched, and whatever a refused run does but read.
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
    "percona": ["-f", "PRODUCT_FAMILY_PS", "-v", "8.0.36-28"],
    "medusa": ["-v", "1.20.10", "--event", "start", "--project", "/srv/project"],
    "wundergraph": ["-v", "0.180.0", "--set", "command=wunderctl up"],
    "strapi": ["-v", "4.15.0", "--project", "/srv/project"],
    "memgraph": ["-v", "2.3.1", "--state-dir", "/var/lib/memgraph"],
}
COMMANDS = ["show", "send", "send", "status", "flush", "off", "send", "flush", "on", "forget", "check"]
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/root", "SSL_CERT_FILE": "/share/receiver/ca.pem"}
WRITES = {"creat", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "link", "linkat",
          "symlink", "symlinkat", "chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat", "truncate", "ftruncate",
          "utimensat", "mknod", "mknodat", "setxattr"}
# They name a path, and neither read nor write what is there.
UNASKED = {"execve", "getcwd", "chdir"}

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
AT = re.compile(r'(?:\w+<([^>]*)>|AT_FDCWD(?:<([^>]*)>)?), "((?:[^"\\]|\\.)*)"')
PLAIN = re.compile(r'^"((?:[^"\\]|\\.)*)"')
FD = re.compile(r"^\d+<([^>]*)>")
ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)")')


def deeds(line):
    """What a line of a trace reads, writes or connects to."""
    call = CALL.match(line)
    name, rest = call.groups() if call else ("", "")
    if name in ("clone", "clone3", "fork", "vfork", "socket"):
        yield "start", name
    if name == "connect" or (name in ("sendto", "sendmsg", "sendmmsg") and "sin" in rest):
        address = ADDRESS.search(rest)
        if address:
            yield "connect", f"{address[2] or address[3]}:{address[1]}"
        elif "AF_UNIX" in rest:
            yield "connect", rest
        return
    # What is sent and received is no path, though a DNS message whose random identifier begins with a slash looks like one.
    if not name or name in UNASKED or name.startswith(("send", "recv")):
        return
    paths = [os.path.join(a or b or "/", path) for a, b, path in AT.findall(rest)]
    alone = PLAIN.match(rest) or (FD.match(rest) if name in WRITES else None)
    if alone and not paths:
        paths = [alone[1]]
    is_write = name in WRITES or re.search(r"O_(WRONLY|RDWR|CREAT)", rest)
    for path in paths:
        if path.startswith("/"):
            # A file is replaced by a fresh one: .NAME.1234abcd.new beside it is NAME.
            path = re.sub(r"/\.([^/]+)\.[0-9a-f]{8}\.new$", r"/\1", os.path.normpath(path))
            yield "write" if is_write else "read", path


seen = {"read": {}, "write": {}, "connect": {}, "start": {}}
problems = []
TRACE = ["strace", "-f", "-y", "-s", "300", "-e", "trace=%file,%network,%process,fchmod,fchown,ftruncate", "-o"]


def run(words, extra=None, user=(), is_refused=False):
    """Traces one run; `extra` is more environment, where None takes a variable away. `user` is a command that runs it."""
    trace = Path(directory, "trace")
    environment = {name: value for name, value in (ENVIRONMENT | (extra or {})).items() if value is not None}
    subprocess.run([*user, *TRACE, trace, binary, *words], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, cwd="/", timeout=60, check=False)
    said = " ".join(f"{k}={v} " for k, v in (extra or {}).items()) + " ".join(words)
    for what, path in (deed for line in trace.read_text(errors="replace").splitlines() for deed in deeds(line)):
        seen[what].setdefault(path, said)
        if is_refused and (what != "read" or path == "/etc/resolv.conf"):
            problems.append(f"refused, and does {what} {path}: {said}")
    trace.unlink()


SENDING = ["-c", "10", "-t", "20", "-u", URL]
for profile, options in PROFILES.items():
    place = options[-2:] if options[-2] in ("--project", "--state-dir") else []
    for number, command in enumerate(COMMANDS):
        words = [command, "--profile", profile, *([*options, *SENDING] if command in ("send", "show") else place)]
        words = [command] if command == "flush" else [command, profile] if command == "check" else words
        run(words, is_refused="off" in COMMANDS[:number] and command in ("send", "flush"))
for command in ("status", "status --json", "facts", "off", "on", "flush", "forget", "help", "--version"):
    run(command.split())

# As a user who cannot write /var/lib: the state is beside the identity file.
os.chmod(directory, 0o777)
os.makedirs("/home/user", exist_ok=True)
os.chown("/home/user", 1000, 1000)
run(["send", *PROFILES["percona"], "-j", "/home/user/telemetry_uuid", *SENDING], {"HOME": "/home/user"},
    ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups"])
# A name that hosts(5) does not have, a proxy, the system's own authorities, and a system without an os-release or authorities.
run(["send", "-f", "PBM", "-v", "1", "-t", "2", "-u", "https://records.example/"])
run(["send", "-f", "PXB", "-v", "1", "-t", "2", "-u", "https://records.example/"], {"HTTPS_PROXY": "http://127.0.0.3:3128"})
run(["send", "-f", "PMM", "-v", "1", "-t", "2", "-u", URL], {"SSL_CERT_FILE": None})
# One "no" of each kind: an option, the environment, a caller's, a file; with a record that waits.
percona = ["send", *PROFILES["percona"], *SENDING]
run([*percona, "--telemetry-enabled=false"], is_refused=True)
run([*percona, "--strict"], {"PERCONA_TELEMETRY_DISABLE": "1"}, is_refused=True)
run(percona, user=["env", "DO_NOT_TRACK=1", "bash", "-c", 'env -u DO_NOT_TRACK "$@"; exit $?', "bash"], is_refused=True)
run(["flush"], {"DO_NOT_TRACK": "1"}, is_refused=True)
for path in ("/etc/environment", "/root/.config/fish/config.fish", "/etc/install-record/off"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(path).write_text("DO_NOT_TRACK=1\n")
    run(percona, is_refused=True)
    run(["flush"], is_refused=True)
    os.unlink(path)
for path in ("/etc/ssl/certs/ca-certificates.crt", "/etc/os-release", "/usr/lib/os-release", "/etc/machine-id", "/var/lib/dbus/machine-id"):
    Path(path).unlink(missing_ok=True)
run(["send", "-f", "PXC", "-v", "1", "-t", "2", "-u", URL], {"SSL_CERT_FILE": None})
run(["facts"])

allowed = table()
# The directories that identity files are in. Only where one cannot write /var/lib is state beside them.
for beside in ("/usr/local/percona", "/root/.config/medusa", "/root", "/srv/project", "/var/lib/memgraph"):
    seen["read"].pop(f"{beside}/.install-record", None)
del seen["start"]
for what, paths in seen.items():
    patterns = allowed[what] + (allowed["write"] if what == "read" else [])
    for path, by in sorted(paths.items()):
        # A directory on the way to what is named is opened to hold it.
        on_the_way = what == "read" and any(pattern.startswith(path.rstrip("/") + "/") for pattern in patterns) or path == "/"
        # What is beside a file whose name begins with a dot has only that one dot.
        names = (path, os.path.join(os.path.dirname(path), "." + os.path.basename(path)))
        if not on_the_way and not any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns):
            problems.append(f"not in the table: {what} {path} (first by: {by})")
    for pattern in allowed[what]:
        touched = list(paths) + (list(seen["write"]) if what == "read" else [])
        if not any(fnmatch.fnmatchcase(path, pattern) for path in touched):
            problems.append(f"in the table, and not touched: {what} {pattern}")
print("\n".join(problems) or f"{sum(map(len, seen.values()))} paths and addresses")
sys.exit(bool(problems))
