//! The fault matrix: the shipped binary against every way in which a network can fail, as a table with the time that
//! each took and what was left. `tests/run faults`, or `cargo test --test faults [-- PART-OF-A-NAME]`.
//!
//! A case has namespaces of its own, with nothing but loopback, an /etc that it makes, and its own process numbers.
//! This program starts itself there (`--inside NAME`), is the far end together with the receiver, and runs the binary
//! twice, the second time with `--strict`, each on a machine of its own. Cases mostly wait, so they run side by side.

mod cases;
#[allow(dead_code, unused_macros, reason = "tests/shipped needs more of its harness")]
#[path = "../shipped/harness.rs"]
mod harness;
mod name_server;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use cases::{CASES, Case, Left, Time};
use harness::{Ended, FAMILY, IDENTITY, Machine, Receiver, STATE, TempDir, tool, walk};
use name_server::Names;
use serde_json::{Value, json};

/// Cases side by side. They mostly wait, but what they start has to share the processors.
const SIDE_BY_SIDE: usize = 8;

/// On a quiet machine, this much more than the budget is all that a run takes. The table marks what took more.
const PROMISED: f64 = 0.1;

/// What fails a case is more: no machine that runs tests is quiet.
const SLACK: f64 = 1.0;

/// The default of `-t`.
const DEFAULT_TIMEOUT: u32 = 3;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let first = args.next();
    if first.as_deref() == Some("--inside") {
        let case = args.next().and_then(|name| CASES.iter().find(|case| case.name == name)).expect("a case");
        println!("{}", inside(case));
        return ExitCode::SUCCESS;
    }
    // What cargo test hands on to any harness, such as --nocapture, means nothing here.
    let part = first.filter(|word| !word.starts_with('-')).unwrap_or_default();
    let wanted: Vec<&Case> = CASES.iter().filter(|case| case.name.contains(&part)).collect();
    let (unshare, has_nft) = (unshare(), tool(&["nft", "--version"]).is_some());
    let (next, (done, results)) = (AtomicUsize::new(0), mpsc::channel());
    let mut table = Table::new();
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            let (done, next, wanted, unshare) = (done.clone(), &next, &wanted, &unshare);
            scope.spawn(move || {
                while let Some(case) = wanted.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let found = match unshare {
                        None => {
                            Found::Skip("needs namespaces with a network, mounts and processes of their own".into())
                        }
                        Some(_) if !has_nft && !case.dropped.is_empty() => Found::Skip("needs nft".into()),
                        Some(unshare) => outside(unshare, case),
                    };
                    done.send((case.name, found)).expect("the table takes it");
                }
            });
        }
        drop(done);
        // In the table's order, each as soon as all before it are there.
        let mut early = BTreeMap::new();
        for case in &wanted {
            while !early.contains_key(case.name) {
                early.extend(results.recv());
            }
            table.row(case, &early[case.name]);
        }
    });
    table.foot()
}

// ---- outside of the namespaces ----

/// How a case ended.
enum Found {
    /// With what it saw.
    Row(Value),
    /// It cannot be had here.
    Skip(String),
    /// It came to no end.
    Broken(String),
}

/// What puts a command into the namespaces that a case needs, as root or as a user; `None`: impossible here.
fn unshare() -> Option<Vec<String>> {
    let line = ["--mount", "--net", "--pid", "--mount-proc", "--fork", "--kill-child"].map(str::to_owned);
    let candidates = [vec!["unshare".to_owned()], vec!["unshare".to_owned(), "--map-root-user".to_owned()]];
    candidates.into_iter().map(|first| [&first[..], &line[..]].concat()).find(|line| {
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        tool(&[&words[..], &["sh", "-c", "ip link set lo up && mount -t tmpfs none /etc"]].concat()).is_some()
    })
}

fn outside(unshare: &[String], case: &Case) -> Found {
    let tmp = TempDir::new();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "60"]).args(unshare).arg(std::env::current_exe().expect("this program"));
    // Process numbers begin anew inside, and temporary directories are named by them.
    command.args(["--inside", case.name]).env("TMPDIR", tmp.path()).stdin(Stdio::null());
    let output = command.output().expect("timeout");
    match serde_json::from_slice(&output.stdout) {
        Ok(row) if output.status.success() => Found::Row(row),
        _ => Found::Broken(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())),
    }
}

// ---- the table ----

/// `ok`, `FAIL` or `SKIP`, the time, the case; then the budget, both exit statuses, what was left, and what was said.
struct Table {
    width: usize,
    passed: usize,
    failed: usize,
    skipped: usize,
    late: usize,
}

impl Table {
    fn new() -> Table {
        let width = CASES.iter().map(|case| case.name.len()).max().unwrap_or(0);
        println!("{:11}  {:width$}  budget  exit  left       said", "", "case");
        Table { width, passed: 0, failed: 0, skipped: 0, late: 0 }
    }

