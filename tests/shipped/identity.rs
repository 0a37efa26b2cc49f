//! The identity file as others leave it, and root in another user's directories.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Gid, RenameFlags, Uid, renameat_with};

use crate::harness::{
    ClosedPort, FAMILY, IDENTITY, Machine, Receiver, Run, STATE, is_root, offline, tool, wait_until, walk,
};
use crate::once::{rounds, tell};
use crate::skip;

const ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";
const USER: u32 = 1000;

/// The mode, owner and group of a file.
fn owner(path: &Path) -> (u32, u32, u32) {
    let meta = fs::symlink_metadata(path).expect("meta");
    (meta.mode() & 0o7777, meta.uid(), meta.gid())
}

#[test]
fn owner_group_and_mode_stay_as_they_are() {
    if !is_root() {
        skip!("needs to give files away")
    }
    let receiver = Receiver::start(&[]);
    for (mode, user, group) in [(0o664, 0, 999), (0o640, 998, 999), (0o600, 0, 0)] {
        let machine = Machine::new().with(IDENTITY, format!("instanceId:{ID}\n"));
        let path = machine.path(IDENTITY);
        chown(&path, Some(user), Some(group)).expect("chown");
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("mode");
        machine.send(&receiver, "/", FAMILY).run().sent();
        assert_eq!(machine.identity(), Some(format!("instanceId:{ID}\n{FAMILY}:1\n")));
        assert_eq!(owner(&path), (mode, user, group));
    }
}

#[test]
fn where_it_cannot_be_replaced_it_is_written_in_place() {
    if !is_root() {
        skip!("needs to give files away")
    }
    // A user who may write the file and not its directory, and has state of his own.
    let receiver = Receiver::start(&[]);
    let public = Machine::bare().with("ca.pem", fs::read(receiver.ca()).expect("CA")).with_binary("install-record");
    for text in ["".to_owned(), format!("instanceId:{ID}\nother:x\n")] {
        let machine = Machine::new().with(IDENTITY, &text).with(&format!("{STATE}/x"), "");
        chown(machine.path(STATE), Some(USER), Some(USER)).expect("chown");
        chown(machine.path(IDENTITY), Some(0), Some(USER)).expect("chown");
        fs::set_permissions(machine.path(IDENTITY), PermissionsExt::from_mode(0o664)).expect("mode");
        let before = (fs::metadata(machine.path(IDENTITY)).expect("meta").ino(), owner(&machine.path(IDENTITY)));
        let send = || {
            let run = machine.send(&receiver, "/", FAMILY).user(USER).program(public.path("install-record"));
            run.env("SSL_CERT_FILE", public.path("ca.pem")).run()
        };
        send().sent();
        send().silent();
        let id = machine.instance_id();
        let rest = if text.is_empty() { "" } else { "other:x\n" };
        assert_eq!(machine.identity(), Some(format!("instanceId:{id}\n{rest}{FAMILY}:1\n")));
        assert!(text.is_empty() || id == ID);
        let after = (fs::metadata(machine.path(IDENTITY)).expect("meta").ino(), owner(&machine.path(IDENTITY)));
        assert_eq!(after, before);
    }
    // A file that is a mount of its own.
    let Some(namespaces) = offline("m") else { skip!("needs a mount namespace") };
    let namespaces = [namespaces[0].clone(), namespaces[1].replace('n', "")];
    let machine = Machine::new().with(IDENTITY, "").with("volume", "");
    let script = format!(
        "mount --bind {} {} || exit 77; \"$0\" \"$@\" && \"$0\" \"$@\"",
        machine.path("volume").display(),
        machine.path(IDENTITY).display()
    );
    let before = receiver.requests().len();
    let ended = machine.send(&receiver, "/", FAMILY).under(&namespaces).under(["sh", "-c", &script]).run();
    if ended.status == Some(77) {
        skip!("needs to mount: {}", ended.stderr.trim())
    }
    ended.sent();
    assert_eq!(receiver.requests().len() - before, 1);
    let text = fs::read_to_string(machine.path("volume")).expect("the volume");
    assert!(text.starts_with("instanceId:") && text.ends_with(&format!("\n{FAMILY}:1\n")), "{text}");
}

