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
const PLANTED: &str = "pending/20260101T000000Z-13f5fc62-35b4-4716-b3e6-96c761fc204d.jsonl";

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs() as i64
}

/// The files of a directory of the state directory, in order.
fn files(machine: &Machine, directory: &str) -> Vec<PathBuf> {
    walk(&machine.path(STATE).join(directory)).into_iter().filter(|path| path.is_file()).collect()
}

/// Changes the lines of every pending record.
fn edit_pending(machine: &Machine, edit: impl Fn(&mut Vec<Value>)) {
    for file in files(machine, "pending") {
        let text = fs::read_to_string(&file).expect("a record");
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        edit(&mut lines);
        fs::write(&file, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).expect("a record");
    }
}

/// The line of an attempt at `at`, seconds since 1970, in which the server asked for a pause.
fn attempt(at: i64, url: &str, retry_after: Option<i64>) -> Value {
    let at =
        chrono::DateTime::from_timestamp(at, 0).expect("a time").to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    json!({ "attempt": { "at": at, "url": url, "phase": "receive", "why": "429", "retry_after": retry_after } })
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
fn a_server_that_asks_for_a_pause_has_it_from_every_run_and_product() {
    for path in ["/status/429?retry-after=3600", "/status/503?retry-after=3600"] {
        let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
        machine.send(&receiver, path, FAMILY).run().expect(0);
        let requests = || receiver.requests().len();
        assert_eq!((requests(), machine.pending().len()), (1, 1), "{path}");
        // The product's own next run, another product's run to the same URL, and a flush.
        for family in [FAMILY, OTHER] {
            let again = machine.send(&receiver, path, family).run().expect(0);
            assert!(
                again.stderr.contains("pending") && again.stderr.contains("asked to wait until"),
                "{path}: {again:?}"
            );
        }
        let flushed = flush(&machine, &receiver).run().expect(0);
        assert!(flushed.stderr.contains("2 still pending (the server asked to wait until "), "{path}: {flushed:?}");
        flush(&machine, &receiver).args(["--strict"]).run().expect(1);
        assert_eq!((requests(), machine.pending().len()), (1, 2), "{path}");
        // Another server has asked for nothing.
        machine.send(&receiver, "/", "THIRD").run().sent();
        assert_eq!(requests(), 2, "{path}");
        // When the time has come, it goes under the same ID.
        let pending = machine.pending();
        let id = pending.iter().find(|it| it["family"] == FAMILY).expect("a record")["id"].clone();
        let url = receiver.url(path);
        edit_pending(&machine, |lines| {
            lines.truncate(1);
            lines.push(attempt(now() - 2 * 3600, &url, Some(3600)));
        });
        machine.send(&receiver, "/", FAMILY).run().sent();
        let last: Value = serde_json::from_slice(&receiver.body(3)).expect("JSON");
        assert_eq!(last["reports"][0]["id"], id, "{path}");
    }
    // Without a time, it is asked for nothing but another try.
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    machine.send(&receiver, "/status/429", FAMILY).run().expect(0);
    machine.send(&receiver, "/", FAMILY).run().sent();
}

#[test]
fn a_pause_holds_for_the_rest_of_a_flush() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    fail(&machine, FAMILY, &closed, 1);
    let receiver = closed.open(&[]);
    multiply(&machine, "pending", 7, |_, _| {});
    let (before, after) = (format!(":{}/", receiver.port()), format!(":{}/status/429?retry-after=60", receiver.port()));
    for file in files(&machine, "pending") {
        let text = fs::read_to_string(&file).expect("a record");
        fs::write(&file, text.replace(&before, &after)).expect("a record");
    }
    let flushed = flush(&machine, &receiver).run().expect(0);
    assert!(flushed.stderr.contains("8 still pending"), "{flushed:?}");
    assert_eq!((receiver.requests().len(), machine.pending().len()), (1, 8));
}

