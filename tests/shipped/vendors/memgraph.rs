//! Memgraph: the machine at a start, the use of resources while it runs, counters by name, an ID "tied to nothing else".

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Kind, assert_is, body, command_of, mode, read, server, to};
use crate::harness::{Machine, Receiver, Run, TempDir, is_root, tool};
use crate::skip;

const CONF: &str = "etc/memgraph/memgraph.conf";
const ID_FILE: &str = "srv/data/telemetry_id";

fn memgraph() -> &'static Kind {
    Kind::of("memgraph")
}

/// The record of what a running database uses.
fn usage(machine: &Machine, args: &[&str]) -> Run {
    let run = command_of(machine, "memgraph", "show").args(["-v", "2.3.1", "--state-dir", "/srv/data", "--event", "7"]);
    run.args(args)
}

#[test]
fn promise_an_id_of_the_database_tied_to_nothing_else() {
    let (one, other) = (server(), server().with("srv/second/storage", ""));
    let receiver = Receiver::start(&[]);
    let send = |machine: &Machine, directory: &str| {
        let run = command_of(machine, "memgraph", "send").args(["-v", "2.3.1", "--state-dir", directory]);
        to(&receiver, memgraph().path(), run).run().sent();
        body(&receiver, receiver.requests().len())[0]["run_id"].as_str().expect("an ID").to_owned()
    };
    let first = send(&one, "/srv/data");
    assert_is("uuid4", &first);
    assert_eq!(read(&one, ID_FILE), format!("{first}\n"));
    assert_eq!(mode(&one, ID_FILE), 0o600);
    assert_eq!(send(&one, "/srv/data"), first);
    // The same hardware and machine-id elsewhere, and another database on one machine.
    let (second, third) = (send(&other, "/srv/data"), send(&other, "/srv/second"));
    assert!(first != second && second != third && first != third, "{first} {second} {third}");
    // It goes with the data: a new directory is a new database, a moved one the same.
    std::fs::remove_file(one.path(ID_FILE)).expect("ID");
    assert_ne!(send(&one, "/srv/data"), first);
    std::fs::rename(other.path("srv/second"), other.path("srv/third")).expect("rename");
    assert_eq!(send(&other, "/srv/third"), third);
    // The machine-id is one of many that nobody looks at.
    let bare = server();
    std::fs::remove_file(bare.path("etc/machine-id")).expect("machine-id");
    assert_is("uuid4", &send(&bare, "/srv/data"));
}

#[test]
fn the_id_belongs_to_whom_the_data_belongs() {
    use std::os::unix::fs::{MetadataExt, chown};
    if !is_root() {
        skip!("only root can give files away")
    }
    let (machine, receiver) = (server(), Receiver::start(&[]));
    chown(machine.path("srv/data"), Some(65534), Some(65534)).expect("chown");
    memgraph().send(&machine, &receiver).run().sent();
    let meta = std::fs::metadata(machine.path(ID_FILE)).expect("ID");
    assert_eq!((meta.uid(), meta.gid()), (65534, 65534));
    // And a link that its owner puts there leads root nowhere.
    std::fs::remove_file(machine.path(ID_FILE)).expect("ID");
    std::os::unix::fs::symlink("/etc/machine-id", machine.path(ID_FILE)).expect("link");
    let before = read(&machine, "etc/machine-id");
    memgraph().send(&machine, &receiver).run().expect(0);
    assert_eq!(read(&machine, "etc/machine-id"), before);
    for number in 1..=receiver.requests().len() {
        assert_is("uuid4", body(&receiver, number)[0]["run_id"].as_str().expect("an ID"));
    }
}

#[test]
fn promise_off_in_its_configuration_in_every_spelling_of_gflags() {
    let receiver = Receiver::start(&[]);
    for (text, sent) in [
        ("--telemetry-enabled=false\n", false),
        ("--telemetry_enabled=false\n", false),
        ("--telemetry_enabled=0\n", false),
        ("--telemetry-enabled=f\n", false),
        ("--telemetry-enabled=no\n", false),
        ("--telemetry-enabled=FALSE\r\n", false),
        ("-telemetry-enabled=false\n", false),
        ("--notelemetry-enabled\n", false),
        ("--notelemetry_enabled\n", false),
        ("--log-level=INFO\n# off\n  --telemetry-enabled=false\n--bolt-port=7687", false),
        ("--telemetry-enabled=true\n--telemetry-enabled=false\n", false),
        ("--telemetry-enabled\n--notelemetry-enabled\n", false),
        ("--telemetry-enabled=junk\n", false),
        ("--telemetry-enabled=false\n--telemetry-enabled=true\n", true),
        ("--notelemetry-enabled\n--telemetry-enabled\n", true),
        ("--telemetry-enabled=true\n", true),
        ("--telemetry-enabled=1\n--log-level=false\n", true),
        // The product's own default is off.
        ("# --telemetry-enabled=true\n", false),
        ("--log-level=INFO\n", false),
        ("", false),
    ] {
        let machine = server().with(CONF, text);
        let before = machine.snapshot();
        let ended = memgraph().send(&machine, &receiver).run().expect(0);
        assert_eq!(ended.stderr.contains("sent one install record"), sent, "{text:?}: {}", ended.stderr);
        assert!(sent || (ended.stderr.is_empty() && machine.snapshot() == before), "{text:?}");
    }
    let machine = server();
    let before = (machine.snapshot(), receiver.connections());
    for flag in [
        "--telemetry-enabled=false",
        "--telemetry_enabled=0",
        "--notelemetry-enabled",
        "--notelemetry_enabled",
        "--telemetry-enabled=junk",
        "--telemetry=false",
    ] {
        memgraph().send(&machine, &receiver).args([flag]).run().silent();
    }
    assert_eq!((machine.snapshot(), receiver.connections()), before);
    memgraph().send(&machine, &receiver).args(["--telemetry-enabled=true"]).run().sent();
}

