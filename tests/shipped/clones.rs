//! A machine that was cloned: its machine-id is another one than that on which the ID was made.

use std::fs;
use std::path::Path;

use crate::harness::{ClosedPort, FAMILY, Machine, Receiver, STATE, copy_tree};

const MACHINE_ID: &str = "etc/machine-id";
const FIRST: &str = "0123456789abcdef0123456789abcdef\n";
const SECOND: &str = "fedcba9876543210fedcba9876543210\n";
const WAITS: &str = "PRODUCT_FAMILY_PXC";

/// A copy of everything, with that machine-id.
fn copy_of(original: &Machine, machine_id: &str) -> Machine {
    let copy = Machine::bare();
    copy_tree(original.root(), copy.root());
    copy.with(MACHINE_ID, machine_id)
}

/// A machine that has reported one family and could not report another one.
fn original(receiver: &Receiver) -> (Machine, ClosedPort) {
    let (machine, closed) = (Machine::new().with(MACHINE_ID, FIRST), ClosedPort::new());
    machine.send(receiver, "/", FAMILY).run().sent();
    let url = format!("https://127.0.0.1:{}/", closed.port);
    machine.run(["send", "-f", WAITS, "-v", "1", "-u", &url]).run().expect(0);
    (machine, closed)
}

#[test]
fn it_has_an_id_of_its_own_and_reports_again_under_it() {
    let receiver = Receiver::start(&[]);
    let (machine, closed) = original(&receiver);
    let (id, late) = (machine.instance_id(), copy_of(&machine, SECOND));
    let clone = copy_of(&machine, SECOND);
    // What waits there is the original's to send.
    let waited = closed.open(&[]);
    late.run(["flush", "-t", "20"]).env("SSL_CERT_FILE", waited.ca()).run().expect(0);
    assert_eq!((waited.connections(), late.pending().len()), (0, 0));

    clone.send(&receiver, "/", FAMILY).run().sent();
    let own = clone.instance_id();
    assert_ne!(own, id);
    assert_eq!(clone.identity(), Some(format!("instanceId:{own}\n{FAMILY}:1\n")));
    assert_eq!(clone.pending().len(), 0);
    clone.send(&receiver, "/", FAMILY).run().silent();
    // And a clone of the clone.
    let third = copy_of(&clone, "00112233445566778899aabbccddeeff\n");
    third.send(&receiver, "/", FAMILY).run().sent();
    assert!(![id.clone(), own].contains(&third.instance_id()));
    // The original stays what it was.
    machine.send(&receiver, "/", FAMILY).run().silent();
    assert_eq!((machine.instance_id(), receiver.requests().len()), (id, 3));
}

#[test]
fn what_cannot_be_known_is_no_clone() {
    let receiver = Receiver::start(&[]);
    let (machine, _closed) = original(&receiver);
    let id = machine.instance_id();
    let bindings = format!("{STATE}/bindings");
    type Prepare = fn(&Path);
    let cases: [(&str, &str, Prepare); 6] = [
        ("no machine-id yet", "uninitialized\n", |_| {}),
        ("an empty machine-id", "", |_| {}),
        ("no bindings", SECOND, |path| fs::remove_file(path).expect("remove")),
        ("bindings that were cut", SECOND, |path| change(path, |bytes| bytes.truncate(100))),
        ("bindings that are none", SECOND, |path| change(path, |bytes| bytes.fill(0xff))),
        ("bindings that cannot be read", SECOND, |path| {
            fs::remove_file(path).expect("remove");
            fs::create_dir(path).expect("directory");
        }),
    ];
    for (what, machine_id, prepare) in cases {
        let copy = copy_of(&machine, machine_id);
        prepare(&copy.path(&bindings));
        copy.send(&receiver, "/", FAMILY).run().silent();
        assert_eq!(copy.instance_id(), id, "{what}");
    }
    // In an application container, a new machine-id is no new machine.
    let container = copy_of(&machine, SECOND)
        .with("proc/1/comm", "mysqld\n")
        .with(".dockerenv", "")
        .with("proc/self/mountinfo", "1 0 0:5 / / rw - overlay overlay rw,upperdir=/var/lib/docker/overlay2/x/diff\n");
    container.send(&receiver, "/", FAMILY).run().silent();
    assert_eq!((container.instance_id(), receiver.requests().len()), (id, 1));
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("a file");
    change(&mut bytes);
    fs::write(path, bytes).expect("a file");
}
