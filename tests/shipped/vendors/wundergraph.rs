//! WunderGraph: the command and its duration under a random ID, "prints exactly what is collected", and both ways off.

use serde_json::{Value, json};

use super::{KINDS, PROJECT_ID, WUNDERGRAPH, json, mode, read, server};
use crate::harness::{Machine, Receiver};

const ID_FILE: &str = "home/dev/wundergraph.config.json";
const OLD_ID_FILE: &str = "home/dev/.wundergraph/config.json";

fn receiver() -> Receiver {
    Receiver::start(&["--answer", WUNDERGRAPH.answer])
}

/// Reports from the machine, and the ID in that record.
#[track_caller]
fn sent_id(machine: &Machine, receiver: &Receiver) -> Value {
    WUNDERGRAPH.send(machine, receiver).run().sent();
    receiver.last()["clientInfo"]["anonymousID"].take()
}

#[test]
fn promise_an_anonymised_id_made_at_first_use_and_kept() {
    let (machine, other, receiver) = (server(), server(), receiver());
    let id = sent_id(&machine, &receiver);
    assert_eq!(read(&machine, ID_FILE), format!("{{\n\t\"anonymousid\": {id}\n}}\n"));
    assert_eq!((sent_id(&machine, &receiver), mode(&machine, ID_FILE)), (id.clone(), 0o600));
    // Another machine of the same hardware, user and time is another one.
    assert_ne!(sent_id(&other, &receiver), id);
}

/// tests/roots/expected has those that are used.
#[test]
fn what_is_no_id_is_replaced_and_nothing_else() {
    let (old, other) = ("{\"anonymousid\":\"\"}", json!([1]));
    let junk = json!({ "anonymousid": PROJECT_ID, "other": other }).to_string();
    let machine = server().with(ID_FILE, junk).with(OLD_ID_FILE, old);
    let sent = sent_id(&machine, &receiver());
    assert_eq!(json(&machine, ID_FILE), json!({ "anonymousid": sent, "other": other }));
    assert_eq!(read(&machine, OLD_ID_FILE), old);
}

/// That it prints nothing where somebody said no is consent.rs's.
#[test]
fn promise_the_debug_variable_prints_exactly_what_is_sent() {
    let receiver = receiver();
    for variable in ["WUNDER_TELEMETRY_DEBUG", "WG_TELEMETRY_DEBUG"] {
        for kind in KINDS.iter().filter(|kind| kind.profile == "wundergraph") {
            let ended = kind.send(&server(), &receiver).env(variable, "true").run();
            let sent = receiver.body(receiver.requests().len());
            assert_eq!((ended.status, ended.stdout), (Some(0), [&sent[..], b"\n"].concat()), "{variable}");
        }
        for value in ["false", "0", ""] {
            WUNDERGRAPH.send(&server(), &receiver).env(variable, value).run().sent();
        }
    }
}
