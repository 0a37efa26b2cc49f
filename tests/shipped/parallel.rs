//! Many runs at the same time (item 7).

use std::collections::BTreeSet;

use crate::harness::{FAMILY, Machine, Receiver, Running, walk};

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

/// Ten families, ten runs of each.
fn hundred_families() -> impl Iterator<Item = String> {
    (0..100).map(|number| format!("FAMILY_{}", number % 10))
}

/// Checks what there is after everything: one ID, one accepted record per family, whole files, nothing that waits.
#[track_caller]
fn assert_ten_reports(round: usize, machine: &Machine, receiver: &Receiver) {
    assert_eq!((ids(receiver, "id").len(), ids(receiver, "product_family").len()), (10, 10), "round {round}");
    assert_eq!(ids(receiver, "instanceId"), BTreeSet::from([machine.instance_id()]), "round {round}");
    let identity = machine.identity().expect("identity");
    let marks: BTreeSet<&str> = identity.lines().skip(1).collect();
    let expected: Vec<String> = (0..10).map(|number| format!("FAMILY_{number}:1")).collect();
    assert!(marks.iter().eq(expected.iter()) && identity.lines().count() == 11, "round {round}: {identity}");
    assert_eq!((machine.pending().len(), machine.receipts().len()), (0, 10), "round {round}");
    let unfinished = walk(machine.root()).into_iter().filter(|path| path.to_string_lossy().ends_with(".new"));
    assert_eq!(unfinished.count(), 0, "round {round}");
}

#[test]
fn a_hundred_runs_at_once_ten_times_over() {
    for round in 0..10 {
        let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
        let running: Vec<Running> =
            hundred_families().map(|family| machine.send(&receiver, "/", &family).spawn()).collect();
        for ended in running.into_iter().map(Running::wait) {
            ended.expect(0);
        }
        assert_eq!(receiver.requests().len(), 10, "round {round}");
        assert_ten_reports(round, &machine, &receiver);
    }
}

#[test]
fn a_hundred_runs_of_which_a_third_is_killed() {
    let mut state = 1_u64;
    for round in 0..4 {
        let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
        let mut killed = 0;
        let mut running: Vec<Running> = Vec::new();
        for family in hundred_families() {
            running.push(machine.send(&receiver, "/slow?ms=20", &family).spawn());
            // A linear congruential generator (Knuth's MMIX); a victim among the last ten that were started.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = (state >> 33) as usize;
            if random.is_multiple_of(3) {
                let victim = running.len() - 1 - random / 3 % running.len().min(10);
                killed += usize::from(running[victim].child.kill().is_ok());
            }
        }
        running.into_iter().for_each(|running| drop(running.wait()));
        assert!(killed > 20, "{killed}");
        // What the killed ones left is finished by the next ones.
        for number in 0..10 {
            machine.send(&receiver, "/", &format!("FAMILY_{number}")).run().expect(0);
        }
        assert_ten_reports(round, &machine, &receiver);
    }
}
