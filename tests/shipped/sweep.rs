//! A fault at every single system call of a run, one by one: the process dies there, or the call fails. Whatever the
//! fault, the identity file stays whole, nothing is marked that was not delivered, and the next run, without a fault,
//! ends with one accepted record per family, under one instance ID, and without a file that is not finished.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Ended, FAMILY, IDENTITY, Machine, Receiver, Run, STATE, copy_tree, tool, walk};
use crate::skip;

const OTHER: &str = "PRODUCT_FAMILY_PXC";

/// The errors that are made, each with the calls that can end in it; no names: all.
const ERRORS: [(&str, &[&str]); 5] = [
    ("EIO", &[]),
    ("ENOSPC", &["openat", "mkdirat", "write", "fsync", "fchmod", "renameat", "unlinkat", "flock"]),
    ("EROFS", &["openat", "mkdirat", "write", "fchmod", "renameat", "unlinkat", "faccessat2"]),
    (
        "EACCES",
        &["open", "openat", "mkdirat", "renameat", "unlinkat", "faccessat2", "newfstatat", "readlink", "readlinkat"],
    ),
    ("EMFILE", &["open", "openat", "pipe2", "fcntl", "clone", "socket"]),
];

/// Where the records of a prepared machine go until the receiver's address takes its place: nobody listens on port 1.
const NOWHERE: &str = "https://127.0.0.1:1/x";

/// Calls without which a program cannot even start (Rust's own start aborts where poll fails), or that cannot fail:
/// there the process is only killed. A close(2) that fails has closed the descriptor all the same, but one that strace
/// makes fail has not, and a pipe that nobody closes hangs whoever reads it.
const ONLY_KILLED: [&str; 17] = [
    "arch_prctl",
    "brk",
    "close",
    "execve",
    "exit_group",
    "geteuid",
    "mmap",
    "mprotect",
    "munmap",
    "poll",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "set_tid_address",
    "sigaltstack",
    "umask",
    "uname",
];

/// Calls that only look, and only before the ledger is opened: where that is the same in every scenario, one will do.
const BEFORE_THE_LEDGER: [&str; 1] = ["open"];

/// A machine as it was before the faulty run, and what that run is for.
struct Scenario {
    name: &'static str,
    machine: Machine,
    /// What is to be reported in the end.
    families: &'static [&'static str],
    /// Whether the faulty run finds a receiver.
    is_reachable: bool,
    errors: &'static [(&'static str, &'static [&'static str])],
}

/// One call that fails in one way.
struct Point<'s> {
    scenario: &'s Scenario,
    fault: String,
    call: String,
    number: usize,
    /// Traces the courier as well; its own faults are nothing but failed deliveries.
    with_courier: bool,
}

fn empty_machine() -> Machine {
    Machine::new().with_binary("install-record")
}

/// A machine on which two records wait, one of them of the product that reports again.
fn machine_with_backlog() -> Machine {
    let machine = empty_machine();
    for family in [FAMILY, OTHER] {
        let run = Run::new().program("/install-record").args(["send", "-f", family, "-v", "1", "-u", NOWHERE]);
        run.inside(&machine).expect("chroot").run().expect(0);
    }
    assert_eq!(machine.pending().len(), 2);
    machine
}

/// The run that is under test, with a command in front of it.
fn report(machine: &Machine, under: &[&str], family: &str, url: &str) -> Run {
    let run = Run::new().under(under).program("/install-record").env("SSL_CERT_FILE", "/ca.pem");
    run.args(["send", "-f", family, "-v", "1", "-c", "10", "-t", "10", "-u", url]).inside(machine).expect("chroot")
}

/// A copy of the scenario's machine whose records go to `url`.
fn prepared(scenario: &Scenario, receiver: &Receiver, url: &str) -> Machine {
    let machine = Machine::bare();
    copy_tree(scenario.machine.root(), machine.root());
    fs::copy(receiver.ca(), machine.path("ca.pem")).expect("CA");
    redirect(&machine, url);
    machine
}

