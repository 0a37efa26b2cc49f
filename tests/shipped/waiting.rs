//! What waits and what was kept, met by another machine, home or place; and what is seen of the callers of a run.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::harness::*;

const USER: u32 = 1001;

/// A product with a file in the user's configuration that can say no.
const PROFILE: &str = r#"{"name":"mine","about":"","endpoint":"https://localhost/","once":"version",
    "consent":{"files":[{"path":"{config_home}/mine.json","false":"/records"}]},
    "identity":{"instance.id":{"file":"/srv/id"}},
    "body":{"id":"$record.uuid","instance":"$instance.id","version":"$product.version"}}"#;

/// A report of that product by a user whose home is `home`.
fn mine(machine: &Machine, url: &str, receiver: &Receiver, home: &str) -> Run {
    let run = machine.run(["send", "-v", "1", "-c", "10", "-t", "20", "-u", url, "--profile"]);
    run.args([machine.path("mine.json")]).env("SSL_CERT_FILE", receiver.ca()).env("HOME", home)
}

#[test]
fn a_clone_takes_no_id_from_its_originals_record_either() {
    let (receiver, closed) = (Receiver::start(&[]), ClosedPort::new());
    let machine = Machine::new().with("etc/machine-id", MACHINE_IDS[0]);
    machine.fail(FAMILY, &closed);
    let waiting = machine.pending()[0].clone();
    fs::remove_file(machine.path(IDENTITY)).expect("an identity file");
    // The machine itself finds its ID again, and shows what it would send.
    let shown = machine.run(["show", "-f", FAMILY, "-v", "8.0.36-28"]).run().text();
    assert_eq!(shown, waiting["body"].as_str().expect("a body"));
    for machine_id in &MACHINE_IDS[1..] {
        let clone = machine.copied().with("etc/machine-id", machine_id);
        clone.send(&receiver, "/", FAMILY).run().sent();
        let own = clone.instance_id();
        assert_eq!(receiver.reports().last().expect("a report")["instanceId"], own.as_str());
        assert_ne!(waiting["instance_id"], own.as_str());
    }
    let reports = receiver.reports();
    assert_ne!(reports[0]["instanceId"], reports[1]["instanceId"]);
    // The version of this run is not in the record that waited.
    machine.send(&receiver, "/", FAMILY).args(["-v", "9"]).run().sent().says(&format!("record of {FAMILY} to "));
    assert_eq!(machine.instance_id(), waiting["instance_id"]);
}

#[test]
fn a_state_directory_of_ours_stays_the_place_though_it_cannot_be_written_now() {
    needs!(is_root(), "root");
    let (machine, receiver, closed) = (Machine::new(), Receiver::start(&[]), ClosedPort::new());
    let public = receiver.public();
    machine.sh(&format!("mkdir -p $S usr/local/percona; chown -R {USER}:{USER} var usr"));
    machine.report(OTHER, &closed.url()).by(USER, &public).run().expect(0);
    machine.sh("chmod 500 $S");
    let send = |family| machine.send(&receiver, "/", family).by(USER, &public).run();
    send(FAMILY).expect(0).says("install record not sent (").says("var/lib/install-record");
    assert!(!machine.path("usr/local/percona/.install-record").exists());
    machine.sh("chmod 711 $S");
    [FAMILY, OTHER].into_iter().for_each(|family| drop(send(family).sent()));
    assert_eq!((machine.pending().len(), receiver.requests().len()), (0, 2));
}

#[test]
fn a_clone_and_another_profile_take_no_id_that_they_are_told_or_find() {
    let (receiver, closed) = (Receiver::start(&[]), ClosedPort::new());
    let mut machine = Machine::new();
    for (machine_id, is_taken) in [(MACHINE_IDS[0], true), (MACHINE_IDS[1], false)] {
        machine = machine.with("etc/machine-id", machine_id);
        machine.send(&receiver, "/", FAMILY).args(["-i", ID]).run().sent();
        assert_eq!(machine.instance_id() == ID, is_taken);
    }
    // A product with a line of its own in the same file.
    let other = fs::read_to_string("profiles/percona.json").expect("a profile");
    let other = other.replace("\"percona\"", "\"other\"").replace("\"key\": \"instanceId\"", "\"key\": \"otherId\"");
    let machine = Machine::new().with("etc/install-record/profiles/other.json", other);
    machine.fail(FAMILY, &closed);
    machine.send(&receiver, "/", "OTHER").args(["--profile", "other"]).run().sent();
    let text = machine.identity().expect("an identity file");
    assert!(text.contains("otherId:") && text.matches(&machine.instance_id()).count() == 1, "{text}");
}

