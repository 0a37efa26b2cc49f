//! The identity file as others leave it, root in another user's directories, and machines that were cloned.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Gid, RenameFlags, Uid, renameat_with};

use crate::harness::*;
use crate::vendors::assert_is;

/// A machine with this identity file, which `prepare` changes as `$F`.
fn machine_with(text: &str, prepare: &str) -> Machine {
    let machine = Machine::new().with(IDENTITY, text);
    machine.sh(prepare);
    machine
}

#[test]
fn owner_group_and_mode_stay_as_they_are() {
    needs!(is_root(), "root, to give files away");
    let receiver = Receiver::start(&[]);
    for (mode, user, group) in [(0o664, 0, 999), (0o640, 998, 999), (0o600, 0, 0), (0o4664, 33, 44)] {
        let prepare = format!("chown {user}:{group} $F; chmod {mode:o} $F");
        let machine = machine_with(&format!("instanceId:{ID}\n"), &prepare);
        machine.send(&receiver, "/", FAMILY).run().sent();
        assert_eq!(machine.text(IDENTITY), Some(format!("instanceId:{ID}\n{FAMILY}:1\n")));
        assert_eq!(machine.owner(IDENTITY), (mode, user, group));
    }
    let machine = Machine::of_user();
    machine.send(&receiver, "/", FAMILY).run().sent();
    machine.send(&receiver, "/", FAMILY).run().silent();
    let owners = [IDENTITY, "usr/local/percona"].map(|path| machine.owner(path));
    assert_eq!(owners, [(0o644, USER, USER), (0o755, USER, USER)]);
}

#[test]
fn where_it_cannot_be_replaced_it_is_written_in_place() {
    needs!(is_root(), "root, to give files away");
    let receiver = Receiver::start(&[]);
    let public = receiver.public();
    // A user who may write the file and not its directory, and has state of his own.
    let own_state = format!("mkdir -p $S; chown {USER} $S; chown 0:{USER} $F; chmod 664 $F");
    for (id, rest) in [("", ""), (ID, "other:x\n")] {
        let text = if id.is_empty() { String::new() } else { format!("instanceId:{id}\n{rest}") };
        let machine = machine_with(&text, &own_state);
        let file = || (fs::metadata(machine.path(IDENTITY)).expect("meta").ino(), machine.owner(IDENTITY));
        let (before, send) = (file(), || machine.send(&receiver, "/", FAMILY).by(USER, &public).run());
        send().sent();
        send().silent();
        let new = machine.instance_id();
        assert_eq!(machine.text(IDENTITY), Some(format!("instanceId:{new}\n{rest}{FAMILY}:1\n")));
        assert_eq!((file(), id.is_empty() || id == new), (before, true));
    }
    // A limit on the size of files is a disk that is full in the middle of a line: nothing is written in part.
    let text = format!("instanceId:{ID}\n{}", "other:1234567890\n".repeat(1000));
    let machine = machine_with(&text, &own_state);
    let send = || machine.send(&receiver, "/", FAMILY).by(USER, &public);
    send().under(["prlimit", &format!("--fsize={}", text.len() + 10)]).run().expect(0);
    assert_eq!((machine.text(IDENTITY), receiver.requests().len()), (Some(text.clone()), 3));
    send().run().silent();
    assert_eq!((machine.text(IDENTITY), receiver.requests().len()), (Some(format!("{text}{FAMILY}:1\n")), 3));
    let machine = machine_with("", "touch volume");
    let mount = format!("mount --bind volume {IDENTITY} || exit 77; \"$0\" \"$@\" && \"$0\" \"$@\"");
    mounted!(machine.send(&receiver, "/", FAMILY), &mount).sent();
    let text = machine.text("volume").expect("the volume");
    assert!(text.starts_with("instanceId:") && text.ends_with(&format!("\n{FAMILY}:1\n")), "{text}");
    assert_eq!(receiver.requests().len(), 4);
}