/// A limit on the size of files is a disk that is full in the middle of a line.
#[test]
fn what_cannot_be_written_in_place_as_a_whole_is_not_written_in_part() {
    if !is_root() || tool(&["prlimit", "--fsize=1", "true"]).is_none() {
        skip!("needs to give files away, and prlimit")
    }
    let receiver = Receiver::start(&[]);
    let public = Machine::bare().with("ca.pem", fs::read(receiver.ca()).expect("CA")).with_binary("install-record");
    let text = format!("instanceId:{ID}\n{}\n", "other:1234567890\n".repeat(1000).trim());
    let machine = Machine::new().with(IDENTITY, &text).with(&format!("{STATE}/x"), "");
    chown(machine.path(STATE), Some(USER), Some(USER)).expect("chown");
    chown(machine.path(IDENTITY), Some(USER), Some(USER)).expect("chown");
    let send = || {
        let run = machine.send(&receiver, "/", FAMILY).user(USER).program(public.path("install-record"));
        run.env("SSL_CERT_FILE", public.path("ca.pem"))
    };
    send().under(["prlimit", &format!("--fsize={}", text.len() + 10)]).run().expect(0);
    assert_eq!((machine.identity(), receiver.requests().len()), (Some(text.clone()), 1));
    send().run().silent();
    assert_eq!((machine.identity(), receiver.requests().len()), (Some(format!("{text}{FAMILY}:1\n")), 1));
}

#[test]
fn links_of_root_are_followed_and_those_of_others_are_not() {
    if !is_root() {
        skip!("needs to give links away")
    }
    let receiver = Receiver::start(&[]);
    for is_dangling in [false, true] {
        let machine = Machine::new().with("usr/local/percona/x", "").with("data/x", "");
        if !is_dangling {
            fs::write(machine.path("data/uuid"), format!("instanceId:{ID}\n")).expect("file");
        }
        symlink("/data/uuid", machine.path(IDENTITY)).expect("link");
        machine.send(&receiver, "/", FAMILY).run().sent();
        machine.send(&receiver, "/", FAMILY).run().silent();
        let text = fs::read_to_string(machine.path("data/uuid")).expect("the file");
        assert!(text.ends_with(&format!("{FAMILY}:1\n")) && (is_dangling || text.contains(ID)), "{text}");
        assert!(fs::symlink_metadata(machine.path(IDENTITY)).expect("meta").is_symlink());
    }
    let machine = Machine::new().with("usr/local/percona/x", "").with("data/x", "");
    symlink("/data/uuid", machine.path(IDENTITY)).expect("link");
    lchown(machine.path(IDENTITY), Some(USER), Some(USER)).expect("chown");
    let before = receiver.requests().len();
    let ended = machine.send(&receiver, "/", FAMILY).run().expect(0);
    assert!(ended.stderr.contains("install record not sent ("), "{ended:?}");
    assert_eq!((receiver.requests().len(), machine.path("data/uuid").exists()), (before, false));
}

#[test]
fn root_reports_in_a_directory_that_belongs_to_the_products_user() {
    if !is_root() {
        skip!("needs to give directories away")
    }
    let (machine, receiver) = (Machine::new().with("usr/local/percona/x", ""), Receiver::start(&[]));
    chown(machine.path("usr/local/percona"), Some(1001), Some(1001)).expect("chown");
    machine.send(&receiver, "/", FAMILY).run().sent();
    machine.send(&receiver, "/", FAMILY).run().silent();
    assert_eq!(owner(&machine.path(IDENTITY)), (0o644, 1001, 1001));
    assert_eq!(owner(&machine.path("usr/local/percona")), (0o755, 1001, 1001));
}

