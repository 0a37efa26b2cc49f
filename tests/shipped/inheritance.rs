//! Callers that leave strange things behind: signals, limits, descriptors, directories. Whatever they are, a run ends in
//! time and with exit status 0, and nothing of it runs on.

use std::fs;
use std::path::Path;

use crate::harness::{FAMILY, Machine, Receiver, Run, binary, is_root, is_static, tool};
use crate::skip;

/// Longer than the budget by more than this is late: 0.1 s are promised on a quiet machine, and this is none.
const PATIENCE: f64 = 1.5;

/// Whether the record must arrive where the server is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrives {
    Yes,
    No,
    /// It depends on what a limit leaves.
    Perhaps,
}
use Arrives::{No, Perhaps, Yes};

/// The processes that run this program file. Of others' than our own, only root can tell.
fn processes_of(program: &Path) -> usize {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter(|entry| fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program)).count()
}

/// Reports under `caller` to a server that is well and to one that never answers.
#[track_caller]
fn assert_harmless(what: &str, arrives: Arrives, caller: &[&str]) {
    // Where the caller cannot be had, or cannot start anything at all, there is nothing to see.
    let binary = binary().to_string_lossy();
    if tool(&[caller, &[&binary, "--version"]].concat()).is_none() {
        skip!("{what}: impossible here: {caller:?}")
    }
    let (well, mute) = (Receiver::start(&[]), Receiver::start(&["--fault", "stall-accept"]));
    let machine = Machine::new().with_binary("program");
    // For callers that change the user.
    for path in ["", "etc"] {
        let _ = tool(&["chmod", "0777", &machine.path(path).to_string_lossy()]);
    }
    let program = fs::canonicalize(machine.path("program")).expect("program");
    let send = |receiver: &Receiver, family| machine.send(receiver, "/", family).program(&program).under(caller);
    let ended = send(&well, FAMILY).run().expect(0);
    let seconds = ended.time.as_secs_f64();
    match arrives {
        Yes => assert_eq!(well.requests().len(), 1, "{what}: {ended:?}"),
        No => assert_eq!(well.connections(), 0, "{what}: {ended:?}"),
        Perhaps => {}
    }
    let stalled = send(&mute, "PRODUCT_FAMILY_PXC").args(["-t", "1"]).run().expect(0);
    let stalled_seconds = stalled.time.as_secs_f64();
    eprintln!("     {what}: {seconds:.2} s; nobody answers, -t 1: {stalled_seconds:.2} s");
    assert!(seconds < 20.0 + PATIENCE && stalled_seconds < 1.0 + PATIENCE, "{what}: {stalled:?}");
    assert_eq!(processes_of(&program), 0, "{what}: left over");
}

#[test]
fn signals() {
    for (what, option) in [
        ("SIGCHLD ignored", "--ignore-signal=CHLD"),
        ("SIGPIPE ignored", "--ignore-signal=PIPE"),
        ("SIGPIPE at its default", "--default-signal=PIPE"),
        ("all signals ignored", "--ignore-signal"),
        ("all signals blocked", "--block-signal"),
    ] {
        assert_harmless(what, Yes, &["env", option]);
    }
}

#[test]
fn descriptors() {
    for closed in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"] {
        assert_harmless(&format!("closed: {closed}"), Yes, &["sh", "-c", &format!("exec \"$0\" \"$@\" {closed}")]);
    }
}

#[test]
fn few_descriptors() {
    // With fewer than 10 there is not even enough for the pipes; what cannot be opened to be looked at says no.
    for (limit, arrives) in [(3, No), (5, No), (6, No), (8, Perhaps), (12, Perhaps), (16, Yes)] {
        assert_harmless(&format!("RLIMIT_NOFILE {limit}"), arrives, &["prlimit", &format!("--nofile={limit}:{limit}")]);
    }
}

#[test]
fn limits() {
    if !is_static() {
        skip!("these limits are for the static binary; INSTALL_RECORD_BINARY names it")
    }
    for (what, arrives, option) in [
        ("a stack of 64 KiB", Yes, "--stack=65536:65536"),
        ("a stack of 32 KiB", Perhaps, "--stack=32768:32768"),
        ("4 MiB of address space", Perhaps, "--as=4194304:4194304"),
        ("5 MiB of address space", Perhaps, "--as=5242880:5242880"),
        ("16 MiB of address space", Yes, "--as=16777216:16777216"),
        // What cannot be remembered is not sent.
        ("files of 0 bytes", No, "--fsize=0:0"),
        ("files of 100 bytes", No, "--fsize=100:100"),
        ("no memory to lock, no signals to queue", Yes, "--memlock=0:0 --sigpending=0:0"),
    ] {
        let options: Vec<&str> = option.split(' ').collect();
        assert_harmless(what, arrives, &[&["prlimit"], &options[..]].concat());
    }
}

#[test]
fn no_more_processes() {
    if is_root() {
        // Only the limits of other users count.
        let user = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", "prlimit", "--nproc=1:1"];
        assert_harmless("RLIMIT_NPROC used up", No, &user);
    }
    if tool(&["strace", "-o", "/dev/null", "true"]).is_none() {
        skip!("needs strace, and to be allowed to trace")
    }
    let refuse = "inject=clone,clone3,fork,vfork:error=EAGAIN";
    assert_harmless("no process and no thread", No, &["strace", "-qq", "-o", "/dev/null", "-e", refuse]);
}

#[test]
fn privileges() {
    assert_harmless("no new privileges", Yes, &["setpriv", "--no-new-privs"]);
    if !is_root() {
        skip!("only root has privileges to lose")
    }
    assert_harmless("root without capabilities", Yes, &["setpriv", "--bounding-set=-all", "--inh-caps=-all"]);
    assert_harmless("root of a user namespace of its own", Yes, &["unshare", "-r"]);
    let keep = ["setpriv", "--reuid=4711", "--clear-groups", "--inh-caps=+net_raw", "--ambient-caps=+net_raw"];
    assert_harmless("another user with a capability", Yes, &keep);
    assert_harmless("capabilities that outlive a change of user", Yes, &["setpriv", "--securebits=+no_setuid_fixup"]);
}

#[test]
fn places() {
    let gone = "d=$(mktemp -d) && cd \"$d\" && rmdir \"$d\" && exec \"$0\" \"$@\"";
    assert_harmless("a working directory that is gone", Yes, &["sh", "-c", gone]);
    if !is_root() {
        skip!("only root can mount")
    }
    let hidden = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
    assert_harmless("no /proc", Yes, &["unshare", "-m", "sh", "-c", hidden]);
}

#[test]
fn a_debugger() {
    assert_harmless("traced", Yes, &["strace", "-f", "-qq", "-o", "/dev/null"]);
}

#[test]
fn nothing_to_take_the_place_of_a_closed_descriptor() {
    let receiver = Receiver::start(&[]);
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let machine = Machine::bare().with_binary("install-record");
        let close = ["sh", "-c", &format!("exec \"$0\" \"$@\" {closed}")];
        let url = receiver.url("/");
        let run = Run::new().program("/install-record").args(["send", "-f", FAMILY, "-v", "1", "-u", &url]);
        let Some(run) = run.under(close).inside(&machine) else {
            skip!("needs a static binary and chroot, as root or in a user namespace")
        };
        run.run().expect(0);
    }
}