#[test]
fn what_waits_goes_to_the_endpoint_of_its_own_run_or_of_its_making() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    fail(&machine, FAMILY, &closed, 2);
    assert_eq!(machine.pending()[0]["attempts"].as_array().map(Vec::len), Some(2));
    let id = machine.pending()[0]["id"].clone();
    let elsewhere = Receiver::start(&[]);
    // Another product's run takes it along, to the endpoint that it was made for, where nobody is.
    machine.send(&elsewhere, "/", OTHER).run().sent();
    assert_eq!((elsewhere.requests().len(), machine.pending().len()), (1, 1));
    // The product's own run has its own endpoint.
    machine.send(&elsewhere, "/", FAMILY).run().sent();
    let body: Value = serde_json::from_slice(&elsewhere.body(2)).expect("JSON");
    assert_eq!((&body["reports"][0]["id"], machine.pending().len()), (&id, 0));
    assert_eq!(machine.receipts().last().expect("a receipt")["answer"]["url"], elsewhere.url("/"));

    let (machine, closed) = (Machine::new(), ClosedPort::new());
    fail(&machine, FAMILY, &closed, 1);
    let receiver = closed.open(&[]);
    let flushed = flush(&machine, &receiver).run().expect(0);
    assert!(flushed.stderr.contains("sent 1 pending"), "{flushed:?}");
}

#[test]
fn one_products_fault_does_not_stop_the_others() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    fail(&machine, FAMILY, &closed, 1);
    let wundergraph = ["send", "--profile", "wundergraph", "-v", "0.180.0", "--set", "command=wunderctl up"];
    machine.run(wundergraph).args(["-u", &format!("https://127.0.0.1:{}/", closed.port)]).run().expect(0);
    assert_eq!(machine.pending().len(), 2);
    let receiver = closed.open(&[]);
    let flush = || flush(&machine, &receiver).args(["--strict"]);
    let flushed = flush().env("WG_API_URL", "http://gateway.internal:9991").run().expect(1);
    let said = "sent 1 pending install records, 1 still pending (WG_API_URL: 'http://gateway.internal:9991/";
    assert!(flushed.stderr.contains(said), "{flushed:?}");
    assert_eq!(machine.pending()[0]["profile"], "wundergraph");
    flush().run().expect(0);
    assert_eq!((machine.pending().len(), receiver.requests().len()), (0, 2));
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
        let of_family = pending.iter().find(|it| it["family"] == family).expect("a record").clone();
        of_family["attempts"].as_array().map(Vec::len)
    };
    assert_eq!((attempts(FAMILY), attempts(OTHER)), (Some(1), Some(1)));
}

#[test]
fn a_clock_that_jumped_is_no_reason_to_wait() {
    for (what, at) in [("2200", 7_258_118_400), ("1970", 1), ("long ago", now() - 20 * DAY)] {
        let (machine, closed) = (Machine::new(), ClosedPort::new());
        fail(&machine, FAMILY, &closed, 1);
        let url = format!("https://127.0.0.1:{}/", closed.port);
        edit_pending(&machine, |lines| lines.push(attempt(at, &url, Some(i64::MAX))));
        let receiver = closed.open(&[]);
        let flushed = flush(&machine, &receiver).run().expect(0);
        assert!(flushed.stderr.contains("sent 1 pending"), "{what}: {flushed:?}");
    }
}

