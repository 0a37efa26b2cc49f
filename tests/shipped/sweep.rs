//! A fault at every system call of a run: the process dies there, or the call fails. The identity file stays whole,
//! nothing is marked that was not delivered, and the next run ends with one record per family, under one ID.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::*;

/// The errors that are made, each with the calls that can end in it; no names: all.
const ERRORS: [(&str, &str); 5] = [
    ("EIO", ""),
    ("ENOSPC", "openat mkdirat write fsync fchmod renameat unlinkat flock"),
    ("EROFS", "openat mkdirat write fchmod renameat unlinkat faccessat2"),
    ("EACCES", "open openat mkdirat renameat unlinkat faccessat2 newfstatat readlink readlinkat"),
    ("EMFILE", "open openat pipe2 fcntl clone socket"),
];

/// Calls without which a program cannot even start, or that cannot fail: there the process is only killed. A close(2) that
/// strace makes fail leaves the descriptor open, and a pipe that nobody closes hangs whoever reads it.
const ONLY_KILLED: &str = "arch_prctl brk close execve exit_group geteuid mmap mprotect munmap poll rt_sigaction \
    rt_sigprocmask rt_sigreturn set_tid_address sigaltstack umask uname";

/// Where the records of a prepared machine go until the receiver's address takes its place: nobody listens on port 1.
const NOWHERE: &str = "https://127.0.0.1:1/x";

struct Scenario<'m> {
    name: &'static str,
    machine: &'m Machine,
    /// The run's arguments; to `send`, the options of a report are added.
    command: &'m [&'m str],
    is_reachable: bool,
    /// Traces the courier as well; its own faults are nothing but failed deliveries.
    with_courier: bool,
    errors: &'static [(&'static str, &'static str)],
    families: &'m [&'m str],
    check: fn(&Machine) -> bool,
}

/// A call that fails in a way, each of these times that it is made.
type Fault<'s> = (&'s Scenario<'s>, String, String, Vec<usize>);

impl Scenario<'_> {
    fn is_report(&self) -> bool {
        self.command == ["send"]
    }

    fn run(&self, machine: &Machine, strace: &[&str], url: &str) -> Run {
        let follow = if self.with_courier { &["-f"][..] } else { &[] };
        let strace = [&["strace", "-qq"], follow, strace].concat();
        match self.is_report() {
            true => report(machine, &strace, FAMILY, if self.is_reachable { url } else { NOWHERE }),
            false => command(machine, &strace, self.command),
        }
    }

    /// A copy of the machine whose records go to `url`, if anywhere.
    fn prepared(&self, receiver: &Receiver, url: &str) -> Machine {
        let machine = self.machine.copied();
        fs::copy(receiver.ca(), machine.path("ca.pem")).expect("CA");
        machine.edit_pending(NOWHERE, if self.is_reachable { url } else { NOWHERE });
        machine
    }

    /// How often the run makes each call, in the process that makes it most often: strace counts in each by itself.
    fn calls(&self) -> BTreeMap<String, usize> {
        let receiver = Receiver::start(&[]);
        let machine = self.prepared(&receiver, &receiver.url("/"));
        let trace = machine.path("trace");
        self.run(&machine, &["-o", trace.to_str().expect("UTF-8")], &receiver.url("/")).run();
        let (mut counts, mut most) = (BTreeMap::<(&str, &str), usize>::new(), BTreeMap::new());
        let trace = fs::read_to_string(trace).expect("trace");
        for (head, _) in trace.lines().filter_map(|line| line.split_once('(')) {
            // `PID NAME(…` with -f.
            let (pid, name) = head.rsplit_once(' ').unwrap_or(("", head));
            if name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
                let count = counts.entry((pid, name)).or_default();
                *count += 1;
                most.entry(name.to_owned()).and_modify(|most| *most = (*count).max(*most)).or_insert(*count);
            }
        }
        most
    }

    fn faults(&self) -> Vec<Fault<'_>> {
        let has = |names: &str, call: &str| names.split(' ').any(|name| name == call);
        let mut all = Vec::new();
        for (call, count) in self.calls() {
            let is_only_killed = has(ONLY_KILLED, &call);
            let errors = self.errors.iter().filter(|(_, calls)| calls.is_empty() || has(calls, &call));
            let errors = errors.filter(|_| !is_only_killed).map(|(error, _)| format!("error={error}"));
            let kill = (!is_only_killed || !self.with_courier).then(|| "signal=SIGKILL".to_owned());
            // The courier makes another number of each call than its parent; where there are many, they are alike.
            let is_tried = |number: &usize| !self.with_courier || *number <= 4 || number.is_multiple_of(5);
            let numbers: Vec<usize> = (1..=count).filter(is_tried).collect();
            all.extend(errors.chain(kill).map(|what| (self, call.clone(), what, numbers.clone())));
        }
        all
    }
}

