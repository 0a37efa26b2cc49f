//! The administrator's commands: `off` and `forget` reach everything, `flush` asks everybody again, `status` and `show`
//! tell the truth, and a command that fails says so. And what a mistake on the command line says (items 6 and 9).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::*;

const USER: u32 = 1001;

/// What a command prints that fails nothing and says nothing else.
fn printed(run: Run) -> Ended {
    let ended = run.run();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    ended
}

fn decision(machine: &Machine) -> Value {
    printed(machine.run(["status", "--json"])).json()["decision"].take()
}

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
        "profile": "percona", "decision": "send", "reason": "nobody said no", "source": null, "project_id": null, "problem": null,
        "endpoint": "https://check.percona.com/v1/telemetry/GenericReport", "instance_id": null, "reported": [],
    });
    assert_eq!((profiles.as_array().map(Vec::len), &profiles[0]), (Some(5), &percona));
    (percona["pending"], percona["sent"]) = (json!([]), json!([]));
    assert_eq!(found, percona);
    machine.run(["flush"]).run().silent();
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn a_record_waits_is_shown_and_is_delivered() {
    let (machine, closed) = Machine::waiting();
    let (id, url) = (machine.instance_id(), closed.url());
    let before = machine.snapshot();
    let show = || machine.run(["show", "-f", FAMILY, "-v", "1"]);
    let shown = printed(show()).stdout;
    let refused = show().env("DO_NOT_TRACK", "1").run().says("nothing would be sent: env DO_NOT_TRACK");
    assert_eq!(refused.status, Some(0));
    // A record is listed as it is kept, with what came of it.
    let mut kept = machine.pending()[0].clone();
    kept["answer"] = Value::Null;
    assert_eq!([&kept["family"], &kept["url"]], [FAMILY, &url]);
    let pending = machine.status();
    let found = ["instance_id", "reported", "pending"].map(|key| pending[key].clone());
    assert_eq!(found, [json!(id), json!([]), json!([kept])]);
    let text = machine.run(["status"]).run().text();
    assert_has(&text, &[FAMILY, &url, &id, "percona:      send", "memgraph:     skip", "sent:         nothing"]);
    let text = machine.run(["status", "--profile", "percona"]).run().text();
    assert_has(&text, &[&id, FAMILY, &url, "decision:     send", "sent:         nothing"]);

    // A flush asks for consent again, and delivers what was shown.
    let receiver = closed.open(&[]);
    machine.flush(&receiver).env("PERCONA_TELEMETRY_DISABLE", "1").run().silent();
    assert_eq!((machine.snapshot(), receiver.connections()), (before, 0));
    machine.flush(&receiver).run().expect(0).says("sent 1 pending");
    machine.flush(&receiver).run().silent();
    assert_eq!((receiver.requests().len(), receiver.body(1)), (1, shown));
    assert_eq!(machine.identity(), Some(format!("instanceId:{id}\n{FAMILY}:1\n")));

    let sent = machine.status();
    assert_eq!([&sent["pending"], &sent["reported"]], [&json!([]), &json!([FAMILY])]);
    let (receipt, answer) = (&sent["sent"][0], &sent["sent"][0]["answer"]);
    assert_eq!(["id", "url", "family"].map(|key| &receipt[key]), ["id", "url", "family"].map(|key| &kept[key]));
    assert_eq!([&answer["status"], &answer["accepted"]], [&json!(200), &json!(true)]);
    let line = format!("{FAMILY} (percona) on {} to {url}: 200 accepted", answer["at"].as_str().expect("time"));
    assert_has(&machine.run(["status"]).run().text(), &[&line]);
    // From now on a record like the next one is shown, under the ID that is stored.
    let shown = show().run().says("reported before");
    assert_eq!(shown.json()["reports"][0]["instanceId"], id);
    assert_eq!(receiver.connections(), 1);
}