#[test]
fn marks_of_earlier_versions_count_and_records_of_theirs_are_moved_aside_with_one_line() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    fail(&machine, FAMILY, &closed, 1);
    multiply(&machine, "pending", 2, |_, _| {});
    let id = machine.instance_id();
    for (number, file) in files(&machine, "pending").into_iter().enumerate() {
        // Versions 1 and 2, in which a record was one object, and one to come.
        if number == 2 {
            let now = fs::read_to_string(&file).expect("a record");
            assert!(now.contains("\"format\":3,"), "{now}");
            fs::write(&file, now.replace("\"format\":3,", "\"format\":99,")).expect("a record");
        } else {
            let old = json!({ "format": (number + 1), "id": ID, "profile": "percona", "body": "" });
            fs::write(&file, format!("{old}\n")).expect("a record");
            fs::rename(&file, file.with_extension("json")).expect("rename");
        }
    }
    let receiver = closed.open(&[]);
    let ended = machine.send(&receiver, "/", FAMILY).run().sent();
    assert!(ended.stderr.contains("3 records that cannot be read: "), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 2, "{ended:?}");
    assert!(files(&machine, "pending").iter().all(|file| file.to_string_lossy().ends_with(".unreadable")));
    assert_eq!((files(&machine, "pending").len(), receiver.requests().len(), machine.instance_id()), (3, 1, id));
    machine.send(&receiver, "/", FAMILY).run().silent();

    // A list of what was reported, in the old form: the same product sends nothing.
    let receiver = Receiver::start(&[]);
    let old = |machine: &Machine| format!("percona:{}:{OTHER}\n", machine.instance_id());
    fs::write(machine.path(STATE).join("reported"), old(&machine)).expect("reported");
    machine.send(&receiver, "/", OTHER).run().silent();
    assert_eq!(receiver.requests().len(), 0);
}

// ---- how much ----

/// Writes `count` copies of the machine's one record into `directory`, each with a name, an ID and a family of its own.
fn multiply(machine: &Machine, directory: &str, count: usize, edit: impl Fn(usize, &mut Vec<Value>)) {
    let file = files(machine, directory).pop().expect("a record");
    let text = fs::read_to_string(&file).expect("a record");
    for number in 0..count {
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        lines[0]["family"] = format!("FAMILY_{number}").into();
        lines[0]["key"] = format!("{number:064}").into();
        lines[0]["id"] = uuid::Uuid::from_u128(number as u128).to_string().into();
        lines[0]["created"] = format!("2026-01-01T00:{:02}:{:02}Z", number / 60, number % 60).into();
        edit(number, &mut lines);
        let id = lines[0]["id"].as_str().expect("ID");
        let copy = file.with_file_name(format!("20260101T00{:02}{:02}Z-{id}.jsonl", number / 60, number % 60));
        fs::write(&copy, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).expect("a record");
        fs::set_permissions(&copy, fs::metadata(&file).expect("a record").permissions()).expect("a record");
    }
}

#[test]
fn pending_records_are_at_most_64_and_512_kib_and_the_oldest_go_first() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    fail(&machine, FAMILY, &closed, 1);
    let url = format!("https://127.0.0.1:{}/", closed.port);
    // Held back, so that the other product's run leaves them where they are.
    multiply(&machine, "pending", 63, |_, lines| lines.push(attempt(now() - 60, &url, Some(3600))));
    for (name, content) in [("00-note.json", "{}"), ("00-note", "other"), (".hidden.jsonl", "{}")] {
        fs::write(machine.path(STATE).join("pending").join(name), content).expect("a foreign file");
    }
    let foreign = || files(&machine, "pending").iter().filter(|path| path.to_string_lossy().contains("note")).count();
    fail(&machine, OTHER, &closed, 1);
    let families = |machine: &Machine| -> Vec<String> {
        let ours = status(machine)["pending"].as_array().cloned().unwrap_or_default();
        ours.into_iter().filter_map(|it| Some(it["family"].as_str()?.to_owned())).collect()
    };
    let kept = families(&machine);
    assert_eq!(kept.len(), 64);
    assert!(!kept.contains(&"FAMILY_0".to_owned()) && kept.contains(&"FAMILY_1".to_owned()), "{kept:?}");
    assert!(kept.contains(&FAMILY.to_owned()) && kept.contains(&OTHER.to_owned()), "{kept:?}");
    assert_eq!(foreign(), 2, "what is not ours stays");

    let (machine, closed) = (Machine::new(), ClosedPort::new());
    fail(&machine, FAMILY, &closed, 1);
    let url = format!("https://127.0.0.1:{}/", closed.port);
    multiply(&machine, "pending", 20, |_, lines| {
        lines[0]["body"] = "x".repeat(30 << 10).into();
        lines.push(attempt(now() - 60, &url, Some(3600)));
    });
    fail(&machine, OTHER, &closed, 1);
    let size: u64 = files(&machine, "pending").iter().map(|file| fs::metadata(file).expect("a record").len()).sum();
    assert!((480 << 10..513 << 10).contains(&size), "{size}");
    assert!(!families(&machine).contains(&"FAMILY_0".to_owned()) && families(&machine).contains(&OTHER.to_owned()));
}