    fn row(&mut self, case: &Case, found: &Found) {
        let (name, width) = (case.name, self.width);
        match found {
            Found::Skip(why) => {
                self.skipped += 1;
                println!("SKIP  {name}: {why}");
            }
            Found::Broken(why) => {
                self.failed += 1;
                println!("FAIL  {name}: {why}");
            }
            Found::Row(row) => {
                let problems = row["problems"].as_array().map_or(&[][..], Vec::as_slice);
                let state = if problems.is_empty() { "ok" } else { "FAIL" };
                *if problems.is_empty() { &mut self.passed } else { &mut self.failed } += 1;
                let (took, budget) =
                    (row["took"].as_f64().unwrap_or(f64::NAN), case.timeout.unwrap_or(DEFAULT_TIMEOUT));
                let is_late = took > f64::from(budget) + PROMISED;
                self.late += usize::from(is_late);
                let (mark, text) = (if is_late { '!' } else { ' ' }, |key: &str| row[key].as_str().unwrap_or("?"));
                println!(
                    "{state:4} {took:5.2} s{mark} {name:width$}  {budget:>4} s  {:4}  {:9}  {}",
                    text("exit"),
                    text("left"),
                    text("said")
                );
                for problem in problems {
                    println!("     | {}", problem.as_str().unwrap_or("?"));
                }
            }
        }
        let _ = std::io::stdout().flush();
    }

    fn foot(self) -> ExitCode {
        if self.late > 0 {
            println!("! {} later than budget + {PROMISED} s, which is what a quiet machine keeps", self.late);
        }
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        let may_skip = std::env::var_os("CHECK_MODE").is_none_or(|mode| mode != "require");
        ExitCode::from(u8::from(self.failed > 0 || (self.skipped > 0 && !may_skip)))
    }
}

// ---- inside ----

/// One case, from process 1 of its own namespaces; what was seen, as a row of the table.
fn inside(case: &Case) -> Value {
    assert_eq!(std::process::id(), 1, "only for namespaces of its own");
    network(case);
    case.names.serve();
    let own = ["--san", "far.test", "--san", "other.test", "--port"];
    let start = |port, options: &[&str]| Receiver::start(&[&own[..], &[port], options].concat());
    let far = case.far.map(|options| start("8443", options));
    let other = case.other.map(|(options, _)| start("8444", options));

    let authorities = far.iter().chain(&other).map(|it| fs::read(it.ca()).expect("CA")).collect::<Vec<_>>().concat();
    let trust = Machine::bare().with("ca.pem", &authorities);
    let before = processes();
    let machines = [Machine::new(), Machine::new()];
    let run = |machine: &Machine, strict: &[&str]| {
        let mut run =
            machine.run(["send", "-f", FAMILY, "-v", "8.0.36-28", "-u", case.url]).args(strict).without_network();
        if let Some(seconds) = case.timeout {
            run = run.args(["-t", &seconds.to_string()]);
        }
        if !case.proxy.is_empty() {
            run = run.env("HTTPS_PROXY", case.proxy);
        }
        if !authorities.is_empty() {
            run = run.env("SSL_CERT_FILE", trust.path("ca.pem"));
        }
        run.spawn()
    };
    // Side by side: the second is to be no later than the first.
    let (plain, strict) = (run(&machines[0], &[]), run(&machines[1], &["--strict"]));
    let ended = [plain.wait(), strict.wait()];
    let left_running: Vec<String> = processes().difference(&before).map(|pid| described(*pid)).collect();

    let mut problems = Vec::new();
    if !left_running.is_empty() {
        problems.push(format!("left running: {left_running:?}"));
    }
    let expected = [0, i32::from(case.left != Left::Delivered)];
    for ((ended, machine), status) in ended.iter().zip(&machines).zip(expected) {
        problems.extend(wrong_with_run(case, ended, status));
        problems.extend(wrong_with_state(case, machine));
    }
    if let (Some(other), Some((_, requests))) = (&other, case.other)
        && other.requests().len() != requests * ended.len()
    {
        problems.push(format!("other.test got {} requests of two runs", other.requests().len()));
    }
    let statuses: Vec<String> = ended.iter().map(|it| it.status.map_or("?".into(), |it| it.to_string())).collect();
    json!({
        "took": ended[0].time.as_secs_f64().max(ended[1].time.as_secs_f64()),
        "exit": statuses.join(" "),
        "left": left(&machines[0]).map_or("?".to_owned(), |left| format!("{left:?}").to_lowercase()),
        "said": reason(&ended[0].stderr),
        "problems": problems,
    })
}

