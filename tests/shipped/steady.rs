//! What holds although the place for state, a file, or the time for writing is not what a run would like.

use crate::harness::*;

const BESIDE: &str = "usr/local/percona/.install-record";
const STRAPI: &str = r#"{"strapi":{"uuid":"7b581c0d-89b7-479e-b379-a76ab90b8754"}}"#;

/// Mounts `path` of the machine read-only over itself.
fn read_only(machine: &Machine, path: &str) -> String {
    let path = machine.path(path).display().to_string();
    format!("mount --bind {path} {path} && mount -o remount,ro,bind {path} || exit 77; exec \"$0\" \"$@\"")
}

#[test]
fn a_place_for_state_stays_the_place() {
    let machine = Machine::new().with("var/lib/x", "").with("srv/package.json", STRAPI);
    machine.sh("mkdir -p usr/local/percona");
    let (script, closed) = (read_only(&machine, "var"), ClosedPort::new());
    let Some(waits) = machine.report(FAMILY, &closed.url()).mounted(&script) else {
        return skipped("needs to mount in a namespace");
    };
    waits.says("pending in").says(BESIDE);
    let receiver = closed.open(&[]);
    let strapi = || {
        let run = machine.run(["--profile", "strapi", "-v", "4", "--project", "/srv", "-u", &receiver.url("/")]);
        run.env("SSL_CERT_FILE", receiver.ca())
    };
    strapi().mounted(&script).expect("as before").sent();
    // /var can be written again. What was kept beside the identity file is found there, and is found once.
    machine.flush(&receiver).args(["--strict"]).run().expect(0).says("sent 1 pending install record;");
    machine.send(&receiver, "/", OTHER).run().sent();
    for again in [machine.send(&receiver, "/", FAMILY), machine.send(&receiver, "/", OTHER), strapi()] {
        again.run().silent();
    }
    assert_eq!(receiver.connections(), 3);
}

#[test]
fn a_servers_wait_outlives_the_limit_of_records() {
    let (machine, receiver) = (Machine::new().with("root/x", ""), Receiver::start(&[]));
    let url = receiver.url("/status/429?retry-after=3600");
    let send = |command: &str| {
        let run = machine.run(["--profile", "wundergraph", "--set", command, "-u", &url, "--verbose"]);
        run.env("SSL_CERT_FILE", receiver.ca()).env("HOME", "/root").run().expect(0)
    };
    send("command=up").says("answered 429");
    // The wait is counted in whole seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    (0..70).for_each(|_| drop(send("command=up").says("asked to wait")));
    assert_eq!((receiver.connections(), machine.pending().len()), (1, 64));
}

/// The record that knows of the wait is the oldest one, and was made before the server said so.
#[test]
fn a_servers_wait_outlives_the_limit_of_records_that_were_made_before_it() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    let url = format!("{}status/503?retry-after=3600", closed.url());
    (0..64).for_each(|number| drop(machine.report(&format!("FAMILY_{number}"), &url).run().expect(0)));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let receiver = closed.open(&[]);
    machine.flush(&receiver).run().expect(0).says("64 not delivered");
    let one_more = machine.report("FAMILY_64", &url).env("SSL_CERT_FILE", receiver.ca());
    one_more.run().expect(0).says("asked to wait");
    assert_eq!((receiver.requests().len(), machine.pending().len()), (1, 64));
}

/// A service without write access to /var keeps on reporting when a package has made the system's directory.
#[test]
fn the_place_beside_is_used_where_the_systems_own_cannot_be_written() {
    let (machine, receiver) = (Machine::new().with("var/lib/x", ""), Receiver::start(&[]));
    machine.sh("mkdir -p usr/local/percona srv/db");
    let script = read_only(&machine, "var");
    let service = |family: &str| machine.send(&receiver, "/", family).args(["-j", "/srv/db/id"]);
    let Some(first) = service(FAMILY).mounted(&script) else {
        return skipped("needs to mount in a namespace");
    };
    first.sent();
    machine.send(&receiver, "/", FAMILY).run().sent();
    service(OTHER).mounted(&script).expect("as before").sent();
}

#[test]
fn a_flush_sends_nothing_that_could_not_be_remembered() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    machine.fail(FAMILY, &closed);
    let receiver = closed.open(&[]);
    let flush = machine.run(["flush", "--strict"]).env("SSL_CERT_FILE", receiver.ca());
    let Some(ended) = flush.mounted(&read_only(&machine, "var")) else {
        return skipped("needs to mount in a namespace");
    };
    ended.expect(1).says("Read-only file system");
    assert_eq!(receiver.connections(), 0);
}

