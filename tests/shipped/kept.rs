//! What is kept where state cannot be written or completed; who is told of it; and how a run ends that nobody listens to.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use rustix::fs::{FlockOperation, flock};

use crate::harness::*;

const USER: u32 = 1001;

/// Its stderr is a pipe that is full and that nobody reads.
fn unheard(run: Run) -> Ended {
    let script = "cd \"$(mktemp -d)\"; mkfifo pipe; exec 3<>pipe
        timeout 1 dd if=/dev/zero of=pipe bs=64k count=2 2>/dev/null
        exec timeout 20 \"$0\" \"$@\" 2>&3";
    run.under(["sh", "-c", script]).run()
}

#[test]
fn off_keeps_what_was_delivered_and_forget_does_not() {
    for command in ["off", "forget"] {
        // A receipt cannot be made of it.
        let (machine, receiver) = (Machine::new().with(&format!("{STATE}/sent"), ""), Receiver::start(&[]));
        machine.send(&receiver, "/", FAMILY).run().expect(0);
        assert_eq!(machine.pending().len(), 1);
        let said = machine.run([command, "--profile", "percona"]).run().expect(0).stderr;
        assert!(!said.contains("1 pending"), "{said}");
        let sent = machine.run(["status", "--json"]).run().json()["sent"].as_array().expect("a list").len();
        assert_eq!(sent, usize::from(command == "off"), "{command}");
    }
}

#[test]
fn a_state_directory_that_cannot_be_used_is_told_and_is_no_success() {
    needs!(is_root(), "root");
    let (machine, receiver, closed) = (Machine::new(), Receiver::start(&[]), ClosedPort::new());
    machine.send(&receiver, "/", FAMILY).run().sent();
    machine.fail(OTHER, &closed);
    fs::set_permissions(machine.path(STATE), PermissionsExt::from_mode(0o775)).expect("chmod");
    // What comes now is kept beside the identity file, and is not out of reach.
    machine.fail("THIRD", &closed);
    let beside = machine.path("usr/local/percona/.install-record/pending");
    let kept = || fs::read_dir(&beside).map_or(0, Iterator::count);
    assert_eq!(kept(), 1);
    let text = machine.run(["status"]).run().text();
    for row in ["pending:", "sent:"] {
        let is_told = |line: &str| line.starts_with(row) && line.contains(STATE) && line.contains("by others");
        assert!(text.lines().any(is_told), "{text}");
    }
    assert!(text.contains("THIRD"), "{text}");
    let status = machine.run(["status", "--json"]).run().json();
    assert!(status["unread"].as_str().is_some_and(|it| it.contains(STATE)), "{status}");
    machine.run(["off"]).run().expect(1);
    assert_eq!(kept(), 0);
    fs::remove_file(machine.path("etc/install-record/off")).expect("a switch");
    for command in [&["forget"][..], &["off"], &["flush", "--strict"]] {
        let said = machine.run(command).run().expect(1).stderr;
        // After off, a flush is refused.
        assert!(said.contains(STATE), "{command:?}: {said}");
        let _ = fs::remove_file(machine.path("etc/install-record/off"));
    }
    assert!(machine.path(STATE).join("pending").exists());
}

#[test]
fn what_was_reported_is_silent_though_another_record_waits_on_a_read_only_disk() {
    let (machine, receiver, closed) = (Machine::new(), Receiver::start(&[]), ClosedPort::new());
    machine.send(&receiver, "/", FAMILY).run().sent();
    machine.fail(OTHER, &closed);
    let root = machine.root().display();
    let script =
        format!("mount --bind {root} {root} && mount -o remount,ro,bind {root} || exit 77; exec \"$0\" \"$@\"");
    let Some(ended) = machine.send(&receiver, "/", FAMILY).mounted(&script) else {
        return skipped("needs to mount in a namespace");
    };
    ended.silent();
    let Some(status) = machine.run(["status", "--json"]).mounted(&script) else { return };
    let status = status.json();
    assert_eq!((&status["sent"][0]["family"], &status["pending"][0]["family"]), (&FAMILY.into(), &OTHER.into()));
    assert!(status["problem"].as_str().is_some_and(|it| it.contains("Read-only")), "{status}");
}