#[test]
fn forget_leaves_files_that_hold_no_id() {
    for (path, text) in [
        ("etc/f", "config_write_check:1\nother:7\n"),
        ("root/.wundergraph/config.json", "{\"a\":1}"),
        ("root/.wundergraph/config.json", "{}"),
    ] {
        let machine = Machine::new().with(path, text);
        machine.run(["forget", "-j", "/etc/f"]).env("HOME", "/root").run().expect(0);
        assert_eq!(machine.text(path).as_deref(), Some(text), "{path}");
    }
}

#[test]
fn what_a_run_takes_along_is_told_and_strict_counts_it() {
    let (machine, receiver, closed) = (Machine::new(), Receiver::start(&[]), ClosedPort::new());
    let send = |family| machine.send(&receiver, "/", family);
    machine.fail(OTHER, &closed);
    send(FAMILY).args(["--strict"]).run().expect(1).says("sent one install record of ").says("1 not delivered");
    // What has nothing to report itself takes it along, too.
    send(FAMILY).run().silent();
    send(FAMILY).args(["--strict"]).run().expect(1).says("1 not delivered");
    let other = closed.open(&[]);
    send(FAMILY).env("SSL_CERT_FILE", other.ca()).run().expect(0).says("sent 1 pending install record; to say no: ");
}

#[test]
fn off_many_times_at_once_is_off() {
    for _ in 0..20 {
        let machine = Machine::new();
        let runs: Vec<_> = (0..6).map(|_| machine.run(["off"]).spawn()).collect();
        runs.into_iter().for_each(|run| drop(run.wait().expect(0)));
        assert!(machine.path("etc/install-record/off").exists());
    }
}