/// Changes the root directory, as root or in a user namespace; `None`: impossible here, or the binary is not the static one.
fn chroot() -> Option<&'static [&'static str]> {
    let all: [&[&str]; 2] = [&["chroot"], &["unshare", "-r", "chroot"]];
    all.into_iter().find(|it| is_static() && tool(&[*it, &["/", "true"]].concat()).is_some())
}

fn command(machine: &Machine, under: &[&str], arguments: &[&str]) -> Run {
    let run = Run::new().under(under).under(chroot().expect("chroot")).under([machine.root()]);
    run.program("/install-record").args(arguments).env("SSL_CERT_FILE", "/ca.pem")
}

fn report(machine: &Machine, under: &[&str], family: &str, url: &str) -> Run {
    command(machine, under, &["send", "-f", family, "-v", "1", "-c", "10", "-t", "10", "-u", url])
}

#[track_caller]
fn identity(machine: &Machine, what: &str) -> Option<(String, BTreeSet<String>)> {
    let text = machine.text(IDENTITY)?;
    let mut lines = text.strip_suffix('\n').unwrap_or_else(|| panic!("{what}: cut: {text:?}")).split('\n');
    let id = lines.next().and_then(|line| line.strip_prefix("instanceId:")).unwrap_or_default();
    assert!(uuid::Uuid::try_parse(id).is_ok(), "{what}: {text:?}");
    let family = |line: &str| line.strip_suffix(":1").unwrap_or_else(|| panic!("{what}: {text:?}")).to_owned();
    Some((id.to_owned(), lines.map(family).collect()))
}

/// Runs with the fault, then without, and checks what is left each time.
fn try_fault((scenario, call, fault, _): &Fault<'_>, number: usize, receiver: &Receiver) {
    let what = format!("{}: {call} {number}, {fault}", scenario.name);
    let path = format!("/{number}");
    let url = receiver.url(&path);
    let machine = scenario.prepared(receiver, &url);
    let accepted = || {
        let reports = receiver.requests().into_iter().zip(receiver.reports());
        reports.filter(|(request, _)| request["path"] == *path).map(|(_, report)| report).collect::<Vec<_>>()
    };
    let marks = |identity: &Option<(String, BTreeSet<String>)>| identity.clone().unwrap_or_default().1;
    let before = identity(&machine, &what);

    let inject = format!("inject={call}:{fault}:when={number}");
    let ended = scenario.run(&machine, &["-o", "/dev/null", "-e", &inject], &url).run();
    if scenario.is_report() && fault.starts_with("error") && !scenario.with_courier {
        // The others are those of chroot(1), in which it begins.
        assert!([0, 125, 126, 127].map(Some).contains(&ended.status), "{what}: {ended:?}");
    }
    // A file that `forget` could not remove was emptied.
    let is_emptied = scenario.command[0] == "forget" && machine.text(IDENTITY).as_deref() == Some("");
    let after = if is_emptied { None } else { identity(&machine, &what) };
    let delivered = set_of(&accepted(), "product_family");
    let is_true = marks(&after).difference(&marks(&before)).all(|family| delivered.contains(family));
    assert!(is_true, "{what}: {after:?}, and delivered are {delivered:?}");

    // The next run of each product; what waits of the others goes with the first, but a mark that could not be written
    // is only made up for by the product's own.
    machine.edit_pending(NOWHERE, &url);
    let next: Vec<Run> = match scenario.is_report() {
        true => scenario.families.iter().map(|family| report(&machine, &[], family, &url)).collect(),
        false => vec![command(&machine, &[], scenario.command)],
    };
    let healthy: Vec<_> = next.iter().map(Run::run).collect();
    let what = format!("{what}: {ended:?}, and then {healthy:?}");
    let last = identity(&machine, &what);
    let (marked, reports) = (marks(&last), accepted());
    let wanted: BTreeSet<String> = scenario.families.iter().map(|family| (*family).to_owned()).collect();
    let sent: BTreeSet<String> = wanted.difference(&marks(&before)).cloned().collect();
    let ids = [before, after, last].into_iter().flatten().map(|(id, _)| id).chain(set_of(&reports, "instanceId"));
    assert!(healthy.iter().all(|ended| ended.status == Some(0)), "{what}");
    assert_eq!((ids.collect::<BTreeSet<_>>().len(), &marked), (1, &wanted), "{what}");
    assert_eq!((set_of(&reports, "id").len(), set_of(&reports, "product_family")), (sent.len(), sent), "{what}");
    assert!(walk(machine.root()).iter().all(|path| !path.to_string_lossy().ends_with(".new")), "{what}");
    assert!(machine.pending().is_empty() && (scenario.check)(&machine), "{what}");
}

