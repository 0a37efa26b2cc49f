//! A vendor of its own: what others could have put into the directories of profiles. Those that are used are in
//! tests/roots/expected.

use super::{command_of, to};
use crate::harness::{Machine, Receiver, Run, is_root};

const SHARE: &str = "usr/share/install-record/profiles";
const ETC: &str = "etc/install-record/profiles";

fn send(machine: &Machine, receiver: &Receiver) -> Run {
    to(receiver, "/in", command_of(machine, "acme", "send"))
}

#[test]
fn what_others_could_have_written_is_not_used() {
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
                let ended = send(&machine, &receiver).args(options).run().expect(status);
                let is_named = ended.stderr.contains(&format!("{directory}/acme.json")) && ended.stderr.contains(why);
                assert!(is_named && ended.stderr.lines().count() == 1, "{script}: {ended:?}");
            }
            assert_eq!((machine.snapshot(), receiver.connections()), (before, 0), "{script}");
        }
    }
    // One vendor's broken file is none of another's business.
    Machine::of("acme-broken").run(["flush"]).run().silent();
}
