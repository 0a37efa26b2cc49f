//! What is kept on a machine: who waits for how long, how much of it there may be, full disks, clocks that are wrong,
//! and what a local attacker plants in the way.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::harness::{
    ClosedPort, Ended, FAMILY, Machine, Receiver, Run, STATE, binary, is_root, is_static, offline, tool, walk,
};
use crate::skip;

const OTHER: &str = "PRODUCT_FAMILY_PXC";
const DAY: i64 = 86_400;
const ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs() as i64
}

/// The files of a directory of the state directory, in order.
fn files(machine: &Machine, directory: &str) -> Vec<PathBuf> {
    walk(&machine.path(STATE).join(directory)).into_iter().filter(|path| path.is_file()).collect()
}

/// Changes every pending record.
fn edit_pending(machine: &Machine, edit: impl Fn(&mut Value)) {
    for file in files(machine, "pending") {
        let mut record: Value = serde_json::from_slice(&fs::read(&file).expect("a record")).expect("JSON");
        edit(&mut record);
        fs::write(&file, format!("{record}\n")).expect("a record");
    }
}

fn flush(machine: &Machine, receiver: &Receiver) -> Run {
    machine.run(["flush", "-c", "10", "-t", "20"]).env("SSL_CERT_FILE", receiver.ca())
}

fn status(machine: &Machine) -> Value {
    machine.run(["status", "--json"]).run().json()
}

/// Has a report of `family` fail `times` times, each by a run of the product itself.
fn fail(machine: &Machine, family: &str, port: &ClosedPort, times: usize) {
    let url = format!("https://127.0.0.1:{}/", port.port);
    for _ in 0..times {
        let ended = machine.run(["send", "-f", family, "-v", "1", "-u", &url]).run().expect(0);
        assert!(ended.stderr.contains("pending"), "{ended:?}");
    }
}

// ---- waiting ----

#[test]
fn a_server_that_asks_for_a_pause_has_it_from_every_run() {
    for path in ["/status/429?retry-after=3600", "/status/503?retry-after=3600", "/status/429"] {
        let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
        machine.send(&receiver, path, FAMILY).run().expect(0);
        let requests = || receiver.requests().len();
        assert_eq!((requests(), machine.pending().len()), (1, 1), "{path}");
        let again = machine.send(&receiver, path, FAMILY).run().expect(0);
        assert!(again.stderr.contains("pending") && again.stderr.contains("asked to wait until"), "{path}: {again:?}");
        let flushed = flush(&machine, &receiver).run().expect(0);
        assert!(flushed.stderr.contains("1 still pending (the server asked to wait until "), "{path}: {flushed:?}");
        flush(&machine, &receiver).args(["--strict"]).run().expect(1);
        flush(&machine, &receiver).args(["--due", "--strict"]).run().silent();
        assert_eq!(requests(), 1, "{path}");
        let waits = &status(&machine)["pending"][0];
        assert_eq!((&waits["attempts"], &waits["days"]), (&json!(1), &json!(0)), "{path}");
        assert!(waits["not_before"].is_string(), "{path}: {waits}");
        let text = machine.run(["status"]).run().text();
        assert!(text.contains("tried once, not before 20"), "{path}: {text}");
        // Another product's first attempt is its own, and does not take it along.
        machine.send(&receiver, "/", OTHER).run().sent();
        assert_eq!(requests(), 2, "{path}");
        // When the time has come, it goes under the same ID.
        let id = machine.pending()[0]["id"].clone();
        edit_pending(&machine, |record| {
            let tried = now() - 2 * 3600;
            record["retry"]["tried"] = tried.into();
            record["retry"]["not_before"] = (tried + 3600).into();
            record["url"] = receiver.url("/").into();
        });
        machine.send(&receiver, "/", FAMILY).run().sent();
        let last: Value = serde_json::from_slice(&receiver.body(3)).expect("JSON");
        assert_eq!(last["reports"][0]["id"], id, "{path}");
    }
}

