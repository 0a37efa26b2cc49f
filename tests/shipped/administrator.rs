//! What an administrator relies on: `off` and `forget` reach everything, `flush` asks everybody again, `status` and `show`
//! tell the truth, and a command that could not do its work says so.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use serde_json::Value;

use crate::harness::{ClosedPort, FAMILY, IDENTITY, Machine, Receiver, Run, STATE, is_root, wait_until, walk};
use crate::skip;

const OTHER: &str = "PRODUCT_FAMILY_PXC";
const USER: u32 = 1001;

/// A report that cannot be delivered and waits.
fn wait_for(port: &ClosedPort, run: Run) {
    let ended = run.args(["-u", &format!("https://127.0.0.1:{}/", port.port)]).run().expect(0);
    assert!(ended.stderr.contains("install record pending"), "{ended:?}");
}

fn percona(machine: &Machine, family: &str) -> Run {
    machine.run(["send", "-f", family, "-v", "8"])
}

fn flush(machine: &Machine, receiver: &Receiver) -> Run {
    machine.run(["flush", "-c", "10", "-t", "20"]).env("SSL_CERT_FILE", receiver.ca())
}

fn status(machine: &Machine, profile: &str) -> Value {
    machine.run(["status", "--json", "--profile", profile]).run().json()
}

/// A machine on which a user owns the directory of the identity file, as in a vendor's image, and keeps state there.
fn users() -> Machine {
    let machine = Machine::new();
    fs::create_dir_all(machine.path("usr/local/percona")).expect("directory");
    chown(machine.path("usr/local/percona"), Some(USER), Some(USER)).expect("chown");
    machine
}

#[test]
fn roots_forget_and_off_reach_what_another_user_keeps_beside_the_identity_file() {
    if !is_root() {
        skip!("needs root");
    }
    for command in ["forget", "off"] {
        let (machine, closed) = (users(), ClosedPort::new());
        wait_for(&closed, percona(&machine, FAMILY).user(USER));
        let beside = machine.path("usr/local/percona/.install-record");
        assert_eq!(fs::read_dir(beside.join("pending")).expect("pending").count(), 1);
        machine.run([command]).run().expect(0);
        assert_eq!(walk(&beside).iter().filter(|path| path.is_file()).count(), 0, "{command}");
        assert_eq!(machine.identity().is_some(), command == "off");
        let roots = walk(&machine.path("usr/local/percona"))
            .into_iter()
            .filter(|path| std::os::unix::fs::MetadataExt::uid(&fs::symlink_metadata(path).expect("stat")) != USER);
        assert_eq!(roots.count(), 0, "{command}");
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
    // What somebody wrote into the identity file is not ours, comments included.
    let machine = machine.with(IDENTITY, "# of the DBA\ninstanceId:13f5fc62-35b4-4716-b3e6-96c761fc204d\n");
    machine.run(["forget", "--profile", "percona"]).run().expect(0);
    assert_eq!(machine.identity().as_deref(), Some("# of the DBA\n"));
}

#[test]
fn a_forget_that_fails_can_be_repeated() {
    if !is_root() {
        skip!("needs root");
    }
    let (machine, receiver) = (Machine::new().with("home/u/x", ""), Receiver::start(&[]));
    chown(machine.path("home/u"), Some(USER), Some(USER)).expect("chown");
    for file in ["/home/u/id", "/srv/id"] {
        machine.send(&receiver, "/", FAMILY).args(["-j", file]).run().sent();
    }
    let (id, kept) = (machine.path("home/u/id"), machine.path("home/u/kept"));
    fs::rename(&id, &kept).expect("rename");
    std::os::unix::fs::symlink("kept", &id).expect("link");
    machine.run(["forget"]).run().expect(1);
    assert!(!machine.path("srv/id").exists(), "it has stopped at the first that it could not delete");
    fs::rename(&kept, &id).expect("rename");
    machine.run(["forget"]).run().expect(0);
    assert!(!id.exists() && !machine.path(STATE).exists());
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
        flush(&machine, &receiver).env("HOME", "/root").run().silent();
        fs::write(machine.path(file), "").expect("config");
    }
    assert_eq!((receiver.connections(), machine.pending().len()), (0, 1));
    let flushed = flush(&machine, &receiver).env("HOME", "/root").run().expect(0);
    assert!(flushed.stderr.contains("sent 1 pending"), "{flushed:?}");
}