#[test]
fn a_fault_at_every_system_call() {
    needs!(has_strace(), "strace, and to be allowed to trace");
    let [empty, backlog, reported] = [(); 3].map(|()| Machine::new().with_binary("install-record"));
    needs!(chroot().is_some(), "a static binary and chroot, as root or in a user namespace");
    let receiver = Receiver::start(&[]);
    fs::copy(receiver.ca(), reported.path("ca.pem")).expect("CA");
    report(&reported, &[], FAMILY, &receiver.url("/")).run().sent();
    for family in [FAMILY, OTHER] {
        report(&backlog, &[], family, NOWHERE).run().expect(0);
    }
    assert_eq!(backlog.pending().len(), 2);
    let is_off = |machine: &Machine| machine.path("etc/install-record/off").exists();
    let is_forgotten = |machine: &Machine| machine.text(IDENTITY).is_none() && !machine.path(STATE).exists();
    let (all, io, both) = (&ERRORS[..], &ERRORS[..1], &[FAMILY, OTHER][..]);
    let scenarios = [
        ("first report", &empty, &["send"][..], true, false, all, &both[..1], (|_| true) as fn(&Machine) -> bool),
        ("courier too", &empty, &["send"], true, true, io, &both[..1], |_| true),
        ("no receiver", &empty, &["send"], false, false, io, &both[..1], |_| true),
        ("records wait", &backlog, &["send"], true, false, io, both, |_| true),
        ("a second run", &reported, &["send"], false, false, io, &both[..1], |machine| machine.receipts().len() == 1),
        ("off", &backlog, &["off"], true, false, io, &[], is_off),
        ("forget", &backlog, &["forget", "--profile", "percona"], true, false, io, &[], is_forgotten),
    ];
    let scenarios = scenarios.map(|(name, machine, command, is_reachable, with_courier, errors, families, check)| {
        Scenario { name, machine, command, is_reachable, with_courier, errors, families, check }
    });
    let mut faults: Vec<Fault<'_>> = scenarios.iter().flat_map(Scenario::faults).collect();
    // The long ones first, so that no worker is left with one in the end.
    faults.sort_by_key(|(.., numbers)| numbers.len());
    let total: usize = faults.iter().map(|(.., numbers)| numbers.len()).sum();
    let (queue, failed) = (Mutex::new(faults), AtomicUsize::new(0));
    let work = || {
        while let Some(fault) = { queue.lock().expect("queue").pop() } {
            let receiver = Receiver::start(&[]);
            for number in &fault.3 {
                let ended = std::panic::catch_unwind(|| try_fault(&fault, *number, &receiver));
                failed.fetch_add(usize::from(ended.is_err()), Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| [(); 2].map(|()| drop(scope.spawn(work))));
    tell(&format!("a fault at {total} points"));
    assert!(total > 1500, "{total}");
    assert_eq!(failed.into_inner(), 0, "badly survived, of {total}");
}
