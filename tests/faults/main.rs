//! The fault matrix: the shipped binary against every way in which a network can fail. `tests/run faults`, or
//! `cargo test --test faults [-- PART-OF-A-NAME]`. A case has namespaces with nothing but loopback, an /etc of its own,
//! and its own process numbers. This program starts itself there (`--inside NAME`), is the far end together with the
//! receiver, and runs the binary twice, the second time with `--strict`, each on a machine of its own.

mod cases;
#[allow(dead_code, unused_imports, unused_macros, reason = "tests/shipped needs more of its harness")]
#[path = "../shipped/harness.rs"]
mod harness;
mod name_server;

use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;

use cases::{CASES, Case, Left};
use harness::*;

const SIDE_BY_SIDE: usize = 8;

/// On a quiet machine, a run takes at most 0.1 s more than it may. No machine that runs tests is quiet.
const SLACK: f64 = 1.0;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let first = args.next().unwrap_or_default();
    if first == "--inside" {
        let case = args.next().and_then(|name| CASES.iter().find(|case| case.name == name)).expect("a case");
        println!("{}", inside(case));
        return ExitCode::SUCCESS;
    }
    // Options are for cargo's own harness, such as --nocapture.
    let is_wanted = |case: &&Case| first.starts_with('-') || case.name.contains(&first);
    let (wanted, rows) = (Mutex::new(CASES.iter().filter(is_wanted)), Mutex::new(Vec::new()));
    let (unshare, has_nft) = (unshare(), tool(&["nft", "--version"]).is_some());
    println!("state  time  case, what must be left, what was said");
    let work = || {
        let next = || wanted.lock().expect("cases").next();
        while let Some(case) = next() {
            let row = match &unshare {
                None => format!("SKIP  {}: needs a network, mounts and processes of its own", case.name),
                Some(_) if !has_nft && case.prepare.concat().contains("nft") => {
                    format!("SKIP  {}: needs nft", case.name)
                }
                Some(unshare) => outside(unshare, case),
            };
            println!("{}", row.trim_end());
            rows.lock().expect("rows").push(row);
        }
    };
    thread::scope(|scope| [(); SIDE_BY_SIDE].map(|()| drop(scope.spawn(work))));
    let rows = rows.into_inner().expect("rows");
    let count = |state: &str| rows.iter().filter(|row| row.starts_with(state)).count();
    let (passed, skipped) = (count("ok"), count("SKIP"));
    println!("{passed} passed, {} failed, {skipped} skipped", rows.len() - passed - skipped);
    let may_skip = std::env::var_os("CHECK_MODE").is_none_or(|mode| mode != "require");
    ExitCode::from(u8::from(passed + if may_skip { skipped } else { 0 } < rows.len()))
}

/// What puts a command into the namespaces that a case needs, as root or as a user; `None`: impossible here.
fn unshare() -> Option<Vec<&'static str>> {
    let line = ["--mount", "--net", "--pid", "--mount-proc", "--fork", "--kill-child"];
    let test = ["sh", "-c", "ip link set lo up && mount -t tmpfs none /etc"];
    let candidates = [&["unshare"][..], &["unshare", "--map-root-user"]].map(|first| [first, &line].concat());
    candidates.into_iter().find(|it| tool(&[it, &test[..]].concat()).is_some())
}

fn outside(unshare: &[&str], case: &Case) -> String {
    let tmp = Machine::empty();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "60"]).args(unshare).arg(std::env::current_exe().expect("this program"));
    // Process numbers begin anew inside, and temporary directories are named by them.
    command.args(["--inside", case.name]).env("TMPDIR", tmp.root()).stdin(Stdio::null());
    let output = command.output().expect("timeout");
    match output.status.success() {
        true => String::from_utf8_lossy(&output.stdout).into_owned(),
        false => format!("FAIL  {}: {}: {}", case.name, output.status, String::from_utf8_lossy(&output.stderr)),
    }
}