#[test]
fn roots_status_tells_what_the_owner_of_the_identity_file_keeps() {
    needs!(is_root(), "root, for another user");
    let (machine, receiver, closed) = (Machine::new(), Receiver::start(&[]), ClosedPort::new());
    machine.sh(&format!("mkdir -p usr/local/percona; chown {USER} usr/local/percona"));
    let public = receiver.public();
    machine.send(&receiver, "/", FAMILY).by(USER, &public).run().sent();
    machine.run(["send", "-f", OTHER, "-v", "8", "-u", &closed.url()]).by(USER, &public).run().expect(0);
    let status = machine.run(["status", "--json"]).run().json();
    assert_eq!((&status["sent"][0]["family"], &status["pending"][0]["family"]), (&FAMILY.into(), &OTHER.into()));
}

#[test]
fn status_says_that_the_disk_is_full() {
    let machine = Machine::new().with("var/lib/x", "");
    // No bytes, and no inodes.
    for full in ["size=8k", "nr_inodes=2"] {
        let script = format!(
            "cd {}; mount -t tmpfs -o {full} none var/lib || exit 77
             head -c 99999 /dev/zero >var/lib/fill 2>/dev/null; exec \"$0\" \"$@\"",
            machine.root().display()
        );
        let ended = machine.run(["status"]).mounted(&script);
        let Some(ended) = ended else { return skipped("needs to mount in a namespace") };
        // The directory itself could not be made.
        assert!(ended.text().contains("No space left"), "{full} {ended:?}");
    }
}

/// A file in a shared directory is everybody's, and so is what runs keep beside it. What it says is not.
#[test]
fn root_reaches_what_another_user_keeps_and_follows_none_of_its_words() {
    needs!(is_root(), "root, for another user");
    let (machine, receiver, closed) =
        (Machine::new().with("root/file", "MODE:1\n"), Receiver::start(&[]), ClosedPort::new());
    machine.sh("mkdir -p usr/local/percona; chmod 777 usr/local/percona");
    let public = receiver.public();
    let send = || machine.run(["send", "-f", FAMILY, "-v", "8", "-u", &closed.url()]).by(USER, &public);
    let pending = || machine.run(["status", "--json"]).run().json()["pending"].as_array().map_or(0, Vec::len);
    send().run().expect(0);
    assert_eq!(pending(), 1);
    machine.sh(&format!("sed -i 's,{IDENTITY},root/file,' usr/local/percona/.install-record/pending/*.jsonl"));
    machine.run(["forget"]).run().expect(0);
    assert_eq!((pending(), machine.text("root/file").as_deref()), (0, Some("MODE:1\n")));
    send().run().expect(0);
    machine.run(["off"]).run().expect(0).says("1 pending deleted");
}

#[test]
fn a_file_that_is_written_in_place_is_whole_when_the_disk_is_full() {
    let (machine, receiver) = (Machine::new().with(IDENTITY, ""), Receiver::start(&[]));
    let script = format!(
        "cd {}; mkdir full; mount -t tmpfs -o size=4k none full || exit 77
         seq -f line%04g:kept 400 | head -c 4096 >full/id; cp full/id before; mount --bind full/id {IDENTITY}
         \"$0\" \"$@\"; cmp before {IDENTITY}",
        machine.root().display()
    );
    let ended = machine.send(&receiver, "/", FAMILY).mounted(&script);
    let Some(ended) = ended else { return skipped("needs to mount in a namespace") };
    assert!(ended.expect(0).stderr.contains("No space left"));
    assert_eq!(receiver.requests().len(), 0);
}

#[test]
fn a_file_that_is_replaced_keeps_all_of_its_mode() {
    needs!(is_root(), "root, to give files away");
    let (machine, receiver) = (Machine::new().with(IDENTITY, ""), Receiver::start(&[]));
    let path = machine.path(IDENTITY);
    chown(&path, Some(33), Some(44)).expect("chown");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o4664)).expect("chmod");
    machine.send(&receiver, "/", FAMILY).run().sent();
    let stat = fs::metadata(&path).expect("stat");
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (33, 44, 0o4664));
}