#[test]
fn ninety_days_end_with_one_more_attempt() {
    for (what, attempts, is_dropped) in [
        ("tried after its days were over", [now() - 92 * DAY, now() - DAY], true),
        ("never tried after them", [now() - 92 * DAY, now() - 3 * DAY], false),
        ("not old", [now() - 80 * DAY, now() - DAY], false),
        ("made in 1970, tried since", [5, now() - DAY], false),
        ("made in 2200, tried since", [7_258_118_400, now() - DAY], false),
    ] {
        let (machine, closed) = (Machine::new(), ClosedPort::new());
        fail(&machine, FAMILY, &closed, 1);
        let url = format!("https://127.0.0.1:{}/", closed.port);
        edit_pending(&machine, |lines| {
            lines.truncate(1);
            lines.extend(attempts.map(|at| attempt(at, &url, None)));
        });
        let receiver = closed.open(&[]);
        machine.send(&receiver, "/", OTHER).run().sent();
        assert_eq!((receiver.requests().len(), machine.pending().len()), (if is_dropped { 1 } else { 2 }, 0), "{what}");
        // Nobody is to find anything after this.
        machine.run(["forget"]).run().expect(0);
        assert!(!machine.path(STATE).exists(), "{what}: {:?}", walk(&machine.path(STATE)));
    }
}