/// One case, from process 1 of its own namespaces: `ok` or `FAIL` with what was seen, and a line for each problem.
fn inside(case: &Case) -> String {
    assert_eq!(std::process::id(), 1, "only for namespaces of its own");
    prepare(case);
    let own = ["--san", "far.test", "--san", "other.test", "--san", "nowhere.test", "--port"];
    let start = |port, options: &[&str]| Receiver::start(&[&own[..], &[port], options].concat());
    let far = case.far.map(|options| start("8443", options));
    let other = case.other.map(|(options, _)| start("8444", options));
    let authorities = far.iter().chain(&other).map(|it| fs::read(it.ca()).expect("CA")).collect::<Vec<_>>().concat();
    let trust = Machine::of("bare").with("ca.pem", &authorities);
    let before = processes();
    let run = |machine: &Machine, strict: &[&str]| {
        let run = machine.run(["send", "-f", FAMILY, "-v", "8.0.36-28", "-u", case.url]).args(strict);
        let run = run.args(case.limits.split_whitespace()).env("HTTPS_PROXY", case.proxy);
        let ca = trust.path("ca.pem");
        if authorities.is_empty() { run.spawn() } else { run.env("SSL_CERT_FILE", ca).spawn() }
    };
    // Side by side: the second is to be no later than the first.
    let machines = [Machine::new(), Machine::new()];
    let ended = [run(&machines[0], &[]), run(&machines[1], &["--strict"])].map(Running::wait);

    let running: Vec<u32> = processes().difference(&before).copied().collect();
    let requests = other.iter().map(|it| it.requests().len()).sum::<usize>();
    let expected = case.other.map_or(0, |(_, count)| 2 * count);
    let all = [
        (running.is_empty(), format!("left running: {running:?}")),
        (requests == expected, format!("other.test got {requests} requests of two runs")),
    ];
    let statuses = [0, i32::from(case.left != Left::Delivered)];
    let each = ended.iter().zip(&machines).zip(statuses);
    let each = each.flat_map(|((ended, machine), status)| seen(case, ended, machine, status));
    let problems = all.into_iter().chain(each).filter(|(is_right, _)| !is_right).map(|(_, what)| what);
    let problems: String = problems.map(|it| format!("\n     | {it}")).collect();
    let took = ended[0].time.max(ended[1].time).as_secs_f64();
    let state = if problems.is_empty() { "ok  " } else { "FAIL" };
    // The reason alone, where there is one.
    let (left, said) = (format!("{:?}", case.left), ended[0].stderr.trim());
    let said = said.split_once(" (").map_or(said, |(_, reason)| reason);
    let said = said.split("); ").next().unwrap_or_default();
    format!("{state} {took:5.2} s  {:46} {left:9} {said}{problems}", case.name)
}

/// The interface, and an /etc with nothing in it but what a look-up needs.
fn prepare(case: &Case) {
    let sh = |command: &str| assert!(tool(&["sh", "-c", command]).is_some(), "{command}");
    sh("ip link set lo up && mount -t tmpfs -o mode=755 none /etc");
    fs::write("/etc/hosts", case.hosts).expect("a file in /etc");
    fs::write("/etc/resolv.conf", case.resolv_conf).expect("a file in /etc");
    case.prepare.iter().for_each(|command| sh(command));
    case.server.serve();
}

fn processes() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What must be true of a run and of what it leaves, and what is said where it is not.
fn seen(case: &Case, ended: &Ended, machine: &Machine, status: i32) -> Vec<(bool, String)> {
    let accepted: Vec<_> = machine.receipts().iter().map(|it| it["answer"]["accepted"].as_bool()).collect();
    let identity = machine.text(IDENTITY).unwrap_or_default();
    let id = identity.get(11..47).unwrap_or_default();
    // Temporary files have names that begin with a dot.
    let names: Vec<String> = walk(machine.root()).iter().map(|it| it.display().to_string()).collect();
    let are_ours = |name: &&String| name.contains("/.") || name.contains("usr/local/percona/");
    let files: Vec<&String> = names.iter().filter(are_ours).collect();
    let (mark, pending, answers) = match case.left {
        Left::Delivered => (format!("{FAMILY}:1\n"), 0, vec![Some(true)]),
        Left::Pending => (String::new(), 1, vec![]),
        Left::Refused => (String::new(), 0, vec![Some(false)]),
    };
    let identity_file = machine.path(IDENTITY).display().to_string();
    let found = (machine.pending().len(), &accepted, &identity, files);
    let expected = (pending, &answers, &format!("instanceId:{id}\n{mark}"), vec![&identity_file]);

    let (limit, seconds) = (case.time + SLACK, ended.time.as_secs_f64());
    let is_one_line = ended.stderr.starts_with("install-record: ") && ended.stderr.lines().count() == 1;
    vec![
        (!id.is_empty() && found == expected, format!("{found:?} is left, not {expected:?}")),
        (ended.status == Some(status), format!("exit {status} was expected: {ended:?}")),
        (seconds <= limit, format!("more than {limit:.1} s: {ended:?}")),
        (seconds >= case.least, format!("less than {:.1} s: {ended:?}", case.least)),
        (ended.stdout.is_empty(), format!("something on stdout: {ended:?}")),
        (is_one_line, format!("one line on stderr was expected: {ended:?}")),
        (ended.stderr.contains(case.said), format!("'{}' was expected on stderr: {ended:?}", case.said)),
    ]
}
