//! Who waits for how long and how much is kept; full disks, wrong clocks, and what a local attacker plants.

use crate::harness::*;

const DAY: i64 = 86_400;
const RECORD: &str = "pending/20260101T000000Z-13f5fc62-35b4-4716-b3e6-96c761fc204d.jsonl";

/// Puts attempts at these times, in seconds since 1970, in the place of those of each pending record. In each the server
/// asked for that pause.
fn set_attempts(machine: &Machine, times: &[i64], url: &str, retry_after: Option<i64>) {
    let attempt = |at: &i64| {
        let at = chrono::DateTime::from_timestamp(*at, 0).expect("a time");
        let at = at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let attempt = json!({ "at": at, "url": url, "phase": "receive", "why": "429", "retry_after": retry_after });
        format!("{}\n", json!({ "attempt": attempt }))
    };
    for file in machine.files("pending") {
        let text = fs::read_to_string(&file).expect("a record");
        let record = text.split_inclusive('\n').next().expect("a record");
        fs::write(&file, record.to_owned() + &times.iter().map(attempt).collect::<String>()).expect("a record");
    }
}

fn attempts(machine: &Machine) -> Vec<usize> {
    machine.pending().iter().map(|record| record["attempts"].as_array().expect("attempts").len()).collect()
}

// ---- waiting ----

#[test]
fn a_server_that_asks_for_a_pause_has_it_from_every_run_and_product() {
    let (machine, receiver, busy) = (Machine::new(), Receiver::start(&[]), "/status/429?retry-after=3600");
    let seen = || (receiver.requests().len(), machine.pending().len());
    machine.send(&receiver, busy, FAMILY).run().expect(0);
    let id = machine.pending()[0]["id"].clone();
    // The product's own next run, another product's run to the same URL, and a flush.
    for family in [FAMILY, OTHER] {
        machine.send(&receiver, busy, family).run().expect(0).says("pending").says("asked to wait until");
    }
    let flushed = machine.flush(&receiver).args(["--strict"]).run().expect(1);
    flushed.says("2 not delivered (the server asked to wait until ");
    assert_eq!(seen(), (1, 2));
    machine.send(&receiver, "/", "THIRD").run().sent();
    assert_eq!(seen(), (2, 2));
    // When the time has come, it goes under the same ID.
    set_attempts(&machine, &[now() - 2 * 3600], &receiver.url(busy), Some(3600));
    machine.send(&receiver, "/", FAMILY).run().sent();
    assert_eq!(receiver.reports()[2]["id"], id);

    // It is remembered after any number of attempts, and when the record that heard it has been delivered elsewhere.
    let ((machine, closed), receiver) = (Machine::waiting(), Receiver::start(&[]));
    set_attempts(&machine, &[now() - DAY; 700], &closed.url(), None);
    let send = |path, family| machine.send(&receiver, path, family).run().expect(0);
    send("/status/503?retry-after=3600", FAMILY);
    send("/", FAMILY).sent();
    send("/status/503?retry-after=3600", OTHER).says("asked to wait until");
    assert_eq!(receiver.requests().len(), 2);
    // Without a time, a server asks for nothing but another try.
    (0..2).for_each(|_| drop(send("/status/429", "THIRD")));
    assert_eq!(receiver.requests().len(), 4);
}

#[test]
fn a_server_that_cannot_be_reached_is_tried_once_in_a_run() {
    let ((machine, dead), other) = (Machine::waiting(), ClosedPort::new());
    machine.fail(OTHER, &dead);
    machine.report("THIRD", &format!("{}elsewhere", dead.url())).run().expect(0);
    machine.fail("FOURTH", &other);
    // Each URL once a run, the own record before those that wait.
    assert_eq!(attempts(&machine).iter().sum::<usize>(), 1 + 1 + 2 + 3);
    let receiver = other.open(&[]);
    machine.flush(&receiver).run().expect(0).says("sent 1 pending install record, 3 not delivered (connect: ");
    assert_eq!((receiver.requests().len(), machine.pending().len(), machine.receipts().len()), (1, 3, 1));
    // Two more, and what was delivered had one.
    assert_eq!(attempts(&machine).iter().sum::<usize>(), 7 + 2 - 1);
}