#[test]
fn forget_goes_on_after_a_fault() {
    let (machine, receiver) = (Machine::new().with("srv/package.json", STRAPI), Receiver::start(&[]));
    let strapi = machine.run(["--profile", "strapi", "-v", "4", "--project", "/srv", "-u", &receiver.url("/")]);
    strapi.env("SSL_CERT_FILE", receiver.ca()).run().sent();
    machine.sh("mkdir -p usr/local/percona/telemetry_uuid");
    machine.run(["forget"]).run().expect(1).says("telemetry_uuid");
    assert_eq!((machine.receipts().len(), machine.text(&format!("{STATE}/reported"))), (0, None));
}

#[test]
fn status_says_why_an_id_or_a_record_cannot_be_kept() {
    let machine = Machine::new().with("usr/local/percona/telemetry_uuid", "").with("var/lib/x", "");
    let problem = |machine: &Machine, path: &str| {
        let status = machine.run(["status", "--json"]).mounted(&read_only(machine, path))?;
        Some(status.json()["problem"].as_str().unwrap_or_default().to_owned())
    };
    let Some(of_file) = problem(&machine, "usr/local/percona/telemetry_uuid") else {
        return skipped("needs to mount in a namespace");
    };
    assert!(of_file.contains("telemetry_uuid: Read-only file system"), "{of_file}");
    assert_eq!(problem(&machine, "etc").expect("as before"), "");
    // A file with an ID needs no change, and a directory in the way is no place for records.
    let machine = Machine::new().with(&format!("{STATE}/pending"), "");
    machine.sh(&format!("chmod -R go-w {STATE}"));
    let of_pending = machine.status()["problem"].to_string();
    assert!(of_pending.contains("install-record: Not a directory"), "{of_pending}");
}

#[test]
fn status_shows_both_ids_of_a_product() {
    let (machine, receiver) = (Machine::new().with("srv/x", "").with("root/x", ""), Receiver::start(&[]));
    let medusa = |args: &[&str]| {
        let run = machine.run(args).args(["--profile", "medusa", "--project", "/srv", "-u", &receiver.url("/")]);
        run.env("SSL_CERT_FILE", receiver.ca()).env("HOME", "/root").run()
    };
    medusa(&["send", "--event", "start"]).sent();
    let status = medusa(&["status", "--json"]).json();
    let project = machine.text("srv/.medusa-project-id").expect("an ID");
    assert_eq!(status["project_id"], project.trim());
    assert!(medusa(&["status"]).text().contains(&format!("; project_id {}\n", project.trim())));
}

/// Answers are noted when they come, not when the last one is there.
#[test]
fn an_answer_is_on_disk_before_the_next_one_comes() {
    let (machine, receiver, closed) = (Machine::new(), Receiver::start(&[]), ClosedPort::new());
    let at_once = receiver.url("/at-once");
    for family in [FAMILY, OTHER] {
        machine.fail(family, &closed);
    }
    let mut urls = [at_once, receiver.url("/stall")].into_iter();
    let pending = machine.path(STATE).join("pending");
    let mut files: Vec<_> = fs::read_dir(&pending).expect("records").flatten().map(|file| file.path()).collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).expect("a record");
        fs::write(&file, text.replace(&closed.url(), &urls.next().expect("a URL"))).expect("a record");
    }
    let running = machine.flush(&receiver).args(["-t", "60"]).spawn();
    wait_until("the second one stalls", || receiver.requests().len() == 2);
    wait_until("the first answer is noted", || machine.pending().iter().any(|record| !record["answer"].is_null()));
    drop(running);
}

#[test]
fn a_file_is_never_roots_and_setuid() {
    needs!(is_root() && has_strace(), "root, and strace");
    let (machine, receiver) = (Machine::new().with("usr/local/percona/telemetry_uuid", "x\n"), Receiver::start(&[]));
    machine.sh("cd usr/local/percona; chmod 775 .; chown 0:1001 .; chown 1001:1001 *; chmod 6777 *");
    let kill = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=fchown:signal=KILL:when=1"];
    machine.send(&receiver, "/", FAMILY).under(kill).run();
    for file in walk(&machine.path("usr/local/percona")).iter().filter(|file| file.is_file()) {
        let (mode, user, _) = machine.owner(file);
        assert!(user != 0 || mode & 0o7077 == 0, "{file:?} {mode:o}");
    }
    machine.send(&receiver, "/", FAMILY).run().sent();
    assert_eq!(machine.owner("usr/local/percona/telemetry_uuid").0, 0o6777);
}

