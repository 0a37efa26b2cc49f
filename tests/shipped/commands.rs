//! The administrator's commands, and what a mistake on the command line says (items 6 and 9).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{ClosedPort, FAMILY, IDENTITY, Machine, Receiver, Run, STATE, offline};
use crate::skip;

/// A machine on which a record waits, and the port at which somebody should have listened.
fn machine_with_pending() -> (Machine, ClosedPort) {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    let url = format!("https://127.0.0.1:{}/waits", closed.port);
    machine.run(["send", "-f", FAMILY, "-v", "8.0.36-28", "-u", &url]).run().expect(0);
    assert_eq!(machine.pending().len(), 1);
    (machine, closed)
}

fn status(machine: &Machine) -> Value {
    let ended = machine.run(["status", "--json"]).run();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    ended.json()
}

#[test]
fn show_prints_what_send_posts_and_writes_nothing() {
    let (machine, closed) = machine_with_pending();
    let before = machine.snapshot();
    let show = |machine: &Machine| machine.run(["show", "-f", FAMILY, "-v", "8.0.36-28"]);
    let shown = show(&machine).run();
    assert_eq!((shown.status, shown.stderr.as_str()), (Some(0), ""));
    assert_eq!(show(&machine).run().stdout, shown.stdout);
    assert_eq!(machine.snapshot(), before);
    let receiver = closed.open(&[]);
    machine.run(["flush", "-t", "20"]).env("SSL_CERT_FILE", receiver.ca()).run().expect(0);
    assert_eq!(receiver.body(1), shown.stdout);

    // Where nothing waits: a record like the next one, under the ID that is stored.
    let fresh = Machine::new();
    let before = fresh.snapshot();
    assert_eq!(show(&fresh).run().json()["reports"][0]["product_family"], FAMILY);
    assert_eq!(fresh.snapshot(), before);
    let shown = show(&machine).run();
    assert_eq!(shown.json()["reports"][0]["instanceId"], machine.instance_id());
    assert!(shown.stderr.contains("reported before"), "{shown:?}");
    let refused = show(&machine).env("DO_NOT_TRACK", "1").run();
    assert!(refused.status == Some(0) && refused.stderr.contains("nothing would be sent: env DO_NOT_TRACK"));
    assert_eq!(receiver.connections(), 1);
}