#[test]
fn off_forget_and_on() {
    let ((machine, _closed), receiver) = (Machine::waiting(), Receiver::start(&[]));
    machine.send(&receiver, "/", OTHER).run().sent();
    let (id, switch) = (machine.instance_id(), machine.path("etc/install-record/off"));
    machine.run(["off"]).run().expect(0).says("1 pending deleted");
    assert_eq!((machine.pending().len(), machine.instance_id(), decision(&machine)), (0, id.clone(), json!("skip")));
    // Of all that says no, the first is named; consent has every source.
    for (run, source) in [
        (machine.run(["status", "--json"]), "/etc/install-record/off"),
        (machine.run(["status", "--json"]).env("DO_NOT_TRACK", "yes"), "env DO_NOT_TRACK"),
        (machine.run(["status", "--json", "--telemetry=false"]), "option --telemetry=false"),
    ] {
        assert_eq!(printed(run).json()["source"], source);
    }
    let before = machine.snapshot();
    machine.run(["off"]).run().expect(0);
    machine.send(&receiver, "/", FAMILY).run().silent();
    machine.flush(&receiver).run().silent();
    assert_eq!(machine.snapshot(), before);
    for _ in 0..2 {
        machine.run(["forget"]).run().expect(0);
        assert!(switch.is_file() && machine.identity().is_none() && !machine.path(STATE).exists());
    }
    for _ in 0..2 {
        machine.run(["on"]).run().expect(0);
        assert_eq!((switch.exists(), decision(&machine)), (false, json!("send")));
    }
    assert_eq!(receiver.connections(), 1);
    machine.send(&receiver, "/", FAMILY).run().sent();
    assert_ne!(machine.instance_id(), id);

    // What is not ours stays.
    let shared = Machine::new().with(IDENTITY, format!("instanceId:{id}\n{FAMILY}:1\nother:7\n"));
    shared.run(["forget", "--profile", "percona"]).run().expect(0);
    assert_eq!(shared.identity().as_deref(), Some("other:7\n"));
}

#[test]
fn the_switch_of_one_profile_is_its_own() {
    let machine = Machine::new().with("usr/share/install-record/profiles/mine.json", "{}");
    let run = |command: &str, profile: &str| machine.run([command, "--profile", profile]).run().expect(0);
    let is_off = |profile: &str| machine.path("etc/install-record/off.d").join(profile).is_file();
    // A name that is no profile is written, and said.
    let warning = "there is no profile memgraf here, known are percona, medusa, wundergraph, strapi, memgraph, mine";
    run("off", "memgraf").says(warning);
    assert!(is_off("memgraf"));
    for (command, profile) in [("on", "memgraf"), ("off", "memgraph"), ("off", "mine")] {
        let ended = run(command, profile);
        assert!(!ended.stderr.contains("no profile") && ended.stderr.lines().count() == 1, "{ended:?}");
        assert_eq!(is_off(profile), command == "off");
    }
    assert_eq!(decision(&machine), "send");
    run("off", "percona");
    assert_eq!(machine.status()["source"], "/etc/install-record/off.d/percona");
    run("on", "percona");
    assert_eq!((decision(&machine), is_off("mine")), (json!("send"), true));
    // What still says no is named.
    machine.run(["off"]).run().expect(0);
    run("on", "percona").says("/etc/install-record/off");
    assert_eq!(decision(&machine), "skip");
}

/// `off` and `forget` wait until other runs are over. A run that was stopped with its locks is not waited for for ever: the
/// alarm is after a minute, so the test sends its signal.
#[test]
fn a_run_that_never_ends_is_said_and_a_failure() {
    for (command, done) in [("off", "are off"), ("forget", "not everything could be deleted")] {
        let (machine, _closed) = Machine::waiting();
        let lock = fs::File::open(machine.path(STATE)).expect("the state directory");
        lock.lock().expect("flock");
        let waiting = machine.run([command]).spawn();
        thread::sleep(Duration::from_millis(500));
        kill_process(Pid::from_child(&waiting.child.0), Signal::ALARM).expect("kill");
        let ended = waiting.wait().expect(1).says(done).says("another run is still under way");
        assert_eq!((ended.stderr.lines().count(), machine.pending().len()), (1, 1), "{ended:?}");
        assert_eq!(machine.path("etc/install-record/off").is_file(), command == "off");
        drop(lock);
        machine.run([command]).run().expect(0);
        assert!(machine.pending().is_empty());
    }
}