/// In a user namespace, chown(2) knows only the IDs that are mapped.
#[test]
fn a_file_whose_owner_cannot_be_given_is_written_in_place() {
    needs!(is_root() && has_strace(), "root, and strace");
    let (machine, receiver) = (Machine::new().with("usr/local/percona/telemetry_uuid", "x:y\n"), Receiver::start(&[]));
    machine.sh("chgrp 1001 usr/local/percona/telemetry_uuid; chmod 664 usr/local/percona/telemetry_uuid");
    let inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=fchown:error=EINVAL"];
    machine.send(&receiver, "/", FAMILY).under(inject).run().sent();
    let text = machine.text("usr/local/percona/telemetry_uuid").expect("a file");
    assert!(text.contains("x:y\n") && text.ends_with(":1\n"), "{text}");
    assert_eq!(machine.owner("usr/local/percona/telemetry_uuid").2, 1001);
}

/// The directory that holds the state of an ordinary user is made for the identity file.
#[test]
fn missing_directories_are_as_closed_as_the_identity_file() {
    needs!(is_root(), "root, for another user");
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    machine.sh("mkdir -p home/u srv/p; chown 1001:1001 home/u srv/p");
    let medusa = ["--profile", "medusa", "--event", "start", "--project", "/srv/p", "-u", &receiver.url("/")];
    machine.run(medusa).by(1001, &receiver.public()).env("HOME", "/home/u").run().sent();
    for directory in ["home/u/.config", "home/u/.config/medusa"] {
        assert_eq!(machine.owner(directory), (0o700, 1001, 1001), "{directory}");
    }
}

#[test]
fn a_flush_makes_no_directory_that_is_gone_and_says_so() {
    needs!(is_root(), "root, for another user");
    let (machine, receiver, closed) = (Machine::new(), Receiver::start(&[]), ClosedPort::new());
    machine.sh("mkdir -p d/old; chown -R 1001 d");
    let public = receiver.public();
    let send = ["send", "-f", FAMILY, "-v", "8", "-j", "/d/old/id", "-u", &closed.url()];
    machine.run(send).by(1001, &public).run().expect(0);
    machine.sh("mv d/old d/new");
    let flush = machine.run(["flush", "--strict"]).env("PERCONA_TELEMETRY_CONFIG_FILE_PATH", "/d/new/id");
    flush.by(1001, &public).run().expect(1).says("/d/old");
    assert!(!machine.path("d/old").exists());
}

/// Records wait in both places: /var could not be used for a while.
#[test]
fn what_waits_in_either_place_is_delivered() {
    let machine = Machine::new().with("var/lib/x", "").with("usr/local/percona/x", "");
    let closed = ClosedPort::new();
    machine.fail(FAMILY, &closed);
    let var = machine.path("var").display().to_string();
    let script = format!("mount -t tmpfs -o ro none {var} || exit 77; exec \"$0\" \"$@\"");
    let Some(waits) = machine.report(OTHER, &closed.url()).mounted(&script) else {
        return skipped("needs to mount in a namespace");
    };
    waits.says("pending in").says(BESIDE);
    let receiver = closed.open(&[]);
    for _ in 0..2 {
        machine.flush(&receiver).args(["--strict"]).run().expect(0).says("sent 1 pending install record;");
    }
    [FAMILY, OTHER].into_iter().for_each(|family| drop(machine.send(&receiver, "/", family).run().silent()));
}

#[test]
fn a_clone_posts_nothing_of_its_original_that_a_server_held_up() {
    let (machine, receiver) = (Machine::new().with("etc/machine-id", "1".repeat(32)), Receiver::start(&[]));
    machine.send(&receiver, "/status/500", FAMILY).run().expect(0);
    machine.send(&receiver, "/status/429?retry-after=3600", FAMILY).run().expect(0);
    let machine = machine.with("etc/machine-id", "2".repeat(32));
    machine.send(&receiver, "/", FAMILY).run().sent();
    assert_eq!((receiver.requests().len(), set_of(&receiver.reports(), "instanceId").len()), (3, 2));
}