#[test]
fn status_of_a_machine_through_its_life() {
    let (machine, closed) = machine_with_pending();
    let id = machine.instance_id();
    let url = format!("https://127.0.0.1:{}/waits", closed.port);
    let before = machine.snapshot();
    let fresh = status(&Machine::new());
    let pending = status(&machine);
    let text = machine.run(["status"]).run().text();
    assert_eq!(machine.snapshot(), before);
    let percona = json!({
        "profile": "percona", "decision": "send", "reason": "nobody said no", "source": null, "problem": null,
        "endpoint": "https://check.percona.com/v1/telemetry/GenericReport", "instance_id": null, "reported": [],
    });
    let mut expected = percona.clone();
    expected["pending"] = json!([]);
    expected["sent"] = json!([]);
    let (mut of_percona, every) = (fresh.clone(), fresh["profiles"].as_array().expect("profiles").clone());
    of_percona.as_object_mut().expect("an object").remove("profiles");
    assert_eq!(of_percona, expected);
    assert_eq!((every.len(), &every[0]), (5, &percona));
    assert_eq!((&pending["instance_id"], &pending["reported"]), (&json!(id), &json!([])));
    let waits = &pending["pending"][0];
    assert_eq!((&waits["family"], &waits["url"]), (&json!(FAMILY), &json!(url)));
    // A record is shown as it is kept, with what came of it.
    let mut kept = machine.pending()[0].clone();
    kept["answer"] = Value::Null;
    assert_eq!(*waits, kept);
    for part in [FAMILY, &url, "percona:      send", "memgraph:     skip", "sent:         nothing"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = machine.run(["status", "--profile", "percona"]).run().text();
    for part in [&*id, FAMILY, &url, "decision:     send", "sent:         nothing"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let receiver = closed.open(&[]);
    machine.run(["flush", "-t", "20"]).env("SSL_CERT_FILE", receiver.ca()).run().expect(0);
    let sent = status(&machine);
    assert_eq!((&sent["pending"], &sent["reported"]), (&json!([]), &json!([FAMILY])));
    let receipt = &sent["sent"][0];
    assert_eq!((&receipt["id"], &receipt["url"]), (&waits["id"], &json!(url)));
    let answer = &receipt["answer"];
    assert_eq!(
        (&answer["status"], &answer["accepted"], &receipt["family"]),
        (&json!(200), &json!(true), &json!(FAMILY))
    );
    let text = machine.run(["status"]).run().text();
    let when = answer["at"].as_str().expect("time");
    assert!(text.contains(&format!("{FAMILY} (percona) on {when} to {url}: 200 accepted")), "{text}");
}

#[test]
fn status_names_the_source_of_a_no() {
    let off = |path: &str| Machine::new().with(path, "");
    for (what, machine, variable, flag, source) in [
        ("a variable", Machine::new(), Some("PERCONA_TELEMETRY_DISABLE"), None, "env PERCONA_TELEMETRY_DISABLE"),
        ("another", Machine::new(), Some("DO_NOT_TRACK"), None, "env DO_NOT_TRACK"),
        ("the switch", off("etc/install-record/off"), None, None, "/etc/install-record/off"),
        ("its own", off("etc/install-record/off.d/percona"), None, None, "/etc/install-record/off.d/percona"),
        ("a flag", Machine::new(), None, Some("--telemetry=false"), "option --telemetry=false"),
        ("the first of two", off("etc/install-record/off"), Some("DO_NOT_TRACK"), None, "env DO_NOT_TRACK"),
    ] {
        for json in [true, false] {
            let mut run = machine.run(["status"]).args(flag).args(json.then_some("--json"));
            if let Some(variable) = variable {
                run = run.env(variable, "yes");
            }
            let ended = run.run();
            assert_eq!(ended.status, Some(0), "{what}");
            if json {
                assert_eq!((&ended.json()["decision"], &ended.json()["source"]), (&json!("skip"), &json!(source)));
            } else {
                let text = ended.text();
                let line = text.lines().find(|line| line.starts_with("percona:")).expect("a line");
                assert!(line.contains("skip, ") && line.contains(&format!("({source})")), "{what}: {text}");
            }
        }
    }
    let other = status(&off("etc/install-record/off.d/another"));
    assert_eq!(other["decision"], "send");
}

#[test]
fn off_and_on() {
    let (machine, closed) = machine_with_pending();
    let identity = machine.identity();
    let switch = machine.path("etc/install-record/off");
    let off = machine.run(["off"]).run().expect(0);
    assert!(off.stderr.contains("1 pending deleted"), "{off:?}");
    assert!(switch.is_file() && machine.pending().is_empty());
    assert_eq!(machine.identity(), identity, "off is no forget");
    let before = machine.snapshot();
    machine.run(["off"]).run().expect(0);
    assert_eq!(machine.snapshot(), before, "off twice is off");
    assert_eq!(status(&machine)["decision"], "skip");
    let receiver = closed.open(&[]);
    machine.send(&receiver, "/", FAMILY).run().silent();
    machine.run(["flush"]).env("SSL_CERT_FILE", receiver.ca()).run().silent();

    for _ in 0..2 {
        machine.run(["on"]).run().expect(0);
        assert!(!switch.exists());
        assert_eq!(status(&machine)["decision"], "send");
    }
    assert_eq!(receiver.connections(), 0);
    machine.send(&receiver, "/", FAMILY).run().sent();

    // One profile's switch is its own.
    let machine = Machine::new();
    machine.run(["off", "--profile", "another"]).run().expect(0);
    assert!(machine.path("etc/install-record/off.d/another").is_file());
    assert_eq!(status(&machine)["decision"], "send");
    machine.run(["off", "--profile", "percona"]).run().expect(0);
    assert_eq!(status(&machine)["source"], "/etc/install-record/off.d/percona");
    machine.run(["on", "--profile", "percona"]).run().expect(0);
    assert_eq!(status(&machine)["decision"], "send");
    assert!(machine.path("etc/install-record/off.d/another").is_file());
    // What still says no is named.
    machine.run(["off"]).run().expect(0);
    let on = machine.run(["on", "--profile", "percona"]).run().expect(0);
    assert!(on.stderr.contains("/etc/install-record/off"), "{on:?}");
    assert_eq!(status(&machine)["decision"], "skip");
}

#[test]
fn off_for_a_name_that_is_no_profile_is_written_and_said() {
    let machine = Machine::new().with("usr/share/install-record/profiles/mine.json", "{}");
    for command in ["off", "on"] {
        let ended = machine.run([command, "--profile", "memgraf"]).run().expect(0);
        let warning =
            "there is no profile memgraf here, known are percona, medusa, wundergraph, strapi, memgraph, mine";
        assert_eq!(ended.stderr.contains(warning), command == "off", "{ended:?}");
        assert_eq!(machine.path("etc/install-record/off.d/memgraf").exists(), command == "off");
    }
    for known in ["memgraph", "mine"] {
        let ended = machine.run(["off", "--profile", known]).run().expect(0);
        assert!(!ended.stderr.contains("there is no profile") && ended.stderr.lines().count() == 1, "{ended:?}");
        assert!(machine.path("etc/install-record/off.d").join(known).is_file());
    }
}

/// `off` and `forget` wait until other runs are over. A run that was stopped with its locks is not waited for for ever: the
/// alarm is after a minute, so the test sends its signal.
#[test]
fn a_run_that_never_ends_is_said_and_a_failure() {
    for (command, done) in [("off", "are off"), ("forget", "not everything could be deleted")] {
        let (machine, _closed) = machine_with_pending();
        let lock = fs::File::open(machine.path(STATE)).expect("the state directory");
        lock.lock().expect("flock");
        let waiting = machine.run([command]).spawn();
        thread::sleep(Duration::from_millis(500));
        let pid = Pid::from_child(&waiting.child);
        kill_process(pid, Signal::ALARM).expect("kill");
        let ended = waiting.wait().expect(1);
        let line = &ended.stderr;
        assert!(line.contains(done) && line.contains("another run is still under way"), "{ended:?}");
        assert_eq!(line.lines().count(), 1, "{ended:?}");
        assert_eq!(machine.path("etc/install-record/off").is_file(), command == "off");
        assert_eq!(machine.pending().len(), 1);
        drop(lock);
        machine.run([command]).run().expect(0);
        assert!(machine.pending().is_empty());
    }
}

#[test]
fn flush_asks_for_consent_again_and_delivers_under_the_same_id() {
    let (machine, closed) = machine_with_pending();
    let id = machine.pending()[0]["id"].clone();
    let receiver = closed.open(&[]);
    let flush = || machine.run(["flush", "-c", "10", "-t", "20"]).env("SSL_CERT_FILE", receiver.ca());
    let before = machine.snapshot();
    flush().env("PERCONA_TELEMETRY_DISABLE", "1").run().silent();
    assert_eq!((machine.snapshot(), receiver.connections()), (before, 0));
    let flushed = flush().run().expect(0);
    assert!(flushed.stderr.contains("sent 1 pending"), "{flushed:?}");
    flush().run().silent();
    assert_eq!(receiver.requests().len(), 1);
    let body: Value = serde_json::from_slice(&receiver.body(1)).expect("JSON");
    assert_eq!(body["reports"][0]["id"], id);
    assert_eq!(machine.identity(), Some(format!("instanceId:{}\n{FAMILY}:1\n", machine.instance_id())));
    let fresh = Machine::new();
    let before = fresh.snapshot();
    fresh.run(["flush"]).run().silent();
    assert_eq!(fresh.snapshot(), before);
}

#[test]
fn forget_leaves_the_switch_and_what_is_not_ours() {
    let receiver = Receiver::start(&[]);
    let (machine, _closed) = machine_with_pending();
    machine.send(&receiver, "/", "PRODUCT_FAMILY_PXC").run().sent();
    let id = machine.instance_id();
    machine.run(["off"]).run().expect(0);
    for _ in 0..2 {
        machine.run(["forget"]).run().expect(0);
        assert_eq!(machine.identity(), None);
        assert!(machine.pending().is_empty() && machine.receipts().is_empty());
        assert!(machine.path("etc/install-record/off").is_file());
        let all = machine.snapshot().join("\n");
        assert!(!all.contains(STATE), "{all}");
    }
    machine.run(["on"]).run().expect(0);
    machine.send(&receiver, "/", FAMILY).run().sent();
    assert_ne!(machine.instance_id(), id);

    let shared = Machine::new().with(IDENTITY, format!("instanceId:{id}\n{FAMILY}:1\nother:7\n"));
    shared.run(["forget", "--profile", "percona"]).run().expect(0);
    assert_eq!(shared.identity().as_deref(), Some("other:7\n"));
}

#[test]
fn facts_are_all_there_is() {
    let machine = Machine::new();
    let before = machine.snapshot();
    let facts = machine.run(["facts", "--json"]).run().json();
    let names: Vec<&str> = facts.as_object().expect("object").keys().map(String::as_str).collect();
    assert_eq!(facts["os.pretty_name"], "Oracle Linux Server 8.8");
    assert_eq!(facts["deployment"], "PACKAGE");
    // Absent, and one that only a run has: both null, the latter named.
    assert!(facts["os.version"].is_null() && facts["record.uuid"].is_null(), "{facts}");
    let only_in_a_run = facts["only_in_a_run"].as_array().expect("a list");
    assert!(only_in_a_run.contains(&"record.uuid".into()) && !only_in_a_run.contains(&"os.version".into()), "{facts}");
    let text = machine.run(["facts"]).run().text();
    let listed = text.lines().filter_map(|line| line.split_whitespace().next());
    let listed: BTreeSet<&str> = listed.filter(|name| *name != "set.KEY").collect();
    assert_eq!(listed, names.into_iter().filter(|name| *name != "only_in_a_run").collect());
    for line in ["os.version -", "record.uuid (made by a run)", "os.pretty_name Oracle Linux Server 8.8"] {
        let is_there = text.lines().any(|found| found.split_whitespace().collect::<Vec<_>>().join(" ") == line);
        assert!(is_there, "{line}: {text}");
    }
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn mistakes_name_the_flag_and_the_way_out() {
    let receiver = Receiver::start(&[]);
    let url = receiver.url("/");
    let fine = ["-f", FAMILY, "-v", "1"];
    let with = |more: &[&'static str]| [&fine[..], more].concat();
    let usage: Vec<(Vec<&str>, &str)> = vec![
        (vec![], "-f (--product-family) or set PERCONA_PRODUCT_FAMILY"),
        (vec!["-v", "1"], "-f (--product-family) or set PERCONA_PRODUCT_FAMILY"),
        (vec!["-f", FAMILY], "-v (--product-version) or set PERCONA_PRODUCT_VERSION"),
        (vec!["-f", "", "-v", "1"], "-f (--product-family)"),
        (with(&["-x"]), "-x"),
        (with(&["--colour"]), "--colour"),
        (with(&["--quiet=1"]), "--quiet"),
        (vec!["sned", "-f", FAMILY, "-v", "1"], "unknown command sned, did you mean send?"),
        (vec!["show", "send"], "'send'"),
        (with(&["--prodct-family", "x"]), "--prodct-family, did you mean --product-family?"),
        (with(&["--json"]), "send does not use --json"),
        (vec!["status", "-t", "1"], "status does not use --timeout"),
        (with(&["-t"]), "-t (--timeout) needs a value"),
        (with(&["--timeout"]), "(--timeout) needs a value"),
        (with(&["-t", "soon"]), "-t (--timeout) 'soon'"),
        (with(&["-t", "-1"]), "-t (--timeout) '-1'"),
        (with(&["-t", "nan"]), "-t (--timeout) 'nan'"),
        (with(&["-t", "inf"]), "-t (--timeout) 'inf'"),
        (with(&["-c", "1e9"]), "-c (--connect-timeout) '1e9'"),
        (with(&["-j", "/"]), "-j (--state-file) '/'"),
        (with(&["-j", "/srv/"]), "-j (--state-file) '/srv/'"),
        (
            with(&["--profile", "nobody-has-it", "-u", "https://localhost:1/"]),
            "profile 'nobody-has-it'; known are percona, medusa",
        ),
        (with(&["--profile", "memgraf", "-u", "https://localhost:1/"]), "profile 'memgraf', did you mean 'memgraph'?"),
        (with(&["--profile", "../percona", "-u", "https://localhost:1/"]), "profile"),
        (
            with(&["--profile", "/nowhere/x.json", "-u", "https://localhost:1/"]),
            "profile /nowhere/x.json: there is no such file",
        ),
        (with(&["--set", "x"]), "--set x"),
        (with(&["--root", "/nowhere"]), "--root /nowhere"),
    ];
    for (line, named) in usage {
        let machine = Machine::new();
        assert_is_usage_error(&machine, machine.run(&line).env("PERCONA_TELEMETRY_URL", &url), named);
    }
    for command in ["flush", "off", "on", "forget", "status", "facts"] {
        let machine = Machine::new();
        assert_is_usage_error(&machine, machine.run([command, "--colour"]), "--colour");
    }
    let machine = Machine::new();
    assert_is_usage_error(&machine, machine.run(["off", "--profile", "a/b"]), "--profile 'a/b'");
    let bytes = OsString::from_vec(b"--col\xffour".to_vec());
    let run = machine.run(fine).args([bytes]).env("PERCONA_TELEMETRY_URL", &url);
    assert_is_usage_error(&machine, run, "--col");
    // --quiet is for what went well.
    assert_is_usage_error(&machine, machine.run(["status", "--quiet", "--colour"]), "--colour");
    assert_eq!(receiver.connections(), 0);
}

/// Scripts pass what they always passed; call-home.sh's curl took all of it.
#[test]
fn what_is_no_mistake_of_the_caller_is_one_line_and_the_run_goes_on() {
    let receiver = Receiver::start(&[]);
    for (args, variable, line) in [
        (&["-t", "0", "-c", "0"][..], None, ""),
        (&["-c", "99999"], None, ""),
        (&["-s", "Oracle", "Linux", "9"], None, "'Linux' is no option: it and what follows it are ignored"),
        (
            &[],
            Some(("PERCONA_SEND_TIMEOUT", "\"7\"")),
            "PERCONA_SEND_TIMEOUT '\"7\"' must be a number of seconds; it is ignored",
        ),
        (&[], Some(("PERCONA_CONNECT_TIMEOUT", "soon")), "PERCONA_CONNECT_TIMEOUT 'soon' must be a number of seconds"),
        (
            &[],
            Some(("PERCONA_TELEMETRY_CONFIG_FILE_PATH", "/srv/")),
            "PERCONA_TELEMETRY_CONFIG_FILE_PATH '/srv/' must be",
        ),
    ] {
        let machine = Machine::new();
        let run = machine.run(["-f", FAMILY, "-v", "1", "-u", &receiver.url("/")]).args(args);
        let run = run.env("SSL_CERT_FILE", receiver.ca());
        let ended = variable.into_iter().fold(run, |run, (name, value)| run.env(name, value)).run().expect(0);
        assert!(ended.stderr.contains("sent one install record") && ended.stderr.contains(line), "{args:?}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), if line.is_empty() { 1 } else { 2 }, "{ended:?}");
        assert_eq!(machine.receipts().len(), 1, "{args:?}");
    }
}

#[test]
fn an_empty_root_is_none_and_not_where_the_caller_is() {
    let here = Machine::new();
    let system = |root: &[&str]| {
        let inside = [OsStr::new("env"), OsStr::new("-C"), here.root().as_os_str()];
        let facts = Run::new().under(inside).args(["facts"]).args(root).run().text();
        facts.lines().find(|line| line.starts_with("os.pretty_name")).map(str::to_owned)
    };
    let own = system(&[]);
    assert_eq!([system(&["--root", ""]), system(&["--root="])], [own.clone(), own.clone()]);
    assert_ne!(system(&["--root", "."]), own);
}

#[track_caller]
fn assert_is_usage_error(machine: &Machine, run: Run, named: &str) {
    let before = machine.snapshot();
    let ended = run.run().expect(2);
    assert!(ended.stderr.contains(named), "{named}: {ended:?}");
    let shows_way_out =
        ["--help", "must be", "give it without", "give -", "set ", "there is no such", "known are", "did you mean"];
    assert!(shows_way_out.iter().any(|way| ended.stderr.contains(way)), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert_eq!(machine.snapshot(), before, "{named}");
}

#[test]
fn urls_that_are_neither_https_nor_loopback() {
    let Some(offline) = offline("") else { skip!("needs a namespace without a network") };
    for url in [
        "http://check.percona.com/",
        "http://127.0.0.1.example.com/",
        "http://localhost@example.com/",
        "https://user:secret@localhost/",
        "ftp://localhost/",
        "file:///etc/passwd",
        "check.percona.com",
        "https://",
        "https://a b/",
        "http://192.0.2.1/",
    ] {
        let machine = Machine::new();
        let run = || machine.run(["-f", FAMILY, "-v", "1"]).under(&offline);
        let has_secret = url.contains('@');
        let named = if has_secret { "a URL with a user or a password".to_owned() } else { format!("'{url}'") };
        let flag = run().args(["-u", url]);
        assert_is_usage_error(&machine, flag, &format!("-u (--url): {named}"));
        // A variable is not the caller's mistake, but somebody meant another server: nothing is sent.
        let before = machine.snapshot();
        let ended = run().env("PERCONA_TELEMETRY_URL", url).run().expect(0);
        assert!(ended.stderr.contains(&format!("PERCONA_TELEMETRY_URL: {named}")), "{ended:?}");
        assert!(!ended.stderr.contains("secret") && ended.stderr.lines().count() == 1, "{ended:?}");
        assert_eq!(machine.snapshot(), before);
    }
}

#[test]
fn help_and_version_are_no_mistakes() {
    for args in [&["-h"][..], &["--help"], &["help"], &["send", "-h"], &["-f", FAMILY, "-h"]] {
        let ended = Run::new().args(args).env("PERCONA_TELEMETRY_URL", "https://127.0.0.1:1/").run();
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{args:?}");
        for word in ["--product-family", "PERCONA_SEND_TIMEOUT", "install-record off", "DO_NOT_TRACK"] {
            assert!(ended.text().contains(word), "{word}");
        }
    }
    for flag in ["--version", "-V"] {
        let version = Run::new().args([flag]).env("PERCONA_TELEMETRY_URL", "https://127.0.0.1:1/").run();
        assert_eq!(version.text(), format!("install-record {}\n", env!("CARGO_PKG_VERSION")));
        assert_eq!(version.status, Some(0));
    }
}

#[test]
fn quiet_is_quiet_and_a_closed_stderr_is_no_reason_to_fail() {
    let receiver = Receiver::start(&[]);
    Machine::new().send(&receiver, "/", FAMILY).args(["--quiet"]).run().silent();
    let machine = Machine::new();
    let run = machine.send(&receiver, "/", FAMILY).args(["--verbose"]);
    run.under(["sh", "-c", "exec \"$0\" \"$@\" 0<&- 1>&- 2>&-"]).run().silent();
    assert_eq!((receiver.requests().len(), machine.receipts().len()), (2, 1));
    // A full pipe or disk neither.
    let machine = Machine::new();
    machine
        .send(&receiver, "/", FAMILY)
        .under(["sh", "-c", "exec \"$0\" \"$@\" 2>/dev/full >/dev/full"])
        .run()
        .silent();
    let full = machine.run(["status"]).under(["sh", "-c", "exec \"$0\" \"$@\" >/dev/full"]).run();
    assert_eq!(full.status, Some(0), "{full:?}");
    assert_eq!(fs::metadata(machine.path(IDENTITY)).map(|meta| meta.is_file()).ok(), Some(true));
}
