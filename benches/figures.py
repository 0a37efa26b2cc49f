#!/usr/bin/env python3
"""The figures that are exact, held against the limits in benches/baseline.json: the size of both programs, the crates in them,
the user-space instructions of five runs, and the syncs and the memory of a first send. And what benches/run measures on.

    benches/figures.py BINARY RECEIVER [AARCH64-BINARY]            (tests/run baseline, make bench-check)

To count the same on every machine, what a run can see is the same: its environment is empty but for what the run is
about, its paths have the same lengths, and the machine with its /proc is the directory given as --root. What is left,
the keys of a TLS connection, moves the instructions of a send by 0.1 %.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BENCHES = Path(__file__).resolve().parent
RECORD = ["-f", "PRODUCT_FAMILY_PS", "-v", "8.0.36-28"]
STATE = "var/lib/install-record"
USER = """SHELL=/bin/bash PWD=/home/admin LOGNAME=admin HOME=/home/admin LANG=en_US.UTF-8 TERM=xterm-256color USER=admin
    SHLVL=1 XDG_SESSION_ID=7 XDG_RUNTIME_DIR=/run/user/1000 SSH_CLIENT=192.0.2.7.50122.22
    SSH_CONNECTION=192.0.2.7.50122.192.0.2.1.22 SSH_TTY=/dev/pts/0
    PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"""
ROOT = """TERM=xterm-256color LANG=en_US.UTF-8 SUDO_COMMAND=/usr/bin/apt-get SUDO_USER=admin SUDO_UID=1000 SUDO_GID=1000
    HOME=/root USER=root LOGNAME=root SHELL=/bin/bash MAIL=/var/mail/root
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"""
# Processes, each the parent of the next, with their names and environments: what `sudo apt-get install` makes.
PROCESSES = [
    ("1", "systemd", "HOME=/ TERM=linux"),
    ("610", "sshd", "LANG=en_US.UTF-8 PATH=/usr/sbin:/usr/bin NOTIFY_SOCKET=/run/systemd/notify SSHD_OPTS="),
    ("2200", "bash", USER),
    ("2210", "sudo", USER),
    ("2211", "apt-get", ROOT),
    ("2300", "dpkg", f"{ROOT} DPKG_FRONTEND_LOCKED=true"),
    ("2301", "product.postinst", f"{ROOT} DPKG_FRONTEND_LOCKED=true DPKG_MAINTSCRIPT_NAME=postinst"),
    ("self", "install-record", ROOT),
]
# The files of such a machine: those that are asked for a "no", with as many lines of this kind as they have there.
FILES = {"etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nID=debian\n'}
FILES["etc/machine-id"] = "3b1f6c0e9d8a4e57a2c4d6f8091b2a3c\n"
LINES = {"etc/environment": 2, "etc/profile": 30, "etc/bash.bashrc": 49, "root/.bashrc": 16, "root/.profile": 8}
LINES |= {"etc/profile.d/apps-bin-path.sh": 9, "etc/profile.d/bash_completion.sh": 10, "etc/profile.d/gawk.sh": 15}
FILES |= {path: '    export PATH="$PATH:/snap/bin"\n' * count for path, count in LINES.items()}
STAT = "0 -1 4194560 1200 5300 0 0 1 2 3 1 20 0 1 0 71 23146496 900"
QUIET = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)


def crates():
    """How many are in the program beside our own; 0: not known."""
    command = "cargo tree --locked --offline -e normal --no-dedupe --prefix none --target x86_64-unknown-linux-musl"
    tree = subprocess.run(command.split(), cwd=BENCHES.parent, stdout=subprocess.PIPE, text=True).stdout
    return len(set(tree.splitlines()[1:]))


class Bench(contextlib.ExitStack):
    """`work` is a directory that goes away, `one` the receiver's authority, `all` that and this system's."""

    def __init__(self, binary, receiver):
        super().__init__()
        # Not in $TMPDIR, whose length differs. The courier is nobody where we are root, and must get in.
        temporary = tempfile.TemporaryDirectory(prefix="install-record-fig.", dir="/tmp")
        self.work = Path(self.enter_context(temporary))
        self.work.chmod(0o755)
        self.binary = shutil.copy(binary, self.work / "install-record")
        for name in ("fresh", "off", "reported"):
            self.machine(name)
        (self.work / "off/etc/install-record").mkdir()
        (self.work / "off/etc/install-record/off").touch()

        server = self.enter_context(subprocess.Popen([receiver, "--dir", self.work / "receiver"]))
        self.callback(server.kill)
        port = self.work / "receiver/port"
        while not port.exists() and server.poll() is None:
            time.sleep(0.01)
        self.url = f"https://127.0.0.1:{port.read_text().strip()}/v1/telemetry/GenericReport"
        self.product = [*RECORD, "-c", "10", "-t", "60", "-u", self.url]
        self.one, self.all, self.authorities = self.work / "receiver/ca.pem", self.work / "all.pem", 0
        for bundle in map(Path, ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")):
            if bundle.exists() and not self.authorities:
                self.all.write_text(bundle.read_text() + self.one.read_text())
                self.authorities = self.all.read_text().count("BEGIN CERT")
        send = [self.binary, "send", "--quiet", "--root", self.work / "reported", *self.product]
        subprocess.run(send, env={"SSL_CERT_FILE": self.one}, check=True)
        valgrind = shutil.which("valgrind")
        self.valgrind = valgrind and [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        self.strace = shutil.which("strace")
        self.no_network = ["unshare", "--net", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]

    def machine(self, name):
        """A Debian as `sudo apt-get install` sees it, with seven processes above the hook."""
        at = self.work / name
        files, parent = dict(FILES), "0"
        for process, comm, environ in PROCESSES:
            files[f"proc/{process}/stat"] = f"{process} ({comm}) S {parent} {process} {process} {STAT}\n"
            files[f"proc/{process}/comm"] = f"{comm}\n"
            files[f"proc/{process}/cmdline"] = f"{comm}\0"
            files[f"proc/{process}/environ"] = "".join(f"{pair}\0" for pair in environ.split())
            parent = process
        for path, text in files.items():
            (at / path).parent.mkdir(parents=True, exist_ok=True)
            (at / path).write_text(text)
        (at / "proc/1/root").symlink_to("../..")
        (at / "proc/self/ns").mkdir()
        (at / "proc/self/ns/pid").symlink_to("pid:[4026531836]")

    def compiled(self, name, *flags):
        """That program of this directory, static."""
        options = ["-O2", "-static", "-Wall", *flags, "-o", self.work / name]
        subprocess.run([os.environ.get("CC", "cc"), *options, BENCHES / f"{name}.c"], check=True)
        return self.work / name

    def measured(self, environment, command):
        """Nanoseconds, microseconds of CPU, and kB of a run that is wrapped in `measure`."""
        said = subprocess.run(command, env=environment, check=True, **{**QUIET, "stdout": subprocess.PIPE}).stdout
        *costs, status = map(int, said.split()[-4:])
        if status:
            sys.exit(f"benches: {command} ended with status {status}")
        return costs

    def ours(self, name, *wrapper):
        """The environment and the command of one of our runs, on a machine that is as it has to be."""
        for state in ("usr", "var"):
            shutil.rmtree(self.work / "fresh" / state, ignore_errors=True)
        environment = {"SSL_CERT_FILE": self.all if name == "sent-all" else self.one} if "sent" in name else {}
        root = ["--root", self.work / ("fresh" if "sent" in name or name == "no-route" else name)]
        command = [*wrapper, self.binary, "send", *root, *self.product]
        if name == "variable":
            environment, command = {"PERCONA_TELEMETRY_DISABLE": "1"}, [*wrapper, self.binary, "send", *self.product]
        if name == "flush":  # as many as may wait, to one server
            shutil.rmtree(self.work / "flush", ignore_errors=True)
            shutil.copytree(self.work / "waiting", self.work / "flush", symlinks=True)
            environment, command = {"SSL_CERT_FILE": self.one}, [*wrapper, self.binary, "flush", "-t", "60", *root]
        if name == "no-route":  # to the real server's name, from where nothing leads anywhere
            command = [*self.no_network, *wrapper, self.binary, "send", *root, *RECORD]
        return environment, command

    def callgrind(self, environment, command):
        """The sum over the processes of a run. One that was only forked off has its parent's count in its own, so it is
        left out. The courier is started through /proc/self/exe, which in valgrind is valgrind: a run ends as pending, and
        the courier is counted by itself."""
        follows = "no" if self.binary in command else "yes"
        wrapper = [*self.valgrind, f"--trace-children={follows}", f"--log-file={self.work}/callgrind.%p"]
        subprocess.run([*wrapper, *command], env=environment, **QUIET)
        found = {}
        for log in self.work.glob("callgrind.*"):
            lines = dict(re.findall(r"== (Command|Parent PID|Collected) ?: (.*)", log.read_text()))
            found[log.suffix[1:]] = lines["Command"], lines["Parent PID"], int(lines.get("Collected", 0))
            log.unlink()
        return sum(count for line, parent, count in found.values() if line != found.get(parent, ("",))[0])

    def courier(self, bundle, count):
        """The instructions of a courier that delivers so many records, with its job on stdin."""
        show = [self.binary, "show", "--quiet", "--root", self.work / "fresh", *RECORD]
        body = subprocess.run(show, stdout=subprocess.PIPE, text=True, check=True).stdout
        request = {"url": self.url, "headers": [["Content-Type", "application/json"]], "body": body}
        job = {
            "connect_timeout": {"secs": 10, "nanos": 0},
            "user_agent": "install-record/0.1.0",
            "proxy": "",
            "no_proxy": "",
            "certificates_file": str(bundle),
            "certificates_directories": "",
            "success": {"status": None, "any": []},
            "requests": [request] * count,
        }
        text = json.dumps(job, separators=(",", ":"))
        command = [*self.valgrind, "--log-fd=2", self.binary, "--courier"]
        said = subprocess.run(command, env={}, input=text, capture_output=True, text=True).stderr
        return int(re.findall(r" Collected : (\d+)", said)[-1])

    def count(self, name, environment, command):
        """The instructions of a run; the courier's are counted apart from those of ours."""
        couriers = {"sent": (self.one, 1), "sent-all": (self.all, 1), "flush": (self.one, 64)}
        return self.callgrind(environment, command) + (self.courier(*couriers[name]) if name in couriers else 0)