/// The interface, what is dropped on it, and an /etc with nothing in it but what a look-up needs.
fn network(case: &Case) {
    let commands = |program: &str, args: &[&str]| {
        let status = Command::new(program).args(args).stdin(Stdio::null()).status().expect(program);
        assert!(status.success(), "{program} {args:?}: {status}");
    };
    commands("ip", &["link", "set", "lo", "up"]);
    if !case.dropped.is_empty() {
        commands("nft", &["add table inet faults"]);
        for chain in ["input", "output"] {
            commands("nft", &[&format!("add chain inet faults {chain} {{ type filter hook {chain} priority 0; }}")]);
        }
        for rule in case.dropped {
            commands("nft", &[&format!("add rule inet faults {rule}")]);
        }
    }
    commands("mount", &["-t", "tmpfs", "-o", "mode=755", "none", "/etc"]);
    let hosts = match case.names {
        Names::Hosts => "127.0.0.1 far.test\n127.0.0.2 other.test\n",
        Names::HostsBare => "192.0.2.1 near.test\n127.0.0.1\tmore FAR.Test",
        _ => "",
    };
    fs::write("/etc/hosts", hosts).expect("hosts");
    if let Names::Route(kind) = case.names {
        commands("ip", &["route", "add", kind, "192.0.2.0/24"]);
    }
    if let Some(text) = case.names.resolv_conf() {
        fs::write("/etc/resolv.conf", text).expect("resolv.conf");
        let mode = if case.names == Names::Private { 0o600 } else { 0o644 };
        fs::set_permissions("/etc/resolv.conf", PermissionsExt::from_mode(mode)).expect("resolv.conf");
    }
}

/// The numbers of all processes here, zombies included.
fn processes() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn described(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.split(' ').take(4).collect::<Vec<_>>().join(" ")
}

fn wrong_with_run(case: &Case, ended: &Ended, status: i32) -> Vec<String> {
    let budget = f64::from(case.timeout.unwrap_or(DEFAULT_TIMEOUT));
    let limit = SLACK
        + match case.time {
            Time::Budget => budget,
            Time::AtOnce => budget.min(1.0),
            Time::DeadAddress => budget / 2.0,
        };
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let mut wrong = Vec::new();
    let mut check = |is_right: bool, what: &str| {
        if !is_right {
            wrong.push(format!("{what}: {ended:?}"));
        }
    };
    check(ended.status == Some(status), &format!("exit {status} was expected"));
    check(ended.time.as_secs_f64() <= limit, &format!("more than {limit:.1} s"));
    check(ended.stdout.is_empty(), "something on stdout");
    check(lines.len() == 1 && lines[0].starts_with("install-record: "), "one line on stderr was expected");
    check(ended.stderr.contains(case.said), &format!("'{}' was expected on stderr", case.said));
    wrong
}

/// What is left, where it is exactly one of the three.
fn left(machine: &Machine) -> Result<Left, String> {
    let identity = machine.identity().unwrap_or_default();
    let id = identity.strip_prefix("instanceId:").and_then(|rest| rest.get(..36)).unwrap_or_default();
    let unmarked = format!("instanceId:{id}\n");
    let accepted: Vec<bool> = machine.receipts().iter().map(|receipt| receipt["answer"]["accepted"] == true).collect();
    let is_marked = identity == format!("{unmarked}{FAMILY}:1\n");
    if id.is_empty() || !(is_marked || identity == unmarked) {
        return Err(format!("the identity file holds {identity:?}"));
    }
    match (is_marked, machine.pending().len(), accepted.as_slice()) {
        (true, 0, [true]) => Ok(Left::Delivered),
        (false, 1, []) => Ok(Left::Pending),
        (false, 0, [] | [false]) => Ok(Left::Refused),
        (_, pending, receipts) => Err(format!("marked: {is_marked}, pending: {pending}, receipts: {receipts:?}")),
    }
}

fn wrong_with_state(case: &Case, machine: &Machine) -> Vec<String> {
    let mut wrong = Vec::new();
    match left(machine) {
        Ok(left) if left == case.left => {}
        Ok(left) => wrong.push(format!("{left:?}, and {:?} was expected", case.left)),
        Err(state) => wrong.push(state),
    }
    // Temporary files have names that begin with a dot.
    let name = |path: &std::path::Path| path.strip_prefix(machine.root()).map(|it| it.display().to_string());
    let names: Vec<String> = walk(machine.root()).iter().filter_map(|path| name(path).ok()).collect();
    let of = |top: &str| names.iter().filter(|name| name.starts_with(top)).cloned().collect::<Vec<_>>();
    if names.iter().any(|name| name.contains("/.")) || of("usr/local/percona/") != [IDENTITY] {
        wrong.push(format!("files: {:?} {:?}", of("usr/local/percona/"), of(STATE)));
    }
    wrong
}

/// The part of the line in which the reason is, else the line.
fn reason(stderr: &str) -> String {
    let line = stderr.trim().strip_prefix("install-record: ").unwrap_or(stderr.trim());
    let end = line.rfind("); a later run tries again").or(line.rfind("); to say no")).or(line.find(", receipt in"));
    let start = line.find(" (").map_or(0, |at| at + 2);
    line[..end.unwrap_or(line.len())].get(start..).unwrap_or(line).chars().take(100).collect()
}