#[test]
fn root_is_the_directory_that_is_given_and_no_other() {
    // The root of another mount namespace reads `/`, and a working directory that is gone has no path.
    let of_process =
        "mount --bind ROOT ROOT && mount --make-private ROOT && mkfifo ROOT/wait && mkdir ROOT/old || exit 77
        unshare -m sh -c 'exec 3<>ROOT/wait; cd ROOT && pivot_root . old && read x <&3' >/dev/null 2>&1 &
        sleep 0.5; \"$0\" status --profile percona --root /proc/$!/root; echo >ROOT/wait";
    let of_gone = "mount -t tmpfs none ROOT && mkdir -p ROOT/etc/install-record ROOT/proc/1 && cd ROOT || exit 77
        : >etc/install-record/off; umount -l ROOT; \"$0\" status --profile percona --root . 2>&1 || :";
    for (script, said) in [(of_process, "records are switched off"), (of_gone, "there is no such directory")] {
        let machine = Machine::new().with("etc/install-record/off", "");
        let script = script.replace("ROOT", &machine.root().display().to_string());
        let Some(status) = machine.run(["status"]).mounted(&script) else {
            return skipped("needs to mount in a namespace");
        };
        assert!(status.text().contains(said), "{script}: {status:?}");
    }
}

#[test]
fn root_opens_no_device_that_a_users_link_leads_to() {
    needs!(is_root() && has_strace(), "root, and strace");
    let machine = Machine::new().with("home/u/.config/medusa/x", "");
    machine.sh(
        "mkdir dev; mknod dev/device c 1 5; ln -s /dev/device home/u/.config/medusa/config.json; chown -hR 1001 home/u",
    );
    let log = machine.path("calls");
    let trace = ["strace", "-f", "-qq", "-e", "trace=openat", "-o"].map(str::to_owned);
    let trace = trace.into_iter().chain([log.display().to_string()]);
    let send =
        ["--profile", "medusa", "--event", "start", "--project", "/srv", "--verbose", "-u", "https://127.0.0.1:1/"];
    machine.run(send).env("HOME", "/home/u").under(trace).run().expect(0).says("config.json, the product's own file");
    let calls = fs::read_to_string(log).expect("calls");
    let mut opened = calls.lines().filter(|line| line.contains("\"device\""));
    assert_eq!(opened.find(|line| !line.contains("O_PATH")), None, "{calls}");
    assert!(calls.contains("\"device\""), "{calls}");
}

/// A kill between the two calls of a file that is written in place must not leave an old mark under a new ID.
#[test]
fn a_file_that_is_written_in_place_never_has_old_marks_under_a_new_id() {
    needs!(is_root() && has_strace(), "root, and strace");
    for (call, fault) in [("ftruncate", "signal=KILL"), ("pwrite64", "signal=KILL"), ("pwrite64", "error=EIO")] {
        let old = format!("instanceId:no-uuid-{}\n{FAMILY}:1\n{OTHER}:1\nnote:keep me\n", "x".repeat(40));
        let (machine, receiver) = (Machine::new().with("usr/local/percona/telemetry_uuid", &old), Receiver::start(&[]));
        let at = machine.path("usr/local/percona/telemetry_uuid").display().to_string();
        let script = format!("mount --bind {at} {at} || exit 77; exec \"$0\" \"$@\"");
        let inject = format!("inject={call}:{fault}:when=1");
        let kill = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject].map(str::to_owned);
        if machine.send(&receiver, "/", FAMILY).under(kill).mounted(&script).is_none() {
            return skipped("needs to mount in a namespace");
        }
        machine.send(&receiver, "/", FAMILY).mounted(&script).expect("as before").sent();
        let text = machine.text("usr/local/percona/telemetry_uuid").expect("a file");
        assert!(text.contains("\nnote:keep me\n"), "{call} {fault}: {text}");
    }
}

/// Its state is in a home, where root's `off` does not look.
#[test]
fn off_waits_for_the_runs_of_other_users() {
    needs!(is_root(), "root, for another user");
    let (machine, receiver) = (Machine::new().with("etc/x", ""), Receiver::start(&[]));
    machine.sh("mkdir -p home/u; chown 1001:1001 home/u");
    let send = ["--profile", "wundergraph", "--set", "command=up", "-t", "9", "-u", &receiver.url("/slow?ms=1500")];
    let public = receiver.public();
    let run = machine.run(send).by(1001, &public).env("HOME", "/home/u").spawn();
    wait_until("the request", || receiver.connections() == 1);
    machine.run(["off"]).run().expect(0);
    let receipts = machine.path("home/u/.install-record/sent");
    assert!(receipts.exists(), "the run is still under way");
    run.wait().sent();
    // Anybody can hold this lock. What waits is deleted all the same.
    let machine = machine.with("etc/install-record/x", "");
    machine.sh("rm etc/install-record/off");
    let closed = ClosedPort::new();
    machine.fail(FAMILY, &closed);
    let etc = fs::File::open(machine.path("etc")).expect("etc");
    etc.lock_shared().expect("a lock");
    machine.run(["off"]).run().expect(1).says("are off").says("another run is still under way");
    assert_eq!((machine.pending().len(), machine.path("etc/install-record/off").exists()), (0, true));
}
