//! Callers that leave strange things behind: a run ends in time with exit status 0, and nothing of it runs on.

use crate::harness::*;

/// Longer than the budget by more than this is late: 0.1 s are promised on a quiet machine, and this is none.
const PATIENCE: f64 = 1.5;

/// Whether the record must arrive where the server is well. It may depend on what a limit leaves.
const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);
const PERHAPS: Option<bool> = None;

/// Reports under each caller, the beginning of a line for sh, to a server that is well and to one that never answers. A bar
/// divides callers.
fn assert_harmless(callers: &'static [(Option<bool>, &'static str)]) {
    let copy = Machine::of("bare").with_binary("program");
    let program = fs::canonicalize(copy.path("program")).expect("program");
    // From now on, no other test's child holds it open for writing.
    Run::new().program(&program).args(["--version"]).run();
    let (well, mute) = (Receiver::start(&[]), Receiver::start(&["--fault", "stall-accept"]));
    let each =
        |(arrives, callers): &'static (Option<bool>, &str)| callers.split('|').map(move |caller| (arrives, caller));
    for (arrives, caller) in callers.iter().flat_map(each) {
        let words = ["sh", "-c", &format!("{caller} \"$0\" \"$@\"")];
        // Where the caller cannot be had, or cannot start anything at all, there is nothing to see.
        if tool(&[&words[..], &[&BINARY.to_string_lossy(), "--version"]].concat()).is_none() {
            skipped(&format!("impossible here: {caller}"));
            continue;
        }
        let machine = Machine::new();
        machine.sh("chmod 777 . etc");
        let send = |receiver: &Receiver, family| machine.send(receiver, "/", family).program(&program).under(words);
        let connections = well.connections();
        let ended = send(&well, FAMILY).run().expect(0);
        if let Some(arrives) = arrives {
            let found = (machine.receipts().len(), well.connections() - connections);
            assert_eq!(found, ((*arrives).into(), (*arrives).into()), "{caller}: {ended:?}");
        }
        let stalled = send(&mute, OTHER).args(["-t", "1"]).run().expect(0);
        let seconds = [&ended, &stalled].map(|ended| ended.time.as_secs_f64());
        assert!(seconds[0] < 20.0 + PATIENCE && seconds[1] < 1.0 + PATIENCE, "{caller}: {seconds:?}");
        // Of others' processes than our own, only root can tell.
        let left = fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path().join("exe"));
        assert_eq!(left.filter(|exe| fs::read_link(exe).is_ok_and(|exe| exe == program)).count(), 0, "{caller}");
    }
}

#[test]
fn limits() {
    needs!(is_static(), "the static binary, for which these limits are");
    assert_harmless(&[
        (YES, "prlimit --stack=65536:65536|prlimit --as=16777216:16777216|prlimit --memlock=0:0 --sigpending=0:0"),
        (PERHAPS, "prlimit --stack=32768:32768|prlimit --as=4194304:4194304|prlimit --as=5242880:5242880"),
        // What cannot be remembered is not sent.
        (NO, "prlimit --fsize=0:0|prlimit --fsize=100:100"),
    ]);
}

#[test]
fn signals_debuggers_places_and_descriptors() {
    assert_harmless(&[
        (YES, "env --ignore-signal=CHLD|env --ignore-signal=PIPE|env --default-signal=PIPE|env --ignore-signal"),
        (YES, "env --block-signal|strace -f -qq -o /dev/null|setpriv --no-new-privs"),
        (NO, "strace -qq -o /dev/null -e inject=clone,clone3,fork,vfork:error=EAGAIN"),
        // As older seccomp filters of containers answer.
        (YES, "strace -f -qq -o /dev/null -e inject=faccessat2:error=EPERM"),
        (YES, "d=$(mktemp -d) && cd \"$d\" && rmdir \"$d\" &&"),
        (YES, "exec <&-; exec|exec >&-; exec|exec 2>&-; exec|exec <&- >&-; exec|exec <&- 2>&-; exec"),
        (YES, "exec >&- 2>&-; exec|exec <&- >&- 2>&-; exec|prlimit --nofile=16:16"),
        (PERHAPS, "prlimit --nofile=8:8|prlimit --nofile=12:12"),
        // With fewer than 10 there is not even enough for the pipes; what cannot be opened to be looked at says no.
        (NO, "prlimit --nofile=3:3|prlimit --nofile=5:5|prlimit --nofile=6:6"),
    ]);
}

#[test]
fn what_only_root_can_do_to_us() {
    needs!(is_root(), "root, who has privileges to lose, and can mount");
    assert_harmless(&[
        (YES, "setpriv --bounding-set=-all --inh-caps=-all|unshare -r|setpriv --securebits=+no_setuid_fixup"),
        (YES, "setpriv --reuid=4711 --clear-groups --inh-caps=+net_raw --ambient-caps=+net_raw"),
        // Only the limits of other users count.
        (NO, "setpriv --reuid=4711 --regid=4711 --clear-groups prlimit --nproc=1:1"),
        // The program cannot be started again, so the record waits.
        (NO, "unshare -m sh -c 'mount -t tmpfs none /proc && exec \"$0\" \"$@\"'"),
    ]);
}
