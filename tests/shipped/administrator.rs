//! What an administrator relies on: `off` and `forget` reach everything, `flush` asks everybody again, `status` and `show`
//! tell the truth, and a command that could not do its work says so.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{ClosedPort, FAMILY, IDENTITY, Machine, Receiver, Run, STATE, is_root, wait_until, walk};
use crate::needs;

const OTHER: &str = "PRODUCT_FAMILY_PXC";
const USER: u32 = 1001;

/// A report that cannot be delivered and waits.
fn wait_for(port: &ClosedPort, run: Run) {
    let ended = run.args(["-u", &port.url()]).run().expect(0);
    assert!(ended.stderr.contains("install record pending"), "{ended:?}");
}

fn status(machine: &Machine, profile: &str) -> Value {
    machine.run(["status", "--json", "--profile", profile]).run().json()
}

/// A machine on which a user owns the directory of the identity file, as in a vendor's image, and keeps state there.
fn users() -> Machine {
    let machine = Machine::new();
    machine.sh(&format!("mkdir -p usr/local/percona; chown {USER}:{USER} usr/local/percona"));
    machine
}

#[test]
fn roots_forget_and_off_reach_what_another_user_keeps_beside_the_identity_file() {
    needs!(is_root(), "root, for another user");
    for command in ["forget", "off"] {
        let (machine, closed) = (users(), ClosedPort::new());
        wait_for(&closed, machine.run(["send", "-f", FAMILY, "-v", "8"]).user(USER));
        let beside = machine.path("usr/local/percona/.install-record");
        assert_eq!(fs::read_dir(beside.join("pending")).expect("pending").count(), 1);
        machine.run([command]).run().expect(0);
        assert_eq!(walk(&beside).iter().filter(|path| path.is_file()).count(), 0, "{command}");
        assert_eq!(machine.identity().is_some(), command == "off");
        let is_users = |path: &PathBuf| fs::symlink_metadata(path).expect("stat").uid() == USER;
        assert!(walk(&machine.path("usr/local/percona")).iter().all(is_users), "{command}");
    }
    // A run of that user's that is under way is over when they return.
    let (machine, receiver) = (users(), Receiver::start(&[]));
    let under_way = machine.send(&receiver, "/slow?ms=1500", FAMILY).user(USER).spawn();
    wait_until("it sends", || receiver.connections() == 1);
    machine.run(["off"]).run().expect(0);
    assert!(machine.identity().expect("an ID").contains(&format!("{FAMILY}:1")), "off did not wait for its end");
    under_way.wait().sent();
}

#[test]
fn forget_deletes_whatever_is_remembered_of_anybody() {
    let (machine, receiver, closed) = (Machine::new(), Receiver::start(&[]), ClosedPort::new());
    machine.send(&receiver, "/", FAMILY).args(["-j", "/srv/elsewhere"]).run().sent();
    let profile = fs::read_to_string("profiles/wundergraph.json").expect("a profile");
    let gone = machine.path("gone.json");
    fs::write(&gone, profile.replace("\"name\": \"wundergraph\"", "\"name\": \"gone\"")).expect("a profile");
    let run = machine.run(["send", "--set", "command=up", "-v", "1", "--profile"]).args([&gone]);
    wait_for(&closed, run);
    let later = machine.path(STATE).join("pending/20260101T000000Z-13f5fc62-35b4-4716-b3e6-96c761fc204d.jsonl");
    fs::write(later, "{\"format\":99}\n").expect("a record");
    machine.run(["forget"]).run().expect(0);
    assert_eq!((machine.path("srv/elsewhere").exists(), machine.path(STATE).exists()), (false, false));
    // A directory that somebody has made there stays, and nothing else.
    let (machine, backup) = (Machine::new(), format!("{STATE}/backup/x"));
    machine.send(&receiver, "/", FAMILY).run().sent();
    let machine = machine.with(&backup, "");
    machine.run(["forget"]).run().expect(0);
    assert_eq!((machine.path(IDENTITY).exists(), machine.path(&backup).exists()), (false, true));
    assert_eq!(fs::read_dir(machine.path(STATE)).expect("state").count(), 1);
    // One directory under two names is locked once.
    let machine = Machine::new().with(STATE, "").with("srv/app/x", "").with("srv/data/x", "");
    machine.send(&receiver, "/", FAMILY).args(["-j", "/srv/app/../data/id"]).run().sent();
    machine.run(["forget", "-j", "/srv/data/id"]).run().expect(0);
    assert!(!machine.path("srv/data/id").exists() && !machine.path("srv/data/.install-record").exists());
}