/// tests/roots/expected has those of `show` and `send`.
#[test]
fn mistakes_name_the_flag_and_the_way_out() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    for (line, named) in [
        ("flush -u https://localhost:1/ --colour", "--colour"),
        ("off --profile a/b", "--profile 'a/b'"),
        // --quiet is for what went well.
        ("status --quiet --colour", "--colour"),
    ] {
        assert_is_usage_error(&machine, machine.run(line.split(' ')), named);
    }
    // A family in a variable is no mistake on the command line: a container under `set -e` starts all the same.
    for (args, status) in [(&["-v", "1"][..], 0), (&["-v", "1", "--strict"], 1)] {
        let before = machine.snapshot();
        let run = machine.run(args).args(["-u", &receiver.url("/")]).env("PERCONA_PRODUCT_FAMILY", "\"A\"");
        run.run().expect(status).says("PERCONA_PRODUCT_FAMILY '\"A\"' must be").says("the product family is missing");
        assert_eq!(machine.snapshot(), before);
    }
    let bytes = OsString::from_vec(b"--col\xffour".to_vec());
    assert_is_usage_error(&machine, machine.send(&receiver, "/", FAMILY).args([bytes]), "--col");
    assert_eq!(receiver.connections(), 0);
}

#[track_caller]
pub fn assert_is_usage_error(machine: &Machine, run: Run, named: &str) {
    const WAYS: &str = "--help|must be|give it without|give -|set |there is no such|known are|did you mean|so is -";
    let before = machine.snapshot();
    let ended = run.run().expect(2).says(named);
    assert!(WAYS.split('|').any(|way| ended.stderr.contains(way)), "{ended:?}");
    assert_eq!((ended.stderr.lines().count(), machine.snapshot()), (1, before), "{ended:?}");
}

/// Scripts pass what they always passed; call-home.sh's curl took all of it.
#[test]
fn what_is_no_mistake_of_the_caller_is_one_line_and_the_run_goes_on() {
    let receiver = Receiver::start(&[]);
    for (args, name, value, line) in [
        ("-t 0 -c 99999", "X", "", ""),
        ("-s Oracle Linux 9", "X", "", "'Linux' is no option: it and what follows it are ignored"),
        ("", "PERCONA_SEND_TIMEOUT", "\"7\"", "PERCONA_SEND_TIMEOUT '\"7\"' must be a number of seconds"),
        ("", "PERCONA_CONNECT_TIMEOUT", "x", "PERCONA_CONNECT_TIMEOUT 'x' must be a number of seconds; it is ignored"),
        ("", "PERCONA_TELEMETRY_CONFIG_FILE_PATH", "/srv/", "PERCONA_TELEMETRY_CONFIG_FILE_PATH '/srv/' must be"),
    ] {
        let machine = Machine::new();
        let run = machine.run(["-f", FAMILY, "-v", "1", "-u", &receiver.url("/")]).args(args.split_whitespace());
        let ended = run.env("SSL_CERT_FILE", receiver.ca()).env(name, value).run().sent().says(line);
        assert_eq!(ended.stderr.lines().count(), if line.is_empty() { 1 } else { 2 }, "{ended:?}");
        assert_eq!(machine.receipts().len(), 1, "{line}");
    }
}