/// What waits for nobody goes to `url`.
fn redirect(machine: &Machine, url: &str) {
    for directory in [format!("{STATE}/pending"), "usr/local/percona/.install-record/pending".to_owned()] {
        for file in fs::read_dir(machine.path(&directory)).into_iter().flatten().flatten() {
            let text = fs::read_to_string(file.path()).expect("a record");
            fs::write(file.path(), text.replace(NOWHERE, url)).expect("a record");
        }
    }
}

/// How often the run makes each call, as `(before the binary itself is started, in all)`.
fn calls(scenario: &Scenario, with_courier: bool) -> BTreeMap<String, (usize, usize)> {
    let receiver = Receiver::start(&[]);
    let url = receiver.url("/");
    let machine = prepared(scenario, &receiver, &url);
    let trace = machine.path("trace");
    let mut strace = vec!["strace", "-qq", "-o", trace.to_str().expect("UTF-8")];
    strace.extend(with_courier.then_some("-f"));
    let target = if scenario.is_reachable { &url } else { NOWHERE };
    report(&machine, &strace, FAMILY, target).run().expect(0);
    counted(&fs::read_to_string(&trace).expect("trace"), with_courier)
}

/// How often each call is in a trace, as [`calls`] has it.
fn counted(trace: &str, with_courier: bool) -> BTreeMap<String, (usize, usize)> {
    let mut calls: BTreeMap<(String, String), (usize, usize)> = BTreeMap::new();
    let mut is_started = false;
    for line in trace.lines() {
        // `PID NAME(…` with -f, where what was interrupted comes twice.
        let (pid, line) = if with_courier { line.split_once(' ').unwrap_or(("", line)) } else { ("", line) };
        let Some((name, arguments)) = line.trim_start().split_once('(') else { continue };
        if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            continue;
        }
        let (before, all) = calls.entry((pid.to_owned(), name.to_owned())).or_default();
        *before += usize::from(!is_started);
        *all += 1;
        is_started |= name == "execve" && arguments.starts_with("\"/install-record\"");
    }
    // Calls are counted in each process by itself; the longest of them decides.
    let mut longest: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for ((_, name), (before, all)) in calls {
        let (longest_before, longest_all) = longest.entry(name).or_default();
        (*longest_before, *longest_all) = ((*longest_before).max(before), (*longest_all).max(all));
    }
    longest
}

/// The instance ID and the families in an identity file, which must be whole.
fn identity(machine: &Machine) -> Result<Option<(String, BTreeSet<String>)>, String> {
    let Some(text) = machine.identity() else { return Ok(None) };
    let mut lines = text.strip_suffix('\n').ok_or("the identity file is cut")?.split('\n');
    let id = lines.next().and_then(|line| line.strip_prefix("instanceId:")).ok_or("no instance ID")?;
    uuid::Uuid::try_parse(id).map_err(|_| format!("'{id}' is no instance ID"))?;
    let families = lines.map(|line| line.strip_suffix(":1").map(str::to_owned).ok_or(format!("'{line}'")));
    Ok(Some((id.to_owned(), families.collect::<Result<_, _>>()?)))
}

/// The accepted records whose path is `path`: instance IDs, and the record IDs by family.
fn accepted(receiver: &Receiver, path: &str) -> (BTreeSet<String>, BTreeMap<String, BTreeSet<String>>) {
    let (mut instances, mut records) = (BTreeSet::new(), BTreeMap::<String, BTreeSet<String>>::new());
    for request in receiver.requests().iter().filter(|request| request["path"] == path) {
        let body: serde_json::Value =
            serde_json::from_str(request["body"].as_str().expect("a body")).expect("a JSON body");
        let member = |key: &str| body["reports"][0][key].as_str().expect("a member").to_owned();
        instances.insert(member("instanceId"));
        records.entry(member("product_family")).or_default().insert(member("id"));
    }
    (instances, records)
}

fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".new"))
}