#[test]
fn a_fault_while_it_is_written_leaves_nothing_that_is_wrong() {
    needs!(is_root() && has_strace(), "root, and strace");
    let receiver = Receiver::start(&[]);
    let send = |machine: &Machine, fault| {
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={fault}")];
        machine.send(&receiver, "/", FAMILY).under(strace)
    };
    // In a user namespace, chown(2) knows only the IDs that are mapped. Then it is written in place.
    let machine = machine_with("x:y\n", "chgrp 1001 $F; chmod 664 $F");
    send(&machine, "fchown:error=EINVAL").run().sent();
    let text = machine.text(IDENTITY).expect("a file");
    assert!(text.contains("x:y\n") && text.ends_with(":1\n"), "{text}");
    assert_eq!(machine.owner(IDENTITY), (0o664, 0, 1001));
    // A copy of a user's file is never root's and setuid.
    let prepare = "cd usr/local/percona; chmod 775 .; chown 0:1001 .; chown 1001:1001 *; chmod 6777 *";
    let machine = machine_with("x\n", prepare);
    send(&machine, "fchown:signal=KILL:when=1").run();
    for file in walk(&machine.path("usr/local/percona")).iter().filter(|file| file.is_file()) {
        let (mode, user, _) = machine.owner(file);
        assert!(user != 0 || mode & 0o7077 == 0, "{file:?} {mode:o}");
    }
    // Old marks never stand under a new ID, whatever of it is written in place.
    let mount = format!("mount --bind {IDENTITY} {IDENTITY} || exit 77; exec \"$0\" \"$@\"");
    for fault in ["ftruncate:signal=KILL:when=1", "pwrite64:signal=KILL:when=1", "pwrite64:error=EIO:when=1"] {
        let old = format!("instanceId:no-uuid-{}\n{FAMILY}:1\n{OTHER}:1\nnote:keep me\n", "x".repeat(40));
        let machine = machine_with(&old, "");
        mounted!(send(&machine, fault), &mount);
        mounted!(machine.send(&receiver, "/", FAMILY), &mount).sent();
        assert!(machine.text(IDENTITY).is_some_and(|text| text.contains("\nnote:keep me\n")), "{fault}");
    }
}

/// tests/roots/expected has the variables of what a record holds.
#[test]
fn a_given_id_counts_where_none_is_stored_and_a_flag_names_the_file_before_a_variable() {
    const STORED: &str = "6e5ff5d4-5617-41ee-8c99-0242ac120002";
    let (receiver, injected) = (Receiver::start(&[]), format!("{ID}\nX:1"));
    let call = |machine: &Machine| machine.run(["-f", FAMILY, "-v", "8"]).to(&receiver, "/");
    let reported = || receiver.reports().pop().expect("a report")["instanceId"].as_str().expect("an ID").to_owned();
    for (stored, given, expected) in
        [("", ID, ID), (STORED, ID, STORED), ("junk", ID, ID), ("", "junk", ""), ("", &injected, "")]
    {
        let machine = Machine::new().with(IDENTITY, format!("instanceId:{stored}\n"));
        call(&machine).args(["-i", given]).run().sent();
        let id = machine.instance_id();
        assert_is("uuid4", &id);
        assert!(if expected.is_empty() { id != ID } else { id == expected }, "{stored} {given}: {id}");
        assert_eq!(reported(), id);
    }
    let machine = Machine::new();
    for (flag, file) in [(&[][..], "srv/by-variable"), (&["-j", "/srv/by-flag"], "srv/by-flag")] {
        let run = call(&machine).args(flag).env("PERCONA_TELEMETRY_URL", "https://127.0.0.1:1/");
        run.env("PERCONA_TELEMETRY_CONFIG_FILE_PATH", "/srv/by-variable").run().sent();
        assert_eq!(machine.text(file), Some(format!("instanceId:{}\n{FAMILY}:1\n", reported())));
    }
    assert_eq!(machine.text(IDENTITY), None);
}

#[test]
fn links_of_root_are_followed_and_those_of_others_are_not() {
    needs!(is_root(), "root, to give links away");
    let receiver = Receiver::start(&[]);
    for (prepare, is_followed) in [
        ("mv $F data/uuid; ln -s /data/uuid $F", true),
        ("rm $F; ln -s /data/uuid $F", true),
        ("rm $F; ln -s /data/uuid $F; chown -h 1001 $F", false),
    ] {
        let machine = machine_with(&format!("instanceId:{ID}\n"), &format!("mkdir data; {prepare}"));
        let [first, second] = [(); 2].map(|()| machine.send(&receiver, "/", FAMILY).run().expect(0).stderr);
        let said = if is_followed { "sent one install record" } else { "install record not sent (" };
        assert!(first.contains(said) && second.is_empty() == is_followed, "{prepare}: {first} {second}");
        let is_marked = machine.text("data/uuid").map(|text| text.ends_with(&format!("{FAMILY}:1\n")));
        assert_eq!(is_marked, is_followed.then_some(true), "{prepare}");
        assert!(fs::symlink_metadata(machine.path(IDENTITY)).expect("meta").is_symlink(), "{prepare}");
    }
    let reports = receiver.reports();
    assert_eq!((reports.len(), reports[0]["instanceId"] == ID, reports[1]["instanceId"] == ID), (2, true, false));
}

