"""Runs every command with every profile under strace and compares what it opened, wrote and connected to with the table in
docs/security.md: BINARY, the page, a directory for traces. Prints every difference. tests/system/touches.sh starts it in a
throwaway copy of the machine, with a receiver on loopback.

The table's first column is read, write or "read, write", or connect; paths are in backticks, `*` is anything. What is observed
and in no row is a difference, and so is a path of the table that no run has touched.
"""

import fnmatch
import os
import re
import subprocess
import sys

binary, page, traces = sys.argv[1:]
URL = "https://check.percona.com:8443/v1/telemetry/GenericReport"
PROFILES = {
    "percona": ["-f", "PRODUCT_FAMILY_PS", "-v", "8.0.36-28"],
    "medusa": ["-v", "1.20.10", "--event", "start", "--project", "/srv/project"],
    "wundergraph": ["-v", "0.180.0", "--set", "command=wunderctl up"],
    "strapi": ["-v", "4.15.0", "--project", "/srv/project"],
    "memgraph": ["-v", "2.3.1", "--state-dir", "/var/lib/memgraph"],
}
COMMANDS = ["show", "send", "send", "status", "flush", "off", "send", "on", "forget", "check"]
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/root", "SSL_CERT_FILE": "/share/receiver/ca.pem"}
WRITES = {"creat", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "link", "linkat",
          "symlink", "symlinkat", "chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat", "truncate", "ftruncate",
          "utimensat", "mknod", "mknodat", "setxattr"}


def table():
    text = open(page, encoding="utf-8").read()
    rows = text.split("<!-- touches: begin -->")[1].split("<!-- touches: end -->")[0]
    allowed = {"read": [], "write": [], "connect": []}
    for row in rows.splitlines():
        cells = [cell.strip() for cell in row.split("|")]
        if len(cells) > 3:
            for what in cells[1].split(", "):
                if what in allowed:
                    allowed[what] += re.findall(r"`([^`]+)`", cells[2])
    return allowed


# What the table calls by a name, and where it is here.
NAMES = {"~": "/root", "PROJECT": "/srv/project", "DATADIR": "/var/lib/memgraph",
         "BESIDE": "/home/user", "$SSL_CERT_FILE": "/share/receiver/ca.pem",
         "NAMESERVER": "127.0.0.53", "ENDPOINT": "127.0.0.1:8443", "PROXY": "127.0.0.3:3128"}


def expanded(patterns):
    found = []
    for pattern in patterns:
        for name, value in NAMES.items():
            if pattern == name or pattern.startswith((name + "/", name + ":")):
                pattern = value + pattern[len(name):]
        found.append(pattern.rstrip("/"))
    return found


seen = {"read": {}, "write": {}, "connect": {}}


def note(what, path, run):
    if path.startswith("/"):
        # A file is replaced by a fresh one: .NAME.1234abcd.new beside it is NAME.
        path = re.sub(r"/\.([^/]+)\.[0-9a-f]{8}\.new$", r"/\1", os.path.normpath(path))
    seen[what].setdefault(path, run)


def resolve(directory, path):
    return path if path.startswith("/") else os.path.join(directory, path)