#[test]
fn a_forget_that_fails_can_be_repeated() {
    needs!(is_root(), "root, to give directories away");
    let (machine, receiver) = (users(), Receiver::start(&[]));
    machine.send(&receiver, "/", FAMILY).run().sent();
    machine.send(&receiver, "/", FAMILY).args(["-j", "/srv/id"]).run().sent();
    machine.sh("cd usr/local/percona; mv telemetry_uuid kept; ln -s kept telemetry_uuid");
    machine.run(["forget"]).run().expect(1);
    assert!(!machine.path("srv/id").exists(), "it has stopped at the first that it could not delete");
    machine.sh("cd usr/local/percona; mv kept telemetry_uuid");
    machine.run(["forget"]).run().expect(0);
    assert!(machine.identity().is_none() && !machine.path(STATE).exists());
}

#[test]
fn a_flush_asks_the_files_of_the_user_who_made_the_record() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    let machine = machine.with("etc/memgraph/memgraph.conf", "--telemetry-enabled=true\n");
    let (own, named) = ("home/u/.memgraph/config", "srv/memgraph.conf");
    let machine = machine.with(own, "").with(named, "").with("data/x", "");
    let send =
        machine.run(["send", "--profile", "memgraph", "--event", "startup", "--state-dir", "/data", "-v", "2.3"]);
    wait_for(&closed, send.env("HOME", "/home/u").env("MEMGRAPH_CONFIG", "/srv/memgraph.conf"));
    let receiver = closed.open(&[]);
    for file in [own, named] {
        fs::write(machine.path(file), "--telemetry-enabled=false\n").expect("config");
        machine.flush(&receiver).env("HOME", "/root").run().silent();
        fs::write(machine.path(file), "").expect("config");
    }
    assert_eq!((receiver.connections(), machine.pending().len()), (0, 1));
    let flushed = machine.flush(&receiver).env("HOME", "/root").run().expect(0);
    assert!(flushed.stderr.contains("sent 1 pending"), "{flushed:?}");
}

#[test]
fn nothing_is_flushed_while_an_image_is_built_and_show_says_so() {
    let (machine, closed) = Machine::waiting();
    let receiver = closed.open(&[]);
    machine.flush(&receiver).env("SYSTEMD_OFFLINE", "1").run().silent();
    assert_eq!((receiver.connections(), machine.pending().len()), (0, 1));
    let shown = machine.run(["show", "-f", OTHER, "-v", "8"]).env("DPKG_ROOT", "/x").run();
    let expected = "nothing would be sent: DPKG_ROOT or FAKECHROOT_BASE: packages go into another root, assuming";
    assert!(shown.status == Some(0) && shown.stderr.contains(expected), "{shown:?}");
}

#[test]
fn status_and_show_go_by_the_present_id() {
    let (machine, receiver) = (Machine::new().with("etc/machine-id", "0".repeat(31) + "1\n"), Receiver::start(&[]));
    machine.send(&receiver, "/", FAMILY).run().sent();
    let id = Value::from(machine.instance_id());
    let show = |machine: &Machine| machine.run(["show", "-f", FAMILY, "-v", "8"]).run();
    assert!(show(&machine).stderr.contains("was reported before"));
    assert_eq!(status(&machine, "percona")["reported"], Value::from(vec![FAMILY]));
    // A clone's record is its own.
    let machine = machine.with("etc/machine-id", "0".repeat(31) + "2\n");
    let shown = show(&machine);
    assert!(shown.json()["reports"][0]["instanceId"] != id && shown.stderr.is_empty(), "{shown:?}");
    // Without the ID, nothing was reported, although there is a receipt.
    fs::remove_file(machine.path(IDENTITY)).expect("remove");
    let known = status(&machine, "percona");
    assert_eq!((&known["reported"], known["sent"].as_array().map(Vec::len)), (&Value::Array(Vec::new()), Some(1)));
}

