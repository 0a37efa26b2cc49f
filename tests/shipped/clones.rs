//! A machine that was cloned: its machine-id is another one than that on which the ID was made.

use crate::harness::{ClosedPort, FAMILY, Machine, Receiver, STATE, copy_tree, roots};

const FIRST: &str = "0123456789abcdef0123456789abcdef\n";
const SECOND: &str = "fedcba9876543210fedcba9876543210\n";

/// A copy of everything, with that machine-id.
fn copy_of(original: &Machine, machine_id: &str) -> Machine {
    let copy = Machine::bare();
    copy_tree(original.root(), copy.root());
    copy.with("etc/machine-id", machine_id)
}

/// A machine that has reported one family and could not report another one.
fn original(receiver: &Receiver) -> (Machine, ClosedPort) {
    let (machine, closed) = (Machine::new().with("etc/machine-id", FIRST), ClosedPort::new());
    machine.send(receiver, "/", FAMILY).run().sent();
    machine.fail("PRODUCT_FAMILY_PXC", &closed);
    (machine, closed)
}

#[test]
fn it_has_an_id_of_its_own_and_reports_again_under_it() {
    let receiver = Receiver::start(&[]);
    let (machine, closed) = original(&receiver);
    let id = machine.instance_id();
    let (clone, late) = (copy_of(&machine, SECOND), copy_of(&machine, SECOND));
    // What waits there is the original's to send.
    let waited = closed.open(&[]);
    late.flush(&waited).run().expect(0);
    assert_eq!((waited.connections(), late.pending().len()), (0, 0));

    clone.send(&receiver, "/", FAMILY).run().sent();
    let own = clone.instance_id();
    assert_eq!(clone.identity(), Some(format!("instanceId:{own}\n{FAMILY}:1\n")));
    assert_eq!(clone.pending().len(), 0);
    clone.send(&receiver, "/", FAMILY).run().silent();
    // And a clone of the clone.
    let third = copy_of(&clone, "00112233445566778899aabbccddeeff\n");
    third.send(&receiver, "/", FAMILY).run().sent();
    assert!(own != id && ![&id, &own].contains(&&third.instance_id()));
    // The original stays what it was.
    machine.send(&receiver, "/", FAMILY).run().silent();
    assert_eq!((machine.instance_id(), receiver.requests().len()), (id, 3));
}

#[test]
fn what_cannot_be_known_is_no_clone() {
    let receiver = Receiver::start(&[]);
    let (machine, _closed) = original(&receiver);
    // In an application container, a new machine-id is no new machine.
    let container = format!("cp -r {0}/.dockerenv {0}/proc .", roots().join("distroless").display());
    for (machine_id, prepare) in [
        ("uninitialized\n", ""),
        ("", ""),
        (SECOND, "rm $B"),
        (SECOND, "truncate -s 100 $B"),
        (SECOND, "tr '\\000-\\376' '\\377' <$B >new; mv new $B"),
        (SECOND, "rm $B; mkdir $B"),
        (SECOND, &container),
    ] {
        let copy = copy_of(&machine, machine_id);
        copy.sh(&format!("B={STATE}/bindings; {prepare}"));
        copy.send(&receiver, "/", FAMILY).run().silent();
        assert_eq!(copy.instance_id(), machine.instance_id(), "{machine_id} {prepare}");
    }
    assert_eq!(receiver.requests().len(), 1);
}
