//! The administrator's commands, and what a mistake on the command line says (items 6 and 9).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{Ended, FAMILY, IDENTITY, Machine, Receiver, Run, STATE, offline};
use crate::skip;

/// What a command prints that fails nothing and says nothing else.
fn printed(run: Run) -> Ended {
    let ended = run.run();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    ended
}

fn status(machine: &Machine) -> Value {
    printed(machine.run(["status", "--json"])).json()
}

fn decision(machine: &Machine) -> Value {
    status(machine)["decision"].take()
}

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_machine_of_which_nothing_is_known() {
    let machine = Machine::new();
    let before = machine.snapshot();
    let mut found = status(&machine);
    let profiles = found.as_object_mut().and_then(|all| all.remove("profiles")).expect("profiles");
    let mut percona = json!({
        "profile": "percona", "decision": "send", "reason": "nobody said no", "source": null, "problem": null,
        "endpoint": "https://check.percona.com/v1/telemetry/GenericReport", "instance_id": null, "reported": [],
    });
    assert_eq!((profiles.as_array().map(Vec::len), &profiles[0]), (Some(5), &percona));
    (percona["pending"], percona["sent"]) = (json!([]), json!([]));
    assert_eq!(found, percona);
    let shown = printed(machine.run(["show", "-f", FAMILY, "-v", "1"])).json();
    assert_eq!(shown["reports"][0]["product_family"], FAMILY);
    machine.run(["flush"]).run().silent();
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn a_record_waits_is_shown_and_is_delivered() {
    let (machine, closed) = Machine::waiting();
    let (id, url) = (machine.instance_id(), closed.url());
    let before = machine.snapshot();
    let show = || machine.run(["show", "-f", FAMILY, "-v", "1"]);
    let shown = printed(show()).stdout;
    let refused = show().env("DO_NOT_TRACK", "1").run();
    assert!(refused.status == Some(0) && refused.stderr.contains("nothing would be sent: env DO_NOT_TRACK"));
    // A record is listed as it is kept, with what came of it.
    let mut kept = machine.pending()[0].clone();
    kept["answer"] = Value::Null;
    assert_eq!([&kept["family"], &kept["url"]], [FAMILY, &url]);
    let pending = status(&machine);
    let found = ["instance_id", "reported", "pending"].map(|key| pending[key].clone());
    assert_eq!(found, [json!(id), json!([]), json!([kept])]);
    let text = machine.run(["status"]).run().text();
    assert_has(&text, &[FAMILY, &url, "percona:      send", "memgraph:     skip", "sent:         nothing"]);
    let text = machine.run(["status", "--profile", "percona"]).run().text();
    assert_has(&text, &[&id, FAMILY, &url, "decision:     send", "sent:         nothing"]);

    // A flush asks for consent again, and delivers what was shown.
    let receiver = closed.open(&[]);
    machine.flush(&receiver).env("PERCONA_TELEMETRY_DISABLE", "1").run().silent();
    assert_eq!((machine.snapshot(), receiver.connections()), (before, 0));
    let flushed = machine.flush(&receiver).run().expect(0);
    assert!(flushed.stderr.contains("sent 1 pending"), "{flushed:?}");
    machine.flush(&receiver).run().silent();
    assert_eq!((receiver.requests().len(), receiver.body(1)), (1, shown));
    assert_eq!(machine.identity(), Some(format!("instanceId:{id}\n{FAMILY}:1\n")));

    let sent = status(&machine);
    assert_eq!([&sent["pending"], &sent["reported"]], [&json!([]), &json!([FAMILY])]);
    let (receipt, answer) = (&sent["sent"][0], &sent["sent"][0]["answer"]);
    assert_eq!(["id", "url", "family"].map(|key| &receipt[key]), ["id", "url", "family"].map(|key| &kept[key]));
    assert_eq!([&answer["status"], &answer["accepted"]], [&json!(200), &json!(true)]);
    let line = format!("{FAMILY} (percona) on {} to {url}: 200 accepted", answer["at"].as_str().expect("time"));
    assert_has(&machine.run(["status"]).run().text(), &[&line]);
    // From now on a record like the next one is shown, under the ID that is stored.
    let shown = show().run();
    assert_eq!(shown.json()["reports"][0]["instanceId"], id);
    assert!(shown.stderr.contains("reported before"), "{shown:?}");
    assert_eq!(receiver.connections(), 1);
}

#[test]
fn off_forget_and_on() {
    let ((machine, _closed), receiver) = (Machine::waiting(), Receiver::start(&[]));
    machine.send(&receiver, "/", "PRODUCT_FAMILY_PXC").run().sent();
    let (id, switch) = (machine.instance_id(), machine.path("etc/install-record/off"));
    let off = machine.run(["off"]).run().expect(0);
    assert!(off.stderr.contains("1 pending deleted"), "{off:?}");
    assert_eq!((machine.pending().len(), machine.instance_id(), decision(&machine)), (0, id.clone(), json!("skip")));
    // Of all that says no, the first is named; tests/system/opt-out-trace.sh has every source.
    for (run, source) in [
        (machine.run(["status", "--json"]), "/etc/install-record/off"),
        (machine.run(["status", "--json"]).env("DO_NOT_TRACK", "yes"), "env DO_NOT_TRACK"),
        (machine.run(["status", "--json", "--telemetry=false"]), "option --telemetry=false"),
    ] {
        assert_eq!(printed(run).json()["source"], source);
    }
    let before = machine.snapshot();
    machine.run(["off"]).run().expect(0);
    machine.send(&receiver, "/", FAMILY).run().silent();
    machine.flush(&receiver).run().silent();
    assert_eq!(machine.snapshot(), before);
    for _ in 0..2 {
        machine.run(["forget"]).run().expect(0);
        assert!(switch.is_file() && machine.identity().is_none() && !machine.path(STATE).exists());
    }
    for _ in 0..2 {
        machine.run(["on"]).run().expect(0);
        assert_eq!((switch.exists(), decision(&machine)), (false, json!("send")));
    }
    assert_eq!(receiver.connections(), 1);
    machine.send(&receiver, "/", FAMILY).run().sent();
    assert_ne!(machine.instance_id(), id);

    // What is not ours stays.
    let shared = Machine::new().with(IDENTITY, format!("instanceId:{id}\n{FAMILY}:1\nother:7\n"));
    shared.run(["forget", "--profile", "percona"]).run().expect(0);
    assert_eq!(shared.identity().as_deref(), Some("other:7\n"));
}

#[test]
fn the_switch_of_one_profile_is_its_own() {
    let machine = Machine::new().with("usr/share/install-record/profiles/mine.json", "{}");
    let run = |command: &str, profile: &str| machine.run([command, "--profile", profile]).run().expect(0);
    let is_off = |profile: &str| machine.path("etc/install-record/off.d").join(profile).is_file();
    // A name that is no profile is written, and said.
    let warning = "there is no profile memgraf here, known are percona, medusa, wundergraph, strapi, memgraph, mine";
    assert!(run("off", "memgraf").stderr.contains(warning) && is_off("memgraf"));
    for (command, profile) in [("on", "memgraf"), ("off", "memgraph"), ("off", "mine")] {
        let ended = run(command, profile);
        assert!(!ended.stderr.contains("no profile") && ended.stderr.lines().count() == 1, "{ended:?}");
        assert_eq!(is_off(profile), command == "off");
    }
    assert_eq!(decision(&machine), "send");
    run("off", "percona");
    assert_eq!(status(&machine)["source"], "/etc/install-record/off.d/percona");
    run("on", "percona");
    assert_eq!((decision(&machine), is_off("mine")), (json!("send"), true));
    // What still says no is named.
    machine.run(["off"]).run().expect(0);
    let on = run("on", "percona");
    assert!(on.stderr.contains("/etc/install-record/off"), "{on:?}");
    assert_eq!(decision(&machine), "skip");
}

/// `off` and `forget` wait until other runs are over. A run that was stopped with its locks is not waited for for ever: the
/// alarm is after a minute, so the test sends its signal.
#[test]
fn a_run_that_never_ends_is_said_and_a_failure() {
    for (command, done) in [("off", "are off"), ("forget", "not everything could be deleted")] {
        let (machine, _closed) = Machine::waiting();
        let lock = fs::File::open(machine.path(STATE)).expect("the state directory");
        lock.lock().expect("flock");
        let waiting = machine.run([command]).spawn();
        thread::sleep(Duration::from_millis(500));
        kill_process(Pid::from_child(&waiting.child), Signal::ALARM).expect("kill");
        let ended = waiting.wait().expect(1);
        assert_has(&ended.stderr, &[done, "another run is still under way"]);
        assert_eq!((ended.stderr.lines().count(), machine.pending().len()), (1, 1), "{ended:?}");
        assert_eq!(machine.path("etc/install-record/off").is_file(), command == "off");
        drop(lock);
        machine.run([command]).run().expect(0);
        assert!(machine.pending().is_empty());
    }
}

/// tests/roots/expected has those of `show` and `send`.
#[test]
fn mistakes_name_the_flag_and_the_way_out() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    let url = receiver.url("/");
    for (line, named) in [
        ("-v 1", "-f (--product-family) or set PERCONA_PRODUCT_FAMILY"),
        ("flush -u https://localhost:1/ --colour", "--colour"),
        ("off --profile a/b", "--profile 'a/b'"),
        // --quiet is for what went well.
        ("status --quiet --colour", "--colour"),
    ] {
        let run = machine.run(line.split(' ')).env("PERCONA_TELEMETRY_URL", &url);
        assert_is_usage_error(&machine, run, named);
    }
    // A variable is ignored, and then there is none.
    let ended = machine.run(["-v", "1", "-u", &url]).env("PERCONA_PRODUCT_FAMILY", "../A").run().expect(2);
    assert_has(&ended.stderr, &["PERCONA_PRODUCT_FAMILY '../A' must be", "the product family is missing"]);
    let bytes = OsString::from_vec(b"--col\xffour".to_vec());
    assert_is_usage_error(&machine, machine.send(&receiver, "/", FAMILY).args([bytes]), "--col");
    assert_eq!(receiver.connections(), 0);
}