#[test]
fn a_profile_that_cannot_be_used_fails_what_an_administrator_asked_for() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    let profile = fs::read_to_string("profiles/wundergraph.json").expect("a profile");
    let installed = "etc/install-record/profiles/acme.json";
    let machine = machine.with(installed, profile.replace("\"name\": \"wundergraph\"", "\"name\": \"acme\""));
    wait_for(&closed, machine.run(["send", "--profile", "acme", "--set", "command=up", "-v", "1"]));
    fs::set_permissions(machine.path(installed), PermissionsExt::from_mode(0o666)).expect("chmod");
    for line in [&["check", "acme"][..], &["status", "--profile", "acme"], &["forget", "--profile", "acme"]] {
        let ended = machine.run(line).run().expect(1);
        assert!(ended.stderr.contains("others can write it") && !ended.stderr.contains("not sent"), "{ended:?}");
    }
    let receiver = closed.open(&[]);
    let flushed = machine.flush(&receiver).args(["--strict"]).run().expect(1);
    assert!(flushed.stderr.contains("1 still pending (the profile acme cannot be used here)"), "{flushed:?}");
    assert_eq!((receiver.connections(), machine.pending().len()), (0, 1));
    // Where somebody said no, there is nothing to tell.
    machine.flush(&receiver).args(["--strict"]).env("DO_NOT_TRACK", "1").run().silent();
    let machine = machine.with("etc/install-record/off.d/acme", "");
    machine.flush(&receiver).args(["--strict"]).run().silent();
}

#[test]
fn projects_that_share_an_id_do_not_send_each_others_record() {
    let package = r#"{"strapi":{"uuid":"13f5fc62-35b4-4716-b3e6-96c761fc204d"}}"#;
    let machine = Machine::new().with("p1/package.json", package).with("p2/package.json", package);
    let (receiver, closed) = (Receiver::start(&[]), ClosedPort::new());
    let send = |project: &str| machine.run(["send", "--profile", "strapi", "-v", "4", "--project", project]);
    wait_for(&closed, send("/p1"));
    let first = machine.pending()[0]["id"].clone();
    fs::write(machine.path("p1/.env"), "STRAPI_TELEMETRY_DISABLED=true\n").expect(".env");
    let run = send("/p2").args(["-u", &receiver.url("/"), "-c", "10", "-t", "20"]);
    run.env("SSL_CERT_FILE", receiver.ca()).run().sent();
    assert_eq!((receiver.requests().len(), machine.pending().len()), (1, 0));
    assert_ne!(machine.receipts()[0]["id"], first);
}

#[test]
fn a_run_that_reports_nothing_itself_tells_what_it_delivered_for_others() {
    let (machine, receiver, closed) = (Machine::new(), Receiver::start(&[]), ClosedPort::new());
    machine.send(&receiver, "/", FAMILY).run().sent();
    machine.fail(OTHER, &closed);
    machine.send(&receiver, "/", FAMILY).run().silent();
    let failed = machine.send(&receiver, "/", FAMILY).args(["--strict"]).run().expect(1);
    assert!(failed.stderr.contains("1 still pending"), "{failed:?}");
    let receiver = closed.open(&[]);
    let told = machine.send(&receiver, "/", FAMILY).run().expect(0);
    assert!(told.stderr.contains("sent 1 pending install records; to say no: install-record off"), "{told:?}");
}

#[test]
fn status_shows_no_control_characters_and_why_nothing_could_be_kept() {
    let id = "13f5fc62-35b4-4716-b3e6-96c761fc204d";
    let machine = Machine::new().with(IDENTITY, format!("instanceId:{id}\n\u{1b}]0;owned\u{7}:1\n"));
    let text = machine.run(["status", "--profile", "percona"]).run().text();
    assert!(text.contains("?]0;owned?") && !text.contains('\u{1b}'), "{text:?}");

    // A file is where the directory should be.
    let machine = Machine::new().with("usr/local/percona", "");
    let known = status(&machine, "percona");
    assert!(known["problem"].as_str().is_some_and(|it| it.contains("usr/local/percona/telemetry_uuid")), "{known}");
    assert_eq!(status(&Machine::new(), "percona")["problem"], Value::Null);
    needs!(is_root(), "root, to give directories away");
    let machine = Machine::new();
    machine.sh(&format!("mkdir -p home/u; chown {USER} home/u"));
    let known = machine.run(["status", "--json", "--profile", "percona", "-j", "/home/u/.p/id"]).run().json();
    assert!(known["problem"].as_str().is_some_and(|it| it.contains("run it as the user")), "{known}");
    assert!(walk(&machine.path("home")).len() == 2, "something was made");
}