# 12 openat(3</etc/install-record>, "off", O_RDONLY|O_CLOEXEC) = 4
CALL = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)(?: resumed>)?\((.*)$")
AT = re.compile(r'(?:(\w+)<([^>]*)>|AT_FDCWD(?:<([^>]*)>)?), "((?:[^"\\]|\\.)*)"')
PLAIN = re.compile(r'^"((?:[^"\\]|\\.)*)"')
FD = re.compile(r"^\d+<([^>]*)>")


def read_trace(file, run):
    for line in open(file, errors="replace"):
        call = CALL.match(line)
        if not call:
            continue
        name, rest = call.groups()
        if name == "connect" or (name in ("sendto", "sendmsg", "sendmmsg") and "sin" in rest):
            address = re.search(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)")', rest)
            if address:
                note("connect", f"{address[2] or address[3]}:{address[1]}", run)
            elif "AF_UNIX" in rest:
                note("connect", rest, run)
            continue
        if name in ("execve", "getcwd", "chdir") or "F_" in rest and name == "fcntl":
            continue
        paths = [resolve(a or b or "/", path) for _, a, b, path in AT.findall(rest)]
        plain = PLAIN.match(rest)
        if plain and not paths:
            paths = [plain[1]]
        if not paths and name in WRITES and FD.match(rest):
            paths = [FD.match(rest)[1]]
        is_write = name in WRITES or re.search(r"O_(WRONLY|RDWR|CREAT)", rest)
        for path in paths:
            if path in ("", ".") or not path.startswith("/"):
                continue
            note("write" if is_write else "read", path, run)


count = 0


def run(words, extra=None, user=()):
    """Traces one run; `extra` is more environment, where None takes a variable away."""
    global count
    count += 1
    trace = os.path.join(traces, str(count))
    environment = {name: value for name, value in (ENVIRONMENT | (extra or {})).items() if value is not None}
    subprocess.run([*user, "strace", "-f", "-y", "-s", "300", "-e", "trace=%file,%network,fchmod,fchown,ftruncate", "-o", trace, binary, *words],
                   env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, cwd="/", timeout=60, check=False)
    said = " ".join(f"{k}={v} " for k, v in (extra or {}).items()) + " ".join(words)
    read_trace(trace, said)


refused = []
for profile, options in PROFILES.items():
    for command in COMMANDS:
        words = [command]
        if command == "check":
            words += [profile]
        else:
            words += ["--profile", profile]
            if command in ("send", "show"):
                words += [*options, "-c", "10", "-t", "20"]
                words += ["-u", URL]
            elif "--project" in options or "--state-dir" in options:
                words += options[-2:]
        run(words)
    # A "no": nothing is written, nothing is connected to. Seen alone, so that a path of another run does not hide it.
    for no in ({"DO_NOT_TRACK": "1"}, {}):
        if not no:
            os.makedirs("/etc/install-record", exist_ok=True)
            open("/etc/install-record/off", "w", encoding="utf-8").close()
        kept, seen = seen, {"read": {}, "write": {}, "connect": {}}
        run(["send", "--profile", profile, *options, "-u", URL], no)
        refused += [f"refused, and {what} {path}: {words}" for what in ("write", "connect") for path, words in seen[what].items()]
        kept["read"] = seen["read"] | kept["read"]
        seen = kept
    os.unlink("/etc/install-record/off")
for words in (["status"], ["status", "--json"], ["facts"], ["off"], ["on"], ["flush"], ["forget"], ["help"], ["--version"]):
    run(words)

# As a user who cannot write /var/lib: the state is beside the identity file.
os.chmod(traces, 0o777)
os.makedirs("/home/user", exist_ok=True)
os.chown("/home/user", 1000, 1000)
run(["send", *PROFILES["percona"], "-j", "/home/user/telemetry_uuid", "-c", "10", "-t", "20", "-u", URL], {"HOME": "/home/user"},
    ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups"])
# A name that hosts(5) does not have, a proxy, the system's own authorities, and a system without an os-release or authorities.
run(["send", "-f", "PBM", "-v", "1", "-t", "2", "-u", "https://records.example/"])
run(["send", "-f", "PXB", "-v", "1", "-t", "2", "-u", "https://records.example/"], {"HTTPS_PROXY": "http://127.0.0.3:3128"})
run(["send", "-f", "PMM", "-v", "1", "-t", "2", "-u", URL], {"SSL_CERT_FILE": None})
for file in ("/etc/ssl/certs/ca-certificates.crt", "/etc/os-release", "/usr/lib/os-release", "/etc/machine-id", "/var/lib/dbus/machine-id"):
    if os.path.lexists(file):
        os.unlink(file)
run(["send", "-f", "PXC", "-v", "1", "-t", "2", "-u", URL], {"SSL_CERT_FILE": None})
run(["facts"])

if os.environ.get("LIST"):
    for what, paths in seen.items():
        print("\n".join(f"{what} {path}" for path in sorted(paths) if not re.match(r"/proc/\d", path)))
problems = refused
allowed = table()
# The directories that identity files are in. Only where one cannot write /var/lib is state beside them.
BESIDE = ["/usr/local/percona", "/root/.config/medusa", "/root", "/srv/project", "/var/lib/memgraph"]
seen["read"] = {path: by for path, by in seen["read"].items() if path not in [f"{beside}/.install-record" for beside in BESIDE]}
for what, paths in seen.items():
    patterns = expanded(allowed[what] + (allowed["write"] if what == "read" else []))
    for path, by in sorted(paths.items()):
        # A directory on the way to what is named is opened to hold it.
        on_the_way = what == "read" and any(pattern.startswith(path.rstrip("/") + "/") for pattern in patterns) or path == "/"
        # What is beside a file whose name begins with a dot has only that one dot.
        names = (path, os.path.join(os.path.dirname(path), "." + os.path.basename(path)))
        if not on_the_way and not any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns):
            problems.append(f"not in the table: {what} {path} (first by: {by})")
    for pattern in expanded(allowed[what]):
        touched = list(paths) + (list(seen["write"]) if what == "read" else [])
        if not any(fnmatch.fnmatchcase(path, pattern) for path in touched):
            problems.append(f"in the table, and not touched: {what} {pattern}")
print("\n".join(problems) or f"{count} runs, {sum(map(len, seen.values()))} paths and addresses")
sys.exit(bool(problems))