#[test]
fn nothing_is_flushed_while_an_image_is_built_and_show_says_so() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    wait_for(&closed, percona(&machine, FAMILY));
    let receiver = closed.open(&[]);
    flush(&machine, &receiver).env("SYSTEMD_OFFLINE", "1").run().silent();
    assert_eq!((receiver.connections(), machine.pending().len()), (0, 1));
    let shown = machine.run(["show", "-f", OTHER, "-v", "8"]).env("DPKG_ROOT", "/x").run();
    let expected = "nothing would be sent: DPKG_ROOT or FAKECHROOT_BASE: packages go into another root, assuming";
    assert!(shown.status == Some(0) && shown.stderr.contains(expected), "{shown:?}");
}

#[test]
fn show_on_a_clone_prints_the_record_of_the_clone() {
    let (machine, receiver) = (Machine::new().with("etc/machine-id", "0".repeat(31) + "1\n"), Receiver::start(&[]));
    machine.send(&receiver, "/", FAMILY).run().sent();
    let id = machine.instance_id();
    let show = |machine: &Machine| machine.run(["show", "-f", FAMILY, "-v", "8"]).run();
    assert!(show(&machine).stderr.contains("was reported before"));
    let clone = machine.with("etc/machine-id", "0".repeat(31) + "2\n");
    let shown = show(&clone);
    assert_ne!(shown.json()["reports"][0]["instanceId"], Value::from(id));
    assert_eq!(shown.stderr, "");
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
    let flushed = flush(&machine, &receiver).args(["--strict"]).run().expect(1);
    assert!(flushed.stderr.contains("1 still pending (the profile acme cannot be used here)"), "{flushed:?}");
    assert_eq!((receiver.connections(), machine.pending().len()), (0, 1));
    // Where somebody said no, there is nothing to tell.
    flush(&machine, &receiver).args(["--strict"]).env("DO_NOT_TRACK", "1").run().silent();
    let machine = machine.with("etc/install-record/off.d/acme", "");
    flush(&machine, &receiver).args(["--strict"]).run().silent();
}

#[test]
fn a_flush_tells_why_the_first_record_waits() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    [FAMILY, OTHER].into_iter().for_each(|family| wait_for(&closed, percona(&machine, family)));
    let flushed = machine.run(["flush"]).run().expect(0);
    assert!(flushed.stderr.contains("2 still pending (connect: "), "{flushed:?}");
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
    wait_for(&closed, percona(&machine, OTHER));
    let again = || percona(&machine, FAMILY).args(["-u", &receiver.url("/"), "-c", "10", "-t", "20"]);
    again().run().silent();
    let failed = again().args(["--strict"]).run().expect(1);
    assert!(failed.stderr.contains("1 still pending"), "{failed:?}");
    let receiver = closed.open(&[]);
    let told = again().env("SSL_CERT_FILE", receiver.ca()).run().expect(0);
    assert!(told.stderr.contains("sent 1 pending install records; to say no: install-record off"), "{told:?}");
}

#[test]
fn a_server_that_asks_for_a_pause_has_it_after_any_number_of_attempts() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    let closed = ClosedPort::new();
    wait_for(&closed, percona(&machine, FAMILY));
    let file = walk(&machine.path(STATE).join("pending")).pop().expect("a record");
    let text = fs::read_to_string(&file).expect("a record");
    let attempt = text.lines().nth(1).expect("an attempt");
    fs::write(&file, text.clone() + &format!("{attempt}\n").repeat((64 << 10) / attempt.len())).expect("a record");
    let send = || machine.send(&receiver, "/status/429?retry-after=3600", FAMILY).run().expect(0);
    send();
    assert!(send().stderr.contains("asked to wait until"));
    assert_eq!(receiver.requests().len(), 1);
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
    if !is_root() {
        skip!("needs root for directories of others");
    }
    let machine = Machine::new();
    fs::create_dir_all(machine.path("home/u")).expect("a home");
    chown(machine.path("home/u"), Some(USER), Some(USER)).expect("chown");
    let known = machine.run(["status", "--json", "--profile", "percona", "-j", "/home/u/.p/id"]).run().json();
    assert!(known["problem"].as_str().is_some_and(|it| it.contains("run it as the user")), "{known}");
    assert!(walk(&machine.path("home")).len() == 2, "something was made");
}

#[test]
fn status_goes_by_the_present_id() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    machine.send(&receiver, "/", FAMILY).run().sent();
    assert_eq!(status(&machine, "percona")["reported"], Value::from(vec![FAMILY]));
    fs::remove_file(machine.path(IDENTITY)).expect("remove");
    let known = status(&machine, "percona");
    assert_eq!(
        (known["reported"].clone(), known["sent"].as_array().map(Vec::len)),
        (Value::Array(Vec::new()), Some(1))
    );
}
