//! A vendor of its own: a profile from the two directories where packages and administrators put them, and what others
//! could have put there.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::{body, command_of, to};
use crate::consent::assert_sends;
use crate::harness::{Machine, Receiver, Run, is_root, tool};

const SHARE: &str = "usr/share/install-record/profiles";
const ETC: &str = "etc/install-record/profiles";

/// A profile whose record says where it comes from.
fn profile(from: &str) -> String {
    let profile = json!({
        "name": "acme",
        "consent": { "variables": ["ACME_NO"] },
        "endpoint": "https://telemetry.acme.example/in",
        "identity": { "instance.id": { "file": "/var/lib/acme/id" } },
        "once": "call",
        "body": { "from": from, "id": "$instance.id" },
    });
    format!("{profile:#}\n")
}

fn send(machine: &Machine, receiver: &Receiver) -> Run {
    to(receiver, "/in", command_of(machine, "acme", "send"))
}

/// With `text` as the profile in each of the directories, in modes that a package would give them.
fn with(files: &[(&str, &str)]) -> Machine {
    files.iter().fold(Machine::new(), |machine, (directory, text)| {
        let machine = machine.with(&format!("{directory}/acme.json"), text);
        for (path, mode) in [(machine.path(directory), 0o755), (machine.path(directory).join("acme.json"), 0o644)] {
            fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("mode");
        }
        machine
    })
}

#[test]
fn profiles_are_used_from_both_directories_the_administrators_first() {
    let receiver = Receiver::start(&[]);
    let (vendor, local) = (profile("vendor"), profile("administrator"));
    for (files, expected) in [
        (&[(SHARE, &*vendor)][..], "vendor"),
        (&[(ETC, &local)], "administrator"),
        (&[(SHARE, &vendor), (ETC, &local)], "administrator"),
    ] {
        let machine = with(files);
        send(&machine, &receiver).run().sent();
        assert_eq!(body(&receiver, receiver.requests().len())["from"], expected);
        assert_sends(expected, false, &machine, &receiver, send(&machine, &receiver).env("ACME_NO", "1"));
    }
    // The names of the five that come with the program are taken.
    let percona = profile("a false one").replace("\"acme\"", "\"percona\"");
    let machine = Machine::new().with(&format!("{ETC}/percona.json"), percona);
    let shown = machine.run(["show", "-f", "PRODUCT_FAMILY_PS", "-v", "1"]).run().json();
    assert!(shown["reports"].is_array(), "{shown}");
}

#[test]
fn what_others_could_have_written_is_not_used() {
    let receiver = Receiver::start(&[]);
    let (bad, good) = (profile("nobody knows"), profile("vendor"));
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
        for files in [&[(SHARE, &*bad)][..], &[(ETC, &bad)], &[(ETC, &bad), (SHARE, &good)]] {
            let (machine, directory) = (with(files), files[0].0);
            let script = format!("cd {} && d={directory} && {script}", machine.root().display());
            assert!(tool(&["sh", "-c", &script]).is_some(), "{script}");
            let before = machine.snapshot();
            for (options, status) in [(&[][..], 0), (&["--strict"], 1)] {
                let ended = send(&machine, &receiver).args(options).run().expect(status);
                let is_named = ended.stderr.contains(&format!("{directory}/acme.json")) && ended.stderr.contains(why);
                assert!(is_named && ended.stderr.lines().count() == 1, "{script}: {ended:?}");
            }
            assert_eq!((machine.snapshot(), receiver.connections()), (before, 0), "{script}");
        }
    }
}

/// src/profile.rs has what can be wrong with one.
#[test]
fn a_broken_profile_is_named_with_its_place_and_nothing_is_touched() {
    let receiver = Receiver::start(&[]);
    let machine = with(&[(SHARE, &profile("broken").replace("$instance.id", "$host.name"))]);
    let before = machine.snapshot();
    let ended = send(&machine, &receiver).run().expect(2);
    assert!(ended.stderr.contains("profile acme: body.id: 'host.name' is no fact; known are record.uuid"), "{ended:?}");
    // One vendor's broken file is none of another's business.
    let shown: Value = machine.run(["show", "-f", "PRODUCT_FAMILY_PS", "-v", "1"]).run().json();
    assert!(shown["reports"].is_array());
    machine.run(["flush"]).run().silent();
    assert_eq!((machine.snapshot(), receiver.connections()), (before, 0));
}