#[test]
fn a_run_from_another_home_sends_the_same_record_if_nobody_there_has_said_no() {
    for says_no in [false, true] {
        let (receiver, closed) = (Receiver::start(&[]), ClosedPort::new());
        let mut machine = Machine::new().with("mine.json", PROFILE);
        mine(&machine, &closed.url(), &receiver, "/home/one").run().expect(0);
        let waiting = machine.pending()[0]["id"].clone();
        if says_no {
            machine = machine.with("home/one/.config/mine.json", r#"{"records":false}"#);
        }
        mine(&machine, &receiver.url("/"), &receiver, "/home/two").run().sent().says("record of mine 1 to ");
        assert_eq!(receiver.last()["id"] == waiting, !says_no, "{waiting}");
        assert_eq!((machine.pending().len(), receiver.requests().len()), (0, 1));
    }
    // A server's wait holds for it as well.
    let (machine, receiver) = (Machine::new().with("mine.json", PROFILE), Receiver::start(&[]));
    for home in ["/home/one", "/home/one", "/home/two"] {
        mine(&machine, &receiver.url("/status/429?retry-after=3600"), &receiver, home).run().expect(0);
    }
    assert_eq!(receiver.requests().len(), 1);
}

#[test]
fn off_waits_for_a_users_run_wherever_it_keeps_its_state() {
    needs!(is_root(), "root");
    for (directory, options) in [("usr/local/percona", &[][..]), ("data", &["-j", "/data/telemetry_uuid"])] {
        let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
        machine.sh(&format!("mkdir -p {directory}; chown {USER}:{USER} {directory}"));
        let public = receiver.public();
        let under_way = machine.send(&receiver, "/slow?ms=1500", FAMILY).args(options).by(USER, &public).spawn();
        wait_until("it sends", || receiver.connections() == 1);
        machine.run(["off"]).args(options).run().expect(0);
        let identity = machine.text(&format!("{directory}/telemetry_uuid")).expect("an ID");
        assert!(identity.contains(&format!("{FAMILY}:1")), "off did not wait for its end: {identity}");
        under_way.wait().sent();
    }
}

#[test]
fn a_run_that_has_nothing_to_deliver_does_not_fail_by_its_endpoint() {
    let (machine, fresh, receiver) = (Machine::new(), Machine::new(), Receiver::start(&[]));
    machine.send(&receiver, "/", FAMILY).run().sent();
    let again = |machine: &Machine| {
        let run = machine.run(["send", "-f", FAMILY, "-v", "8", "--strict"]);
        run.env("PERCONA_TELEMETRY_URL", "ftp://127.0.0.1/")
    };
    again(&machine).run().silent();
    again(&fresh).env("SYSTEMD_OFFLINE", "1").run().silent();
    again(&fresh).run().expect(1).says("PERCONA_TELEMETRY_URL: 'ftp://127.0.0.1/' must be");
}

#[test]
fn who_said_no_to_all_hears_nothing_of_a_profile_that_cannot_be_used() {
    let path = "etc/install-record/profiles/mine.json";
    let send = |machine: &Machine, no| {
        let run = machine.run(["send", "--profile", "mine", "-v", "1", "--strict", "-u", "https://127.0.0.1:9/"]);
        run.env("DO_NOT_TRACK", no).run()
    };
    send(&Machine::new().with(path, "{"), "1").silent();
    let machine = Machine::new().with(path, PROFILE);
    fs::set_permissions(machine.path(path), PermissionsExt::from_mode(0o666)).expect("chmod");
    send(&machine, "1").silent();
    send(&machine, "0").expect(1).says("others can write it");
}

#[test]
fn off_makes_the_switch_of_a_package_the_administrators_own() {
    let of_package = "No install records are sent while this file exists (package no-install-record).\n";
    let own = "No install records are sent while this file exists (install-record off).\n";
    for (before, after) in [(of_package, own), ("managed\n", "managed\n"), ("", "")] {
        let machine = Machine::new().with("etc/install-record/off", before);
        machine.run(["off"]).run().expect(0);
        assert_eq!(machine.text("etc/install-record/off").as_deref(), Some(after));
    }
}

#[test]
fn a_switch_that_cannot_be_removed_is_told() {
    for (switch, words) in
        [("off", &["on"][..]), ("off.d/percona", &["on", "--profile", "percona"]), ("off.d/x", &["on"])]
    {
        let machine = Machine::new().with(&format!("etc/install-record/{switch}/x"), "");
        let ended = machine.run(words).run().expect(1);
        ended.says(&format!("install-record/{switch}: ")).says("records stay switched off");
    }
}

#[test]
fn status_does_not_tell_a_user_that_there_is_nothing() {
    needs!(is_root(), "root");
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    machine.send(&receiver, "/", FAMILY).run().sent();
    let told = machine.run(["status"]).by(USER, &receiver.public()).run().text();
    assert!(told.contains("sent:         nothing that this user may see\n"), "{told}");
}

#[test]
fn a_caller_whose_first_thread_has_ended_may_hide_a_no() {
    needs!(is_root(), "root");
    for (state, is_refused) in [("S", false), ("Z", true)] {
        let machine = Machine::new()
            .with("proc/self/stat", "99 (install-record) S 50 0\n")
            .with("proc/50/stat", format!("50 (java) {state} 1 0\n"))
            .with("proc/50/environ", "")
            .with("proc/1/stat", "1 (systemd) S 0 0\n")
            .with("proc/1/environ", "");
        let status = machine.status();
        assert_eq!(status["decision"] == "skip", is_refused, "{status}");
        assert_eq!(status["source"].to_string().contains("process 50"), is_refused, "{status}");
    }
}

#[test]
fn process_ones_root_is_the_kernels_word() {
    for (leads_to_itself, is_sent) in [(true, true), (false, false)] {
        let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
        // As the kernel's own link does, it leads out of the tree.
        let target = if leads_to_itself { machine.root().to_owned() } else { "/".into() };
        symlink(target, machine.path("proc/1/root")).expect("a link");
        let ended = machine.send(&receiver, "/", FAMILY).env("DPKG_MAINTSCRIPT_PACKAGE", "x").run().expect(0);
        assert_eq!((ended.stderr.contains("sent one"), machine.identity().is_some()), (is_sent, is_sent), "{ended:?}");
    }
}

#[test]
fn the_home_of_a_user_0_at_the_end_of_a_long_passwd_is_asked() {
    let users: String = (1..40_000).map(|id| format!("user{id}:x:{id}:{id}::/home/user{id}:/bin/sh\n")).collect();
    let machine = Machine::new()
        .with("etc/passwd", users + "toor:x:0:0::/home/toor:/bin/sh\n")
        .with("home/toor/.profile", "export DO_NOT_TRACK=1\n");
    assert_eq!(machine.status()["source"], "/home/toor/.profile");
}

#[test]
fn a_profile_makes_no_rows_of_its_own_when_it_is_checked() {
    let forged = PROFILE
        .replace(r#""about":"""#, r#""about":"x\nendpoint:       https://other/""#)
        .replace("/srv/id", r"/srv/a\nno by:          MINE");
    let machine = Machine::new().with("mine.json", forged);
    let told = machine.run(["check"]).args([machine.path("mine.json")]).run().text();
    let rows = |name: &str| told.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!((rows("endpoint:"), rows("no by:")), (1, 1), "{told}");
}
