//! A sixth product, invented, whose profile was written by docs/profiles.md alone and is installed as a vendor's
//! package would: what the five built-in ones do not use. vendors.rs has its record.

use std::fs;

use serde_json::{Value, json};

use crate::consent::assert_sends;
use crate::harness::{ClosedPort, Machine, Receiver, Run};
use crate::vendors::{command_of, mode, server, to};

const PROJECT_ID: &str = "srv/app/.lumenq/project-id";
const INSTANCE_ID: &str = "var/lib/lumenq/instance-id";

fn run(machine: &Machine, command: &str) -> Run {
    command_of(machine, "lumenq", command).args(["--project", "/srv/app"])
}

fn send(machine: &Machine, receiver: &Receiver, path: &str, version: &str) -> Run {
    to(receiver, path, run(machine, "send").args(["-v", version]))
}

fn status(machine: &Machine) -> Value {
    run(machine, "status").args(["--json"]).run().json()
}

#[test]
fn once_for_each_version() {
    let (machine, receiver) = (server().with("etc/install-record/off.d/percona", ""), Receiver::start(&[]));
    // What says no to another product is no opinion.
    send(&machine, &receiver, "/in", "2.1.0").env("PERCONA_TELEMETRY_DISABLE", "1").run().sent();
    assert_sends("again", false, &machine, &receiver, send(&machine, &receiver, "/in", "2.1.0"));
    let shown = run(&machine, "show").args(["-v", "2.1.0"]).run();
    assert!(shown.stderr.contains("nothing would be sent: lumenq was reported before"), "{shown:?}");
    // What is not given leaves no key behind; the version may come by its variable.
    let second = send(&machine, &receiver, "/in", "").env("LUMENQ_VERSION", "2.2.0").run().sent();
    assert!(second.stderr.contains("of lumenq 2.2.0"), "{second:?}");
    let [first, second] =
        [1, 2].map(|number| -> Value { serde_json::from_slice(&receiver.body(number)).expect("JSON") });
    let keys: Vec<&str> = second.as_object().expect("object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["at", "broker", "host", "project", "record", "release"]);
    assert_eq!([&first["project"], &first["broker"]], [&second["project"], &second["broker"]]);
    let mut status = status(&machine);
    // Two receipts of one second have no order.
    status["reported"].as_array_mut().expect("a list").sort_unstable_by_key(Value::to_string);
    assert_eq!([&status["decision"], &status["instance_id"]], [&json!("send"), &first["project"]]);
    assert_eq!(status["reported"], json!(["2.1.0", "2.2.0"]));
    let text = run(&machine, "status").run().text();
    assert!(text.contains("sent:         lumenq on "), "{text}");
    let modes = [PROJECT_ID, "srv/app/.lumenq", INSTANCE_ID].map(|path| mode(&machine, path));
    assert_eq!(modes, [0o600, 0o700, 0o644]);
}

#[test]
fn what_its_service_did_not_take_waits_and_can_be_forgotten() {
    let (machine, closed) = (server(), ClosedPort::new());
    let pending = run(&machine, "send").args(["-v", "2.1.0", "-u", &closed.url()]).run().expect(0);
    assert!(pending.stderr.contains("pending"), "{pending:?}");
    assert_eq!(status(&machine)["pending"][0]["id"], machine.pending()[0]["id"]);
    let receiver = closed.open(&[]);
    let ended = machine.flush(&receiver).run().expect(0);
    assert!(ended.stderr.contains("sent 1 pending"), "{ended:?}");
    assert_eq!((receiver.requests().len(), machine.pending().len()), (1, 0));
    let project = fs::read(machine.path(PROJECT_ID)).expect("an ID");
    run(&machine, "forget").run().expect(0);
    assert!(!machine.path(PROJECT_ID).exists() && !machine.path(INSTANCE_ID).exists());
    assert_eq!((machine.receipts().len(), &status(&machine)["reported"]), (0, &json!([])));
    send(&machine, &receiver, "/in", "2.1.0").run().sent();
    assert_ne!(fs::read(machine.path(PROJECT_ID)).expect("an ID"), project);
}