#[test]
fn nobody_who_only_looks_waits_for_another_run() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    machine.send(&receiver, "/", FAMILY).run().sent();
    let state = File::open(machine.path(STATE)).expect("state");
    flock(&state, FlockOperation::LockExclusive).expect("a lock");
    assert_eq!(machine.run(["status", "--json"]).run().json()["sent"][0]["family"], FAMILY);
    machine.run(["show", "-f", OTHER, "-v", "8", "-t", "1"]).run().json();
}

#[test]
fn forget_finds_by_the_receipts_what_it_is_not_told() {
    let (machine, receiver) = (Machine::new().with("srv/data/x", ""), Receiver::start(&[]));
    let machine = machine.with("etc/memgraph/memgraph.conf", "--telemetry-enabled=true\n");
    let send = machine.run(["send", "--profile", "memgraph", "-v", "1", "--state-dir", "/srv/data"]);
    send.args(["-u", &receiver.url("/")]).env("SSL_CERT_FILE", receiver.ca()).run().sent();
    let files = |machine: &Machine| fs::read_dir(machine.path("srv/data")).expect("directory").count();
    assert_eq!(files(&machine), 2);
    machine.run(["forget", "--profile", "memgraph"]).run().expect(0);
    assert_eq!(files(&machine), 1);
    // Now nobody knows any more.
    let said = machine.run(["forget", "--profile", "memgraph"]).run().expect(2).stderr;
    assert!(said.contains("--state-dir DIR is missing"), "{said}");
}

#[test]
fn the_exit_status_does_not_wait_for_anybody_to_read() {
    let receiver = Receiver::start(&[]);
    let send = |machine: &Machine| machine.send(&receiver, "/", FAMILY).args(["-t", "2"]);
    let machine = Machine::new();
    assert_eq!(unheard(send(&machine).args(["--strict"])).status, Some(0));
    assert_eq!(machine.receipts().len(), 1);
    assert_eq!(unheard(send(&Machine::new()).args(["--bogus"])).status, Some(2));
    assert_eq!(unheard(machine.run(["send", "-v", "8", "-t", "1", "-u", "https://127.0.0.1:1/"])).status, Some(2));
    assert_eq!(unheard(Run::new().args(["facts", "--root", "/nonexistent"])).status, Some(2));
}

#[test]
fn a_blank_variable_names_no_proxy_and_a_page_of_url_is_refused() {
    let machine = Machine::new();
    let run = machine.report(FAMILY, "https://localhost:1/").env("https_proxy", " ");
    let said = run.env("HTTPS_PROXY", "http://127.0.0.1:1").run().expect(0).stderr;
    assert!(said.contains("(proxy: 127.0.0.1: "), "{said}");
    let url = format!("https://localhost:1/{}", "x".repeat(8 << 10));
    machine.report(FAMILY, &url).run().expect(2).says("of at most 8192 bytes");
}

#[test]
fn the_kernel_answers_where_there_is_no_proc() {
    let facts = Machine::bare().run(["facts", "--json"]).run().json();
    let release = tool(&["uname", "-r"]).expect("uname");
    assert_eq!(facts["kernel.release"], release.trim());
}

#[test]
fn two_profiles_are_a_mistake_and_a_file_in_the_switchs_place_is_no_switch() {
    let machine = Machine::new();
    let said = machine.run(["off", "--profile", "percona", "--profile", "medusa"]).run().expect(2).stderr;
    assert!(said.contains("--profile is given twice") && !machine.path("etc/install-record").exists(), "{said}");
    let machine = machine.with("etc/install-record", "");
    machine.run(["off"]).run().expect(1);
    machine.run(["on"]).run().expect(0);
}

#[test]
fn on_takes_the_switch_for_all_back_last() {
    let machine = Machine::new().with("etc/install-record/off.d/zzz/x", "");
    machine.run(["off"]).run().expect(0);
    machine.run(["on"]).run().expect(1).says("zzz: Is a directory").says("records stay switched off");
    assert!(machine.path("etc/install-record/off").exists());
}