#[test]
fn promise_only_counters_and_modules_by_name() {
    let machine = server();
    let shown = usage(
        &machine,
        &[
            r#"--set=event_counters={"FailedQuery":0,"MATCH (n {name: 'Mallory'}) RETURN n":1,"Password":2}"#,
            "--set=event_counters.ReadQuery=18446744073709551615",
            "--set=event_counters.Secrets=3",
            "--set=query_module_counters.nxalg.pagerank=2",
            r#"--set=query_module_counters={"/usr/lib/memgraph/secret.so":3,"a secret":4,"mgps.get":1}"#,
            "--set=query_module_counters.10.0.0.1=5",
            "--set=hostname=secrethost",
            "--set=storage.labels=Patient",
        ],
    )
    .run();
    let record = shown.json();
    assert_eq!(record[0]["data"]["event_counters"], json!({"FailedQuery": 0, "ReadQuery": u64::MAX}));
    assert_eq!(record[0]["data"]["query_module_counters"], json!({"mgps.get": 1, "nxalg.pagerank": 2}));
    assert_eq!(record[0]["data"]["storage"], json!({"edges": 0, "vertices": 0}));
    for word in ["Mallory", "mallory", "secret", "Secret", "Patient", "10.0.0.1", "Password"] {
        assert!(!shown.text().contains(word), "{word}: {}", shown.text());
    }
    for (arg, named) in [
        ("--set=event_counters.FailedQuery=many", "--set event_counters=VALUE must be whole numbers by name"),
        ("--set=event_counters=[1]", "--set event_counters=VALUE must be whole numbers by name"),
        ("--set=storage.vertices=\"name\"", "--set storage.vertices=VALUE must be a number"),
    ] {
        let ended = usage(&machine, &[arg]).run().expect(2);
        assert!(ended.stderr.contains(named), "{ended:?}");
    }
}

#[test]
fn every_counter_of_the_product_gets_through_and_another_is_named() {
    let profile: Value = serde_json::from_str(include_str!("../../../profiles/memgraph.json")).expect("JSON");
    let names: Vec<&str> =
        profile["set"]["event_counters"]["names"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
    assert!(names.len() >= 120, "{}", names.len());
    let counts: serde_json::Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), json!(1_234_567_890))).collect();
    let given = format!("--set=event_counters={}", Value::Object(counts.clone()));
    let shown = usage(&server(), &[&given, "--set=event_counters.NewCounter=1", "--verbose"]).run();
    assert_eq!(shown.json()[0]["data"]["event_counters"], Value::Object(counts));
    assert!(
        shown.stderr.contains("--set event_counters.NewCounter: the record of memgraph does not name it"),
        "{shown:?}"
    );
}