#[test]
fn waits_of_our_own_are_for_runs_that_are_about_something_else() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    fail(&machine, FAMILY, &closed, 1);
    assert_eq!(machine.pending()[0]["retry"]["attempts"], 1);
    assert!(status(&machine)["pending"][0]["not_before"].is_null(), "the first retry waits for nothing");
    fail(&machine, FAMILY, &closed, 2);
    assert_eq!(machine.pending()[0]["retry"]["attempts"], 3);
    let not_before = machine.pending()[0]["retry"]["not_before"].as_i64().expect("a time");
    assert!((now() + 14 * 60..now() + 31 * 60).contains(&not_before), "{not_before}");
    let receiver = closed.open(&[]);
    let passing = machine.send(&receiver, "/", OTHER).args(["--verbose"]).run().sent();
    assert!(passing.stderr.contains(&format!("{FAMILY} waits until ")), "{passing:?}");
    flush(&machine, &receiver).args(["--due"]).run().silent();
    assert_eq!((receiver.requests().len(), machine.pending().len()), (1, 1));
    let flushed = flush(&machine, &receiver).run().expect(0);
    assert!(flushed.stderr.contains("sent 1 pending"), "{flushed:?}");

    // The product's own run as well, and a passing one when it is due.
    for is_own in [true, false] {
        let (machine, closed) = (Machine::new(), ClosedPort::new());
        fail(&machine, FAMILY, &closed, 3);
        let receiver = closed.open(&[]);
        if !is_own {
            edit_pending(&machine, |record| record["retry"]["not_before"] = (now() - 1).into());
        }
        machine.send(&receiver, "/", if is_own { FAMILY } else { OTHER }).run().sent();
        assert_eq!((receiver.requests().len(), machine.pending().len()), (if is_own { 1 } else { 2 }, 0), "{is_own}");
    }
}

#[test]
fn what_never_had_its_turn_was_not_tried() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    fail(&machine, OTHER, &closed, 1);
    let receiver = Receiver::start(&["--fault", "stall-accept"]);
    let ended = machine.send(&receiver, "/", FAMILY).args(["-t", "1"]).run().expect(0);
    assert!(ended.stderr.contains("pending"), "{ended:?}");
    let attempts = |family: &str| {
        let pending = machine.pending();
        pending.iter().find(|it| it["family"] == family).expect("a record")["retry"]["attempts"].clone()
    };
    assert_eq!((attempts(FAMILY), attempts(OTHER)), (json!(1), json!(1)));
}

#[test]
fn a_clock_that_jumped_and_a_file_of_version_1_are_no_reason_to_wait() {
    type Edit = fn(&mut Value);
    let cases: [(&str, Edit); 5] = [
        ("2200", |it| it["retry"] = retry(7_258_118_400, 7_258_118_400, 7_258_200_000)),
        ("1970", |it| it["retry"] = retry(1, 1, 1_000_000)),
        ("a wait without an end", |it| it["retry"] = retry(now() - 20 * DAY, now() - 20 * DAY, i64::MAX)),
        ("junk", |it| it["retry"] = json!("junk")),
        ("version 1", |it| {
            it.as_object_mut().expect("an object").remove("retry");
            it["format"] = 1.into();
        }),
    ];
    for (what, edit) in cases {
        let (machine, closed) = (Machine::new(), ClosedPort::new());
        fail(&machine, FAMILY, &closed, 3);
        edit_pending(&machine, edit);
        let receiver = closed.open(&[]);
        let flushed = flush(&machine, &receiver).args(["--due"]).run().expect(0);
        assert!(flushed.stderr.contains("sent 1 pending"), "{what}: {flushed:?}");
    }
}

fn retry(since: i64, tried: i64, not_before: i64) -> Value {
    json!({ "attempts": 3, "since": since, "tried": tried, "not_before": not_before, "asked": false })
}

// ---- how much ----