#[test]
fn what_cannot_be_there_is_no_failure() {
    // A file in the place of a directory.
    let (machine, receiver) = (Machine::new().with("home/me/.config", ""), Receiver::start(&[]));
    machine.send(&receiver, "/", FAMILY).run().sent();
    machine.run(["forget"]).env("HOME", "/home/me").run().expect(0);
    assert!(!machine.path(STATE).exists());
    for command in ["off", "on"] {
        machine.run([command, "--profile", "medusa"]).env("HOME", "/home/me").run().expect(0);
    }
    // On a read-only disk, nothing to delete is no error.
    let machine = Machine::new().with("etc/install-record/profiles/x", "").with(&format!("{STATE}/x"), "");
    let root = machine.root().display();
    let script =
        format!("mount --bind {root} {root} && mount -o remount,ro,bind {root} || exit 77; exec \"$0\" \"$@\"");
    for command in [&["on"][..], &["forget", "--profile", "percona"]] {
        match machine.run(command).mounted(&script) {
            Some(ended) => drop(ended.expect(0)),
            None => return skipped("needs to mount in a namespace"),
        }
    }
}

#[test]
fn a_record_that_cannot_be_read_now_is_not_put_aside() {
    needs!(has_strace(), "strace, and to be allowed to trace");
    let (machine, closed) = Machine::waiting();
    let record = walk(&machine.path(STATE).join("pending")).into_iter().find(|path| path.is_file()).expect("a record");
    let fault = ["strace", "-f", "-qq", "-o", "/dev/null", "-P"].map(str::to_owned).into_iter();
    let fault = fault.chain([record.display().to_string(), "-e".into(), "inject=read:error=EIO:when=1+".into()]);
    machine.report(OTHER, &closed.url()).under(fault).run().expect(0);
    assert!(record.exists());
}

#[test]
fn a_flush_tells_what_it_sent_and_what_was_refused_for_good() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    machine.report(FAMILY, &format!("{}status/400", closed.url())).run().expect(0);
    let receiver = closed.open(&[]);
    let said = machine.flush(&receiver).run().expect(0).stderr;
    assert!(
        said.contains("sent 0 pending install records, 1 not delivered (") && !said.contains("tries again"),
        "{said}"
    );
}

#[test]
fn a_silent_server_does_not_keep_other_products_waiting() {
    let (machine, receiver) = (Machine::new().with("p/x", ""), Receiver::start(&["--plain"]));
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", silent.local_addr().expect("an address"));
    machine.run(["send", "-f", FAMILY, "-v", "8", "-t", "0.2", "-u", &url]).run().expect(0);
    let medusa = ["send", "--profile", "medusa", "--event", "start", "-v", "1", "--project", "/p", "-t", "0.2", "-u"];
    let closed = ClosedPort::new();
    machine.run(medusa).args([closed.url()]).env("HOME", "/").run().expect(0);
    assert_eq!(machine.pending().len(), 2);
    let other = receiver.url("/");
    for record in fs::read_dir(machine.path(STATE).join("pending")).expect("pending").flatten() {
        let text = fs::read_to_string(record.path()).expect("a record");
        fs::write(record.path(), text.replace(&closed.url(), &other)).expect("a record");
    }
    let flushed = machine.run(["flush", "-t", "4"]).env("HOME", "/").run().expect(0).stderr;
    assert!(flushed.contains("sent 1 pending install record, 1 not delivered"), "{flushed}");
}

#[test]
fn a_flush_has_the_time_of_a_products_variable() {
    let (machine, closed) = (Machine::new(), ClosedPort::new());
    machine.report(FAMILY, &format!("{}slow?ms=3500", closed.url())).run().expect(0);
    let receiver = closed.open(&[]);
    let flush = machine.run(["flush"]).env("SSL_CERT_FILE", receiver.ca()).env("PERCONA_SEND_TIMEOUT", "20");
    flush.run().expect(0).says("sent 1 pending install record");
}

/// What comes of a record if its server says `head` and, so many milliseconds later each, the other pieces.
fn answered(profile: &[&str], pieces: &'static [(u64, &str)]) -> Ended {
    use std::io::{Read, Write};
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", server.local_addr().expect("an address"));
    let answers = std::thread::spawn(move || {
        let (mut client, _) = server.accept().expect("a client");
        assert_ne!(client.read(&mut [0; 4096]).expect("a request"), 0);
        for (after, piece) in pieces {
            std::thread::sleep(std::time::Duration::from_millis(*after));
            client.write_all(piece.as_bytes()).expect("a client that listens");
        }
        // The connection stays open until the client goes.
        let _ = client.read(&mut [0; 1]);
    });
    let ended = Machine::new().run(["send", "-u", &url]).args(profile).env("HOME", "/root").run();
    answers.join().expect("the server");
    ended
}