#[test]
fn promise_off_by_default_in_three_files_of_which_any_can_say_no() {
    let receiver = Receiver::start(&[]);
    const USER: &str = "home/dev/.memgraph/config";
    const NAMED: &str = "srv/mg.conf";
    let (on, off) = (Some("--telemetry-enabled=true\n"), Some("--telemetry-enabled=false\n"));
    // Of /etc, of the user's home, and of the file that MEMGRAPH_CONFIG names.
    let machine = |texts: [Option<&str>; 3]| {
        let machine = server();
        std::fs::remove_file(machine.path(CONF)).expect("configuration");
        let files = [CONF, USER, NAMED].into_iter().zip(texts);
        files.fold(
            machine,
            |machine, (path, text)| if let Some(text) = text { machine.with(path, text) } else { machine },
        )
    };
    // None: MEMGRAPH_CONFIG is not set.
    let is_sent = |machine: &Machine, variable: Option<&str>| {
        let before = machine.snapshot();
        let run = memgraph().send(machine, &receiver);
        let ended = variable.iter().fold(run, |run, path| run.env("MEMGRAPH_CONFIG", path)).run().expect(0);
        let sent = ended.stderr.contains("sent one install record");
        assert!(sent || (ended.stderr.is_empty() && machine.snapshot() == before), "{ended:?}");
        sent
    };
    const VARIABLE: Option<&str> = Some("/srv/mg.conf");
    for (texts, sent) in [
        ([None, None, None], false),
        ([on, None, None], true),
        ([None, on, None], true),
        ([None, None, on], true),
        ([on, off, None], false),
        ([on, None, off], false),
        ([off, on, on], false),
        ([on, on, on], true),
        ([Some("--log-level=INFO\n"), on, None], true),
        ([Some("--log-level=INFO\n"), Some("# --telemetry-enabled\n"), Some("\n")], false),
    ] {
        assert_eq!(is_sent(&machine(texts), VARIABLE), sent, "{texts:?}");
    }
    // Only the file that is named counts, and an empty name is none.
    for (variable, sent) in [(None, true), (Some(""), true), (Some("/srv/nowhere"), true), (VARIABLE, false)] {
        assert_eq!(is_sent(&machine([on, None, off]), variable), sent, "{variable:?}");
    }
    assert!(!is_sent(&machine([None, None, on]), None), "nobody has named it");
    // What is there and is no file may hide a no.
    for path in [CONF, USER, NAMED] {
        let texts = [CONF, USER, NAMED].map(|other| on.filter(|_| other != path));
        assert!(!is_sent(&machine(texts).with(&format!("{path}/x"), ""), VARIABLE), "{path} is a directory");
    }
}

#[test]
fn a_process_that_has_ended_is_null_and_other_events_are_skipped() {
    let machine = server();
    let record = usage(&machine, &["--pid", "4712"]).run().json();
    assert_eq!(record[0]["event"], 7);
    assert_eq!(record[0]["data"]["resources"], json!({"cpu": {"usage": null}, "memory": null}));
    assert_eq!(record[0]["data"]["uptime"], Value::Null);
    let receiver = Receiver::start(&[]);
    for event in ["stop", "integer", "-1", "1.5"] {
        let run = memgraph().send(&machine, &receiver).args([&format!("--event={event}"), "--verbose"]);
        let ended = run.run().expect(0);
        assert!(ended.stderr.contains("nothing is sent: memgraph reports only the event"), "{ended:?}");
    }
    let ended = usage(&machine, &["--pid", "memgraph"]).run().expect(2);
    assert!(ended.stderr.contains("--pid 'memgraph' must be the number of a process"), "{ended:?}");
    assert_eq!(receiver.connections(), 0);
}

/// Killed with the test.
struct Busy(Child);

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn promise_usage_of_a_real_process_is_what_proc_says() {
    let ticks: f64 = tool(&["getconf", "CLK_TCK"]).and_then(|text| text.trim().parse().ok()).unwrap_or(100.0);
    let started = Instant::now();
    let busy = Busy(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("sh"));
    let directory = TempDir::new();
    let pid = busy.0.id().to_string();
    // proc_pid_stat(5): user and system time, in ticks; `sh` has no blank in its name.
    let used = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
        let field = |number: usize| stat.split(' ').nth(number - 1).expect("a field").parse::<f64>().expect("ticks");
        (field(14) + field(15)) / ticks
    };
    // The running system itself, where nothing is written: `show`. On a busy computer the process may be given less in
    // the moments before and after the second that is watched, so one good second of five is enough; a wrong number
    // would be wrong in all of them.
    let mut seen = Vec::new();
    for _ in 0..5 {
        let (from, before) = (Instant::now(), used());
        let run = Run::new().args(["show", "--profile", "memgraph", "-v", "2.3.1", "--event", "0", "--pid", &pid]);
        let ended = run.args(["-t", "20", "--state-dir"]).args([directory.path()]).run();
        let expected = (used() - before) / from.elapsed().as_secs_f64();
        let data = &ended.json()[0]["data"];
        let usage = data["resources"]["cpu"]["usage"].as_f64().expect("a number");
        // proc_pid_status(5)
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let resident = resident.and_then(|text| text.parse::<f64>().ok()).expect("VmRSS") * 1024.0;
        let memory = data["resources"]["memory"].as_f64().expect("a number");
        assert!((memory - resident).abs() <= 0.2 * resident, "{memory}, not {resident}");
        let uptime = Duration::from_secs_f64(data["uptime"].as_f64().expect("a number"));
        assert!(uptime <= started.elapsed() + Duration::from_secs(1), "{uptime:?}");
        assert!(uptime + Duration::from_secs(20) >= started.elapsed(), "{uptime:?}");
        assert!(ended.time >= Duration::from_millis(900), "it was watched: {:?}", ended.time);
        // The kernel counts in hundredths of a second, of which a busy computer has few for one process.
        if expected > 0.0 && (usage - expected).abs() <= (0.2 * expected).max(2.0 / ticks) {
            assert_eq!(std::fs::read_dir(directory.path()).expect("directory").count(), 0);
            return;
        }
        seen.push((usage, expected));
    }
    panic!("usage, and what /proc says: {seen:?}");
}