#[test]
fn state_that_a_member_of_the_files_group_plants_is_neither_shown_nor_sent() {
    if !is_root() {
        skip!("needs another user")
    }
    let (template, closed) = (Machine::new(), ClosedPort::new());
    let url = format!("https://127.0.0.1:{}/", closed.port);
    template.run(["send", "-f", FAMILY, "-v", "1", "-u", &url]).run().expect(0);
    let planted = walk(&template.path(STATE).join("pending")).pop().expect("a record");
    let text = fs::read_to_string(&planted).expect("a record").replace("PACKAGE", "\\u001b[31mPLANTED");
    let at = format!("usr/local/percona/.install-record/pending/{}", planted.file_name().unwrap().to_string_lossy());
    let machine = Machine::new().with(&at, text).with(IDENTITY, template.identity().expect("identity"));
    for path in walk(&machine.path("usr/local/percona/.install-record")) {
        chown(path, Some(USER), Some(USER)).expect("chown");
    }
    // Root has no directory of its own here.
    fs::create_dir_all(machine.path("var")).expect("directory");
    fs::write(machine.path("var/lib"), "").expect("no directory");
    for command in ["show", "status"] {
        let run = machine.run([command]);
        let run = if command == "show" { run.args(["-f", FAMILY, "-v", "1"]) } else { run };
        let ended = run.run();
        assert!(!ended.text().contains("PLANTED") && !ended.stderr.contains("PLANTED"), "{ended:?}");
        assert!(!ended.stdout.contains(&0x1b), "{ended:?}");
    }
    let receiver = closed.open(&[]);
    machine.send(&receiver, "/", FAMILY).run().expect(0);
    machine.run(["flush", "-t", "20"]).env("SSL_CERT_FILE", receiver.ca()).run().expect(0);
    assert_eq!(receiver.requests().len(), 0);
}

#[test]
fn an_id_that_changes_while_its_record_is_sent_is_not_marked() {
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    let running = machine.send(&receiver, "/slow?ms=1000", FAMILY).spawn();
    wait_until("the record is on its way", || machine.pending().len() == 1);
    let other = format!("instanceId:{ID}\n");
    fs::write(machine.path(IDENTITY), &other).expect("another ID");
    running.wait().sent();
    assert_eq!(machine.identity(), Some(other.clone()));
    machine.send(&receiver, "/", FAMILY).run().sent();
    assert_eq!((machine.identity(), receiver.requests().len()), (Some(format!("{other}{FAMILY}:1\n")), 2));
}

/// How percona-telemetry-agent, or its packages, write the file: anew in place, with a line of their own.
fn rewrite_as_the_agent(path: &Path, round: usize) {
    let text = fs::read_to_string(path).expect("the file");
    let id = text.lines().find_map(|line| line.strip_prefix("instanceId:")).expect("an ID").trim().to_owned();
    let rest = text.lines().filter(|line| !line.starts_with("instanceId:") && !line.starts_with("config_write_check"));
    let rest: String = rest.map(|line| format!("{line}\n")).collect();
    let text = format!("instanceId: {id}\n{rest}config_write_check:{round}\n");
    if round.is_multiple_of(2) {
        fs::write(path, text).expect("write");
    } else {
        let new = path.with_extension("tmp");
        fs::write(&new, text).expect("write");
        fs::rename(&new, path).expect("rename");
    }
}

#[test]
fn the_agent_and_we_lose_nothing_of_each_other() {
    let (machine, receiver, count) = (Machine::new(), Receiver::start(&[]), rounds(30, 500));
    let path = machine.path(IDENTITY);
    let mut id = None;
    for round in 0..count {
        machine.send(&receiver, "/", &format!("FAMILY_{round}")).run().sent();
        assert_eq!(machine.instance_id(), *id.get_or_insert_with(|| machine.instance_id()), "round {round}");
        rewrite_as_the_agent(&path, round);
        let text = machine.identity().expect("identity");
        assert!((0..=round).all(|number| text.lines().any(|line| line == format!("FAMILY_{number}:1"))), "{text}");
        assert!(text.contains(&format!("config_write_check:{round}")), "{text}");
    }
    machine.send(&receiver, "/", "FAMILY_0").run().silent();
    assert_eq!(receiver.requests().len(), count);
}

