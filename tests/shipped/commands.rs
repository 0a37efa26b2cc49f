//! The administrator's commands reach everything and tell the truth; what is said about mistakes (items 6 and 9).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::*;
use crate::vendor_profile::MINE;

const SWITCH: &str = "etc/install-record/off";

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    let missing = parts.iter().find(|part| !text.contains(**part));
    assert_eq!(missing, None, "{text}");
}

#[test]
fn a_machine_of_which_nothing_is_known() {
    let machine = Machine::new();
    let before = machine.snapshot();
    let mut found = machine.status();
    let profiles = found.as_object_mut().and_then(|all| all.remove("profiles")).expect("profiles");
    let mut percona = json!({
        "profile": "percona", "decision": "send", "reason": "nobody said no", "source": null, "problem": null,
        "endpoint": "https://check.percona.com/v1/telemetry/GenericReport", "instance_id": null, "reported": [],
    });
    assert_eq!((profiles.as_array().map(Vec::len), &profiles[0]), (Some(5), &percona));
    (percona["pending"], percona["sent"]) = (json!([]), json!([]));
    assert_eq!(found, percona);
    machine.run(["flush"]).run().silent();
    let shown = machine.run(["show", "-f", FAMILY, "-v", "8", "-u", "https://other.test/x", "--verbose"]).run();
    shown.says("the endpoint is https://other.test/x");
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn a_no_that_comes_while_records_are_sent_holds_for_the_next_one() {
    for own in [0, 1] {
        let (machine, closed) = (Machine::new(), ClosedPort::new());
        let url = closed.url() + "slow?ms=1500";
        for family in [FAMILY, OTHER, "A"] {
            machine.report(family, &url).run().expect(0).says("install record pending");
        }
        let receiver = closed.open(&[]);
        let runs = [machine.flush(&receiver), machine.send(&receiver, "/slow?ms=1500", "B")];
        let running = runs.into_iter().nth(own).expect("a run").spawn();
        wait_until("the first record arrives", || receiver.requests().len() == 1);
        machine.sh("install -D /dev/null etc/install-record/off");
        running.wait().expect(0);
        assert_eq!((receiver.requests().len(), machine.pending().len()), (1, 2 + own));
    }
}

#[test]
fn a_record_waits_is_shown_and_is_delivered() {
    let (machine, closed) = Machine::waiting();
    let (id, url, before) = (machine.instance_id(), closed.url(), machine.snapshot());
    let show = || machine.run(["show", "-f", FAMILY, "-v", "1"]);
    let shown = show().run().printed().stdout;
    let mut kept = machine.pending()[0].clone();
    kept["answer"] = Value::Null;
    assert_eq!([&kept["family"], &kept["url"]], [FAMILY, &url]);
    let pending = machine.status();
    let found = ["instance_id", "reported", "pending"].map(|key| pending[key].clone());
    assert_eq!(found, [json!(id), json!([]), json!([kept])]);
    let all = [FAMILY, &url, &id, "percona:      send", "sent:         nothing", "memgraph:     skip"];
    assert_has(&machine.told(), &all);
    assert_has(&machine.run(["status", "--profile", "percona"]).run().text(), &all[..5]);

    // A flush asks for consent again, and where it is. It delivers what was shown.
    let receiver = closed.open(&[]);
    for variable in ["PERCONA_TELEMETRY_DISABLE", "SYSTEMD_OFFLINE"] {
        machine.flush(&receiver).env(variable, "1").run().silent();
    }
    assert_eq!((machine.snapshot(), receiver.connections()), (before, 0));
    machine.flush(&receiver).run().expect(0).says("sent 1 pending");
    machine.flush(&receiver).run().silent();
    assert_eq!((receiver.requests().len(), receiver.body(1)), (1, shown));
    assert_eq!(machine.text(IDENTITY), Some(format!("instanceId:{id}\n{FAMILY}:1\n")));

    let sent = machine.status();
    assert_eq!([&sent["pending"], &sent["reported"]], [&json!([]), &json!([FAMILY])]);
    let (receipt, answer) = (&sent["sent"][0], &sent["sent"][0]["answer"]);
    assert_eq!(["id", "url", "family"].map(|key| &receipt[key]), ["id", "url", "family"].map(|key| &kept[key]));
    assert_eq!([&answer["status"], &answer["accepted"]], [&json!(200), &json!(true)]);
    let line = format!("{FAMILY} (percona) on {} to {url}: 200 accepted", answer["at"].as_str().expect("time"));
    assert_has(&machine.told(), &[&line]);
    // From now on a record like the next one is shown, under the ID that is stored.
    assert_eq!(show().run().says("reported before").json()["reports"][0]["instanceId"], id);
    assert_eq!(receiver.connections(), 1);
}

#[test]
fn off_forget_and_on() {
    let ((machine, _closed), receiver) = (Machine::waiting(), Receiver::start(&[]));
    machine.send(&receiver, "/", OTHER).run().sent();
    let (id, switch) = (machine.instance_id(), machine.path(SWITCH));
    machine.run(["off"]).run().expect(0).says("1 pending deleted");
    assert_eq!((machine.pending().len(), machine.instance_id()), (0, id.clone()));
    assert_eq!(machine.status()["decision"], "skip");
    // Of all that says no, the first is named; consent has every source.
    for (run, source) in [
        (machine.run(["status", "--json"]), "/etc/install-record/off"),
        (machine.run(["status", "--json"]).env("DO_NOT_TRACK", "yes"), "env DO_NOT_TRACK"),
        (machine.run(["status", "--json", "--telemetry=false"]), "option --telemetry=false"),
    ] {
        assert_eq!(run.run().printed().json()["source"], source);
    }
    let before = machine.snapshot();
    machine.run(["off"]).run().expect(0);
    machine.send(&receiver, "/", FAMILY).run().silent();
    machine.flush(&receiver).run().silent();
    assert_eq!(machine.snapshot(), before);
    for _ in 0..2 {
        machine.run(["forget"]).run().expect(0);
        assert!(switch.is_file() && machine.text(IDENTITY).is_none() && !machine.path(STATE).exists());
    }
    for _ in 0..2 {
        machine.run(["on"]).run().expect(0);
        assert_eq!((switch.exists(), machine.status()["decision"].take()), (false, json!("send")));
    }
    assert_eq!(receiver.connections(), 1);
    machine.send(&receiver, "/", FAMILY).run().sent();
    assert_ne!(machine.instance_id(), id);
}

#[test]
fn the_switch_of_one_profile_is_its_own() {
    let machine = Machine::new().with("usr/share/install-record/profiles/mine.json", MINE);
    let run = |command: &str, profile: &str| machine.run([command, "--profile", profile]).run().expect(0);
    let is_off = |profile: &str| machine.path("etc/install-record/off.d").join(profile).is_file();
    let warning = "there is no profile memgraf here, known are percona, medusa, wundergraph, strapi, memgraph, mine";
    run("off", "memgraf").says(warning);
    assert!(is_off("memgraf"));
    for (command, profile) in [("on", "memgraf"), ("off", "memgraph"), ("off", "mine")] {
        let ended = run(command, profile);
        assert!(!ended.stderr.contains("no profile") && is_off(profile) == (command == "off"), "{ended:?}");
    }
    assert_eq!(machine.status()["decision"], "send");
    run("off", "percona");
    assert_eq!(machine.status()["source"], "/etc/install-record/off.d/percona");
    run("on", "percona");
    assert_eq!((machine.status()["decision"].take(), is_off("mine")), (json!("send"), true));
    machine.run(["off"]).run().expect(0);
    run("on", "percona").says("whether anything else says no");
    assert_eq!(machine.status()["decision"], "skip");
}

#[test]
fn off_makes_the_switch_of_a_package_the_administrators_own() {
    let of_package = "No install records are sent while this file exists (package no-install-record).\n";
    let own = "No install records are sent while this file exists (install-record off).\n";
    for (before, after) in [(of_package, own), ("managed\n", "managed\n"), ("", "")] {
        let machine = Machine::new().with(SWITCH, before);
        machine.run(["off"]).run().expect(0);
        assert_eq!(machine.text(SWITCH).as_deref(), Some(after));
    }
}

#[test]
fn a_switch_that_cannot_be_made_or_removed_is_told() {
    let machine = Machine::new().with("etc/install-record/off.d/percona/x", "");
    machine.run(["off"]).run().expect(0);
    let ended = machine.run(["on"]).run().expect(1).says("off.d/percona: Is a directory");
    ended.says("not every switch is gone");
    // The one for all is taken back last.
    assert!(machine.path(SWITCH).exists());
    // Two were asked for, and one is written.
    let machine = Machine::new().with("home/me/.config", "");
    let ended = machine.run(["off", "--profile", "medusa"]).env("HOME", "/home/me").run();
    ended.expect(1).says("medusa/config.json: Not a directory").says("not every switch is written");
    // A file or a link in the place of the directory may have been meant as a switch.
    for place in ["etc/install-record", "etc/install-record/off.d"] {
        let machine = Machine::new().with(place, "percona");
        for words in [&["on"][..], &["on", "--profile", "percona"]] {
            machine.run(words).run().expect(1).says("Not a directory").says("not every switch is gone");
        }
        assert_eq!(machine.status()["decision"], "skip", "{place}");
        machine.sh(&format!("rm {place}; ln -s nowhere {place}"));
        assert_eq!(machine.status()["source"], format!("/{place}"));
    }
}

/// `off` and `forget` wait until other runs are over. A run that was stopped with its locks is not waited for for ever: the
/// alarm is after a minute, so the test sends its signal.
#[test]
fn a_run_that_never_ends_is_said_and_a_failure() {
    for (command, done) in [("off", "are off"), ("forget", "not everything could be deleted")] {
        let (machine, _closed) = Machine::waiting();
        let lock = machine.lock();
        // Who only looks does not wait.
        assert_eq!(machine.status()["pending"][0]["family"], FAMILY);
        machine.run(["show", "-f", OTHER, "-v", "8", "-t", "1"]).run().json();
        let waiting = machine.run([command]).spawn();
        thread::sleep(Duration::from_millis(500));
        kill_process(Pid::from_child(&waiting.child.0), Signal::ALARM).expect("kill");
        let ended = waiting.wait().expect(1).says(done).says("another run is still under way");
        assert_eq!((ended.stderr.lines().count(), machine.pending().len()), (1, 1), "{ended:?}");
        assert_eq!(machine.path(SWITCH).is_file(), command == "off");
        drop(lock);
        machine.run([command]).run().expect(0);
        assert!(machine.pending().is_empty());
    }
}

#[track_caller]
pub fn assert_is_usage_error(machine: &Machine, run: Run, named: &str) {
    const WAYS: &str = "--help|must be|give it without|give -|set |there is no such|known are|did you mean|so is -";
    let before = machine.snapshot();
    let ended = run.run().expect(2).says(named);
    assert!(WAYS.split('|').any(|way| ended.stderr.contains(way)), "{ended:?}");
    assert_eq!((ended.stderr.lines().count(), machine.snapshot()), (1, before), "{ended:?}");
}

/// tests/roots/expected has those of `show` and `send`.
#[test]
fn mistakes_name_the_flag_and_the_way_out() {
    let machine = Machine::new();
    for (line, named) in [
        ("flush -u https://localhost:1/ --colour", "--colour"),
        ("off --profile a/b", "--profile 'a/b'"),
        // --quiet is for what went well.
        ("status --quiet --colour", "--colour"),
    ] {
        assert_is_usage_error(&machine, machine.run(line.split(' ')), named);
    }
    let report = |arg: &[u8]| machine.report(FAMILY, "https://localhost:1/").args([OsString::from_vec(arg.to_vec())]);
    assert_is_usage_error(&machine, report(b"--col\xff"), "--col");
    // A "no" is heard before.
    assert_is_usage_error(&machine, report(b"-tjunk"), "--timeout");
    report(b"-tjunk").env("DO_NOT_TRACK", "1").run().silent();
}

/// Scripts pass what they always passed, and call-home.sh's curl took all of it. A container under `set -e` starts all the
/// same. src/endpoint.rs and src/options.rs have what cannot be used.
#[test]
fn what_is_no_mistake_on_the_command_line_is_one_line_and_no_failure() {
    const OF_URL: &str = "PERCONA_TELEMETRY_URL";
    let receiver = Receiver::start(&[]);
    for (args, name, value, is_sent, line) in [
        ("-f PS -u URL -t 0 -c 99999", "X", "", true, ""),
        ("-f PS -u URL -s Oracle Linux 9", "X", "", true, "'Linux' is no option: it and what follows it are ignored"),
        (
            "-f PS -u URL",
            "PERCONA_SEND_TIMEOUT",
            "\"7\"",
            true,
            "PERCONA_SEND_TIMEOUT '\"7\"' must be a number of seconds",
        ),
        ("-f PS -u URL", "PERCONA_CONNECT_TIMEOUT", "x", true, "PERCONA_CONNECT_TIMEOUT 'x' must be"),
        ("-f PS -u URL", "PERCONA_TELEMETRY_CONFIG_FILE_PATH", "/srv/", true, "CONFIG_FILE_PATH '/srv/' must be"),
        ("-u URL", "PERCONA_PRODUCT_FAMILY", "\"A\"", false, "PERCONA_PRODUCT_FAMILY '\"A\"' must be"),
        // Somebody meant another server.
        ("-f PS", OF_URL, "https://u:s3cret@localhost/", false, "PERCONA_TELEMETRY_URL: a URL with a user or"),
        ("-f PS", OF_URL, "ftp://localhost/", false, "PERCONA_TELEMETRY_URL: 'ftp://localhost/' must be"),
    ] {
        let (machine, seen) = (Machine::new(), receiver.requests().len());
        let run = machine.run(["-v", "1"]).args(args.replace("URL", &receiver.url("/")).split(' '));
        let run = run.env("SSL_CERT_FILE", receiver.ca()).env(name, value);
        let (before, ended) = (machine.snapshot(), run.run().expect(0).says(line));
        // The one, and beside it what was sent, or what is missing.
        let lines = if line.is_empty() || name == OF_URL { 1 } else { 2 };
        assert!(ended.stderr.lines().count() == lines && !ended.stderr.contains("s3cret"), "{ended:?}");
        assert_eq!(receiver.requests().len() - seen, usize::from(is_sent), "{ended:?}");
        if !is_sent {
            run.args(["--strict"]).run().expect(1);
            assert_eq!(machine.snapshot(), before);
        }
    }
    // Where there is nothing to deliver, nobody needs it.
    let machine = Machine::new();
    let send = || machine.run(["-f", FAMILY, "-v", "8", "--strict"]).env(OF_URL, "ftp://localhost/");
    send().env("SYSTEMD_OFFLINE", "1").run().silent();
    machine.send(&receiver, "/", FAMILY).run().sent();
    send().run().silent();
}

/// A closed stderr is tests/shipped/inheritance.rs's, one that nobody reads once.rs's.
#[test]
fn help_and_version_are_no_mistakes_quiet_is_quiet_and_a_full_disk_on_stderr_is_no_reason_to_fail() {
    let run = |args: &str| Run::new().args(args.split(' ')).env("PERCONA_TELEMETRY_URL", "https://[::1]:1/").run();
    for args in ["-h", "help", "send -h", "-f PS -h"] {
        assert_has(&run(args).printed().text(), &["--product-family", "PERCONA_SEND_TIMEOUT", "DO_NOT_TRACK"]);
    }
    assert_eq!(run("-V").printed().text(), format!("install-record {}\n", env!("CARGO_PKG_VERSION")));
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    Machine::new().send(&receiver, "/", FAMILY).args(["--quiet"]).run().silent();
    let full = ["sh", "-c", "exec \"$0\" \"$@\" 2>/dev/full >/dev/full"];
    machine.send(&receiver, "/", FAMILY).args(["--verbose"]).under(full).run().silent();
    assert_eq!((receiver.requests().len(), machine.receipts().len()), (2, 1));
    assert_eq!(machine.run(["status"]).under(full).run().status, Some(0));
}

/// What is beside the identity file can be anybody's, and so can its words be. once.rs has a run of that user's that is
/// under way.
#[test]
fn root_tells_and_reaches_what_another_user_keeps_and_follows_none_of_its_words() {
    needs!(is_root(), "root, for another user");
    let receiver = Receiver::start(&[]);
    let public = receiver.public();
    let open = "chown 0:0 . && chmod 777 .";
    for (command, prepare) in [("forget", ":"), ("off", ":"), ("forget", open), ("off", open)] {
        let (machine, closed) = (Machine::of_user().with("root/file", "MODE:1\n"), ClosedPort::new());
        machine.sh(&format!("cd usr/local/percona; {prepare}"));
        machine.send(&receiver, "/", FAMILY).by(USER, &public).run().sent();
        machine.report(OTHER, &closed.url()).by(USER, &public).run().expect(0).says("install record pending");
        let status = machine.status();
        assert_eq!([&status["sent"][0]["family"], &status["pending"][0]["family"]], [FAMILY, OTHER]);
        machine.sh(&format!("sed -i 's,{IDENTITY},root/file,' usr/local/percona/.install-record/pending/*.jsonl"));
        let done = machine.run([command]).run().expect(0);
        let left = walk(&machine.path("usr/local/percona")).into_iter().filter(|path| path.is_file()).count();
        let found = (left, machine.text(IDENTITY).is_some(), done.stderr.contains("1 pending deleted"));
        assert_eq!(found, if command == "off" { (2, true, true) } else { (0, false, false) }, "{prepare}");
        assert_eq!(machine.text("root/file").as_deref(), Some("MODE:1\n"));
        machine.sh(&format!("! find usr/local/percona -mindepth 1 ! -uid {USER} | grep ."));
    }
}

#[test]
fn forget_deletes_whatever_is_remembered_of_anybody_and_nothing_else() {
    let (machine, receiver, closed) = (Machine::new().with("mine.json", MINE), Receiver::start(&[]), ClosedPort::new());
    machine.send(&receiver, "/", FAMILY).args(["-j", "/srv/elsewhere"]).run().sent();
    let run = machine.run(["send", "-v", "1", "-u", &closed.url(), "--profile"]).args([machine.path("mine.json")]);
    run.env("HOME", "/root").run().expect(0).says("install record pending");
    let later = format!("{STATE}/pending/20260101T000000Z-{ID}.jsonl");
    let machine = machine.with(&later, "{\"format\":99}\n").with(&format!("{STATE}/backup/x"), "");
    machine.run(["forget"]).run().expect(0);
    // A directory that somebody has made there stays, and nothing else.
    assert_eq!((machine.path("srv/elsewhere").exists(), walk(&machine.path(STATE)).len()), (false, 3));
    // One directory under two names is locked once.
    let machine = Machine::new().with("srv/app/x", "").with("srv/data/x", "");
    machine.send(&receiver, "/", FAMILY).args(["-j", "/srv/app/../data/id"]).run().sent();
    machine.run(["forget", "-j", "/srv/data/id"]).run().expect(0);
    assert!(!machine.path("srv/data/id").exists() && !machine.path("srv/data/.install-record").exists());
    // The receipts tell of a directory that it is not told of. Without them nobody knows any more.
    let machine = Machine::of("memgraph-on");
    let memgraph = ["send", "--profile", "memgraph", "-v", "1", "--state-dir", "/srv/data"];
    machine.run(memgraph).to(&receiver, "/").run().sent();
    for (is_there, status, said) in [(true, 0, ""), (false, 2, "give --state-dir DIR")] {
        assert_eq!(machine.path("srv/data/telemetry_id").exists(), is_there);
        machine.run(["forget", "--profile", "memgraph"]).run().expect(status).says(said);
    }
}

/// vendor_profile.rs has why it cannot be used, and what a `send` says.
#[test]
fn a_profile_that_cannot_be_used_fails_what_an_administrator_asked_for() {
    let (machine, closed) = (Machine::of("acme-local"), ClosedPort::new());
    let url = closed.url();
    let send = || machine.run(["send", "--profile", "acme", "--strict", "-u", &url]);
    send().run().expect(1).says("install record pending");
    machine.sh("chmod 666 etc/install-record/profiles/acme.json");
    for line in ["check acme", "status --profile acme", "forget --profile acme"] {
        machine.run(line.split(' ')).run().expect(1).says("others can write it");
    }
    let receiver = closed.open(&[]);
    let flush = || machine.flush(&receiver).args(["--strict"]);
    flush().run().expect(1).says("1 not delivered (the profile acme cannot be used here)");
    // Where somebody said no, there is nothing to tell.
    flush().env("DO_NOT_TRACK", "1").run().silent();
    send().env("DO_NOT_TRACK", "1").run().silent();
    assert_eq!((receiver.connections(), machine.pending().len()), (0, 1));
}

#[test]
fn status_says_why_nothing_could_be_kept_and_shows_no_control_characters() {
    let read_only = "mount --bind . . && mount -o remount,ro,bind .";
    let full = "mount -t tmpfs -o size=8k none var/lib && ! head -c 99999 /dev/zero >var/lib/fill";
    for (prepare, file, problem) in [
        (read_only, "/usr/local/id", "Read-only file system"),
        (full, "/usr/local/id", "No space left"),
        (": >usr/local/percona", "/usr/local/percona/id", "usr/local/percona/id: "),
        (
            "mkdir -p var/lib/install-record; : >var/lib/install-record/pending",
            "/id",
            "install-record: Not a directory",
        ),
        ("export PERCONA_TELEMETRY_URL=check.example", "/id", "PERCONA_TELEMETRY_URL: "),
        ("mkdir -p home/u; chown 1001 home/u", "/home/u/.p/id", "run it as the user"),
    ] {
        let machine = Machine::new().with("var/lib/x", "").with("usr/local/x", "");
        let status = machine.run(["status", "--json", "-j", file]);
        let ended = mounted!(status, &format!("{{ {prepare}; }} 2>/dev/null || exit 77; exec \"$0\" \"$@\""));
        assert!(ended.json()["problem"].to_string().contains(problem), "{prepare}: {ended:?}");
    }
    let machine = Machine::new().with(IDENTITY, format!("instanceId:{ID}\n\u{1b}]0;owned\u{7}:1\n"));
    let text = machine.run(["status", "--profile", "percona"]).run().text();
    assert!(text.contains("?]0;owned?") && !text.contains('\u{1b}'), "{text:?}");
}
