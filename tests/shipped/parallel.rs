//! Many runs at the same time (item 7).

use std::collections::BTreeSet;

use crate::harness::{FAMILY, Machine, Receiver, Running};

fn ids(receiver: &Receiver, key: &str) -> BTreeSet<String> {
    let bodies = (1..=receiver.requests().len()).map(|number| receiver.body(number));
    let reports = bodies.map(|body| serde_json::from_slice::<serde_json::Value>(&body).expect("JSON"));
    reports.map(|body| body["reports"][0][key].as_str().expect("an ID").to_owned()).collect()
}

/// Starts them all, then waits for them all; every one ends well.
fn at_once(machine: &Machine, receiver: &Receiver, families: impl Iterator<Item = String>) {
    let running: Vec<Running> =
        families.map(|family| machine.send(receiver, "/slow?ms=300", &family).spawn()).collect();
    for ended in running.into_iter().map(Running::wait) {
        ended.expect(0);
    }
}

#[test]
fn fifty_runs_for_one_family_are_one_report() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    at_once(&machine, &receiver, (0..50).map(|_| FAMILY.to_owned()));
    assert_eq!(receiver.requests().len(), 1);
    assert_eq!(machine.identity(), Some(format!("instanceId:{}\n{FAMILY}:1\n", machine.instance_id())));
    assert_eq!(ids(&receiver, "instanceId"), BTreeSet::from([machine.instance_id()]));
    assert_eq!((machine.pending().len(), machine.receipts().len()), (0, 1));
}

#[test]
fn twenty_families_at_once_share_one_instance_id() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    at_once(&machine, &receiver, (0..20).map(|number| format!("FAMILY_{number}")));
    assert_eq!(receiver.requests().len(), 20);
    assert_eq!(ids(&receiver, "id").len(), 20);
    assert_eq!(ids(&receiver, "product_family").len(), 20);
    assert_eq!(ids(&receiver, "instanceId"), BTreeSet::from([machine.instance_id()]));
    let identity = machine.identity().expect("identity");
    assert_eq!(identity.lines().count(), 21, "{identity}");
    assert_eq!((machine.pending().len(), machine.receipts().len()), (0, 20));
}
