//! A sixth product, invented, whose profile was written by docs/profiles.md alone and is installed as a vendor's
//! package would: what the five built-in ones do not use, end to end.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::{Machine, Receiver, Run, STATE};

const INSTALLED: &str = "usr/share/install-record/profiles/lumenq.json";
const PROFILE: &str = include_str!("../profiles/lumenq.json");
const PROJECT_ID: &str = "srv/app/.lumenq/project-id";
const INSTANCE_ID: &str = "var/lib/lumenq/instance-id";
const SETTINGS: &str = "home/ada/.config/lumenq/settings.json";

fn machine() -> Machine {
    Machine::bare()
        .with(INSTALLED, PROFILE)
        .with("etc/os-release", "NAME=\"Oracle Linux Server\"\nID=ol\nVERSION_ID=8.8\n")
        .with("proc/sys/kernel/osrelease", "5.15.0-56-generic\n")
        .with("proc/cpuinfo", "processor\t: 0\nmodel name\t: EPYC\n\nprocessor\t: 1\nmodel name\t: EPYC\n")
        .with("srv/app/lumenq.json", r#"{"records":{"contact":"ops"}}"#)
}

fn run(machine: &Machine, command: &str) -> Run {
    machine.run([command, "--profile", "lumenq", "--project", "/srv/app"]).env("HOME", "/home/ada")
}

fn send(machine: &Machine, receiver: &Receiver, path: &str, version: &str) -> Run {
    run(machine, "send")
        .args(["-v", version, "-c", "10", "-t", "20", "-u", &receiver.url(path)])
        .env("SSL_CERT_FILE", receiver.ca())
}

fn status(machine: &Machine) -> Value {
    run(machine, "status").args(["--json"]).run().json()
}

fn read(machine: &Machine, path: &str) -> String {
    fs::read_to_string(machine.path(path)).unwrap_or_default()
}

#[test]
fn sent_over_tls_once_for_each_version() {
    let (machine, receiver) = (machine(), Receiver::start(&[]));
    let more = ["--set", "edition=community plus", "--set", "queues=12", "--set", "plugins.amqp=3"];
    let more = [&more[..], &["--set", "plugins.secret=1", "--set", "channel=beta"]].concat();
    let before = machine.snapshot();
    let shown = run(&machine, "show").args(["-v", "2.1.0"]).args(&more).run();
    assert_eq!((shown.status, shown.stderr.as_str(), machine.snapshot()), (Some(0), "", before));
    send(&machine, &receiver, "/in", "2.1.0").args(&more).run().sent();

    let (project, instance) = (read(&machine, PROJECT_ID), read(&machine, INSTANCE_ID));
    let body = String::from_utf8(receiver.body(1)).expect("UTF-8");
    let sent: Value = serde_json::from_str(&body).expect("JSON");
    let expected = format!(
        r#"{{"record":{},"at":{},"project":"{}","broker":"{}","release":"2.1.0","edition":"COMMUNITY_PLUS","queues":12,"plugins":{{"amqp":3}},"host":{{"os":"ol 8.8","kernel":"5.15.0-56-generic","cpus":2,"unit":"$/h"}}}}"#,
        sent["record"],
        sent["at"],
        project.trim(),
        instance.trim()
    );
    assert_eq!(body, expected);
    assert_eq!((project.trim().len(), instance.trim().len()), (27, 36));
    let mode = |path: &str| fs::metadata(machine.path(path)).expect("file").permissions().mode() & 0o7777;
    assert_eq!([mode(PROJECT_ID), mode("srv/app/.lumenq"), mode(INSTANCE_ID)], [0o600, 0o700, 0o644]);
    let headers = &receiver.requests()[0]["headers"];
    for (name, value) in [
        ("content-type", "application/vnd.lumenq.install+json"),
        ("user-agent", "lumenq/2.1.0 (linux)"),
        ("x-lumenq-channel", "beta"),
    ] {
        assert!(headers.to_string().contains(&format!("{name:?}")), "{headers}");
        assert!(headers.to_string().contains(&format!("{value:?}")), "{headers}");
    }
    assert!(!headers.to_string().contains("install-record/"), "{headers}");

    send(&machine, &receiver, "/in", "2.1.0").run().silent();
    let shown = run(&machine, "show").args(["-v", "2.1.0"]).run();
    assert!(shown.stderr.contains("nothing would be sent: lumenq was reported before"), "{shown:?}");
    // What is not given leaves no key behind; the version may come by its variable.
    let second = send(&machine, &receiver, "/in", "").env("LUMENQ_VERSION", "2.2.0").run().sent();
    assert!(second.stderr.contains("of lumenq 2.2.0"), "{second:?}");
    let sent: Value = serde_json::from_slice(&receiver.body(2)).expect("JSON");
    let keys: Vec<&str> = sent.as_object().expect("object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["at", "broker", "host", "project", "record", "release"]);
    assert_eq!((&sent["project"], &sent["broker"]), (&json!(project.trim()), &json!(instance.trim())));
    let status = status(&machine);
    // Two receipts of one second have no order.
    let mut reported: Vec<&str> =
        status["reported"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    reported.sort_unstable();
    assert_eq!((&status["decision"], &*reported), (&json!("send"), &["2.1.0", "2.2.0"][..]));
    assert_eq!(status["instance_id"], project.trim());
    let text = run(&machine, "status").run().text();
    assert!(text.contains("sent:         lumenq on "), "{text}");
    send(&machine, &receiver, "/in", "2.2.0").run().silent();
    assert_eq!(receiver.connections(), 2);
}

#[test]
fn every_way_of_its_own_to_say_no() {
    let receiver = Receiver::start(&[]);
    let flags = |text: &str| machine().with("etc/lumenq/lumenq.flags", text);
    let settings = |text: &str| machine().with(SETTINGS, text);
    let project = |text: &str| machine().with("srv/app/lumenq.json", text);
    let without_file = machine();
    fs::remove_file(without_file.path("srv/app/lumenq.json")).expect("project's file");
    for (what, machine, variable, says_no) in [
        ("its variable", machine(), Some(("LUMENQ_NO_RECORDS", "yes")), true),
        ("its variable, junk", machine(), Some(("LUMENQ_NO_RECORDS", "maybe")), true),
        ("its variable without an opinion", machine(), Some(("LUMENQ_NO_RECORDS", "0")), false),
        ("a variable that is there", machine(), Some(("LUMENQ_OFFLINE", "")), true),
        ("a variable that is there with a 0", machine(), Some(("LUMENQ_OFFLINE", "0")), true),
        ("everybody's variable", machine(), Some(("DO_NOT_TRACK", "1")), true),
        ("another product's variable", machine(), Some(("PERCONA_TELEMETRY_DISABLE", "1")), false),
        ("a flag", flags("--send-records=false\n"), None, true),
        ("a flag with no", flags("# x\n--nosend_records\n"), None, true),
        ("a flag that is on", flags("--send-records=false\n--send-records=true\n"), None, false),
        ("settings", settings(r#"{"records":false}"#), None, true),
        ("settings that are no JSON", settings("{"), None, true),
        ("settings of other things", settings(r#"{"theme":"dark"}"#), None, false),
        ("no contact", project(r#"{"records":{}}"#), None, true),
        ("an empty contact", project(r#"{"records":{"contact":" "}}"#), None, true),
        ("no file of the project", without_file, None, true),
        ("the switch of all", machine().with("etc/install-record/off", ""), None, true),
        ("its switch", machine().with("etc/install-record/off.d/lumenq", ""), None, true),
        ("another's switch", machine().with("etc/install-record/off.d/percona", ""), None, false),
    ] {
        let (before, connections) = (machine.snapshot(), receiver.connections());
        let mut run = send(&machine, &receiver, "/in", "2.1.0");
        let mut asked = self::run(&machine, "status").args(["--json"]);
        if let Some((name, value)) = variable {
            (run, asked) = (run.env(name, value), asked.env(name, value));
        }
        assert_eq!(asked.run().json()["decision"], if says_no { "skip" } else { "send" }, "{what}");
        if says_no {
            run.run().silent();
            assert_eq!((machine.snapshot(), receiver.connections()), (before, connections), "{what}");
        } else {
            run.run().sent();
        }
    }
    // Without the project, nobody can know.
    let machine = machine();
    let nowhere = machine.run(["send", "--profile", "lumenq", "-v", "2.1.0", "-u", &receiver.url("/in")]).run();
    assert!(nowhere.expect(2).stderr.contains("--project DIR"));
}

#[test]
fn off_and_on_write_its_own_settings_as_well() {
    let (machine, receiver) = (machine().with(SETTINGS, r#"{"theme":"dark"}"#), Receiver::start(&[]));
    let json = || -> Value { serde_json::from_str(&read(&machine, SETTINGS)).expect("JSON") };
    run(&machine, "off").run().expect(0);
    assert_eq!(json(), json!({"theme": "dark", "records": false}));
    assert!(machine.path("etc/install-record/off.d/lumenq").is_file());
    send(&machine, &receiver, "/in", "2.1.0").run().silent();
    run(&machine, "on").run().expect(0);
    assert_eq!(json(), json!({"theme": "dark", "records": true}));
    assert!(!machine.path("etc/install-record/off.d/lumenq").exists());
    assert_eq!(receiver.connections(), 0);
    let debugged = send(&machine, &receiver, "/in", "2.1.0").env("LUMENQ_SHOW_RECORDS", "1").run();
    assert_eq!((debugged.status, debugged.stdout), (Some(0), [receiver.body(1), b"\n".to_vec()].concat()));
}

#[test]
fn what_its_service_did_not_take_waits_and_can_be_forgotten() {
    let (machine, receiver) = (machine(), Receiver::start(&[]));
    // 204 has no body that could say that the record is stored.
    let pending = send(&machine, &receiver, "/204", "2.1.0").run().expect(0);
    assert!(pending.stderr.contains("pending"), "{pending:?}");
    let id = machine.pending()[0]["id"].clone();
    assert_eq!(status(&machine)["pending"][0]["id"], id);
    let record =
        fs::read_dir(machine.path(STATE).join("pending")).expect("pending").next().expect("one").expect("file");
    let moved = fs::read_to_string(record.path()).expect("record").replace("/204", "/in");
    fs::write(record.path(), moved).expect("record");
    run(&machine, "flush").args(["-t", "20"]).env("SSL_CERT_FILE", receiver.ca()).run().expect(0);
    assert_eq!(receiver.body(2), receiver.body(1));
    assert!(machine.pending().is_empty() && machine.receipts().len() == 1);
    send(&machine, &receiver, "/in", "2.1.0").run().silent();

    let project = read(&machine, PROJECT_ID);
    run(&machine, "forget").run().expect(0);
    assert!(!machine.path(PROJECT_ID).exists() && !machine.path(INSTANCE_ID).exists());
    assert!(machine.receipts().is_empty());
    assert_eq!(status(&machine)["reported"], json!([]));
    // An ID of an older version is used where there is none.
    let old = "13f5fc62-35b4-4716-b3e6-96c761fc204d";
    fs::write(machine.path("var/lib/lumenq/node-id"), format!("{old}\n")).expect("old ID");
    send(&machine, &receiver, "/in", "2.1.0").run().sent();
    assert_ne!(read(&machine, PROJECT_ID), project);
    let sent: Value = serde_json::from_slice(&receiver.body(3)).expect("JSON");
    assert_eq!(sent["broker"], old);
}

#[test]
fn its_endpoint_follows_its_own_variables() {
    let machine = machine();
    for (variables, url) in [
        (&[][..], "https://records.lumenq.example/v2/installs"),
        (&[("LUMENQ_RECORDS", "eu.lumenq.example")], "https://eu.lumenq.example/v2/installs"),
        (&[("LUMENQ_RECORDS", "https://x.example/a/"), ("LUMENQ_RECORDS_PATH", "b")], "https://x.example/a/b"),
    ] {
        let mut run = run(&machine, "status").args(["--json"]);
        for (name, value) in variables {
            run = run.env(name, value);
        }
        assert_eq!(run.run().json()["endpoint"], url);
    }
}

#[test]
fn a_profile_that_is_not_installed_as_it_should_be() {
    let receiver = Receiver::start(&[]);
    // Others could have written it: not the caller's fault, and nothing is sent.
    let machine = machine();
    fs::set_permissions(machine.path(INSTALLED), PermissionsExt::from_mode(0o666)).expect("mode");
    let ended = send(&machine, &receiver, "/in", "2.1.0").run().expect(0);
    assert!(ended.stderr.contains("others can write it"), "{ended:?}");
    // Under another name, `off --profile` would write a switch that nobody asks.
    let renamed = Machine::new().with("usr/share/install-record/profiles/glowq.json", PROFILE);
    let ended = renamed.run(["show", "--profile", "glowq", "-v", "1"]).run().expect(2);
    assert!(ended.stderr.contains("name: 'lumenq' must be the name of its file, glowq.json"), "{ended:?}");
    assert_eq!(receiver.connections(), 0);
}
