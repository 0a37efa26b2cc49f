//! The profile of an invented vendor, made by docs/profiles.md alone, and what others could have put in its place.

use crate::consent::assert_sends;
use crate::harness::*;
use crate::vendors::{command_of, server};

/// One that nobody has installed. A file in the user's configuration can say no.
pub const MINE: &str = r#"{"name":"mine","about":"","endpoint":"https://localhost/","once":"version",
    "consent":{"files":[{"path":"{config_home}/mine.json","false":"/records"}]},
    "identity":{"instance.id":{"file":"/srv/id"}},
    "body":{"id":"$record.uuid","instance":"$instance.id","version":"$product.version"}}"#;

const PROJECT_ID: &str = "srv/app/.lumenq/project-id";
const INSTANCE_ID: &str = "var/lib/lumenq/instance-id";

fn run(machine: &Machine, command: &str) -> Run {
    command_of(machine, "lumenq", command).args(["--project", "/srv/app"])
}

fn send(machine: &Machine, receiver: &Receiver, version: &str) -> Run {
    run(machine, "send").args(["-v", version]).to(receiver, "/in")
}

#[test]
fn once_for_each_version_until_it_is_forgotten() {
    let (machine, receiver) = (server().with("etc/install-record/off.d/percona", ""), Receiver::start(&[]));
    // What says no to another product is no opinion.
    send(&machine, &receiver, "2.1.0").env("PERCONA_TELEMETRY_DISABLE", "1").run().sent();
    let first = receiver.last();
    assert_sends("again", false, &machine, &receiver, send(&machine, &receiver, "2.1.0"));
    let shown = run(&machine, "show").args(["-v", "2.1.0"]).run();
    shown.says("nothing would be sent: this was reported before");
    // What is not given leaves no key behind; the version may come by its variable.
    send(&machine, &receiver, "").env("LUMENQ_VERSION", "2.2.0").run().sent().says("of lumenq to");
    let second = receiver.last();
    let keys: Vec<&str> = second.as_object().expect("object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["at", "broker", "host", "project", "record", "release"]);
    assert_eq!([&first["project"], &first["broker"]], [&second["project"], &second["broker"]]);
    let status = || run(&machine, "status").args(["--json"]).run().json();
    let known = status();
    assert_eq!([&known["decision"], &known["project_id"]], [&json!("send"), &first["project"]]);
    assert_eq!(["2.2.0", "2.1.0"], [0, 1].map(|at| known["sent"][at]["version"].as_str().expect("a version")));
    let text = run(&machine, "status").run().text();
    assert!(text.contains("sent:         lumenq on "), "{text}");
    let modes = [PROJECT_ID, "srv/app/.lumenq", INSTANCE_ID].map(|path| machine.owner(path).0);
    assert_eq!(modes, [0o600, 0o700, 0o644]);

    run(&machine, "forget").run().expect(0);
    assert_eq!([PROJECT_ID, INSTANCE_ID].map(|path| machine.text(path)), [None, None]);
    assert_eq!((machine.receipts().len(), &status()["sent"]), (0, &json!([])));
    send(&machine, &receiver, "2.1.0").run().sent();
    assert_ne!(receiver.last()["project"], first["project"]);
}

#[test]
fn what_others_could_have_written_is_not_used() {
    const SHARE: &str = "usr/share/install-record/profiles";
    const ETC: &str = "etc/install-record/profiles";
    let receiver = Receiver::start(&[]);
    for (why, script) in [
        ("others can write it", "chmod 666 $d/acme.json"),
        ("others can write it", "chmod 664 $d/acme.json"),
        ("others can write it", "chmod 777 $d"),
        ("others can write it", "chmod 775 $d"),
        ("others can write it", "chmod 1777 $d"),
        ("others can write it", "chown 65534 $d/acme.json"),
        ("a link", "mv $d/acme.json elsewhere && ln -s /elsewhere $d/acme.json"),
        ("a link", "mv $d elsewhere && ln -s /elsewhere $d && chown -h 65534 $d"),
    ] {
        if script.contains("chown") && !is_root() {
            continue;
        }
        // Nor is a good one of lower rank taken in its place, because a "no" could be in the one that is not read.
        for (root, directory) in [("acme-vendor", SHARE), ("acme-local", ETC), ("acme-both", ETC)] {
            let machine = Machine::of(root);
            machine.sh(&format!("d={directory} && {script}"));
            let before = machine.snapshot();
            for (options, status) in [(&[][..], 0), (&["--strict"], 1)] {
                let run = command_of(&machine, "acme", "send").to(&receiver, "/in").args(options);
                let ended = run.run().expect(status).says(&format!("{directory}/acme.json")).says(why);
                assert_eq!(ended.stderr.lines().count(), 1, "{script}: {ended:?}");
            }
            assert_eq!((machine.snapshot(), receiver.connections()), (before, 0), "{script}");
        }
    }
    // One vendor's broken file is none of another's business.
    Machine::of("acme-broken").run(["flush"]).run().silent();
}