/// percona-telemetry-agent, or its packages, write the file anew, in place or not, with a line of their own.
#[test]
fn the_agent_and_we_lose_nothing_of_each_other() {
    let (machine, receiver, count) = (Machine::new(), Receiver::start(&[]), rounds(30, 500));
    let mut id = None;
    for round in 0..count {
        machine.send(&receiver, "/", &format!("FAMILY_{round}")).run().sent();
        assert_eq!(machine.instance_id(), *id.get_or_insert_with(|| machine.instance_id()), "round {round}");
        let write = if round % 2 == 0 { "cat new >$F" } else { "mv new $F" };
        machine.sh(&format!(
            "{{ sed -n 's/^instanceId: */instanceId: /p' $F; grep -v '^instanceId\\|^config_write_check' $F
             echo config_write_check:{round}; }} >new; {write}"
        ));
        let text = machine.text(IDENTITY).expect("identity");
        assert!((0..=round).all(|number| text.lines().any(|line| line == format!("FAMILY_{number}:1"))), "{text}");
        assert!(text.contains(&format!("config_write_check:{round}")), "{text}");
    }
    machine.send(&receiver, "/", "FAMILY_0").run().silent();
    assert_eq!(receiver.requests().len(), count);
}

#[test]
fn root_goes_into_no_directory_of_somebody_else_in_a_users_home() {
    needs!(is_root(), "root, to give directories away");
    let receiver = Receiver::start(&[]);
    // Its own, root's, and a third user's.
    for prepare in [":", "chown 0 .config", "chown 0 .config/medusa", "chown 1002 .config", "chown 1002 .config/medusa"]
    {
        let (machine, is_sent) = (Machine::new().with("p/medusa-config.js", ""), prepare == ":");
        machine.sh(&format!("mkdir -p home/u/.config/medusa; chown -R {USER}:{USER} home/u; cd home/u; {prepare}"));
        let medusa = ["send", "--profile", "medusa", "-v", "1.20.10", "--event", "start", "--project", "/p"];
        let said = if is_sent { "sent one install record" } else { "run it as the user whose directory that is" };
        machine.run(medusa).to(&receiver, "/").env("HOME", "/home/u").run().expect(0).says(said);
        assert_eq!(walk(&machine.path("home/u")).len(), if is_sent { 4 } else { 3 }, "{prepare}");
    }
    assert_eq!(receiver.requests().len(), 1);
}

/// Exchanges names in the user's home, as that user, until it is told to stop.
fn exchange(home: &Path, pairs: &[(&str, &str)], is_over: &AtomicBool) -> usize {
    // Only this thread's: the kernel has a user for each.
    let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
    rustix::thread::set_thread_groups(&[]).expect("groups");
    rustix::thread::set_thread_res_gid(group, group, group).expect("group");
    rustix::thread::set_thread_res_uid(user, user, user).expect("user");
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        for (one, other) in pairs {
            let done = renameat_with(CWD, home.join(one), CWD, home.join(other), RenameFlags::EXCHANGE);
            count += usize::from(done.is_ok());
        }
    }
    count
}

