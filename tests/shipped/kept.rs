//! What is kept where state cannot be written or completed, and who is told of it.

use crate::harness::*;

#[test]
fn off_keeps_what_was_delivered_and_forget_does_not() {
    for command in ["off", "forget"] {
        // A receipt cannot be made of it.
        let (machine, receiver) = (Machine::new().with(&format!("{STATE}/sent"), ""), Receiver::start(&[]));
        machine.send(&receiver, "/", FAMILY).run().expect(0);
        assert_eq!(machine.pending().len(), 1);
        let said = machine.run([command, "--profile", "percona"]).run().expect(0).stderr;
        assert!(!said.contains("1 pending"), "{said}");
        let sent = machine.status()["sent"].as_array().map(Vec::len);
        assert_eq!(sent, Some(usize::from(command == "off")), "{command}");
    }
}

#[test]
fn a_state_directory_that_cannot_be_used_is_told_and_is_no_success() {
    needs!(is_root(), "root");
    let (machine, receiver, closed) = (Machine::new(), Receiver::start(&[]), ClosedPort::new());
    machine.send(&receiver, "/", FAMILY).run().sent();
    machine.fail(OTHER, &closed);
    machine.sh("chmod 775 $S");
    // What comes now is kept beside the identity file, and is not out of reach.
    machine.fail("THIRD", &closed);
    let kept = || walk(&machine.path("usr/local/percona/.install-record/pending")).len() - 1;
    assert_eq!(kept(), 1);
    let text = machine.told();
    for row in ["pending:", "sent:"] {
        let is_told = |line: &str| line.starts_with(row) && line.contains(STATE) && line.contains("nobody else");
        assert!(text.contains("THIRD") && text.lines().any(is_told), "{text}");
    }
    assert!(machine.status()["unread"].to_string().contains(STATE));
    for command in [&["off"][..], &["forget"], &["off"], &["flush", "--strict"]] {
        machine.run(command).run().expect(1).says(STATE);
        assert_eq!(kept(), 0, "{command:?}");
        // After off, a flush would be refused.
        let _ = fs::remove_file(machine.path("etc/install-record/off"));
    }
    assert!(machine.path(STATE).join("pending").exists());
}

#[test]
fn a_state_directory_of_ours_stays_the_place_though_it_cannot_be_written_now() {
    needs!(is_root(), "root");
    let (machine, receiver, closed) = (Machine::of_user(), Receiver::start(&[]), ClosedPort::new());
    let public = receiver.public();
    machine.sh(&format!("mkdir -p $S; chown {USER} $S"));
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
fn what_was_reported_is_silent_though_another_record_waits_on_a_read_only_disk() {
    let ((machine, _closed), receiver) = (Machine::waiting(), Receiver::start(&[]));
    machine.send(&receiver, "/", OTHER).run().sent();
    mounted!(machine.send(&receiver, "/", OTHER), READ_ONLY).silent();
    let status = mounted!(machine.run(["status", "--json"]), READ_ONLY).json();
    assert_eq!([&status["sent"][0]["family"], &status["pending"][0]["family"]], [OTHER, FAMILY]);
    assert!(status["problem"].to_string().contains("Read-only"), "{status}");
}

#[test]
fn status_says_that_the_disk_is_full_and_to_whom_it_tells_nothing() {
    let machine = Machine::new().with("var/lib/x", "");
    for full in ["size=8k", "nr_inodes=2"] {
        let script = format!(
            "mount -t tmpfs -o {full} none var/lib || exit 77
             head -c 99999 /dev/zero >var/lib/fill 2>/dev/null; exec \"$0\" \"$@\""
        );
        // The directory itself could not be made.
        let ended = mounted!(machine.run(["status"]), &script);
        assert!(ended.text().contains("No space left"), "{full} {ended:?}");
    }
    needs!(is_root(), "root, for another user");
    let receiver = Receiver::start(&[]);
    machine.send(&receiver, "/", FAMILY).run().sent();
    let told = machine.run(["status"]).by(USER, &receiver.public()).run().text();
    assert!(told.contains("sent:         nothing that this user may see\n"), "{told}");
}

#[test]
fn a_file_that_is_written_in_place_is_whole_when_the_disk_is_full() {
    let (machine, receiver) = (Machine::new().with(IDENTITY, ""), Receiver::start(&[]));
    let script = format!(
        "mkdir full; mount -t tmpfs -o size=4k none full || exit 77
         seq -f line%04g:kept 400 | head -c 4096 >full/id; cp full/id before; mount --bind full/id {IDENTITY}
         \"$0\" \"$@\"; cmp before {IDENTITY}"
    );
    mounted!(machine.send(&receiver, "/", FAMILY), &script).expect(0).says("No space left");
    assert_eq!(receiver.requests().len(), 0);
}

#[test]
fn a_record_that_cannot_be_read_now_is_not_put_aside() {
    needs!(has_strace(), "strace, and to be allowed to trace");
    let (machine, closed) = Machine::waiting();
    let record = machine.files("pending").remove(0);
    let fault = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=read:error=EIO:when=1+", "-P"];
    machine.report(OTHER, &closed.url()).under(fault).under([&record]).run().expect(0);
    assert!(record.exists());
}