/// Writes `count` copies of the machine's one record into `directory`, each with a name, an ID and a family of its own.
fn multiply(machine: &Machine, directory: &str, count: usize, edit: impl Fn(usize, &mut Value)) {
    let file = files(machine, directory).pop().expect("a record");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).expect("a record")).expect("JSON");
    for number in 0..count {
        record["family"] = format!("FAMILY_{number}").into();
        record["id"] = uuid::Uuid::from_u128(number as u128).to_string().into();
        record["created"] = format!("2026-01-01T00:{:02}:{:02}Z", number / 60, number % 60).into();
        let mut record = record.clone();
        edit(number, &mut record);
        let name =
            format!("20260101T00{:02}{:02}Z-{}.json", number / 60, number % 60, record["id"].as_str().expect("ID"));
        let copy = file.with_file_name(name);
        fs::write(&copy, format!("{record}\n")).expect("a record");
        fs::set_permissions(&copy, fs::metadata(&file).expect("a record").permissions()).expect("a record");
    }
}

#[test]
fn pending_records_are_at_most_64_and_512_kib_and_the_oldest_go_first() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    fail(&machine, FAMILY, &closed, 1);
    multiply(&machine, "pending", 63, |_, it| it["retry"] = retry(now(), now(), now() + 3600));
    for (name, content) in [("00-note.json", "{}"), ("00-note", "other"), (".hidden.json", "{}")] {
        fs::write(machine.path(STATE).join("pending").join(name), content).expect("a foreign file");
    }
    let foreign = || files(&machine, "pending").len() - status(&machine)["pending"].as_array().map_or(0, Vec::len);
    let before = foreign();
    fail(&machine, OTHER, &closed, 1);
    let families = |machine: &Machine| -> Vec<String> {
        let ours = machine.pending().into_iter().filter_map(|it| Some(it["family"].as_str()?.to_owned()));
        ours.collect()
    };
    let kept = families(&machine);
    assert_eq!(kept.len(), 64);
    assert!(!kept.contains(&"FAMILY_0".to_owned()) && kept.contains(&"FAMILY_1".to_owned()), "{kept:?}");
    assert!(kept.contains(&FAMILY.to_owned()) && kept.contains(&OTHER.to_owned()), "{kept:?}");
    assert_eq!(foreign(), before, "what is not ours stays");
    let dropped = &status(&machine)["dropped"];
    assert_eq!((dropped.as_array().map(Vec::len), &dropped[0]["family"]), (Some(1), &json!("FAMILY_0")));
    assert_eq!(dropped[0]["why"], "too many or too large");
    let text = machine.run(["status"]).run().text();
    assert!(text.contains("dropped:      FAMILY_0 of 2026-01-01T00:00:00Z, on 20"), "{text}");
    assert!(text.contains("64 records, 512 KiB and 90 days pending; 256 receipts"), "{text}");

    let (machine, closed) = (Machine::new(), ClosedPort::new());
    fail(&machine, FAMILY, &closed, 1);
    multiply(&machine, "pending", 20, |_, it| {
        it["body"] = "x".repeat(30 << 10).into();
        it["retry"] = retry(now(), now(), now() + 3600);
    });
    fail(&machine, OTHER, &closed, 1);
    let size: u64 = files(&machine, "pending").iter().map(|file| fs::metadata(file).expect("a record").len()).sum();
    assert!((480 << 10..512 << 10).contains(&size), "{size}");
    assert!(!families(&machine).contains(&"FAMILY_0".to_owned()) && families(&machine).contains(&OTHER.to_owned()));
}

#[test]
fn ninety_days_end_with_one_more_attempt() {
    for (what, since, tried, is_dropped) in [
        ("tried after its days were over", now() - 92 * DAY, now() - DAY, true),
        ("never tried after them", now() - 92 * DAY, now() - 3 * DAY, false),
        ("not old", now() - 80 * DAY, now() - DAY, false),
        ("made in 1970, tried since", 5, now() - DAY, false),
        ("made in 2200, tried since", 7_258_118_400, now() - DAY, false),
    ] {
        let (machine, closed) = (Machine::new(), ClosedPort::new());
        fail(&machine, FAMILY, &closed, 1);
        edit_pending(&machine, |it| it["retry"] = retry(since, tried, tried));
        let receiver = closed.open(&[]);
        machine.send(&receiver, "/", OTHER).run().sent();
        assert_eq!((receiver.requests().len(), machine.pending().len()), (if is_dropped { 1 } else { 2 }, 0), "{what}");
        let dropped = status(&machine)["dropped"].clone();
        assert_eq!(dropped.as_array().map(Vec::len), Some(usize::from(is_dropped)), "{what}");
        assert!(!is_dropped || dropped[0]["why"] == "too old", "{what}: {dropped}");
        // Nobody is to find anything after this.
        machine.run(["forget"]).run().expect(0);
        assert!(!machine.path(STATE).exists(), "{what}: {:?}", walk(&machine.path(STATE)));
    }
}