#[test]
fn root_in_a_home_whose_user_exchanges_links_and_directories() {
    needs!(is_root(), "root, who can be led to where nobody may go");
    const SECRET: &str = "instanceId:aaaaaaaa-5617-11ee-8c99-0242ac120002\n{\"telemetry\":{\"machine_id\":\"SECRET\"}}";
    let count = rounds(60, 2000);
    for (what, pairs) in [
        ("links", &[(".config", "link"), (".config/medusa", "link2"), (".config/medusa/config.json", "link3")][..]),
        ("root's own", &[(".config", "rootdir"), (".config/medusa", "rootlink"), ("p", "rootdir")]),
    ] {
        let machine = Machine::new().with("root/secret", SECRET).with("root/dir/x", "x").with("home/u/rootdir/x", "x");
        machine.sh(&format!(
            "chmod 600 root/secret; cd home/u; mkdir -p .config/medusa p; touch .config/medusa/x p/x
             ln -s /root/dir link; ln -s /root/dir link2; ln -s /root/secret link3; ln -s /root/dir rootlink
             chown -hR {USER}:{USER} .; chown -hR 0:0 rootdir rootlink; chmod 700 rootdir"
        ));
        let (home, closed, is_over) = (machine.path("home/u"), ClosedPort::new(), AtomicBool::new(false));
        let exchanged = std::thread::scope(|scope| {
            let exchanging = scope.spawn(|| exchange(&home, pairs, &is_over));
            for _ in 0..count {
                for run in [
                    &["send", "--profile", "medusa", "--project", "/home/u/p", "-u", &closed.url()][..],
                    &["off", "--profile", "medusa"],
                    &["on", "--profile", "medusa"],
                    &["forget", "--profile", "medusa", "--project", "/home/u/p"],
                ] {
                    assert!(machine.run(run).env("HOME", "/home/u").run().status.is_some());
                }
            }
            is_over.store(true, Ordering::Relaxed);
            exchanging.join().expect("the other user")
        });
        assert_eq!(machine.text("root/secret").as_deref(), Some(SECRET), "{what}");
        assert_eq!(walk(&machine.path("root/dir")).len(), 2, "{what}: {:?}", walk(&machine.path("root/dir")));
        let rootdir = walk(&home).into_iter().find(|path| path.is_dir() && machine.owner(path).1 == 0);
        let rootdir = rootdir.expect("it is root's");
        assert_eq!((machine.owner(&rootdir), walk(&rootdir).len()), ((0o700, 0, 0), 2), "{what}");
        for path in [walk(&home), walk(&machine.path(STATE))].concat() {
            let text = if path.is_file() { fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
            assert!(!text.contains("SECRET") && !text.contains("aaaaaaaa-5617"), "{what}: {} tells", path.display());
        }
        tell(&format!("{what}: {} runs among {exchanged} exchanges", 4 * count));
    }
}

#[test]
fn a_clone_has_an_id_of_its_own_and_reports_again_under_it() {
    let receiver = Receiver::start(&[]);
    let (machine, closed) = Machine::full(&receiver);
    let id = machine.instance_id();
    let [clone, late] = [(); 2].map(|()| machine.copied().with("etc/machine-id", MACHINE_IDS[1]));
    // What waits there is the original's to send.
    let waited = closed.open(&[]);
    late.flush(&waited).run().expect(0);
    assert_eq!((waited.connections(), late.pending().len()), (0, 0));

    // What it shows is its own, and so is what it sends.
    let shown = clone.run(["show", "-f", FAMILY, "-v", "8"]).run().printed().json();
    assert_ne!(shown["reports"][0]["instanceId"], *id);
    clone.send(&receiver, "/", FAMILY).run().sent();
    let own = clone.instance_id();
    assert_eq!(clone.text(IDENTITY), Some(format!("instanceId:{own}\n{FAMILY}:1\n")));
    assert_eq!(clone.pending().len(), 0);
    clone.send(&receiver, "/", FAMILY).run().silent();
    machine.send(&receiver, "/", FAMILY).run().silent();
    assert_eq!((own == id, machine.instance_id(), receiver.requests().len()), (false, id, 2));
}

#[test]
fn a_clone_takes_no_id_from_its_originals_record() {
    let (receiver, closed) = (Receiver::start(&[]), ClosedPort::new());
    let machine = Machine::new().with("etc/machine-id", MACHINE_IDS[0]);
    machine.fail(FAMILY, &closed);
    let waiting = machine.pending()[0].clone();
    fs::remove_file(machine.path(IDENTITY)).expect("an identity file");
    let clone = machine.copied().with("etc/machine-id", MACHINE_IDS[1]);
    clone.send(&receiver, "/", FAMILY).run().sent();
    assert_eq!(receiver.last()["reports"][0]["instanceId"], clone.instance_id());
    assert_ne!(waiting["instance_id"], clone.instance_id());
    // The machine itself finds its ID again, and shows what it would send.
    let shown = machine.run(["show", "-f", FAMILY, "-v", "8.0.36-28"]).run().text();
    assert_eq!(shown, waiting["body"].as_str().expect("a body"));
}

#[test]
fn what_cannot_be_known_is_no_clone() {
    let receiver = Receiver::start(&[]);
    let (machine, _closed) = Machine::full(&receiver);
    // In an application container, a new machine-id is no new machine.
    let container = format!("cd {ROOTS}/distroless; cp -r .dockerenv proc $OLDPWD");
    for (machine_id, prepare) in [
        ("uninitialized\n", ""),
        ("", ""),
        (MACHINE_IDS[1], "rm $S/bindings"),
        (MACHINE_IDS[1], "truncate -s 100 $S/bindings"),
        (MACHINE_IDS[1], "rm $S/bindings; mkdir $S/bindings"),
        (MACHINE_IDS[1], &container),
    ] {
        let copy = machine.copied().with("etc/machine-id", machine_id);
        copy.sh(prepare);
        copy.send(&receiver, "/", FAMILY).run().silent();
        assert_eq!(copy.instance_id(), machine.instance_id(), "{machine_id} {prepare}");
    }
    assert_eq!(receiver.requests().len(), 1);
}