/// Runs with the fault, then without; what is wrong afterwards.
fn try_point(point: &Point<'_>, receiver: &Receiver) -> Result<(), String> {
    let Point { scenario, fault, call, number, with_courier } = point;
    let path = format!("/{number}");
    let url = receiver.url(&path);
    let machine = prepared(scenario, receiver, if scenario.is_reachable { &url } else { NOWHERE });
    let before = identity(&machine)?;

    let inject = format!("inject={call}:{fault}:when={number}");
    let mut strace = vec!["strace", "-qq", "-o", "/dev/null", "-e", &inject];
    strace.extend(with_courier.then_some("-f"));
    let target = if scenario.is_reachable { &url } else { NOWHERE };
    let ended = report(&machine, &strace, FAMILY, target).run();
    if fault.starts_with("error") && !with_courier && ended.status != Some(0) {
        return Err(format!("{ended:?}"));
    }
    let after = identity(&machine)?;
    let (_, delivered) = accepted(receiver, &path);
    if let Some((_, marked)) = &after
        && let Some(family) = marked.iter().find(|family| !delivered.contains_key(*family))
    {
        return Err(format!("{family} is marked and was not delivered"));
    }

    // The next run of each product; what waits of the others goes with the first, but a mark that could not be written
    // is only made up for by the product's own.
    redirect(&machine, &url);
    let mut healthy = Vec::new();
    for family in scenario.families {
        healthy.push(report(&machine, &[], family, &url).run());
        if healthy.last().is_some_and(|ended| ended.status != Some(0)) {
            return Err(format!("the next run: {healthy:?}"));
        }
    }
    let Some((id, marked)) = identity(&machine)? else {
        return Err(format!("no identity file: {ended:?} {healthy:?}"));
    };
    let (instances, records) = accepted(receiver, &path);
    let known = before.into_iter().chain(after).map(|(id, _)| id);
    let ids: BTreeSet<String> = known.chain(instances).chain([id]).collect();
    if ids.len() != 1 {
        return Err(format!("instance IDs {ids:?}: {ended:?} {healthy:?}"));
    }
    let wanted: BTreeSet<String> = scenario.families.iter().map(|family| (*family).to_owned()).collect();
    if marked != wanted {
        return Err(format!("marked are {marked:?}: {ended:?} {healthy:?}"));
    }
    if !records.keys().eq(wanted.iter()) || records.values().any(|ids| ids.len() != 1) {
        return Err(format!("accepted are {records:?}: {ended:?} {healthy:?}"));
    }
    let left: Vec<_> = walk(machine.root()).into_iter().filter(|path| is_unfinished(path)).collect();
    if !left.is_empty() || !machine.pending().is_empty() {
        return Err(format!("left are {left:?} and {:?}: {ended:?} {healthy:?}", machine.pending()));
    }
    Ok(())
}

/// The points of one scenario, those of one call and fault together.
fn points(scenario: &Scenario) -> Vec<Vec<Point<'_>>> {
    let mut all = Vec::new();
    for (call, (before, count)) in calls(scenario, false) {
        if scenario.errors.len() < ERRORS.len() && BEFORE_THE_LEDGER.contains(&&*call) {
            continue;
        }
        let errors = if ONLY_KILLED.contains(&&*call) { &[][..] } else { scenario.errors };
        let errors = errors.iter().filter(|(_, calls)| calls.is_empty() || calls.contains(&&*call));
        let faults = errors.map(|(error, _)| format!("error={error}")).chain(["signal=SIGKILL".to_owned()]);
        all.extend(faults.map(|fault| {
            let numbers = before + 1..=count;
            let point =
                |number| Point { scenario, fault: fault.clone(), call: call.clone(), number, with_courier: false };
            numbers.map(point).collect::<Vec<_>>()
        }));
    }
    all
}