#[test]
fn receipts_are_at_most_256_and_what_nothing_else_remembers_stays() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    machine.send(&receiver, "/", FAMILY).run().sent();
    multiply(&machine, "sent", 256, |number, it| it["marked"] = (number != 0).into());
    fs::write(machine.path(STATE).join("sent/00-note.json"), "{}").expect("a foreign file");
    machine.send(&receiver, "/", OTHER).run().sent();
    let families: Vec<String> =
        machine.receipts().iter().filter_map(|it| Some(it["family"].as_str()?.to_owned())).collect();
    assert_eq!(families.len(), 256);
    for (family, is_kept) in
        [("FAMILY_0", true), ("FAMILY_1", false), ("FAMILY_2", false), ("FAMILY_3", true), (OTHER, true)]
    {
        assert_eq!(families.iter().any(|known| known == family), is_kept, "{family}");
    }
    assert!(machine.path(STATE).join("sent/00-note.json").exists());
}

// ---- machines that have run out of something ----

#[test]
fn few_descriptors_lose_nothing() {
    let receiver = Receiver::start(&[]);
    let mut delivered = Vec::new();
    for limit in (3..12).chain([14, 16, 20, 24, 32]) {
        let (machine, closed) = (Machine::new(), ClosedPort::new());
        fail(&machine, "FAMILY", &closed, 1);
        multiply(&machine, "pending", 40, |_, it| it["url"] = receiver.url("/").into());
        let before = receiver.requests().len();
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let ended = machine.send(&receiver, "/", FAMILY).under(["sh", "-c", &script]).run();
        assert!(ended.stdout.is_empty() && [Some(0), Some(127)].contains(&ended.status), "{limit}: {ended:?}");
        delivered.push((limit, receiver.requests().len() - before));
        machine.send(&receiver, "/", FAMILY).run().expect(0);
        assert!(machine.identity().is_some_and(|text| text.contains(&format!("{FAMILY}:1"))), "{limit}");
        let of_us = |it: &Value| it["body"].as_str().is_some_and(|body| body.contains(&machine.instance_id()));
        let mine = receiver.requests().iter().filter(|it| of_us(it)).count();
        assert!(mine >= 1, "{limit}");
    }
    // The own record and some of what waits, although each claim is a descriptor.
    let of = |limit| delivered.iter().find(|(known, _)| *known == limit).expect("a limit").1;
    assert!(of(24) >= 1 && of(32) > 1, "{delivered:?}");
}

#[test]
fn a_full_disk_leaves_nothing_unfinished() {
    let Some(namespaces) = offline("m") else { skip!("needs a mount namespace") };
    let namespaces = [namespaces[0].clone(), namespaces[1].replace('n', "")];
    let receiver = Receiver::start(&[]);
    for options in ["size=4k", "size=8k", "size=12k", "nr_inodes=1", "nr_inodes=3", "nr_inodes=5"] {
        let machine = Machine::new().with("var/lib/x", "").with("usr/local/x", "");
        let root = machine.root().display();
        let script = format!(
            "mount -t tmpfs -o {options} none {root}/var/lib && mount -t tmpfs -o {options} none {root}/usr/local || exit 77
             \"$0\" \"$@\" || exit; find {root} -name '.*.new' >&2"
        );
        let ended = machine.send(&receiver, "/", FAMILY).under(&namespaces).under(["sh", "-c", &script]).run();
        if ended.status == Some(77) {
            skip!("needs to mount a tmpfs: {}", ended.stderr.trim())
        }
        let ended = ended.sent();
        assert!(!ended.stderr.contains(".new"), "{options}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{options}: {ended:?}");
    }
}

