//! "Exactly one record" against runs at the same moment, other users, read-only disks, damage and kills. The number of
//! rounds is what a CI can afford. INSTALL_RECORD_ROUNDS=full takes the full ones.

use crate::harness::*;

#[test]
fn many_runs_at_once_are_one_record_for_each_family() {
    let mut random = Random(1);
    for (runs, families, path, count, has_kills) in
        [(50, 1, "/slow?ms=300", 1, false), (100, 10, "/", 10, false), (100, 10, "/slow?ms=20", 4, true)]
    {
        for round in 0..count {
            let what = format!("{runs} runs for {families}, kills: {has_kills}, round {round}");
            let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
            let send = |path, number| machine.send(&receiver, path, &format!("FAMILY_{}", number % families));
            let (mut running, mut killed) = (Vec::<Running>::new(), 0);
            for number in 0..runs {
                running.push(send(path, number).spawn());
                if has_kills && random.below(3) == 0 {
                    let victim = running.len() - 1 - random.below(running.len().min(10));
                    killed += usize::from(running[victim].child.0.kill().is_ok());
                }
            }
            for ended in running.into_iter().map(Running::wait) {
                assert!(has_kills || (ended.status, ended.stdout.len()) == (Some(0), 0), "{what}: {ended:?}");
            }
            assert_eq!(killed > 20, has_kills, "{what}: {killed}");
            // What the killed ones left is finished by the next ones.
            (0..families).for_each(|number| drop(send("/", number).run().expect(0)));
            let reports = receiver.reports();
            assert!(has_kills || reports.len() == families, "{what}: {}", reports.len());
            let [ids, found, instances] = ["id", "product_family", "instanceId"].map(|key| set_of(&reports, key));
            assert_eq!((ids.len(), found.len()), (families, families), "{what}");
            assert_eq!(instances, BTreeSet::from([machine.instance_id()]), "{what}");
            let identity = machine.text(IDENTITY).expect("identity");
            let mut marked: Vec<_> = identity.lines().skip(1).map(str::to_owned).collect();
            marked.sort();
            assert_eq!(marked, found.iter().map(|family| format!("{family}:1")).collect::<Vec<_>>(), "{what}");
            assert_eq!((machine.pending().len(), machine.receipts().len()), (0, families), "{what}");
            assert!(walk(machine.root()).iter().all(|path| !path.to_string_lossy().ends_with(".new")), "{what}");
        }
    }
}

#[test]
fn six_sends_and_one_forget_are_two_records_at_most_and_the_id_was_reported() {
    let mut random = Random(1);
    for round in 0..rounds(20, 200) {
        let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
        let (turn, mut running) = (random.below(7), Vec::new());
        for number in 0..7 {
            thread::sleep(Duration::from_millis(random.below(8) as u64));
            let forget = || machine.run(["forget", "--profile", "percona"]);
            running.push(if number == turn { forget() } else { machine.send(&receiver, "/", FAMILY) }.spawn());
        }
        running.into_iter().for_each(|running| drop(running.wait().expect(0)));
        let reports = receiver.reports();
        assert!(reports.len() <= 2, "round {round}: {reports:?}");
        assert_eq!(reports.len(), set_of(&reports, "id").len(), "round {round}");
        if machine.text(IDENTITY).is_some_and(|text| text.contains("instanceId:")) {
            assert!(set_of(&reports, "instanceId").contains(&machine.instance_id()), "round {round}");
        }
        assert!(machine.pending().is_empty(), "round {round}");
    }
}

#[test]
fn when_off_has_returned_nothing_begins() {
    let mut random = Random(2);
    for round in 0..rounds(12, 200) {
        let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
        let seen = || (receiver.connections(), receiver.requests().len(), machine.pending().len());
        let running = machine.send(&receiver, "/slow?ms=800", FAMILY).spawn();
        thread::sleep(Duration::from_millis(random.below(if round % 2 == 0 { 30 } else { 900 }) as u64));
        machine.run(["off"]).run().expect(0);
        let before = seen();
        running.wait().expect(0);
        assert_eq!((seen(), before.2), (before, 0), "round {round}");
    }
}

#[test]
fn a_no_that_comes_while_a_run_waits_for_the_lock_counts() {
    let machine = Machine::new().with(&format!("{STATE}/x"), "").with("etc/install-record/x", "");
    let (receiver, lock) = (Receiver::start(&[]), machine.lock());
    let running = machine.send(&receiver, "/", FAMILY).spawn();
    // proc_locks(5): the arrow is in front of a lock that is waited for.
    let waiting = format!("-> FLOCK ADVISORY WRITE {} ", running.child.0.id());
    wait_until("the run waits", || {
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        locks.split_whitespace().collect::<Vec<_>>().join(" ").contains(&waiting)
    });
    fs::write(machine.path("etc/install-record/off"), "").expect("the switch");
    drop(lock);
    running.wait().silent();
    assert_eq!((receiver.connections(), machine.text(IDENTITY), machine.pending().len()), (0, None, 0));
}