/// Somebody meant another server. src/endpoint.rs and src/options.rs have what cannot be used.
#[test]
fn a_variable_with_a_url_that_cannot_be_used_means_that_nothing_is_sent() {
    let machine = Machine::new();
    let before = machine.snapshot();
    let run = machine.run(["-f", FAMILY, "-v", "1"]).env("PERCONA_TELEMETRY_URL", "https://user:secret@localhost/");
    let ended = run.run().expect(0).says("PERCONA_TELEMETRY_URL: a URL with a user or a password");
    assert_eq!((ended.stderr.contains("secret"), ended.stderr.lines().count()), (false, 1));
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn help_and_version_are_no_mistakes() {
    let run = |args: &str| printed(Run::new().args(args.split(' ')).env("PERCONA_TELEMETRY_URL", "https://[::1]:1/"));
    for args in ["-h", "help", "send -h", "-f PS -h"] {
        assert_has(&run(args).text(), &["--product-family", "PERCONA_SEND_TIMEOUT", "DO_NOT_TRACK"]);
    }
    assert_eq!(run("-V").text(), format!("install-record {}\n", env!("CARGO_PKG_VERSION")));
}

/// A closed stderr is tests/shipped/inheritance.rs's.
#[test]
fn quiet_is_quiet_and_a_full_disk_on_stderr_is_no_reason_to_fail() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    Machine::new().send(&receiver, "/", FAMILY).args(["--quiet"]).run().silent();
    let full = ["sh", "-c", "exec \"$0\" \"$@\" 2>/dev/full >/dev/full"];
    machine.send(&receiver, "/", FAMILY).args(["--verbose"]).under(full).run().silent();
    assert_eq!((receiver.requests().len(), machine.receipts().len()), (2, 1));
    assert_eq!(machine.run(["status"]).under(full).run().status, Some(0));
}

/// A machine on which a user owns the directory of the identity file, as in a vendor's image, and keeps state there.
fn users() -> Machine {
    let machine = Machine::new();
    machine.sh(&format!("mkdir -p usr/local/percona; chown {USER}:{USER} usr/local/percona"));
    machine
}

/// waiting.rs has a run of that user's that is under way.
#[test]
fn roots_forget_and_off_reach_what_another_user_keeps_beside_the_identity_file() {
    needs!(is_root(), "root, for another user");
    let public = Receiver::start(&[]).public();
    for command in ["forget", "off"] {
        let (machine, closed) = (users(), ClosedPort::new());
        machine.report(FAMILY, &closed.url()).by(USER, &public).run().expect(0).says("install record pending");
        let beside = machine.path("usr/local/percona/.install-record");
        assert_eq!(fs::read_dir(beside.join("pending")).expect("pending").count(), 1);
        machine.run([command]).run().expect(0);
        assert_eq!(walk(&beside).iter().filter(|path| path.is_file()).count(), 0, "{command}");
        assert_eq!(machine.identity().is_some(), command == "off");
        machine.sh(&format!("! find usr/local/percona ! -uid {USER} | grep ."));
    }
}