#[test]
fn clocks_that_are_wrong() {
    let emulator = "qemu-x86_64";
    if !is_static() || tool(&[emulator, "--version"]).is_none() || tool(&["faketime", "-v"]).is_none() {
        skip!("needs the static binary, faketime and {emulator}, whose clock it can change")
    }
    let receiver = Receiver::start(&[]);
    for (time, year) in [
        ("1970-01-01 00:00:10", "1970"),
        ("1969-12-31 12:00:00", "1969"),
        ("1935-06-01 00:00:00", "1935"),
        ("2038-01-19 03:14:08", "2038"),
        ("2200-01-01 00:00:00", "2200"),
    ] {
        let at = |run: Run| run.under(["faketime", "-f", &format!("@{time}"), emulator]).env("TZ", "UTC");
        // A record that is delivered at once: its time is one, whatever the clock says.
        let machine = Machine::new();
        at(machine.send(&receiver, "/", FAMILY)).run().sent();
        let body: Value = serde_json::from_slice(&receiver.body(receiver.requests().len())).expect("JSON");
        let created = body["reports"][0]["createTime"].as_str().expect("a time").to_owned();
        assert!(created.starts_with(year) && created.len() == 20 && created.ends_with('Z'), "{time}: {created}");
        at(machine.send(&receiver, "/", FAMILY)).run().silent();
        // One that has to wait, tried three times under that clock, leaves as soon as the clock is right.
        let (machine, closed) = (Machine::new(), ClosedPort::new());
        let url = format!("https://127.0.0.1:{}/", closed.port);
        for _ in 0..3 {
            at(machine.run(["send", "-f", FAMILY, "-v", "1", "-c", "10", "-t", "20", "-u", &url])).run().expect(0);
        }
        assert_eq!(machine.pending()[0]["retry"]["attempts"], 3, "{time}");
        let receiver = closed.open(&[]);
        let flushed = flush(&machine, &receiver).args(["--due"]).run().expect(0);
        assert!(flushed.stderr.contains("sent 1 pending"), "{time}: {flushed:?}");
        // And the other way: made under a right clock, due under the wrong one.
        let (machine, closed) = (Machine::new(), ClosedPort::new());
        fail(&machine, FAMILY, &closed, 3);
        let receiver = closed.open(&[]);
        let flushed = at(flush(&machine, &receiver).args(["--due"])).run().expect(0);
        assert!(flushed.stderr.contains("sent 1 pending"), "{time}: {flushed:?}");
    }
}

// ---- what an attacker plants ----

/// Somebody without privileges, who owns a directory of the product's data.
const NOBODY: u32 = 65534;

/// What must not be touched, and what must not be told.
const SECRET: &str = "root:$6$secret:19000:0:99999:7:::\n";

/// A machine with a secret of root's and an empty directory of root's, both outside what we keep.
fn machine_with_victims() -> Machine {
    let machine = Machine::new().with("root/secret", SECRET).with("root/dir/x", "");
    fs::set_permissions(machine.path("root/secret"), PermissionsExt::from_mode(0o600)).expect("mode");
    machine
}

fn give_away(path: &Path) {
    std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
}

/// Checks a run among planted things: it ends well and in time, and neither victim was touched or told.
#[track_caller]
fn assert_unharmed(what: &str, machine: &Machine, ended: &Ended) {
    assert_eq!(ended.status, Some(0), "{what}: {ended:?}");
    assert!(ended.time.as_secs_f64() < 10.0, "{what}: {ended:?}");
    assert_eq!(fs::read_to_string(machine.path("root/secret")).ok().as_deref(), Some(SECRET), "{what}");
    assert_eq!(walk(&machine.path("root/dir")).len(), 2, "{what}: {:?}", walk(&machine.path("root/dir")));
    for path in walk(machine.root()) {
        let meta = fs::symlink_metadata(&path).expect("a file");
        if meta.is_file() && meta.mode() & 0o044 != 0 && !path.ends_with("install-record") {
            let text = fs::read(&path).expect("a file");
            assert!(!text.windows(9).any(|part| part == b"$6$secret"), "{what}: {} tells", path.display());
        }
    }
}

type Plant = fn(&Path, &Machine);