#[test]
fn what_waits_goes_to_the_endpoint_of_its_own_run_or_of_its_making_and_is_told() {
    let ((machine, closed), elsewhere) = (Machine::waiting(), Receiver::start(&[]));
    let id = machine.pending()[0]["id"].clone();
    // Another product's run takes it along, to the endpoint that it was made for, where nobody is.
    let other = |strict: &[&str]| machine.send(&elsewhere, "/", OTHER).args(strict);
    other(&["--strict"]).run().expect(1).says("sent one install record of ").says("1 not delivered");
    assert_eq!((elsewhere.requests().len(), attempts(&machine)), (1, vec![2]));
    // What has nothing to report itself takes it along, too.
    other(&[]).run().silent();
    other(&["--strict"]).run().expect(1).says("1 not delivered");
    assert_eq!(attempts(&machine), [4]);
    let again = machine.copied();
    machine.send(&elsewhere, "/", FAMILY).run().sent();
    assert_eq!((&elsewhere.reports()[1]["id"], machine.pending().len()), (&id, 0));
    assert_eq!(machine.receipts().pop().expect("a receipt")["answer"]["url"], elsewhere.url("/"));
    let receiver = closed.open(&[]);
    let run = again.send(&elsewhere, "/", OTHER).env("SSL_CERT_FILE", receiver.ca());
    run.run().expect(0).says("sent 1 pending install record; to say no: ");
    assert_eq!(receiver.reports()[0]["id"], id);
}

#[test]
fn one_products_fault_does_not_stop_the_others() {
    let (machine, closed) = Machine::waiting();
    let wundergraph = ["send", "--profile", "wundergraph", "--set", "command=wunderctl up", "-u", &closed.url()];
    machine.run(wundergraph).run().expect(0);
    assert_eq!(machine.pending().len(), 2);
    let receiver = closed.open(&[]);
    let flush = || machine.flush(&receiver).args(["--strict"]);
    let said = "sent 1 pending install record, 1 not delivered (WG_API_URL: 'http://gateway.internal:9991/";
    flush().env("WG_API_URL", "http://gateway.internal:9991").run().expect(1).says(said);
    assert_eq!(machine.pending()[0]["profile"], "wundergraph");
    flush().run().expect(0);
    assert_eq!((machine.pending().len(), receiver.requests().len()), (0, 2));
}

#[test]
fn ninety_days_end_with_one_more_attempt_and_a_clock_that_jumped_is_no_reason_to_wait() {
    const IN_2200: i64 = 7_258_118_400;
    let (yesterday, long_ago) = (now() - DAY, now() - 92 * DAY);
    for (what, attempts, retry_after, requests) in [
        ("tried after its days were over", &[long_ago, yesterday][..], None, 1),
        ("never tried after them", &[long_ago, now() - 3 * DAY], None, 2),
        ("not old", &[now() - 80 * DAY, yesterday], None, 2),
        ("made in 1970, tried since", &[5, yesterday], None, 2),
        ("made in 2200, tried since", &[IN_2200, yesterday], None, 2),
        ("a pause from 2200", &[IN_2200], Some(i64::MAX), 2),
        ("a pause from 1970", &[1], Some(i64::MAX), 2),
        ("a pause of more than a week", &[now() - 20 * DAY], Some(i64::MAX), 2),
    ] {
        let (machine, closed) = Machine::waiting();
        set_attempts(&machine, attempts, &closed.url(), retry_after);
        let receiver = closed.open(&[]);
        machine.send(&receiver, "/", OTHER).run().sent();
        assert_eq!((receiver.requests().len(), machine.pending().len()), (requests, 0), "{what}");
    }
}

#[test]
fn clocks_that_are_wrong() {
    let emulator = "qemu-x86_64";
    let has_tools = tool(&[emulator, "--version"]).is_some() && tool(&["faketime", "-v"]).is_some();
    needs!(is_static() && has_tools, "the static binary, faketime, and qemu-x86_64, whose clock it can change");
    let receiver = Receiver::start(&[]);
    for year in ["1935", "1969", "1970", "2039", "2200"] {
        let (machine, clock) = (Machine::new(), format!("@{year}-01-01 00:00:10"));
        let send = || machine.send(&receiver, "/", FAMILY).under(["faketime", "-f", &clock, emulator]).env("TZ", "UTC");
        send().run().sent();
        let created = receiver.reports().pop().expect("a report")["createTime"].to_string();
        assert!(created.starts_with(&format!("\"{year}-01-01T00:00:")) && created.len() == 22, "{created}");
        send().run().silent();
    }
}

