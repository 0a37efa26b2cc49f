//! Each "no" of each product under strace (item 5): no ID and no fact is looked at, and no socket is made.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::os::unix::ffi::OsStrExt;

use crate::harness::*;
use crate::vendors::{Kind, LUMENQ, MEDUSA, MEMGRAPH, PERCONA, STRAPI, WUNDERGRAPH, server};

struct Tracer(Machine);

impl Tracer {
    /// A run, and the system calls of it and its children after its own execve(2).
    fn run(&self, run: Run) -> (Ended, String) {
        let log = self.0.path("trace");
        let ended = run.under(["strace", "-f", "-qq", "-o"]).under([&log]).run();
        let trace = fs::read_to_string(log).expect("trace");
        let (first, rest) = trace.split_once('\n').expect("execve");
        assert!(first.contains("execve(") && rest.contains("exit_group(0)"), "{ended:?}: {trace}");
        (ended, rest.to_owned())
    }

    fn refused(&self, what: &str, machine: &Machine, run: Run) -> String {
        let before = machine.snapshot();
        let (ended, trace) = self.run(run);
        ended.silent();
        assert_eq!((deeds(&trace), machine.snapshot()), (Vec::new(), before), "{what}");
        trace
    }
}

/// The lines of a trace by which something is sent, started, said or changed.
fn deeds(trace: &str) -> Vec<&str> {
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
#[track_caller]
pub fn assert_sends(what: impl Debug, is_sent: bool, machine: &Machine, receiver: &Receiver, run: Run) {
    let before = (machine.snapshot(), receiver.connections());
    let ended = run.run();
    let is_right = if is_sent { ended.stderr.contains("sent one install record of ") } else { ended.stderr.is_empty() };
    assert!(is_right, "{what:?}: {ended:?}");
    ended.expect(0);
    assert!(is_sent || (machine.snapshot(), receiver.connections()) == before, "{what:?}");
}

/// Values that say no, one byte strings, broken quotes and shell among them.
const NO: &[u8] =
    b"1|true|TRUE|yes|on|y|t|n|f|+0|0x0|2|-1|00|0.0|junk|nope|0 0|\xff\xfe|\xa0|disable=0|null|-|$X|${X:-0}|$(touch /x)|\
    `touch /x`|1; touch /x|\"|\"0|0'|'0'1|\\0|0\\|0,0|falsch|o ff|%s%n|../../0|\xef\xbc\x90";

#[test]
fn no_source_does_anything_whatever_its_value() {
    needs!(has_strace(), "strace, and to be allowed to trace");
    let (tracer, receiver) = (Tracer(Machine::empty()), Receiver::start(&[]));
    // The files of the contract's list ("Saying no", 4), in the homes of root's too, and the environments of two callers.
    let machine = Machine::of("settings");
    let send = || machine.send(&receiver, "/", FAMILY);
    let values: Vec<&[u8]> = NO.split(|byte| *byte == b'|').collect();
    assert_eq!(values.len(), 40);
    for value in values.iter().copied().chain([&b"'0'"[..], &[b'x'; 65536]]) {
        for name in ["PERCONA_TELEMETRY_DISABLE", "DO_NOT_TRACK"] {
            tracer.refused(name, &machine, send().env(name, OsStr::from_bytes(value)));
        }
    }
    // Each says nothing, in as many words. Those that say no already are no sources.
    let sources = walk(machine.root()).into_iter().filter(|path| path.is_file());
    let mut sources: Vec<_> = sources.map(|path| (fs::read(&path).expect("a file"), path)).collect();
    sources.retain(|(text, _)| text.windows(14).any(|it| it == b"DO_NOT_TRACK=0"));
    assert_eq!(sources.len(), 33 + 2);
    for (text, path) in sources {
        let is_environment = text.contains(&0);
        let (start, end) = if is_environment { ("A=1\0DO_NOT_TRACK=", "\0") } else { ("export DO_NOT_TRACK=", "\n") };
        let said = values.iter().map(|value| [start.as_bytes(), value, end.as_bytes()].concat());
        // The last two cannot be read as lines.
        let odd: [&[u8]; 3] = [b"DefaultEnvironment=\"DO_NOT_TRACK=$X\"\r\n", b"A=1\0", &[b'#'; (256 << 10) + 1]];
        for said in said.chain(odd.iter().filter(|_| !is_environment).map(|text| text.to_vec())) {
            fs::write(&path, said).expect("a file");
            let trace = tracer.refused(&path.display().to_string(), &machine, send());
            // It says no, and nothing before it.
            let name = path.file_name().and_then(OsStr::to_str).expect("a name");
            assert!(trace.contains(name), "{name}: {trace}");
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

/// tests/roots/expected has the callers and the files that are plain.
#[test]
fn homes_that_no_variable_tells_and_callers_that_have_ended() {
    let receiver = Receiver::start(&[]);
    let user = rustix::process::getuid().as_raw();
    let passwd = format!("nobody:x:65534:0::/no:\nme:x:{user}:0::/home/off:\n");
    let machine = Machine::of("memgraph-on").with("etc/passwd", passwd);
    let memgraph = "send --profile memgraph -v 1 --state-dir /srv/data --verbose".split(' ');
    let ended = machine.run(memgraph).env("HOME", "").to(&receiver, "/").run().expect(0);
    ended.says("/home/off/.memgraph/config, the product's own file says no");

    // Root's own, at the end of a long passwd(5).
    let users: String = (1..40_000).map(|id| format!("user{id}:x:{id}:{id}::/home/user{id}:/bin/sh\n")).collect();
    let machine = Machine::new().with("etc/passwd", users + "toor:x:0:0::/home/toor:/bin/sh\n");
    let machine = machine.with("home/toor/.profile", "export DO_NOT_TRACK=1\n");
    assert_eq!(machine.status()["source"], "/home/toor/.profile");

    needs!(is_root(), "root, for whom a chain of callers that breaks is a no");
    // The first thread of process 7 has ended.
    for (state, decision) in [("S", "send"), ("Z", "skip")] {
        let machine = Machine::of("settings").with("proc/7/stat", format!("7 (java) {state} 1 0\n"));
        let status = machine.with("proc/7/environ", "").status();
        assert_eq!(status["decision"], decision);
        assert_eq!(status["source"].to_string().contains("process 7"), decision == "skip", "{status}");
    }
}

const CONFIG: &str = "home/dev/.config/medusa/config.json";
const PACKAGE: &str = "srv/app/package.json";

/// What holds an ID of any of the products, or a fact; and of a process, what is beyond the environment.
const NAMES: &str = "telemetry_uuid config.json .medusa-project-id wundergraph.config.json package.json telemetry_id \
    project-id instance-id machine-id os-release cpuinfo meminfo osrelease resolv.conf status";

/// Each product: its own variable with a value of it that is a no, and which of the names a run opens that is not refused.
const PRODUCTS: [(Kind, (&str, &str), &str); 6] = [
    (PERCONA, ("PERCONA_TELEMETRY_DISABLE", "1"), "telemetry_uuid os-release"),
    (MEDUSA, ("MEDUSA_DISABLE_TELEMETRY", "true"), "config.json .medusa-project-id cpuinfo osrelease"),
    (WUNDERGRAPH, ("WG_TELEMETRY_DISABLED", ""), "wundergraph.config.json cpuinfo"),
    (STRAPI, ("STRAPI_TELEMETRY_DISABLED", "true"), "package.json machine-id osrelease"),
    (MEMGRAPH, ("DO_NOT_TRACK", "1"), "telemetry_id os-release cpuinfo meminfo osrelease"),
    (LUMENQ, ("LUMENQ_OFFLINE", "0"), "project-id instance-id os-release cpuinfo meminfo osrelease"),
];

/// Where each "no" is said, an option, a variable or a file, and with which text.
fn every_no(profile: &str, (own, value): (&str, &str)) -> Vec<(String, String)> {
    let of = |path: &str| fs::read_to_string(Path::new(ROOTS).join(path)).expect("a file of tests/roots");
    let mut every = match profile {
        "medusa" => vec![(CONFIG, of("medusa/home/off/.config/medusa/config.json"))],
        "strapi" => ["no-uuid", "off-junk"].map(|no| (PACKAGE, of(&format!("strapi/srv/{no}/package.json")))).into(),
        "memgraph" => vec![("etc/memgraph/memgraph.conf", "--log-level=INFO\n--telemetry-enabled=false\n".to_owned())],
        "lumenq" => vec![("etc/lumenq/lumenq.flags", "--nosend_records\n".to_owned())],
        _ => vec![],
    };
    let switch = format!("etc/install-record/off.d/{profile}");
    let flags = ["--telemetry=false", "--telemetry-enabled=false"];
    every.extend(flags.into_iter().chain(["etc/install-record/off", &switch]).map(|place| (place, String::new())));
    for (name, value) in [("DO_NOT_TRACK", "1"), (own, value)] {
        every.push((name, value.to_owned()));
        every.push(("proc/7/environ", format!("A=1\0{name}={value}\0")));
        every.push(("proc/1/environ", format!("{name}={value}\0")));
        every.push(("etc/environment", format!("{name}={value}\n")));
        every.push(("etc/profile.d/x.sh", format!("export {name}={value}\n")));
    }
    every.into_iter().map(|(place, text)| (place.to_owned(), text)).collect()
}

/// The lines of a trace by which `name` was asked about, and how many of them open it. O_PATH opens nothing for reading: it
/// is how a path is walked below --root.
fn mentions<'t>(trace: &'t str, name: &str) -> (Vec<&'t str>, usize) {
    let ends = [format!("\"{name}\""), format!("/{name}\"")];
    let lines: Vec<&str> = trace.lines().filter(|line| ends.iter().any(|end| line.contains(end))).collect();
    let opened = lines.iter().filter(|line| line.contains("open") && !line.contains("O_PATH")).count();
    (lines, opened)
}

#[test]
fn no_id_file_and_no_network_is_touched_after_a_no() {
    needs!(has_strace(), "strace, and to be allowed to trace");
    let (tracer, receiver) = (Tracer(Machine::empty()), Receiver::start(&[]));
    // On it every product has its IDs, and its process 7, make, has called us.
    let used = || server().and("used");
    for (kind, variable, opened) in PRODUCTS {
        let profile = kind.profile;
        for (place, text) in every_no(profile, variable) {
            let what = format!("{profile}, {place} {text}");
            let machine = if place.contains('/') { used().with(&place, &text) } else { used() };
            // Whoever asks for a copy of what is sent gets none of what is not.
            let run = kind.send(&machine, &receiver).env("WUNDER_TELEMETRY_DEBUG", "true");
            let run = if place.starts_with("--") { run.args([&place]) } else { run };
            let run = if place.contains(['/', '-']) { run } else { run.env(&place, &text) };
            let trace = tracer.refused(&what, &machine, run);
            // The file that holds the "no" itself may be opened.
            for name in NAMES.split(' ').filter(|name| !place.ends_with(name)) {
                assert_eq!(mentions(&trace, name).0, [""; 0], "{what}");
            }
        }
        // The same look finds all of it in a run that nobody refused.
        let (ended, trace) = tracer.run(kind.send(&used(), &receiver));
        ended.expect(0);
        assert!(opened.split(' ').all(|name| mentions(&trace, name).1 > 0), "{profile} {opened}: {trace}");
        // And of facts, only those that the record names.
        for fact in ["os-release", "cpuinfo", "meminfo", "osrelease"] {
            assert_eq!(mentions(&trace, fact).1 > 0, opened.split(' ').any(|name| name == fact), "{profile} {fact}");
        }
        for deed in ["socket(", "connect(", "O_CREAT"] {
            assert!(deeds(&trace).iter().any(|line| line.contains(deed)), "{profile} {deed}");
        }
    }
    // One connection each, of the runs that nobody refused.
    assert_eq!(receiver.connections(), 6);
}
