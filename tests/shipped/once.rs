//! "Exactly one record" against runs at the same moment, other users, full and read-only disks, damage and kills.
//!
//! The number of rounds is what a CI can afford. INSTALL_RECORD_ROUNDS=full takes the full ones.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{
    ClosedPort, FAMILY, IDENTITY, Machine, Receiver, Run, Running, STATE, copy_tree, is_root, offline, wait_until, walk,
};
use crate::skip;

/// `few` rounds in a CI, `full` where somebody asks for all.
pub fn rounds(few: usize, full: usize) -> usize {
    if std::env::var_os("INSTALL_RECORD_ROUNDS").is_some_and(|asked| asked == "full") { full } else { few }
}

/// Numbers that only look random, the same in every run: a linear congruential generator (Knuth's MMIX).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "     {line}");
}

fn reports(receiver: &Receiver) -> Vec<Value> {
    let bodies = (1..=receiver.requests().len()).map(|number| receiver.body(number));
    bodies.map(|body| serde_json::from_slice::<Value>(&body).expect("JSON")["reports"][0].clone()).collect()
}

fn set_of(reports: &[Value], key: &str) -> BTreeSet<String> {
    reports.iter().map(|report| report[key].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn six_sends_and_one_forget_are_two_records_at_most_and_the_id_was_reported() {
    let count = rounds(20, 200);
    let mut posts = [0; 8];
    let mut random = Random(1);
    for round in 0..count {
        let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
        let turn = random.below(7);
        let start = |number| match number {
            number if number == turn => machine.run(["forget", "--profile", "percona"]).spawn(),
            _ => machine.send(&receiver, "/", FAMILY).spawn(),
        };
        let running: Vec<Running> = (0..7)
            .map(|number| {
                std::thread::sleep(Duration::from_millis(random.below(8) as u64));
                start(number)
            })
            .collect();
        running.into_iter().for_each(|running| drop(running.wait().expect(0)));
        let reports = reports(&receiver);
        posts[reports.len().min(7)] += 1;
        assert!(reports.len() <= 2, "round {round}: {reports:?}");
        assert_eq!(reports.len(), set_of(&reports, "id").len(), "round {round}");
        if machine.identity().is_some_and(|text| text.contains("instanceId:")) {
            assert!(set_of(&reports, "instanceId").contains(&machine.instance_id()), "round {round}");
        }
        assert!(machine.pending().is_empty(), "round {round}");
    }
    tell(&format!("six sends and a forget, {count} rounds: posts by number {posts:?}"));
}

#[test]
fn when_off_has_returned_nothing_begins() {
    let count = rounds(12, 200);
    let mut random = Random(2);
    let mut sent = 0;
    for round in 0..count {
        let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
        let running = machine.send(&receiver, "/slow?ms=800", FAMILY).spawn();
        std::thread::sleep(Duration::from_millis(random.below(if round % 2 == 0 { 30 } else { 900 }) as u64));
        machine.run(["off"]).run().expect(0);
        let before = (receiver.connections(), receiver.requests().len());
        assert!(machine.pending().is_empty(), "round {round}: {:?}", machine.pending());
        running.wait().expect(0);
        assert_eq!((receiver.connections(), receiver.requests().len()), before, "round {round}");
        assert!(machine.pending().is_empty(), "round {round}");
        sent += before.1;
    }
    tell(&format!("off at a random moment, {count} rounds: {sent} were under way, none began later"));
}

#[test]
fn a_no_that_comes_while_a_run_waits_for_the_lock_counts() {
    let receiver = Receiver::start(&[]);
    let machine = Machine::new().with(&format!("{STATE}/x"), "").with("etc/install-record/x", "");
    let lock = fs::File::open(machine.path(STATE)).expect("the state directory");
    lock.lock().expect("flock");
    let running = machine.send(&receiver, "/", FAMILY).spawn();
    // proc_locks(5): the arrow is in front of a lock that is waited for.
    let waiting = format!("-> FLOCK ADVISORY WRITE {} ", running.child.id());
    wait_until("the run waits", || {
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        locks.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ").contains(&waiting))
    });
    fs::write(machine.path("etc/install-record/off"), "").expect("the switch");
    drop(lock);
    running.wait().silent();
    assert_eq!((receiver.connections(), machine.identity(), machine.pending().len()), (0, None, 0));
}

#[test]
fn root_and_then_a_user_are_one_record() {
    if !is_root() {
        skip!("needs two users")
    }
    let package = "{\"strapi\":{\"uuid\":\"13f5fc62-35b4-4716-b3e6-96c761fc204d\"}}";
    let (machine, receiver) = (Machine::new().with("srv/app/package.json", package), Receiver::start(&[]));
    let public = Machine::bare().with("ca.pem", fs::read(receiver.ca()).expect("CA")).with_binary("install-record");
    for path in ["srv/app", "srv/app/package.json"] {
        chown(machine.path(path), Some(1000), Some(1000)).expect("chown");
    }
    let run = || {
        let run = machine.run(["send", "--profile", "strapi", "--project", "/srv/app", "-v", "4.1.0"]);
        let run = run.args(["-u", &receiver.url("/"), "-c", "10", "-t", "20"]);
        run.program(public.path("install-record")).env("SSL_CERT_FILE", public.path("ca.pem"))
    };
    run().run().sent();
    for _ in 0..3 {
        run().user(1000).run().silent();
    }
    assert_eq!(receiver.requests().len(), 1);
    let reported = fs::read_to_string(machine.path(STATE).join("reported")).expect("reported");
    assert!(reported.lines().all(|line| line.len() == 64 && line.bytes().all(|b| b.is_ascii_hexdigit())), "{reported}");
}

#[test]
fn where_nothing_can_be_written_nothing_is_sent() {
    if !is_root() {
        skip!("needs another user")
    }
    let (machine, receiver) = (Machine::new().with("var/lib/x", "").with("usr/local/x", ""), Receiver::start(&[]));
    let public = Machine::bare().with("ca.pem", fs::read(receiver.ca()).expect("CA")).with_binary("install-record");
    let before = machine.snapshot();
    for _ in 0..3 {
        let run = machine.send(&receiver, "/", FAMILY).user(1001).program(public.path("install-record"));
        let ended = run.env("SSL_CERT_FILE", public.path("ca.pem")).run().expect(0);
        assert!(ended.stderr.contains("install record not sent ("), "{ended:?}");
    }
    assert_eq!((receiver.connections(), machine.snapshot()), (0, before));
}

#[test]
fn a_read_only_root_sends_nothing() {
    let Some(namespaces) = offline("m") else { skip!("needs a mount namespace") };
    let namespaces = [namespaces[0].clone(), namespaces[1].replace('n', "")];
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    let root = machine.root().display();
    let script = format!(
        "mount --bind {root} {root} && mount -o remount,ro,bind {root} || exit 77; \"$0\" \"$@\" && \"$0\" \"$@\""
    );
    let ended = machine.send(&receiver, "/", FAMILY).under(&namespaces).under(["sh", "-c", &script]).run();
    if ended.status == Some(77) {
        skip!("needs to mount: {}", ended.stderr.trim())
    }
    assert!(ended.expect(0).stderr.contains("install record not sent ("));
    assert_eq!(receiver.connections(), 0);
}

#[test]
fn what_a_power_failure_takes_the_journal_gives_back() {
    let machine_id = "0123456789abcdef0123456789abcdef\n";
    // Before the answer: the ID's file was not on disk yet, missing or empty. The record was.
    for text in [None, Some("")] {
        let (machine, closed) = (Machine::new().with("etc/machine-id", machine_id), ClosedPort::new());
        machine
            .run(["send", "-f", FAMILY, "-v", "1", "-u", &format!("https://127.0.0.1:{}/", closed.port)])
            .run()
            .expect(0);
        let id = machine.instance_id();
        match text {
            None => fs::remove_file(machine.path(IDENTITY)).expect("remove"),
            Some(text) => fs::write(machine.path(IDENTITY), text).expect("empty"),
        }
        let receiver = closed.open(&[]);
        machine.send(&receiver, "/", FAMILY).run().sent();
        assert_eq!((machine.instance_id(), set_of(&reports(&receiver), "instanceId")), (id.clone(), [id].into()));
    }
    // After the answer: no mark, or no file; the record still in pending/, or a receipt already.
    for (what, is_pending, text) in
        [("no mark", true, true), ("no file", true, false), ("a receipt, no mark", false, true)]
    {
        let (machine, receiver) = (Machine::new().with("etc/machine-id", machine_id), Receiver::start(&[]));
        machine.send(&receiver, "/", FAMILY).run().sent();
        let id = machine.instance_id();
        let state = machine.path(STATE);
        if is_pending {
            let sent = walk(&state.join("sent")).pop().expect("a receipt");
            fs::rename(&sent, state.join("pending").join(sent.file_name().expect("a name"))).expect("rename");
        }
        match text {
            true => fs::write(machine.path(IDENTITY), format!("instanceId:{id}\n")).expect("write"),
            false => fs::remove_file(machine.path(IDENTITY)).expect("remove"),
        }
        machine.send(&receiver, "/", FAMILY).run().silent();
        assert_eq!(receiver.requests().len(), 1, "{what}");
        assert_eq!(machine.identity(), Some(format!("instanceId:{id}\n{FAMILY}:1\n")), "{what}");
        assert_eq!((machine.pending().len(), machine.receipts().len()), (0, 1), "{what}");
    }
    // A line that was cut in the middle is none, and what comes next does not become a part of it.
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    let url = format!("https://127.0.0.1:{}/", closed.port);
    let send = || machine.run(["send", "-f", FAMILY, "-v", "1", "-u", &url]).run().expect(0);
    send();
    let file = walk(&machine.path(STATE).join("pending")).pop().expect("a record");
    let mut open = fs::File::options().append(true).open(&file).expect("a record");
    open.write_all(b"{\"answer\":{\"at\":\"2026").expect("a record");
    send();
    assert_eq!(machine.pending()[0]["attempts"].as_array().map(Vec::len), Some(2));
    machine.send(&closed.open(&[]), "/", FAMILY).run().sent();
}

#[test]
fn a_first_send_syncs_four_times_at_most() {
    if crate::harness::tool(&["strace", "-o", "/dev/null", "true"]).is_none() {
        skip!("needs strace, and to be allowed to trace")
    }
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    let trace = machine.path("trace");
    let strace = ["strace", "-qq", "-o", trace.to_str().expect("UTF-8"), "-e", "trace=fsync,fdatasync,sync,syncfs"];
    machine.send(&receiver, "/", FAMILY).under(strace).run().sent();
    let syncs = fs::read_to_string(&trace).expect("trace").lines().filter(|line| line.contains("sync")).count();
    tell(&format!("a first send: {syncs} syncs"));
    assert!((1..=4).contains(&syncs), "{syncs}");
}

/// A machine with everything that the ledger keeps: an ID, a mark, a receipt, a record that waits, and a binding.
fn full_machine() -> (Machine, ClosedPort) {
    let (machine, receiver) =
        (Machine::new().with("etc/machine-id", "0123456789abcdef0123456789abcdef\n"), Receiver::start(&[]));
    machine.send(&receiver, "/", FAMILY).run().sent();
    let closed = ClosedPort::new();
    let url = format!("https://127.0.0.1:{}/", closed.port);
    machine.run(["send", "-f", "PRODUCT_FAMILY_PXC", "-v", "1", "-u", &url]).run().expect(0);
    (machine, closed)
}

#[test]
fn damaged_files_are_no_panic_no_hang_and_no_lost_id() {
    let (original, closed) = full_machine();
    let (count, id) = (rounds(60, 5000), original.instance_id());
    let url = format!("https://127.0.0.1:{}/", closed.port);
    let mut random = Random(3);
    for round in 0..count {
        let machine = Machine::bare();
        copy_tree(original.root(), machine.root());
        let mut files: Vec<_> = walk(&machine.path(STATE)).into_iter().filter(|path| path.is_file()).collect();
        files.push(machine.path(IDENTITY));
        let file = &files[random.below(files.len())];
        let mut bytes = fs::read(file).expect("a file");
        let at = random.below(bytes.len() + 1);
        match round % 4 {
            0 => bytes.truncate(at),
            1 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = random.below(256) as u8),
            2 => bytes = (0..at).map(|_| random.below(256) as u8).collect(),
            _ => drop(bytes.splice(0..at.min(bytes.len()), *b"{\"format\":2,")),
        }
        fs::write(file, &bytes).expect("a file");
        // Of several lines, the first one counts; one that is cut or damaged is no ID.
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let is_identity = file.ends_with("telemetry_uuid");
        let is_whole = !is_identity || text.starts_with(&format!("instanceId:{id}\n"));
        let what = format!("round {round}, {}: {text:?}", file.display());
        let started = Instant::now();
        for arguments in [
            &["status"][..],
            &["send", "-f", FAMILY, "-v", "1", "-u", &url],
            &["send", "-f", "PRODUCT_FAMILY_PXB", "-v", "1", "-u", &url],
            &["show", "-f", FAMILY, "-v", "1"],
        ] {
            let ended = machine.run(arguments).run();
            assert_eq!(ended.status, Some(0), "{what}: {arguments:?} {ended:?}");
            assert!(!ended.stderr.contains("panic"), "{what}: {ended:?}");
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        let now = fs::read(machine.path(IDENTITY)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let now = now.unwrap_or_default();
        assert!(!is_whole || now.lines().next() == Some(&*format!("instanceId:{id}")), "{what}: {now}");
        assert!(is_identity || now.contains(&format!("{FAMILY}:1")), "{what}: {now}");
    }
    tell(&format!("damaged files: {count} rounds"));
}

#[test]
fn kills_at_random_moments_leave_one_record_and_one_id() {
    let count = rounds(40, 1000);
    let mut random = Random(4);
    let receiver = Receiver::start(&[]);
    let mut seen = 0;
    for round in 0..count {
        let machine = Machine::new();
        for _ in 0..2 {
            let mut running = machine.send(&receiver, "/", FAMILY).spawn();
            std::thread::sleep(Duration::from_micros(random.below(25_000) as u64));
            let _ = running.child.kill();
            drop(running.wait());
        }
        // A run that is killed between fork and exec leaves a child that holds the claim until it execs. Until then, the
        // next run takes the record for one that is being sent.
        wait_until("the record is delivered", || {
            machine.send(&receiver, "/", FAMILY).run().expect(0);
            machine.receipts().len() == 1
        });
        let all = reports(&receiver);
        // The receiver may write down late what a killed run of the round before has posted once more.
        let earlier = set_of(&all[..seen], "id");
        let mut new: Vec<Value> = all[seen..].to_vec();
        new.retain(|report| !earlier.contains(report["id"].as_str().expect("an ID")));
        seen = all.len();
        assert_eq!((set_of(&new, "id").len(), set_of(&new, "instanceId").len()), (1, 1), "round {round}: {new:?}");
        assert_eq!(machine.identity(), Some(format!("instanceId:{}\n{FAMILY}:1\n", machine.instance_id())), "{round}");
        assert_eq!((machine.pending().len(), machine.receipts().len()), (0, 1), "round {round}");
    }
    tell(&format!("{} kills at random moments", 2 * count));
}

#[test]
fn the_time_ends_whatever_waits() {
    let late = Duration::from_millis(1100) + Duration::from_secs(1);
    let closed = ClosedPort::new();
    let url = format!("https://127.0.0.1:{}/", closed.port);
    let send = |machine: &Machine| machine.run(["send", "-f", FAMILY, "-v", "1", "-t", "1", "--verbose", "-u", &url]);
    let within = |what: &str, run: Run| {
        let ended = run.run();
        tell(&format!("{what}: {:.2} s of 1.1 s", ended.time.as_secs_f64()));
        assert_eq!(ended.status, Some(0), "{what}: {ended:?}");
        assert!(ended.time < late, "{what}: {ended:?}");
    };
    // Another run's lock.
    let (machine, _closed) = full_machine();
    let lock = fs::File::open(machine.path(STATE)).expect("the state directory");
    lock.lock().expect("flock");
    within("a held lock", send(&machine));
    drop(lock);
    // Nobody reads stderr.
    let script =
        "mkfifo \"$P\"; exec 3<>\"$P\"; dd if=/dev/zero bs=64k count=1 >&3 2>/dev/null; exec \"$0\" \"$@\" 2>&3";
    let machine = Machine::new();
    within("a full stderr", send(&machine).under(["sh", "-c", script]).env("P", machine.path("fifo")));
    // Slow reads, and a flood of names.
    let machine = Machine::new().with("etc/profile.d/x.sh", "");
    let text = "x=1 # nothing that anybody asked for\n".repeat(6800);
    for number in 0..rounds(300, 1000) {
        fs::write(machine.path(&format!("etc/profile.d/{number}.sh")), &text).expect("a file");
    }
    within("slow reads", send(&machine));
    let (machine, _closed) = full_machine();
    for number in 0..rounds(20_000, 400_000) {
        fs::write(machine.path(STATE).join(format!("pending/{number}")), "").expect("a name");
    }
    within("a flood of names", send(&machine));
}

#[test]
fn what_is_ours_is_closed_to_others() {
    let (machine, _closed) = full_machine();
    for path in walk(&machine.path(STATE)) {
        let meta = fs::symlink_metadata(&path).expect("meta");
        let expected = match path.file_name().and_then(|name| name.to_str()) {
            Some("install-record") => 0o711,
            Some("reported") => 0o644,
            _ if meta.is_dir() => 0o700,
            _ => 0o600,
        };
        assert_eq!(meta.permissions().mode() & 0o7777, expected, "{}", path.display());
    }
}