#[track_caller]
pub fn assert_is_usage_error(machine: &Machine, run: Run, named: &str) {
    const WAYS: &str = "--help|must be|give it without|give -|set |there is no such|known are|did you mean|so is -";
    let before = machine.snapshot();
    let ended = run.run().expect(2);
    assert!(ended.stderr.contains(named), "{named}: {ended:?}");
    assert!(WAYS.split('|').any(|way| ended.stderr.contains(way)), "{ended:?}");
    assert_eq!((ended.stderr.lines().count(), machine.snapshot()), (1, before), "{ended:?}");
}

/// Scripts pass what they always passed; call-home.sh's curl took all of it.
#[test]
fn what_is_no_mistake_of_the_caller_is_one_line_and_the_run_goes_on() {
    let receiver = Receiver::start(&[]);
    for (args, name, value, line) in [
        ("-t 0 -c 99999", "X", "", ""),
        ("-s Oracle Linux 9", "X", "", "'Linux' is no option: it and what follows it are ignored"),
        ("", "PERCONA_SEND_TIMEOUT", "\"7\"", "PERCONA_SEND_TIMEOUT '\"7\"' must be a number of seconds"),
        ("", "PERCONA_CONNECT_TIMEOUT", "x", "PERCONA_CONNECT_TIMEOUT 'x' must be a number of seconds; it is ignored"),
        ("", "PERCONA_TELEMETRY_CONFIG_FILE_PATH", "/srv/", "PERCONA_TELEMETRY_CONFIG_FILE_PATH '/srv/' must be"),
    ] {
        let machine = Machine::new();
        let run = machine.run(["-f", FAMILY, "-v", "1", "-u", &receiver.url("/")]).args(args.split_whitespace());
        let ended = run.env("SSL_CERT_FILE", receiver.ca()).env(name, value).run().sent();
        assert_has(&ended.stderr, &[line]);
        assert_eq!(ended.stderr.lines().count(), if line.is_empty() { 1 } else { 2 }, "{ended:?}");
        assert_eq!(machine.receipts().len(), 1, "{line}");
    }
}