def figures(bench, aarch64):
    """Every figure, or the words why there is none. What could not be counted is 0."""
    yield "size_x86_64", os.stat(bench.binary).st_size
    yield "size_aarch64", os.stat(aarch64).st_size if os.path.exists(aarch64) else "there is no aarch64 program"
    yield "crates", crates()
    for name in ("variable", "off", "reported", "sent", "sent-all"):
        absent = "" if bench.valgrind else "valgrind is not installed"
        if name == "sent-all" and not bench.authorities:
            absent = "this system has no bundle of authorities"
        yield f"instructions_{name}", absent or bench.count(name, *bench.ours(name))
    syncs = "strace is not installed"
    if bench.strace:
        calls = "trace=fsync,fdatasync,syncfs,sync,sync_file_range"
        environment, traced = bench.ours("sent", bench.strace, "-f", "-qq", "-e", calls, "-o", bench.work / "syncs")
        subprocess.run(traced, env=environment, stderr=subprocess.DEVNULL)
        syncs = (bench.work / "syncs").read_text().count("sync")
    yield "syncs_sent", syncs
    yield "memory_kb_sent", bench.measured(*bench.ours("sent", bench.compiled("measure")))[2]


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    limits, states = json.loads((BENCHES / "baseline.json").read_text()), []
    if any(name.startswith("CARGO_PROFILE_RELEASE_") for name in os.environ):
        print("SKIP  baseline: CARGO_PROFILE_RELEASE_… is set, so this is not what is shipped\n0 passed, 0 failed, 1 skipped")
        sys.exit()
    with Bench(*sys.argv[1:3]) as bench:
        for figure, value in figures(bench, "".join(sys.argv[3:])):
            is_number = isinstance(value, int)
            states.append("SKIP" if not is_number else "ok" if 0 < value <= limits[figure] else "FAIL")
            limit = f" (at most {limits[figure]})" if is_number else ""
            print(f"{states[-1]:5} {figure}: {value or 'it could not be counted'}{limit}", flush=True)
    passed, failed, skipped = map(states.count, ("ok", "FAIL", "SKIP"))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(failed > 0)