#[test]
fn root_goes_into_no_directory_of_somebody_else_in_a_users_home() {
    if !is_root() {
        skip!("needs to give directories away")
    }
    let receiver = Receiver::start(&[]);
    for (what, foreign, owner_of_it, is_sent) in [
        ("the user's own", ".config", USER, true),
        ("root's", ".config", 0, false),
        ("root's, the last one", ".config/medusa", 0, false),
        ("a third user's", ".config", 1001, false),
        ("a third user's, the last one", ".config/medusa", 1001, false),
    ] {
        let machine = Machine::new().with("home/u/.config/medusa/x", "").with("p/medusa-config.js", "");
        for path in ["home/u", "home/u/.config", "home/u/.config/medusa"] {
            let user = if path == format!("home/u/{foreign}") { owner_of_it } else { USER };
            chown(machine.path(path), Some(user), Some(user)).expect("chown");
        }
        let medusa = ["send", "--profile", "medusa", "-v", "1.20.10", "--event", "start", "--project", "/p"];
        let run = machine.run(medusa).args(["-u", &receiver.url("/"), "-t", "20", "-c", "10"]);
        let ended = run.env("HOME", "/home/u").env("SSL_CERT_FILE", receiver.ca()).run().expect(0);
        assert_eq!(ended.stderr.contains("sent one install record"), is_sent, "{what}: {ended:?}");
        assert_eq!(ended.stderr.contains("run it as the user whose directory that is"), !is_sent, "{what}: {ended:?}");
        let count = walk(&machine.path("home/u")).len();
        assert_eq!(count, if is_sent { 5 } else { 4 }, "{what}: {:?}", walk(&machine.path("home/u")));
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
    if !is_root() {
        skip!("only root can be led to where nobody may go")
    }
    const SECRET: &str = "instanceId:aaaaaaaa-5617-11ee-8c99-0242ac120002\n{\"telemetry\":{\"machine_id\":\"SECRET\"}}";
    let count = rounds(60, 2000);
    let user = |path: &Path| lchown(path, Some(USER), Some(USER)).expect("chown");
    for (what, pairs) in [
        ("links", &[(".config", "link"), (".config/medusa", "link2"), (".config/medusa/config.json", "link3")][..]),
        ("root's own", &[(".config", "rootdir"), (".config/medusa", "rootlink"), ("p", "rootdir")]),
    ] {
        let machine = Machine::new().with("root/secret", SECRET).with("root/dir/x", "x").with("home/u/rootdir/x", "x");
        let machine = machine.with("home/u/.config/medusa/x", "").with("home/u/p/x", "");
        let home = machine.path("home/u");
        for path in [".", ".config", ".config/medusa", "p"] {
            user(&home.join(path));
        }
        for (name, target) in [("link", "/root/dir"), ("link2", "/root/dir"), ("link3", "/root/secret")] {
            symlink(target, home.join(name)).expect("link");
            user(&home.join(name));
        }
        symlink("/root/dir", home.join("rootlink")).expect("link");
        fs::set_permissions(machine.path("root/secret"), PermissionsExt::from_mode(0o600)).expect("mode");
        fs::set_permissions(home.join("rootdir"), PermissionsExt::from_mode(0o700)).expect("mode");
        let closed = ClosedPort::new();
        let url = format!("https://127.0.0.1:{}/", closed.port);
        let is_over = AtomicBool::new(false);
        let exchanged = std::thread::scope(|scope| {
            let exchanging = scope.spawn(|| exchange(&home, pairs, &is_over));
            let at_home = |arguments: &[&str]| -> Run { machine.run(arguments).env("HOME", "/home/u") };
            for _ in 0..count {
                let send = ["send", "--profile", "medusa", "--project", "/home/u/p", "-u", &url];
                for run in [&send[..], &["off", "--profile", "medusa"], &["on", "--profile", "medusa"]] {
                    assert!(at_home(run).run().status.is_some());
                }
                assert!(at_home(&["forget", "--profile", "medusa", "--project", "/home/u/p"]).run().status.is_some());
            }
            is_over.store(true, Ordering::Relaxed);
            exchanging.join().expect("the other user")
        });
        assert_eq!(fs::read_to_string(machine.path("root/secret")).ok().as_deref(), Some(SECRET), "{what}");
        assert_eq!(walk(&machine.path("root/dir")).len(), 2, "{what}: {:?}", walk(&machine.path("root/dir")));
        let rootdir = walk(&home).into_iter().filter(|path| path.is_dir()).find(|path| owner(path).1 == 0);
        let rootdir = rootdir.expect("root's directory is still root's");
        assert_eq!((owner(&rootdir), walk(&rootdir).len()), ((0o700, 0, 0), 2), "{what}");
        for path in walk(&home).into_iter().filter(|path| path.is_file() && !path.starts_with(&rootdir)) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            assert!(!text.contains("SECRET") && !text.contains("aaaaaaaa-5617"), "{what}: {} tells", path.display());
        }
        let pending = fs::read_dir(machine.path(STATE)).map(|_| machine.pending()).unwrap_or_default();
        assert!(pending.iter().all(|record| !record.to_string().contains("aaaaaaaa-5617")), "{what}");
        tell(&format!("{what}: {} runs among {exchanged} exchanges", 4 * count));
    }
}