/// The same where every process is traced, so that the fault is in the courier, or in both.
fn courier_points(scenario: &Scenario) -> Vec<Vec<Point<'_>>> {
    let mut all = Vec::new();
    for (call, (_, count)) in calls(scenario, true) {
        // The processes make different numbers of each call; where there are many, they are alike.
        let numbers = (1..=count).filter(|number| *number <= 4 || number % 5 == 0);
        let faults = ["signal=SIGKILL", "error=EIO"].into_iter().filter(|_| !ONLY_KILLED.contains(&&*call));
        all.extend(faults.map(|fault| {
            let point =
                |number| Point { scenario, fault: fault.into(), call: call.clone(), number, with_courier: true };
            numbers.clone().map(point).collect::<Vec<_>>()
        }));
    }
    all
}

#[test]
fn a_fault_at_every_system_call() {
    if tool(&["strace", "-o", "/dev/null", "true"]).is_none() {
        skip!("needs strace, and to be allowed to trace")
    }
    if Run::new().inside(&empty_machine()).is_none() {
        skip!("needs a static binary and chroot, as root or in a user namespace")
    }
    let scenario =
        |name, machine, families, is_reachable, errors| Scenario { name, machine, families, is_reachable, errors };
    let scenarios = [
        scenario("first report", empty_machine(), &[FAMILY][..], true, &ERRORS[..]),
        scenario("records wait", machine_with_backlog(), &[FAMILY, OTHER][..], true, &ERRORS[..1]),
        scenario("no receiver", empty_machine(), &[FAMILY][..], false, &ERRORS[..1]),
    ];
    let mut groups: Vec<Vec<Point<'_>>> = scenarios.iter().flat_map(points).collect();
    groups.extend(courier_points(&scenarios[0]));
    // The long ones first, so that no worker is left with one in the end.
    groups.sort_by_key(Vec::len);
    let total: usize = groups.iter().map(Vec::len).sum();
    let queue = Mutex::new(groups);
    let failures = Mutex::new(Vec::new());
    let tried = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(group) = { queue.lock().expect("queue").pop() } {
                    let receiver = Receiver::start(&[]);
                    for point in group {
                        // A run that does not end is a panic of the harness, whose message the runner prints.
                        let ended = std::panic::catch_unwind(|| try_point(&point, &receiver));
                        if let Err(why) = ended.unwrap_or_else(|_| Err("a panic".to_owned())) {
                            let Point { scenario, fault, call, number, with_courier } = point;
                            let who = if with_courier { ", courier too" } else { "" };
                            let failure = format!("{}{who}: {call} {number}, {fault}: {why}", scenario.name);
                            let _ = writeln!(std::io::stderr(), "     {failure}");
                            failures.lock().expect("failures").push(failure);
                        }
                        tried.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("failures");
    let tried = tried.into_inner();
    let _ = writeln!(std::io::stderr(), "     a fault at {tried} points, {} of them badly survived", failures.len());
    assert_eq!(tried, total);
    assert!(total > 1000, "{total}");
    assert!(failures.is_empty(), "{} of {total}", failures.len());
}

/// A command that is no report: what it is run on, and what must hold after a fault and a run without one.
struct Command {
    name: &'static str,
    machine: Machine,
    arguments: &'static [&'static str],
    check: fn(&Machine) -> bool,
}

impl Command {
    fn run(&self, machine: &Machine, under: &[&str]) -> Ended {
        let run = Run::new().under(under).program("/install-record").args(self.arguments);
        run.inside(machine).expect("chroot").run()
    }

    fn copy(&self) -> Machine {
        let machine = Machine::bare();
        copy_tree(self.machine.root(), machine.root());
        machine
    }

    /// Every fault at every call; how many points those were, and what was badly survived.
    fn sweep(&self) -> (usize, Vec<String>) {
        let machine = self.copy();
        let trace = machine.path("trace");
        self.run(&machine, &["strace", "-qq", "-o", trace.to_str().expect("UTF-8")]);
        let calls = counted(&fs::read_to_string(&trace).expect("trace"), false);
        let id = identity(&self.machine).expect("whole").map(|(id, _)| id);
        let (mut points, mut failures) = (0, Vec::new());
        for (call, (before, count)) in calls {
            let faults = ["signal=SIGKILL", "error=EIO"].into_iter();
            for fault in faults.filter(|fault| fault.starts_with("signal") || !ONLY_KILLED.contains(&&*call)) {
                for number in before + 1..=count {
                    points += 1;
                    let machine = self.copy();
                    let inject = format!("inject={call}:{fault}:when={number}");
                    self.run(&machine, &["strace", "-qq", "-o", "/dev/null", "-e", &inject]);
                    let after = identity(&machine);
                    // A file that could not be removed was emptied.
                    let is_emptied = self.name == "forget" && machine.identity().as_deref() == Some("");
                    let is_known = |after: &Option<_>| after.as_ref().is_none_or(|(it, _)| Some(it) == id.as_ref());
                    let is_same = is_emptied || after.as_ref().is_ok_and(is_known);
                    let again = self.run(&machine, &[]);
                    let left = walk(machine.root()).into_iter().any(|path| is_unfinished(&path));
                    if !is_same || again.status != Some(0) || left || !(self.check)(&machine) {
                        failures.push(format!("{}: {call} {number}, {fault}: {after:?}, {again:?}", self.name));
                    }
                }
            }
        }
        (points, failures)
    }
}

#[test]
fn a_fault_at_every_system_call_of_off_forget_and_a_second_run() {
    if tool(&["strace", "-o", "/dev/null", "true"]).is_none() {
        skip!("needs strace, and to be allowed to trace")
    }
    if Run::new().inside(&empty_machine()).is_none() {
        skip!("needs a static binary and chroot, as root or in a user namespace")
    }
    let receiver = Receiver::start(&[]);
    let reported = empty_machine();
    fs::copy(receiver.ca(), reported.path("ca.pem")).expect("CA");
    report(&reported, &[], FAMILY, &receiver.url("/")).run().sent();
    let is_marked = |machine: &Machine| machine.identity().is_some_and(|text| text.contains(&format!("{FAMILY}:1\n")));
    let commands = [
        Command {
            name: "off",
            machine: machine_with_backlog(),
            arguments: &["off"],
            check: |machine| machine.pending().is_empty() && machine.path("etc/install-record/off").exists(),
        },
        Command {
            name: "forget",
            machine: machine_with_backlog(),
            arguments: &["forget", "--profile", "percona"],
            check: |machine| machine.identity().is_none() && !machine.path(STATE).exists(),
        },
        Command {
            name: "a second run",
            machine: reported,
            arguments: &["send", "-f", FAMILY, "-v", "1", "-u", NOWHERE],
            check: |machine| machine.pending().is_empty() && machine.receipts().len() == 1,
        },
    ];
    assert!(is_marked(&commands[2].machine));
    let swept: Vec<(usize, Vec<String>)> = std::thread::scope(|scope| {
        let running: Vec<_> = commands.iter().map(|command| scope.spawn(|| command.sweep())).collect();
        running.into_iter().map(|running| running.join().expect("a sweep")).collect()
    });
    for (command, (points, failures)) in commands.iter().zip(&swept) {
        let _ = writeln!(
            std::io::stderr(),
            "     {}: a fault at {points} points, {} badly survived",
            command.name,
            failures.len()
        );
    }
    let failures: Vec<&String> = swept.iter().flat_map(|(_, failures)| failures).collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn the_sweep_sees_what_is_wrong() {
    for (what, text) in [
        ("cut in the ID", "instanceId:13f5fc62-35b4-4716-b3e6-96c761fc204"),
        ("cut in a mark", "instanceId:13f5fc62-35b4-4716-b3e6-96c761fc204d\nPRODUCT_FAMILY_PS:"),
        ("empty", ""),
        ("no ID", "PRODUCT_FAMILY_PS:1\n"),
    ] {
        assert!(identity(&Machine::new().with(IDENTITY, text)).is_err(), "{what}");
    }
    assert!(is_unfinished(Path::new("/a/.telemetry_uuid.0123abcd.new")));
}