#[test]
fn forget_deletes_whatever_is_remembered_of_anybody() {
    let (machine, receiver, closed) = (Machine::new(), Receiver::start(&[]), ClosedPort::new());
    machine.send(&receiver, "/", FAMILY).args(["-j", "/srv/elsewhere"]).run().sent();
    let profile = fs::read_to_string("profiles/wundergraph.json").expect("a profile");
    let machine = machine.with("gone.json", profile.replace("\"name\": \"wundergraph\"", "\"name\": \"gone\""));
    let run = machine.run(["send", "--set", "command=up", "-v", "1", "-u", &closed.url(), "--profile"]);
    run.args([machine.path("gone.json")]).run().expect(0).says("install record pending");
    let later = format!("{STATE}/pending/20260101T000000Z-{ID}.jsonl");
    let machine = machine.with(&later, "{\"format\":99}\n");
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
fn nothing_is_flushed_while_an_image_is_built() {
    let (machine, closed) = Machine::waiting();
    let receiver = closed.open(&[]);
    machine.flush(&receiver).env("SYSTEMD_OFFLINE", "1").run().silent();
    assert_eq!((receiver.connections(), machine.pending().len()), (0, 1));
}

#[test]
fn status_and_show_go_by_the_present_id() {
    let (machine, receiver) = (Machine::new().with("etc/machine-id", MACHINE_IDS[0]), Receiver::start(&[]));
    machine.send(&receiver, "/", FAMILY).run().sent();
    let id = machine.instance_id();
    let show = |machine: &Machine| machine.run(["show", "-f", FAMILY, "-v", "8"]).run();
    show(&machine).says("was reported before");
    assert_eq!(machine.status()["reported"], json!([FAMILY]));
    // A clone's record is its own.
    let machine = machine.with("etc/machine-id", MACHINE_IDS[1]);
    let shown = show(&machine);
    assert!(shown.json()["reports"][0]["instanceId"] != *id && shown.stderr.is_empty(), "{shown:?}");
    // Without the ID, nothing was reported, although there is a receipt.
    fs::remove_file(machine.path(IDENTITY)).expect("remove");
    let known = machine.status();
    assert_eq!((&known["reported"], known["sent"].as_array().map(Vec::len)), (&json!([]), Some(1)));
}

#[test]
fn a_profile_that_cannot_be_used_fails_what_an_administrator_asked_for() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    let profile = fs::read_to_string("profiles/wundergraph.json").expect("a profile");
    let installed = "etc/install-record/profiles/acme.json";
    let machine = machine.with(installed, profile.replace("\"name\": \"wundergraph\"", "\"name\": \"acme\""));
    let send = machine.run(["send", "--profile", "acme", "--set", "command=up", "-v", "1", "-u", &closed.url()]);
    send.run().expect(0).says("install record pending");
    fs::set_permissions(machine.path(installed), PermissionsExt::from_mode(0o666)).expect("chmod");
    for line in ["check acme", "status --profile acme", "forget --profile acme"] {
        let ended = machine.run(line.split(' ')).run().expect(1).says("others can write it");
        assert!(!ended.stderr.contains("not sent"), "{ended:?}");
    }
    let receiver = closed.open(&[]);
    let flushed = machine.flush(&receiver).args(["--strict"]).run().expect(1);
    flushed.says("1 not delivered (the profile acme cannot be used here)");
    assert_eq!((receiver.connections(), machine.pending().len()), (0, 1));
    // Where somebody said no, there is nothing to tell.
    machine.flush(&receiver).args(["--strict"]).env("DO_NOT_TRACK", "1").run().silent();
    let machine = machine.with("etc/install-record/off.d/acme", "");
    machine.flush(&receiver).args(["--strict"]).run().silent();
}

#[test]
fn projects_that_share_an_id_do_not_send_each_others_record() {
    let package = format!(r#"{{"strapi":{{"uuid":"{ID}"}}}}"#);
    let machine = Machine::new().with("p1/package.json", &package).with("p2/package.json", &package);
    let (receiver, closed) = (Receiver::start(&[]), ClosedPort::new());
    let send = |project, url: &str| {
        let run = machine.run(["send", "--profile", "strapi", "-v", "4", "-c", "10", "-t", "20"]);
        run.args(["--project", project, "-u", url]).env("SSL_CERT_FILE", receiver.ca()).run()
    };
    send("/p1", &closed.url()).expect(0).says("install record pending");
    let first = machine.pending()[0]["id"].clone();
    fs::write(machine.path("p1/.env"), "STRAPI_TELEMETRY_DISABLED=true\n").expect(".env");
    send("/p2", &receiver.url("/")).sent();
    assert_eq!((receiver.requests().len(), machine.pending().len()), (1, 0));
    assert_ne!(machine.receipts()[0]["id"], first);
}

#[test]
fn status_shows_no_control_characters_and_why_nothing_could_be_kept() {
    let machine = Machine::new().with(IDENTITY, format!("instanceId:{ID}\n\u{1b}]0;owned\u{7}:1\n"));
    let text = machine.run(["status", "--profile", "percona"]).run().text();
    assert!(text.contains("?]0;owned?") && !text.contains('\u{1b}'), "{text:?}");

    assert_eq!(Machine::new().status()["problem"], Value::Null);
    // A file is where the directory should be.
    let problem = Machine::new().with("usr/local/percona", "").status()["problem"].to_string();
    assert!(problem.contains("usr/local/percona/telemetry_uuid"), "{problem}");
    needs!(is_root(), "root, to give directories away");
    let machine = Machine::new();
    machine.sh(&format!("mkdir -p home/u; chown {USER} home/u"));
    let known = machine.run(["status", "--json", "-j", "/home/u/.p/id"]).run().json();
    assert!(known["problem"].to_string().contains("run it as the user"), "{known}");
    assert!(walk(&machine.path("home")).len() == 2, "something was made");
}