const PLANTS: [(&str, Plant); 7] = [
    ("a link to a file", |at, machine| symlink(machine.path("root/secret"), at).expect("link")),
    ("a link to a directory", |at, machine| symlink(machine.path("root/dir"), at).expect("link")),
    ("a dangling link", |at, machine| symlink(machine.path("root/dir/planted"), at).expect("link")),
    ("a hard link", |at, machine| fs::hard_link(machine.path("root/secret"), at).expect("hard link")),
    ("a FIFO", |at, _| mknodat(CWD, at, FileType::Fifo, Mode::RWXU, 0).expect("FIFO")),
    ("a link to a device", |at, _| symlink("/dev/zero", at).expect("link")),
    ("a directory", |at, _| fs::create_dir(at).expect("directory")),
];

#[test]
fn what_is_planted_beside_the_identity_file_leads_nowhere() {
    if !is_root() {
        skip!("only root can be led to where nobody may go")
    }
    let receiver = Receiver::start(&[]);
    for name in ["telemetry_uuid", ".telemetry_uuid.new", ".telemetry_uuid.0badcafe.new", ".install-record"] {
        for (what, plant) in PLANTS {
            for mode in [0o755, 0o777, 0o1777] {
                let what = format!("{name}: {what}, {mode:o}");
                let machine = machine_with_victims();
                let directory = machine.path("usr/local/percona");
                fs::create_dir_all(&directory).expect("directory");
                fs::set_permissions(&directory, PermissionsExt::from_mode(mode)).expect("mode");
                let at = directory.join(name);
                plant(&at, &machine);
                if !what.contains("hard link") {
                    give_away(&at);
                }
                if mode == 0o755 {
                    give_away(&directory);
                    // Root has no state directory of its own here either.
                    fs::create_dir_all(machine.path("var")).expect("directory");
                    fs::write(machine.path("var/lib"), "").expect("no directory");
                }
                let ended = machine.send(&receiver, "/", FAMILY).run();
                assert_unharmed(&what, &machine, &ended);
                let again = machine.send(&receiver, "/", FAMILY).run();
                assert_unharmed(&what, &machine, &again);
                if mode != 0o755 {
                    // Whatever could not be written: root's own state directory remembers.
                    assert!(ended.stderr.contains("sent one install record"), "{what}: {ended:?}");
                    assert_eq!(again.stderr, "", "{what}: {again:?}");
                }
            }
        }
    }
}

#[test]
fn a_state_directory_that_is_not_ours_alone_is_not_used() {
    if !is_root() {
        skip!("only root has directories of others")
    }
    let receiver = Receiver::start(&[]);
    type Prepare = fn(&Machine);
    let cases: [(&str, Prepare); 6] = [
        ("somebody else's", |it| give_away(&it.path(STATE))),
        ("group-writable", |it| fs::set_permissions(it.path(STATE), PermissionsExt::from_mode(0o775)).expect("mode")),
        ("sticky and for all", |it| {
            fs::set_permissions(it.path(STATE), PermissionsExt::from_mode(0o1777)).expect("mode");
        }),
        ("a link of somebody else's", |it| {
            fs::rename(it.path(STATE), it.path("var/real")).expect("rename");
            symlink("/var/real", it.path(STATE)).expect("link");
            give_away(&it.path(STATE));
        }),
        ("a file", |it| {
            fs::remove_dir_all(it.path(STATE)).expect("remove");
            fs::write(it.path(STATE), "").expect("file");
        }),
        ("a FIFO", |it| {
            fs::remove_dir_all(it.path(STATE)).expect("remove");
            mknodat(CWD, it.path(STATE), FileType::Fifo, Mode::RWXU, 0).expect("FIFO");
        }),
    ];
    for (what, prepare) in cases {
        let machine = machine_with_victims();
        // A record that somebody else wants to have sent by root, with root's network and certificates.
        let (template, closed) = (Machine::new(), ClosedPort::new());
        fail(&template, "PLANTED", &closed, 1);
        let planted = fs::read_to_string(&files(&template, "pending")[0]).expect("a record");
        let planted = planted.replace(&format!(":{}/", closed.port), &format!(":{}/planted", receiver.port()));
        let machine = machine.with(&format!("{STATE}/pending/20260101T000000Z-{ID}.json"), planted);
        prepare(&machine);
        let count = || walk(&machine.path("var")).len();
        let before = count();
        let ended = machine.send(&receiver, "/", FAMILY).args(["--verbose"]).run();
        assert_unharmed(what, &machine, &ended);
        assert!(ended.stderr.contains("so no record can be kept there"), "{what}: {ended:?}");
        assert!(ended.stderr.contains("usr/local/percona/.install-record/sent"), "{what}: {ended:?}");
        flush(&machine, &receiver).run().expect(0);
        assert_eq!(count(), before, "{what}");
    }
    assert!(receiver.requests().iter().all(|request| request["path"] == "/"));
}