/// In a home or beside a file that a flag names, root's `off` does not look.
#[test]
fn off_waits_for_a_users_run_wherever_it_keeps_its_state() {
    needs!(is_root(), "root");
    for (directory, options) in [
        ("usr/local/percona", "-f PS -v 8"),
        ("data", "-f PS -v 8 -j /data/id"),
        ("home/u", "--profile wundergraph --set command=up"),
    ] {
        let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
        machine.sh(&format!("mkdir -p {directory}; chown {USER}:{USER} {directory}"));
        let (public, run) = (receiver.public(), machine.run(["send"]).args(options.split(' ')));
        let run = run.to(&receiver, "/slow?ms=1500").by(USER, &public).env("HOME", "/home/u").spawn();
        wait_until("it sends", || receiver.connections() == 1);
        machine.run(["off"]).run().expect(0);
        let receipts = walk(&machine.path(directory).join(".install-record/sent"));
        assert_eq!(receipts.len(), 2, "off did not wait for its end: {receipts:?}");
        run.wait().sent();
    }
    // Anybody can hold this lock. What waits is deleted all the same.
    let (machine, _closed) = Machine::waiting();
    let etc = fs::File::open(machine.path("etc")).expect("etc");
    etc.lock_shared().expect("a lock");
    machine.run(["off"]).run().expect(1).says("are off").says("another run is still under way");
    assert_eq!((machine.pending().len(), machine.status()["decision"].take()), (0, json!("skip")));
}

