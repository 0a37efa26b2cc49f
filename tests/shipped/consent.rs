//! A "no" and what is none: every source with every kind of value, under strace (item 5).

use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::harness::{Ended, FAMILY, Machine, Receiver, Run, TempDir, tool, walk};
use crate::skip;

/// strace(1), where one may trace.
pub struct Tracer(TempDir);

impl Tracer {
    pub fn new() -> Option<Tracer> {
        tool(&["strace", "-o", "/dev/null", "true"]).map(|_| Tracer(TempDir::new()))
    }

    /// A run, and the system calls of it and its children after its own execve(2).
    pub fn run(&self, run: Run) -> (Ended, String) {
        let log = self.0.path().join("trace");
        let ended = run.under(["strace", "-f", "-qq", "-o"]).under([&log]).run();
        let trace = fs::read_to_string(log).expect("trace");
        let (first, rest) = trace.split_once('\n').expect("execve");
        assert!(first.contains("execve(") && rest.contains("exit_group(0)"), "{ended:?}: {trace}");
        (ended, rest.to_owned())
    }
}

/// The lines of a trace by which something is sent, started, said or changed.
pub fn deeds(trace: &str) -> Vec<&str> {
    const DEEDS: &str = "socket connect bind listen accept send recv clone fork vfork exec write pwrite splice mkdir \
        mknod creat link symlink unlink rmdir rename chmod fchmod chown fchown lchown utime futime truncate ftruncate \
        setxattr fsetxattr io_uring flock mount kill tkill tgkill pipe memfd inotify";
    const OPENS: &str = "O_WRONLY O_RDWR O_CREAT O_TRUNC O_TMPFILE";
    let is_deed = |line: &&str| {
        let call = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        DEEDS.split(' ').any(|deed| call.starts_with(deed))
            || (call.starts_with("open") && OPENS.split(' ').any(|flag| call.contains(flag)))
    };
    trace.lines().filter(is_deed).collect()
}

/// Checks that a run reports; or that it says nothing, asks nobody and leaves everything as it is.
pub fn assert_sends(what: impl Debug, is_sent: bool, machine: &Machine, receiver: &Receiver, run: Run) {
    println!("{what:?}");
    let before = (machine.snapshot(), receiver.connections());
    let ended = run.run();
    if is_sent {
        ended.sent();
    } else {
        ended.silent();
        assert_eq!((machine.snapshot(), receiver.connections()), before);
    }
}

/// Values that say no, one byte strings, broken quotes and shell among them.
const NO: &[u8] =
    b"1|true|TRUE|yes|on|y|t|n|f|+0|0x0|2|-1|00|0.0|junk|nope|0 0|\xff\xfe|\xa0|disable=0|null|-|$X|${X:-0}|$(touch /x)|\
    `touch /x`|1; touch /x|\"|\"0|0'|'0'1|\\0|0\\|0,0|falsch|o ff|%s%n|../../0|\xef\xbc\x90";

#[test]
fn no_source_does_anything_whatever_its_value() {
    let Some(tracer) = Tracer::new() else { skip!("needs strace, and to be allowed to trace") };
    let receiver = Receiver::start(&[]);
    // The files of the contract's list ("Saying no", 4), in the homes of root's too, and the environments of two callers.
    let machine = Machine::of("settings");
    let send = || machine.send(&receiver, "/", FAMILY);
    let refused = |what: &str, run: Run| {
        let before = machine.snapshot();
        let (ended, trace) = tracer.run(run);
        ended.silent();
        assert_eq!((deeds(&trace), machine.snapshot()), (Vec::new(), before), "{what}");
        // It says no, and nothing before it.
        assert!(trace.contains(what.rsplit('/').next().expect("a name")), "{what}: {trace}");
    };
    let values: Vec<&[u8]> = NO.split(|byte| *byte == b'|').collect();
    assert_eq!(values.len(), 40);
    for value in values.iter().copied().chain([&b"'0'"[..], &[b'x'; 65536]]) {
        for name in ["PERCONA_TELEMETRY_DISABLE", "DO_NOT_TRACK"] {
            refused("", send().env(name, OsStr::from_bytes(value)));
        }
    }
    // Each says nothing, in as many words. Those that say no already are no sources.
    let sources = walk(machine.root()).into_iter().filter(|path| path.is_file());
    let mut sources: Vec<_> = sources.map(|path| (fs::read(&path).expect("a file"), path)).collect();
    sources.retain(|(text, _)| text.windows(14).any(|it| it == b"DO_NOT_TRACK=0"));
    assert_eq!(sources.len(), 33 + 2);
    for (text, path) in sources {
        let (start, end) =
            if text.contains(&0) { ("A=1\0DO_NOT_TRACK=", "\0") } else { ("export DO_NOT_TRACK=", "\n") };
        let with = |value: &[u8]| [start.as_bytes(), value, end.as_bytes()].concat();
        // The last two cannot be read as lines.
        let odd: [&[u8]; 3] = [b"DefaultEnvironment=\"DO_NOT_TRACK=$X\"\r\n", b"A=1\0", &[b'#'; (256 << 10) + 1]];
        let odd = odd.iter().filter(|_| !text.contains(&0)).map(|text| text.to_vec());
        for said in values.iter().map(|value| with(value)).chain(odd) {
            fs::write(&path, said).expect("a file");
            refused(path.to_str().expect("UTF-8"), send());
        }
        fs::write(&path, text).expect("a file");
    }
    assert_eq!(receiver.connections(), 0);
    // The same look finds the deeds of a run that nobody refused, though all of them were asked.
    let (ended, trace) = tracer.run(send().env("PERCONA_TELEMETRY_DISABLE", "\toFf\n").env("DO_NOT_TRACK", " "));
    ended.sent();
    for deed in ["socket(", "connect(", "O_CREAT", "write(", "execve(", "mkdirat(", "rename"] {
        assert!(deeds(&trace).iter().any(|line| line.contains(deed)), "{deed}: {trace}");
    }
}

/// tests/roots/expected has what else cannot override it.
#[test]
fn a_no_is_heard_before_a_mistake_on_the_command_line() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    let run = machine.run(["send", "-u", &receiver.url("/"), "-t", "junk"]).env("DO_NOT_TRACK", "1");
    assert_sends("a mistake", false, &machine, &receiver, run);
}
