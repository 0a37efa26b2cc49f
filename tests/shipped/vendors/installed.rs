//! A vendor of its own: a profile from the two directories where packages and administrators put them, and what others
//! could have put there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

use serde_json::{Value, json};

use super::{body, command_of, to};
use crate::harness::{ClosedPort, Machine, Receiver, Run, is_root};

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

fn set_mode(machine: &Machine, path: &str, mode: u32) {
    fs::set_permissions(machine.path(path), PermissionsExt::from_mode(mode)).expect(path);
}

/// With `text` as the profile in each of the directories, in modes that a package would give them.
fn with(files: &[(&str, &str)]) -> Machine {
    let mut machine = Machine::new();
    for (directory, text) in files {
        machine = machine.with(&format!("{directory}/acme.json"), text);
        set_mode(&machine, directory, 0o755);
        set_mode(&machine, &format!("{directory}/acme.json"), 0o644);
    }
    machine
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
        let before = machine.snapshot();
        send(&machine, &receiver).env("ACME_NO", "1").run().silent();
        assert_eq!(machine.snapshot(), before);
    }
    // None of them: a mistake of the caller's.
    let ended = send(&Machine::new(), &receiver).run().expect(2);
    assert!(ended.stderr.contains("unknown profile 'acme'; known are percona, "), "{ended:?}");
    // Its own name is not taken by the five that come with the program.
    let percona = profile("a false one").replace("\"acme\"", "\"percona\"");
    let machine = Machine::new().with(&format!("{ETC}/percona.json"), percona);
    let shown = machine.run(["show", "-f", "PRODUCT_FAMILY_PS", "-v", "1"]).run().json();
    assert!(shown["reports"].is_array(), "{shown}");
}

#[test]
fn a_flush_knows_installed_profiles() {
    let machine = with(&[(SHARE, &profile("vendor"))]);
    let closed = ClosedPort::new();
    let url = format!("https://127.0.0.1:{}/in", closed.port);
    let ended = command_of(&machine, "acme", "send").args(["-u", &url]).run().expect(0);
    assert!(ended.stderr.contains("install record pending"), "{ended:?}");
    let receiver = closed.open(&[]);
    let flush = || machine.run(["flush", "-c", "10", "-t", "20"]).env("SSL_CERT_FILE", receiver.ca());
    flush().env("ACME_NO", "1").run().silent();
    assert_eq!(receiver.connections(), 0);
    // One that has become another's in the meantime is left out.
    set_mode(&machine, &format!("{SHARE}/acme.json"), 0o666);
    let ended = flush().run().expect(0);
    assert!(ended.stderr.contains("1 still pending (the profile acme cannot be used here)"), "{ended:?}");
    assert_eq!(receiver.connections(), 0);
    set_mode(&machine, &format!("{SHARE}/acme.json"), 0o644);
    let ended = flush().run().expect(0);
    assert!(ended.stderr.contains("sent 1 pending install records"), "{ended:?}");
    assert_eq!(body(&receiver, 1)["from"], "vendor");
}

#[test]
fn what_others_could_have_written_is_not_used() {
    let receiver = Receiver::start(&[]);
    type Spoil = fn(&Machine, &str);
    let file = |directory: &str| format!("{directory}/acme.json");
    let spoilt: [(&str, Spoil); 8] = [
        ("a file for all", |machine, directory| set_mode(machine, &format!("{directory}/acme.json"), 0o666)),
        ("a file for a group", |machine, directory| set_mode(machine, &format!("{directory}/acme.json"), 0o664)),
        ("a directory for all", |machine, directory| set_mode(machine, directory, 0o777)),
        ("a directory for a group", |machine, directory| set_mode(machine, directory, 0o775)),
        ("a sticky directory for all", |machine, directory| set_mode(machine, directory, 0o1777)),
        ("a link in the file's place", |machine, directory| {
            let path = machine.path(&format!("{directory}/acme.json"));
            fs::rename(&path, machine.path("srv-acme.json")).expect("rename");
            symlink("/srv-acme.json", path).expect("link");
        }),
        ("another user's link in the directory's place", |machine, directory| {
            fs::rename(machine.path(directory), machine.path("elsewhere")).expect("rename");
            symlink("/elsewhere", machine.path(directory)).expect("link");
            lchown(machine.path(directory), Some(65534), None).expect("chown");
        }),
        ("another user's file", |machine, directory| {
            chown(machine.path(&format!("{directory}/acme.json")), Some(65534), None).expect("chown");
        }),
    ];
    for (what, spoil) in spoilt {
        if what.starts_with("another user's") && !is_root() {
            continue;
        }
        for directory in [SHARE, ETC] {
            let machine = with(&[(directory, &profile("nobody knows"))]);
            spoil(&machine, directory);
            let before = machine.snapshot();
            for strict in [false, true] {
                let run = send(&machine, &receiver).args(strict.then_some("--strict"));
                let ended = run.run().expect(strict.into());
                assert_eq!(ended.stderr.lines().count(), 1, "{what}: {ended:?}");
                assert!(ended.stderr.contains(&file(directory)), "{what}: {ended:?}");
                let why = if what.contains("link") { "a link" } else { "others can write it" };
                assert!(ended.stderr.contains(why), "{what}: {ended:?}");
            }
            assert_eq!(machine.snapshot(), before, "{what}");
            // Nor is a good one of lower rank taken in its place, because a "no" could be in the one that is not read.
            if directory == ETC {
                let machine = with(&[(ETC, &profile("nobody knows")), (SHARE, &profile("vendor"))]);
                spoil(&machine, ETC);
                assert!(!send(&machine, &receiver).run().expect(0).stderr.contains("sent one"), "{what}");
            }
        }
    }
    assert_eq!(receiver.connections(), 0);
}

#[test]
fn a_broken_profile_is_named_with_its_place_and_nothing_is_touched() {
    let receiver = Receiver::start(&[]);
    for (from, to, named) in [
        ("$instance.id", "$host.name", "body.id: 'host.name' is no fact; known are record.uuid"),
        ("\"consent\"", "\"consnt\"", "consnt: unknown field `consnt`, expected one of `name`, `about`, `consent`"),
        ("\"call\"", "\"daily\"", "once: unknown variant `daily`, expected one of `family`, `version`, `call`"),
        ("}\n", "", "EOF"),
    ] {
        let text = profile("broken");
        let (head, tail) = text.rsplit_once(from).expect(from);
        let machine = with(&[(SHARE, &format!("{head}{to}{tail}"))]);
        let before = machine.snapshot();
        let ended = send(&machine, &receiver).run().expect(2);
        assert!(ended.stderr.contains("profile acme: ") && ended.stderr.contains(named), "{named}: {ended:?}");
        assert_eq!(machine.snapshot(), before);
        // One vendor's broken file is none of another's business.
        let shown: Value = machine.run(["show", "-f", "PRODUCT_FAMILY_PS", "-v", "1"]).run().json();
        assert!(shown["reports"].is_array());
        machine.run(["flush"]).run().silent();
    }
    assert_eq!(receiver.connections(), 0);
}