#[test]
fn root_and_then_a_user_are_one_record() {
    needs!(is_root(), "root, for another user");
    let package = format!(r#"{{"strapi":{{"uuid":"{ID}"}}}}"#);
    let (machine, receiver) = (Machine::new().with("srv/app/package.json", package), Receiver::start(&[]));
    let public = receiver.public();
    machine.sh(&format!("chown -R {USER} srv/app"));
    let strapi = ["send", "--profile", "strapi", "--project", "/srv/app", "-v", "4.1.0", "--strict"];
    // What was reported before is no failure under --strict.
    let run = |user| machine.run(strapi).to(&receiver, "/").by(user, &public).run();
    run(0).sent();
    (0..3).for_each(|_| drop(run(USER).silent()));
    assert_eq!(receiver.requests().len(), 1);
    let reported = machine.text("var/lib/install-record/reported").expect("reported");
    assert!(reported.lines().all(|line| line.len() == 64 && line.bytes().all(|b| b.is_ascii_hexdigit())), "{reported}");
}

#[test]
fn where_nothing_can_be_written_nothing_is_sent() {
    let (machine, receiver) = (Machine::new().with("var/lib/x", "").with("usr/local/x", ""), Receiver::start(&[]));
    let (public, before) = (receiver.public(), machine.snapshot());
    let send = || machine.send(&receiver, "/", FAMILY);
    for _ in 0..2 {
        let of_another_user = is_root().then(|| send().by(USER, &public).run());
        let on_a_read_only_root = mounted!(send(), READ_ONLY);
        for ended in of_another_user.into_iter().chain([on_a_read_only_root]) {
            ended.expect(0).says("install record not sent (");
        }
    }
    assert_eq!((receiver.connections(), machine.snapshot()), (0, before));
    // Nor by a flush. What was reported before is silent, whatever waits.
    let (machine, closed) = Machine::waiting();
    machine.send(&receiver, "/", OTHER).run().sent();
    mounted!(machine.send(&receiver, "/", OTHER), READ_ONLY).silent();
    let receiver = closed.open(&[]);
    mounted!(machine.flush(&receiver).args(["--strict"]), READ_ONLY).expect(1).says("Read-only file system");
    assert_eq!(receiver.connections(), 0);
}

/// /var cannot be written for a while. What is kept beside the identity file then is found later, and is found once.
#[test]
fn what_is_kept_in_either_place_is_found() {
    let (machine, closed) = Machine::waiting();
    let machine = machine.with("srv/package.json", format!(r#"{{"strapi":{{"uuid":"{ID}"}}}}"#));
    machine.sh("mkdir srv/db");
    let gone = "mount -t tmpfs -o ro none var || exit 77; exec \"$0\" \"$@\"";
    let read_only = "mount --bind var var && mount -o remount,ro,bind var || exit 77; exec \"$0\" \"$@\"";
    mounted!(machine.report(OTHER, &closed.url()), gone).says("pending in").says("usr/local/percona/.install-record");
    let receiver = closed.open(&[]);
    let strapi = || machine.run(["--profile", "strapi", "-v", "4", "--project", "/srv"]).to(&receiver, "/");
    let service = |family| machine.send(&receiver, "/", family).args(["-j", "/srv/db/id"]);
    mounted!(strapi(), gone).sent();
    mounted!(service("THIRD"), gone).sent();
    for _ in 0..2 {
        machine.flush(&receiver).args(["--strict"]).run().expect(0).says("sent 1 pending install record;");
    }
    // Another run has made the system's own, which this one can only read.
    mounted!(service("FOURTH"), read_only).sent();
    for again in [machine.send(&receiver, "/", FAMILY), machine.send(&receiver, "/", OTHER), strapi()] {
        again.run().silent();
    }
    assert_eq!(receiver.connections(), 5);
}

#[test]
fn what_a_power_failure_takes_the_journal_gives_back() {
    for (what, was_answered, prepare) in [
        // The ID's file was not on disk yet, but the record was.
        ("no answer, no file", false, "rm $F"),
        ("no answer, an empty file", false, ": >$F"),
        ("an answer, no mark", true, "mv $S/sent/* $S/pending; sed -i 2d $F"),
        ("an answer, no file", true, "mv $S/sent/* $S/pending; rm $F"),
        ("a receipt, no mark", true, "sed -i 2d $F"),
    ] {
        let (machine, closed) = (Machine::new().with("etc/machine-id", MACHINE_IDS[0]), ClosedPort::new());
        machine.fail(FAMILY, &closed);
        let (id, receiver) = (machine.instance_id(), closed.open(&[]));
        let send = || machine.send(&receiver, "/", FAMILY).run().expect(0);
        if was_answered {
            send().sent();
        }
        machine.sh(prepare);
        assert_eq!(send().stderr.is_empty(), was_answered, "{what}");
        assert_eq!((receiver.requests().len(), machine.instance_id()), (1, id.clone()), "{what}");
        assert_eq!(receiver.reports()[0]["instanceId"], id, "{what}");
        assert_eq!(machine.text(IDENTITY), Some(format!("instanceId:{id}\n{FAMILY}:1\n")), "{what}");
        assert_eq!((machine.pending().len(), machine.receipts().len()), (0, 1), "{what}");
    }
    // A line that was cut in the middle is none, and what comes next does not become a part of it.
    let (machine, closed) = Machine::waiting();
    machine.sh("printf '{\"answer\":{\"at\":\"2026' >>$(ls $S/pending/*)");
    machine.fail(FAMILY, &closed);
    assert_eq!(machine.pending()[0]["attempts"].as_array().map(Vec::len), Some(2));
    machine.send(&closed.open(&[]), "/", FAMILY).run().sent();
}

#[test]
fn damaged_files_are_no_panic_no_hang_and_no_lost_id() {
    let (original, closed) = Machine::full(&Receiver::start(&[]));
    let (id, url) = (original.instance_id(), closed.url());
    let mut random = Random(3);
    for round in 0..rounds(60, 5000) {
        let machine = original.copied();
        let files = [machine.files(""), vec![machine.path(IDENTITY)]].concat();
        let file = &files[random.below(files.len())];
        let mut bytes = fs::read(file).expect("a file");
        let at = random.below(bytes.len() + 1);
        match round % 4 {
            0 => bytes.truncate(at),
            1 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = random.below(256) as u8),
            2 => bytes = (0..at).map(|_| random.below(256) as u8).collect(),
            _ => drop(bytes.splice(0..at.min(bytes.len()), *b"{\"format\":2,")),
        }
        // A record with another host could leave this computer.
        let text = String::from_utf8_lossy(&bytes);
        if text.split("\"url\":\"").skip(1).any(|url| !url.starts_with("https://127.0.0.1:")) {
            continue;
        }
        fs::write(file, &bytes).expect("a file");
        let what = format!("round {round}, {}: {:?}", file.display(), String::from_utf8_lossy(&bytes));
        // Of several lines, the first one counts; one that is cut or damaged is no ID.
        let has_id = || machine.text(IDENTITY).is_some_and(|text| text.starts_with(&format!("instanceId:{id}\n")));
        let had_id = has_id();
        for arguments in [
            &["status"][..],
            &["send", "-f", FAMILY, "-v", "1", "-u", &url],
            &["send", "-f", "PRODUCT_FAMILY_PXB", "-v", "1", "-u", &url],
            &["show", "-f", FAMILY, "-v", "1"],
        ] {
            let ended = machine.run(arguments).run();
            assert!(ended.status == Some(0) && !ended.stderr.contains("panic"), "{what}: {arguments:?} {ended:?}");
        }
        assert!(!had_id || has_id(), "{what}: {:?}", machine.text(IDENTITY));
        let is_marked = machine.text(IDENTITY).is_some_and(|text| text.contains(&format!("{FAMILY}:1")));
        assert!(is_marked || file.ends_with("telemetry_uuid"), "{what}: {:?}", machine.text(IDENTITY));
    }
}

#[test]
fn kills_at_random_moments_leave_one_record_and_one_id() {
    let mut random = Random(4);
    for round in 0..rounds(40, 1000) {
        let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
        for _ in 0..2 {
            let mut running = machine.send(&receiver, "/", FAMILY).spawn();
            thread::sleep(Duration::from_micros(random.below(25_000) as u64));
            let _ = running.child.0.kill();
            drop(running.wait());
        }
        // A run that is killed between fork and exec leaves a child that holds the claim until it execs. Until then, the
        // next run takes the record for one that is being sent.
        wait_until("the record is delivered", || {
            machine.send(&receiver, "/", FAMILY).run().expect(0);
            machine.receipts().len() == 1
        });
        assert_eq!(["id", "instanceId"].map(|key| set_of(&receiver.reports(), key).len()), [1, 1], "round {round}");
        let marked = format!("instanceId:{}\n{FAMILY}:1\n", machine.instance_id());
        assert_eq!((machine.text(IDENTITY), machine.pending().len()), (Some(marked), 0), "round {round}");
    }
}

#[test]
fn the_time_ends_whatever_waits() {
    let (closed, stalled) = (ClosedPort::new(), Receiver::start(&["--fault", "stall-accept"]));
    for (variable, other, phase) in [
        ("PERCONA_SEND_TIMEOUT", "PERCONA_CONNECT_TIMEOUT", "the time was up"),
        ("PERCONA_CONNECT_TIMEOUT", "PERCONA_SEND_TIMEOUT", "timed out"),
    ] {
        let machine = Machine::new();
        let run = machine.run(["-f", FAMILY, "-v", "1", "-u", &stalled.url("/")]).env(variable, "0.5");
        let ended = run.env(other, "30").run().expect(0).says(phase);
        assert!(ended.time.as_secs_f64() < 2.0, "{variable}: {ended:?}");
    }
    let within = |what: &str, machine: &Machine, run: Run, status, budget| {
        let ended = run.env("P", machine.path("fifo")).run();
        let seconds = ended.time.as_secs_f64();
        tell(&format!("{what}: {seconds:.2} s of {budget} s"));
        assert!(ended.status == Some(status) && seconds < budget + 1.0, "{what}: {ended:?}");
    };
    let report = |machine: &Machine| machine.report(FAMILY, &closed.url()).args(["-t", "1", "--verbose"]);
    let (machine, _closed) = Machine::full(&Receiver::start(&[]));
    let lock = machine.lock();
    within("another run's lock", &machine, report(&machine), 0, 1.1);
    drop(lock);
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    let sent = machine.send(&receiver, "/", FAMILY).args(["-t", "2", "--strict"]);
    for (run, status, budget) in [
        (report(&machine), 0, 1.1),
        (sent, 0, 2.1),
        // Where the line is not understood, the default counts.
        (report(&machine).args(["--bogus"]), 2, 3.1),
        (machine.run(["send", "-v", "8", "-t", "1", "-u", &closed.url()]), 2, 1.1),
        (Run::new().args(["facts", "--root", "/nonexistent"]), 2, 3.1),
    ] {
        let full = "mkfifo $P; exec 3<>$P; dd if=/dev/zero bs=64k count=1 >&3 2>/dev/null; exec \"$0\" \"$@\" 2>&3";
        within("nobody reads stderr", &machine, run.under(["sh", "-c", full]), status, budget);
        fs::remove_file(machine.path("fifo")).expect("a pipe");
    }
    assert_eq!(machine.receipts().len(), 1);
    let machine = Machine::new().with("etc/profile.d/x.sh", "");
    let text = "x=1 # nothing that anybody asked for\n".repeat(6800);
    for number in 0..rounds(300, 1000) {
        fs::write(machine.path(&format!("etc/profile.d/{number}.sh")), &text).expect("a file");
    }
    within("slow reads", &machine, report(&machine), 0, 1.1);
    let (machine, _closed) = Machine::full(&Receiver::start(&[]));
    for number in 0..rounds(20_000, 400_000) {
        fs::write(machine.path(STATE).join(format!("pending/{number}")), "").expect("a name");
    }
    within("a flood of names", &machine, report(&machine), 0, 1.1);
}

#[test]
fn what_is_ours_is_closed_to_others() {
    let (machine, _closed) = Machine::full(&Receiver::start(&[]));
    let list = "find \"$0\" -printf '%y%m %P\\n' | sed 's/[^/]*.jsonl/R/' | sort | paste -sd'|'";
    let listed = tool(&["sh", "-c", list, &machine.path(STATE).display().to_string()]);
    let expected = "d700 pending|d700 sent|d711 |f600 bindings|f600 pending/R|f600 sent/R\n";
    assert_eq!(listed.as_deref(), Some(expected));
}