#[test]
fn receipts_are_at_most_256() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    machine.send(&receiver, "/", FAMILY).run().sent();
    multiply(&machine, "sent", 256, |_, _| {});
    fs::write(machine.path(STATE).join("sent/00-note.json"), "{}").expect("a foreign file");
    machine.send(&receiver, "/", OTHER).run().sent();
    let receipts = machine.receipts();
    assert_eq!(receipts.len(), 256);
    for (family, is_kept) in [("FAMILY_0", false), ("FAMILY_1", false), ("FAMILY_2", true), (OTHER, true)] {
        assert_eq!(receipts.iter().any(|known| known["family"] == family), is_kept, "{family}");
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
        multiply(&machine, "pending", 40, |_, lines| lines[0]["url"] = receiver.url("/").into());
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
fn on_a_full_disk_nothing_is_sent_until_there_is_room_and_then_one_record() {
    let Some(namespaces) = offline("m") else { skip!("needs a mount namespace") };
    let namespaces = [namespaces[0].clone(), namespaces[1].replace('n', "")];
    // The long path fills a record's last block, so that the answer's line needs one of its own.
    let long = format!("/{}", "x".repeat(2500));
    let file = "/usr/local/percona/telemetry_uuid";
    for (place, file, path) in [
        ("var/lib", file, "/"),
        ("usr/local", file, "/"),
        ("var/lib", "/var/lib/telemetry_uuid", "/"),
        ("var/lib", "/var/lib/telemetry_uuid", &long),
    ] {
        for options in ["size=4k", "size=8k", "size=12k", "nr_inodes=1", "nr_inodes=2", "nr_inodes=3", "nr_inodes=5"] {
            let (machine, receiver) =
                (Machine::new().with("var/lib/x", "").with("usr/local/x", ""), Receiver::start(&[]));
            let at = machine.path(place);
            let script = format!(
                "mount -t tmpfs -o {options} none {at} || exit 77
                 \"$0\" \"$@\" && \"$0\" \"$@\" && \"$0\" \"$@\" || exit
                 find {at} -name '.*.new' >&2; cat {identity} >&2; echo ROOM >&2
                 mount -o remount,size=1m,nr_inodes=100 {at} && \"$0\" \"$@\" && \"$0\" \"$@\"",
                at = at.display(),
                identity = machine.path(&file[1..]).display()
            );
            let run = machine.send(&receiver, path, FAMILY).args(["-j", file]);
            let ended = run.under(&namespaces).under(["sh", "-c", &script]).run();
            if ended.status == Some(77) {
                skip!("needs to mount a tmpfs: {}", ended.stderr.trim())
            }
            let ended = ended.expect(0);
            assert_eq!(receiver.requests().len(), 1, "{place} {file} {options}: {ended:?}");
            assert!(!ended.stderr.contains(".new"), "{place} {file} {options}: {ended:?}");
            let before = ended.stderr.split("ROOM").next().expect("a line");
            let is_kept = before.contains("instanceId:");
            assert!(is_kept || !before.contains("sent one"), "{place} {file} {options}: {ended:?}");
        }
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
        assert_eq!(machine.pending()[0]["attempts"].as_array().map(Vec::len), Some(3), "{time}");
        let receiver = closed.open(&[]);
        let flushed = flush(&machine, &receiver).run().expect(0);
        assert!(flushed.stderr.contains("sent 1 pending"), "{time}: {flushed:?}");
        // And the other way: made under a right clock, due under the wrong one.
        let (machine, closed) = (Machine::new(), ClosedPort::new());
        fail(&machine, FAMILY, &closed, 3);
        let receiver = closed.open(&[]);
        let flushed = at(flush(&machine, &receiver)).run().expect(0);
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
                // What it is a second name of could be anybody's.
                if what.starts_with("telemetry_uuid: a hard link") {
                    assert!(ended.stderr.contains("not permitted"), "{what}: {ended:?}");
                }
                // An ID that cannot be kept in its file is not reported under.
                if mode != 0o755 && name != "telemetry_uuid" {
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
        let machine = machine.with(&format!("{STATE}/pending/20260101T000000Z-{ID}.jsonl"), planted);
        prepare(&machine);
        let count = || walk(&machine.path("var")).len();
        let before = count();
        let ended = machine.send(&receiver, "/", FAMILY).args(["--verbose"]).run();
        assert_unharmed(what, &machine, &ended);
        assert!(ended.stderr.contains("usr/local/percona/.install-record/sent"), "{what}: {ended:?}");
        flush(&machine, &receiver).run().expect(0);
        assert_eq!(count(), before, "{what}");
    }
    assert!(receiver.requests().iter().all(|request| request["path"] == "/"));
}

#[test]
fn what_is_planted_in_the_state_directory_itself_leads_nowhere() {
    let receiver = Receiver::start(&[]);
    for name in ["pending", "sent", "reported", "bindings", "origins", PLANTED, "pending/.x.new"] {
        // Only root itself can make a hard link there.
        for (what, plant) in PLANTS.into_iter().filter(|(what, _)| *what != "a hard link") {
            let what = format!("{name}: {what}");
            let machine = machine_with_victims().with("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
            let at = machine.path(STATE).join(name);
            fs::create_dir_all(at.parent().expect("a directory")).expect("directory");
            plant(&at, &machine);
            let ended = machine.send(&receiver, "/", FAMILY).run();
            assert_unharmed(&what, &machine, &ended);
            assert_eq!(
                ended.stderr.contains("sent one install record"),
                name != "pending" || what.ends_with(": a directory"),
                "{what}: {ended:?}"
            );
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
    let ended = send(1000, OTHER).expect(0);
    assert!(ended.stderr.contains(".install-record: Operation not permitted"), "{ended:?}");
    assert_eq!(receiver.requests().len(), 1, "what cannot be remembered is not sent");
}