#[test]
fn records_that_this_version_cannot_read_are_moved_aside_with_one_line() {
    let (machine, closed) = Machine::waiting();
    let file = machine.files("pending").remove(0);
    // Of another version, damaged, and of a version to come.
    for (number, text) in [r#"{"format":1,"profile":"percona","body":""}"#, "\0\n"].iter().enumerate() {
        fs::write(file.with_extension(format!("{number}.jsonl")), text).expect("a record");
    }
    machine.edit_pending(r#"{"format":4,"#, r#"{"format":99,"#);
    let receiver = closed.open(&[]);
    let ended = machine.send(&receiver, "/", FAMILY).run().sent().says("3 unreadable records are now ");
    assert_eq!(ended.stderr.lines().count(), 2, "{ended:?}");
    let left = machine.files("pending");
    assert!(left.len() == 3 && left.iter().all(|file| file.to_string_lossy().ends_with(".unreadable")), "{left:?}");
    machine.send(&receiver, "/", FAMILY).run().silent();
    assert_eq!(receiver.requests().len(), 1);
}

// ---- how much ----

/// Writes `count` copies of the machine's one record into `directory`, each with a name, an ID and a family of its own,
/// and that URL and body.
fn multiply(machine: &Machine, directory: &str, count: usize, url: Option<&str>, body: Option<&str>) {
    let file = machine.files(directory).pop().expect("a record");
    let text = fs::read_to_string(&file).expect("a record");
    let (record, answer) = text.split_once('\n').expect("a record");
    for number in 0..count {
        let mut record: Value = serde_json::from_str(record).expect("JSON");
        let (time, id) = (format!("{:02}:{:02}", number / 60, number % 60), uuid::Uuid::from_u128(number as u128));
        record["family"] = format!("FAMILY_{number}").into();
        record["key"] = format!("{number:064}").into();
        record["id"] = id.to_string().into();
        record["created"] = format!("2026-01-01T00:{time}Z").into();
        for (key, value) in [("url", url), ("body", body)] {
            value.into_iter().for_each(|value| record[key] = value.into());
        }
        let copy = file.with_file_name(format!("20260101T00{}Z-{id}.jsonl", time.replace(':', "")));
        fs::write(copy, format!("{record}\n{answer}")).expect("a record");
    }
}

fn have<const N: usize>(records: &[Value], families: [&str; N]) -> [bool; N] {
    families.map(|family| records.iter().any(|record| record["family"] == family))
}

#[test]
fn pending_records_are_at_most_64_and_512_kib_receipts_256_and_the_oldest_go_first() {
    for (copies, body) in [(63, None), (20, Some("x".repeat(30 << 10)))] {
        let (machine, closed) = Machine::waiting();
        multiply(&machine, "pending", copies, None, body.as_deref());
        machine.fail(OTHER, &closed);
        let kept = machine.status()["pending"].as_array().expect("a list").clone();
        assert_eq!(have(&kept, ["FAMILY_0", "FAMILY_19", FAMILY, OTHER]), [false, true, true, true], "{kept:?}");
        let size: u64 = machine.files("pending").iter().map(|file| fs::metadata(file).expect("a record").len()).sum();
        match body {
            None => assert_eq!((kept.len(), have(&kept, ["FAMILY_1"])), (64, [true])),
            Some(_) => assert!((480 << 10..513 << 10).contains(&size), "{size}"),
        }
    }
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    machine.send(&receiver, "/", FAMILY).run().sent();
    multiply(&machine, "sent", 256, None, None);
    machine.send(&receiver, "/", OTHER).run().sent();
    let receipts = machine.receipts();
    let found = (receipts.len(), have(&receipts, ["FAMILY_0", "FAMILY_1", "FAMILY_2", OTHER]));
    assert_eq!(found, (256, [false, false, true, true]));
}

// ---- machines that have run out of something ----

#[test]
fn on_a_full_disk_nothing_is_sent_until_there_is_room_and_then_one_record() {
    // The long path fills a record's last block, so that the answer's line needs one of its own.
    let (usual, beside) = ("/usr/local/percona/telemetry_uuid", "/var/lib/telemetry_uuid");
    for (place, file, length) in
        [("var/lib", usual, 0), ("usr/local", usual, 0), ("var/lib", beside, 0), ("var/lib", beside, 2500)]
    {
        for options in ["size=4k", "size=8k", "size=12k", "nr_inodes=1", "nr_inodes=2", "nr_inodes=3", "nr_inodes=5"] {
            let machine = Machine::new().with("var/lib/x", "").with("usr/local/x", "");
            let receiver = Receiver::start(&[]);
            let script = format!(
                "mount -t tmpfs -o {options} none {place} || exit 77
                 \"$0\" \"$@\" && \"$0\" \"$@\" && \"$0\" \"$@\" || exit
                 find {place} -name '.*.new' >&2; cat .{file} >&2; echo ROOM >&2
                 mount -o remount,size=1m,nr_inodes=100 {place} && \"$0\" \"$@\" && \"$0\" \"$@\""
            );
            let run = machine.send(&receiver, &format!("/{}", "x".repeat(length)), FAMILY).args(["-j", file]);
            let said = mounted!(run, &script).expect(0).stderr;
            let what = format!("{place} {file} {length} {options}: {said}");
            let before = said.split("ROOM").next().expect("a line");
            assert!(receiver.requests().len() == 1 && !said.contains(".new"), "{what}");
            assert!(before.contains("instanceId:") || !before.contains("sent one"), "{what}");
        }
    }
}

// ---- what an attacker plants ----

/// What must not be touched, and what must not be told.
const SECRET: &str = "root:$6$secret:19000:0:99999:7:::\n";

/// A machine with a secret of root's and a directory of root's, both outside what we keep.
fn with_victims(machine: Machine) -> Machine {
    let machine = machine.with("root/secret", SECRET).with("root/dir/x", "");
    machine.sh("chmod 0600 root/secret");
    machine
}

/// Checks a run among planted things: it ends in time, and neither victim was touched or told.
#[track_caller]
fn assert_unharmed(what: &str, machine: &Machine, ended: &Ended) {
    assert!(ended.status.is_some() && ended.time.as_secs_f64() < 10.0, "{what}: {ended:?}");
    assert_eq!(machine.text("root/secret").as_deref(), Some(SECRET), "{what}");
    assert_eq!(walk(&machine.path("root/dir")).len(), 2, "{what}: {:?}", walk(&machine.path("root/dir")));
    let tells = "find \"$0\" -type f -perm /044 -exec grep -lF '$6$secret' {} + || :";
    let told = tool(&["sh", "-c", tells, &machine.root().display().to_string()]);
    assert_eq!(told.as_deref(), Some(""), "{what}");
}

const PLANTS: [(&str, &str); 7] = [
    ("a link to a file", "ln -sr root/secret"),
    ("a link to a directory", "ln -sr root/dir"),
    ("a dangling link", "ln -sr root/dir/planted"),
    ("a hard link", "ln root/secret"),
    ("a FIFO", "mkfifo"),
    ("a link to a device", "ln -s /dev/zero"),
    ("a directory", "mkdir"),
];

#[test]
fn what_is_planted_beside_the_identity_file_or_in_the_state_directory_leads_nowhere() {
    needs!(is_root(), "root, who can be led to where nobody may go");
    let receiver = Receiver::start(&[]);
    let beside = ["telemetry_uuid", ".telemetry_uuid.new", ".telemetry_uuid.0badcafe.new", ".install-record"];
    let inside = ["pending", "sent", "reported", "bindings", RECORD, "pending/.x.new"];
    for (directory, prepare, names) in [
        // Root has no state directory of its own here either.
        ("usr/local/percona", "chown 65534 usr/local/percona; touch var/lib", &beside[..]),
        ("usr/local/percona", "chmod 777 usr/local/percona", &beside),
        ("usr/local/percona", "chmod 1777 usr/local/percona", &beside),
        (STATE, "", &inside),
    ] {
        for (name, (what, plant)) in names.iter().flat_map(|name| PLANTS.map(|plant| (*name, plant))) {
            let (is_inside, is_hard_link) = (directory == STATE, what == "a hard link");
            if is_inside && is_hard_link {
                // Only root itself can make one there.
                continue;
            }
            let (what, at) = (format!("{name}: {what}, {prepare}"), format!("{directory}/{name}"));
            let machine = with_victims(Machine::new()).with("etc/machine-id", MACHINE_IDS[0]);
            let give_away = if is_inside || is_hard_link { "true" } else { "chown -h 65534" };
            machine.sh(&format!("mkdir -p var $(dirname {at}); {plant} {at}; {give_away} {at}; {prepare}"));
            let [ended, again] = [(); 2].map(|()| machine.send(&receiver, "/", FAMILY).run().expect(0));
            assert_unharmed(&what, &machine, &ended);
            assert_unharmed(&what, &machine, &again);
            let is_sent = ended.stderr.contains("sent one install record");
            if is_inside {
                assert_eq!(is_sent, name != "pending" || what.contains(": a directory"), "{what}: {ended:?}");
            } else if prepare.starts_with("chmod") && name != "telemetry_uuid" {
                assert!(is_sent && again.stderr.is_empty(), "{what}: {ended:?} {again:?}");
            } else if name == "telemetry_uuid" && is_hard_link {
                // What it is a second name of could be anybody's. An ID that cannot be kept is not reported under.
                assert!(ended.stderr.contains("not permitted"), "{what}: {ended:?}");
            }
            for command in ["status", "flush", "off", "forget"] {
                assert_unharmed(&format!("{what}: {command}"), &machine, &machine.run([command]).run());
            }
        }
    }
    // Nor is the switch written through a link.
    for at in ["etc/install-record/off.d", "etc/install-record"] {
        let machine = with_victims(Machine::new());
        machine.sh(&format!("mkdir -p $(dirname {at}); ln -s /root/dir {at}; chown -h 65534 {at}"));
        let ended = machine.run(["off", "--profile", "percona"]).run().expect(1).says("not every switch is written");
        assert_unharmed(at, &machine, &ended);
    }
}

#[test]
fn a_state_directory_that_is_not_ours_alone_is_not_used() {
    needs!(is_root(), "root, to give directories away");
    const BESIDE: &str = "usr/local/percona/.install-record";
    let receiver = Receiver::start(&[]);
    // Where the usual one, in $S, is not used, there is one beside the identity file; unless that is somebody else's, too.
    for (what, prepare, is_sent) in [
        ("somebody else's", "chown 65534 $S", true),
        ("group-writable", "chmod 775 $S", true),
        ("sticky and for all", "chmod 1777 $S", true),
        ("a link of somebody else's", "mv $S var/real; ln -s /var/real $S; chown -h 65534 $S", true),
        ("a file", "rm -r $S; touch $S", true),
        ("a FIFO", "rm -r $S; mkfifo $S", true),
        ("both", "mv $S $B; touch $S; chown -R 65534 $B", false),
    ] {
        // A record that somebody else wants to have sent by root, with root's network and certificates.
        let (machine, closed) = Machine::waiting();
        let machine = with_victims(machine);
        machine.edit_pending("PACKAGE", "\\u001b[31mPLANTED");
        machine.edit_pending(&closed.url(), &receiver.url("/planted"));
        machine.sh(&format!("B={BESIDE}; {prepare}"));
        let before = walk(&machine.path("var")).len();
        for command in [&["show", "-f", FAMILY, "-v", "1"][..], &["status"]] {
            let shown = machine.run(command).run();
            let told = shown.text() + &shown.stderr;
            assert!(!told.contains("PLANTED") && !told.contains('\u{1b}'), "{what}: {shown:?}");
        }
        let ended = machine.send(&receiver, "/", FAMILY).args(["--verbose"]).run().expect(0);
        assert_unharmed(what, &machine, &ended);
        match is_sent {
            true => assert_eq!(walk(&machine.path(&format!("{BESIDE}/sent"))).len(), 2, "{what}: {ended:?}"),
            false => drop(ended.says(&format!("{BESIDE}: Operation not permitted"))),
        }
        machine.flush(&receiver).run().expect(0);
        assert_eq!(walk(&machine.path("var")).len(), before, "{what}");
        if what == "group-writable" {
            // What it holds is out of reach, which is told and no success.
            let told = machine.told();
            for row in ["pending:", "sent:"] {
                let is_told =
                    |line: &str| line.starts_with(row) && line.contains(STATE) && line.contains("nobody else");
                assert!(told.lines().any(is_told), "{told}");
            }
            assert!(machine.status()["unread"].to_string().contains(STATE));
            for command in ["flush --strict", "forget", "off"] {
                machine.run(command.split(' ')).run().expect(1).says(STATE);
            }
        }
    }
    let paths: Vec<Value> = receiver.requests().iter().map(|request| request["path"].clone()).collect();
    assert_eq!(paths, ["/"; 6]);
}