#[test]
fn what_is_planted_in_the_state_directory_itself_leads_nowhere() {
    let receiver = Receiver::start(&[]);
    for name in ["pending", "sent", "lock", "origins", "dropped", "pending/20260101T000000Z-x.json", "pending/.x.new"] {
        // Only root itself can make a hard link there.
        for (what, plant) in PLANTS.into_iter().filter(|(what, _)| *what != "a hard link") {
            let what = format!("{name}: {what}");
            let machine = machine_with_victims().with("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
            let at = machine.path(STATE).join(name);
            fs::create_dir_all(at.parent().expect("a directory")).expect("directory");
            plant(&at, &machine);
            let ended = machine.send(&receiver, "/", FAMILY).run();
            assert_unharmed(&what, &machine, &ended);
            assert!(ended.stderr.contains("sent one install record"), "{what}: {ended:?}");
            for command in [&["status"][..], &["flush"], &["off"], &["forget"]] {
                let ended = machine.run(command).run();
                assert!(ended.time.as_secs_f64() < 10.0 && ended.status.is_some(), "{what}: {command:?} {ended:?}");
                assert_eq!(fs::read_to_string(machine.path("root/secret")).ok().as_deref(), Some(SECRET), "{what}");
            }
        }
    }
}

#[test]
fn the_switch_is_not_written_through_links_of_others() {
    if !is_root() {
        skip!("only root has links of others in its way")
    }
    for (what, at) in [("off.d", "etc/install-record/off.d"), ("the directory", "etc/install-record")] {
        let machine = machine_with_victims();
        let at = machine.path(at);
        fs::create_dir_all(at.parent().expect("a directory")).expect("directory");
        symlink("/root/dir", &at).expect("link");
        give_away(&at);
        let ended = machine.run(["off", "--profile", "percona"]).run();
        assert_eq!(ended.status, Some(1), "{what}: {ended:?}");
        assert!(ended.stderr.contains("NOT switched off"), "{what}: {ended:?}");
        assert_eq!(walk(&machine.path("root/dir")).len(), 2, "{what}");
    }
}

#[test]
fn what_a_container_user_plants_does_not_reach_another_user() {
    if !is_root() {
        skip!("needs two users")
    }
    // The data directory of one user, in which another one has made the state directory and a record.
    let (machine, receiver) = (Machine::new().with("data/x", ""), Receiver::start(&[]));
    let program = Machine::bare().with_binary("install-record");
    assert!(binary().exists());
    let ca = Machine::bare().with("ca.pem", fs::read(receiver.ca()).expect("CA"));
    let data = machine.path("data");
    chown(&data, Some(1000), Some(1000)).expect("chown");
    fs::set_permissions(&data, PermissionsExt::from_mode(0o777)).expect("mode");
    let send = |user: u32, family: &str| {
        let run = machine.send(&receiver, "/", family).args(["-j", "/data/telemetry_uuid", "--verbose"]);
        let run = run.program(program.path("install-record")).env("SSL_CERT_FILE", ca.path("ca.pem"));
        run.user(user).run()
    };
    send(1001, FAMILY).sent();
    assert!(data.join(".install-record/sent").is_dir());
    let ended = send(1000, OTHER).sent();
    assert!(ended.stderr.contains(".install-record: Operation not permitted"), "{ended:?}");
    assert_eq!(receiver.requests().len(), 2);
}