#[test]
fn a_body_is_waited_for_if_it_decides() {
    let percona = ["-f", FAMILY, "-v", "8"];
    let wundergraph = ["--profile", "wundergraph", "-v", "1", "--set", "command=wunderctl up"];
    answered(
        &wundergraph,
        &[
            (0, "HTTP/1.1 200 OK\r\nContent-Length: 46\r\n\r\n"),
            (1500, r#"{"data":{"collectMetricsV1":{"success":true}}}"#),
        ],
    )
    .sent();
    // Bodies without an end, which decide nothing.
    answered(&percona, &[(2200, "HTTP/1.1 200 OK\r\n\r\n{")]).sent();
    answered(&wundergraph, &[(0, "HTTP/1.1 400 Bad\r\nContent-Length: 9\r\n\r\n{")]).expect(0).says("answered 400");
}

/// memgraph's own "yes" was in a file that only the variable of that run named.
#[test]
fn a_flush_asks_where_the_records_run_asked() {
    let closed = ClosedPort::new();
    let machine = Machine::new().with("srv/on.conf", "--telemetry-enabled=true\n").with("srv/data/x", "");
    let send =
        machine.run(["send", "--profile", "memgraph", "-v", "1", "--state-dir", "/srv/data", "-u", &closed.url()]);
    send.env("MEMGRAPH_CONFIG", "/srv/on.conf").run().expect(0);
    let receiver = closed.open(&[]);
    machine
        .sh("echo --telemetry-enabled=false >srv/off.conf; mv srv/on.conf srv/then.conf; cp srv/off.conf srv/on.conf");
    machine.flush(&receiver).run().silent();
    machine.sh("cp srv/then.conf srv/on.conf");
    machine.flush(&receiver).run().expect(0).says("sent 1 pending install record");
}

#[test]
fn a_home_that_no_variable_tells_is_that_of_passwd() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    let user = rustix::process::getuid().as_raw();
    let machine = machine.with("etc/passwd", format!("nobody:x:65534:0::/no:\nme:x:{user}:0::/home/me:\n"));
    let machine = machine.with("etc/memgraph/memgraph.conf", "--telemetry-enabled=true\n").with("srv/data/x", "");
    let memgraph = ["send", "--profile", "memgraph", "-v", "1", "--state-dir", "/srv/data", "--verbose"];
    let send = |machine: &Machine| machine.run(memgraph).args(["-u", &receiver.url("/")]).env("HOME", "");
    let said_no = machine.copied().with("home/me/.memgraph/config", "--telemetry-enabled=false\n");
    send(&said_no).run().expect(0).says("/home/me/.memgraph/config, the product's own file says no");
    send(&machine).env("SSL_CERT_FILE", receiver.ca()).run().expect(0).says("nobody said no").says("sent one");
    // Nobody has told it, or made it: no mistake of the caller's.
    let machine = machine.with("etc/passwd", "root:x:0:0::relative:\n");
    let medusa = ["send", "--profile", "medusa", "--event", "start", "-v", "1", "--project", "/none", "-u"];
    machine.run(medusa).args([receiver.url("/")]).run().expect(0).says("'/none' is not an existing directory");
}

#[test]
fn a_profile_without_end_is_an_error_and_show_names_the_endpoint() {
    let machine = Machine::new();
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let text = format!(r#"{{"name":"deep","consent":{{}},"endpoint":"https://localhost/","body":{deep}}}"#);
    fs::write(machine.path("deep.json"), text).expect("a profile");
    let said = Run::new().args(["check".into(), machine.path("deep.json")]).run().expect(2).stderr;
    assert!(said.contains("recursion limit"), "{said}");
    let shown = machine.run(["show", "-f", FAMILY, "-v", "8", "-u", "https://other.test/x", "--verbose"]).run();
    assert!(shown.stderr.contains("the endpoint is https://other.test/x"), "{shown:?}");
}