/// src/endpoint.rs has what is one.
#[test]
fn a_url_that_cannot_be_used() {
    let Some(offline) = offline("") else { skip!("needs a namespace without a network") };
    let (machine, url) = (Machine::new(), "https://user:secret@localhost/");
    let run = || machine.run(["-f", FAMILY, "-v", "1"]).under(&offline);
    assert_is_usage_error(&machine, run().args(["-u", url]), "-u (--url): a URL with a user or a password");
    // A variable is not the caller's mistake, but somebody meant another server: nothing is sent.
    let before = machine.snapshot();
    let ended = run().env("PERCONA_TELEMETRY_URL", url).run().expect(0);
    assert_has(&ended.stderr, &["PERCONA_TELEMETRY_URL: a URL with a user or a password"]);
    assert_eq!((ended.stderr.contains("secret"), ended.stderr.lines().count()), (false, 1));
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn help_and_version_are_no_mistakes() {
    let run = |args: &str| printed(Run::new().args(args.split(' ')).env("PERCONA_TELEMETRY_URL", "https://[::1]:1/"));
    for args in ["-h", "help", "send -h", "-f PS -h"] {
        assert_has(&run(args).text(), &["--product-family", "PERCONA_SEND_TIMEOUT", "DO_NOT_TRACK"]);
    }
    assert_eq!(run("-V").text(), format!("install-record {}\n", env!("CARGO_PKG_VERSION")));
}

/// A closed stderr is tests/shipped/inheritance.rs's.
#[test]
fn quiet_is_quiet_and_a_full_disk_on_stderr_is_no_reason_to_fail() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    Machine::new().send(&receiver, "/", FAMILY).args(["--quiet"]).run().silent();
    let full = ["sh", "-c", "exec \"$0\" \"$@\" 2>/dev/full >/dev/full"];
    machine.send(&receiver, "/", FAMILY).args(["--verbose"]).under(full).run().silent();
    assert_eq!((receiver.requests().len(), machine.receipts().len()), (2, 1));
    assert_eq!(machine.run(["status"]).under(full).run().status, Some(0));
}
