//! The second process, the static binary in a root with nothing but itself, and systems on which little works.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{FAMILY, Machine, Receiver, Run, Running, binary, is_root, is_static, offline, tool, wait_until};
use crate::skip;

/// The couriers of this process.
fn couriers_of(parent: u32) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").expect("/proc").flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| status_of(*pid).is_some_and(|status| status["PPid"] == parent.to_string());
    let arguments = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    numbers.filter(|pid| is_child(pid) && arguments(pid).ends_with("--courier\0")).collect()
}

/// The fields of /proc/PID/status, which everybody may read; `None` where there is no such process, or only its name.
pub fn status_of(pid: u32) -> Option<BTreeMap<String, String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let fields: BTreeMap<_, _> = fields.map(|(key, value)| (key.to_owned(), words(value))).collect();
    (!fields["State"].starts_with(['Z', 'X'])).then_some(fields)
}

/// A run that has reached a receiver that never answers, and its courier's number.
pub struct Stalled {
    pub running: Running,
    pub courier: u32,
    pub machine: Machine,
    _receiver: Receiver,
}

/// `wrapper` has to replace itself by the program.
pub fn stalled(seconds: &str, wrapper: &[&str]) -> Stalled {
    let machine = Machine::new();
    let receiver = Receiver::start(&["--fault", "stall-accept"]);
    let run = machine.send(&receiver, "/", FAMILY).args(["-c", "120", "-t", seconds]).env("SECRET", "hunter2");
    let running = run.under(wrapper).spawn();
    wait_until("the courier has connected", || receiver.connections() == 1);
    let couriers = couriers_of(running.child.id());
    assert_eq!(couriers.len(), 1, "couriers");
    Stalled { courier: couriers[0], running, machine, _receiver: receiver }
}

#[test]
fn the_courier_has_no_environment_and_its_own_directory() {
    let stalled = stalled("120", &[]);
    let arguments = fs::read_to_string(format!("/proc/{}/cmdline", stalled.courier)).expect("cmdline");
    assert_eq!(arguments.trim_end_matches('\0').split('\0').count(), 2, "{arguments:?}");
    if !is_root() {
        skip!("only root may look at the rest of a process that has made itself opaque")
    }
    let environment = fs::read(format!("/proc/{}/environ", stalled.courier)).expect("environ");
    assert_eq!(String::from_utf8_lossy(&environment), "");
    assert_eq!(fs::read_link(format!("/proc/{}/cwd", stalled.courier)).expect("cwd"), Path::new("/"));
}

#[test]
fn the_courier_dies_with_its_parent() {
    let mut stalled = stalled("120", &[]);
    stalled.running.child.kill().expect("kill");
    let killed = Instant::now();
    wait_until("nothing is left", || status_of(stalled.courier).is_none());
    assert!(killed.elapsed() < Duration::from_secs(5), "it went by itself, after {:?}", killed.elapsed());
    // What it had claimed waits for the next run.
    assert_eq!(stalled.machine.pending().len(), 1);
    let receiver = Receiver::start(&[]);
    stalled.machine.send(&receiver, "/", "PRODUCT_FAMILY_PXC").run().sent();
}

#[test]
fn nothing_runs_on_after_the_time_is_up() {
    let Stalled { running, courier, machine, .. } = stalled("1", &[]);
    running.wait().expect(0);
    assert!(status_of(courier).is_none());
    assert_eq!(machine.pending().len(), 1);
}

#[test]
fn it_is_static() {
    if !is_static() {
        skip!("this is cargo's dynamic build; INSTALL_RECORD_BINARY names the one to ship")
    }
    if let Some(said) = tool(&["sh", "-c", &format!("ldd {} 2>&1; true", binary().display())]) {
        assert!(["statically linked", "not a dynamic", "not found"].iter().any(|word| said.contains(word)), "{said}");
    }
}

/// A root with nothing but the binary and the authority of the receiver.
fn empty_root(receiver: &Receiver) -> Machine {
    Machine::bare().with("ca.pem", fs::read(receiver.ca()).expect("CA")).with_binary("install-record")
}

fn report(receiver: &Receiver, program: &str) -> Run {
    let run = Run::new().program(program).env("SSL_CERT_FILE", "/ca.pem");
    run.args(["send", "-f", FAMILY, "-v", "1", "-c", "10", "-t", "20", "--verbose", "-u", &receiver.url("/")])
}

#[test]
fn it_runs_and_delivers_in_an_empty_root() {
    let receiver = Receiver::start(&[]);
    let machine = empty_root(&receiver);
    let Some(run) = report(&receiver, "/install-record").inside(&machine) else {
        skip!("needs a static binary and chroot, as root or in a user namespace")
    };
    let ended = run.run().sent();
    assert!(!ended.stderr.contains("thread"), "{ended:?}");
    assert_eq!(receiver.requests().len(), 1);
    assert_eq!(machine.identity(), Some(format!("instanceId:{}\n{FAMILY}:1\n", machine.instance_id())));
}

#[test]
fn where_it_cannot_start_itself_the_record_waits() {
    if tool(&["strace", "-o", "/dev/null", "true"]).is_none() {
        skip!("needs strace, and to be allowed to trace")
    }
    // strace lets its own start of the program through; whatever the program starts is not there.
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=execve:error=ENOENT"];
    let receiver = Receiver::start(&[]);
    let machine = Machine::new();
    let ended = machine.send(&receiver, "/", FAMILY).under(strace).run().expect(0);
    assert!(ended.stderr.contains("the courier cannot be started: "), "{ended:?}");
    assert_eq!((receiver.connections(), machine.pending().len()), (0, 1));
    machine.run(["flush"]).env("SSL_CERT_FILE", receiver.ca()).run().expect(0);
    assert_eq!((receiver.requests().len(), machine.receipts().len()), (1, 1));
}

#[test]
fn where_nothing_can_be_kept_nothing_is_sent() {
    let receiver = Receiver::start(&[]);
    let machine = Machine::new().with_binary("install-record");
    let mut run = machine.send(&receiver, "/", FAMILY).args(["--verbose"]);
    let ca = Machine::bare().with("ca.pem", fs::read(receiver.ca()).expect("CA"));
    run = run.program(machine.path("install-record")).env("SSL_CERT_FILE", ca.path("ca.pem"));
    if is_root() {
        run = run.user(65534);
    } else {
        fs::set_permissions(machine.root(), PermissionsExt::from_mode(0o555)).expect("mode");
    }
    let before = machine.snapshot();
    assert_nothing_sent(&machine, &receiver, &run, &before);
    let _ = fs::set_permissions(machine.root(), PermissionsExt::from_mode(0o755));
}

#[test]
fn on_a_read_only_root_too() {
    let receiver = Receiver::start(&[]);
    let machine = Machine::new();
    let mount = format!(
        "mount --bind {root} {root} && mount -o remount,ro,bind {root} && exec \"$0\" \"$@\"",
        root = machine.root().display()
    );
    let usable = |flag: &&str| tool(&["unshare", flag, "sh", "-c", &mount, "true"]).is_some();
    let Some(flag) = ["-m", "-rm"].into_iter().find(usable) else { skip!("needs to mount in a namespace") };
    let before = machine.snapshot();
    let run = machine.send(&receiver, "/", FAMILY).args(["--verbose"]).under(["unshare", flag, "sh", "-c", &mount]);
    assert_nothing_sent(&machine, &receiver, &run, &before);
}

/// What cannot be remembered is not sent, and the run says why.
#[track_caller]
fn assert_nothing_sent(machine: &Machine, receiver: &Receiver, run: &Run, before: &[String]) {
    for _ in 0..2 {
        let ended = run.run().expect(0);
        assert!(ended.stderr.contains("install record not sent ("), "{ended:?}");
    }
    assert_eq!(machine.snapshot(), before);
    assert_eq!(receiver.connections(), 0);
}

/// Lets the kernel start aarch64 programs by qemu, in a user namespace of its own (binfmt_misc there: Linux 6.7), and then
/// becomes the command. The program starts itself once more as its courier, which qemu alone does not do.
const AS_AARCH64: &str = r#"
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
printf %s ':aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:F' \
    >/proc/sys/fs/binfmt_misc/register
exec "$@""#;

#[test]
fn the_aarch64_build_under_qemu() {
    let Some(built) = std::env::var_os("INSTALL_RECORD_AARCH64").filter(|path| !path.is_empty()) else {
        skip!("INSTALL_RECORD_AARCH64 names no binary")
    };
    let emulated = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", AS_AARCH64, "sh"];
    if tool(&[&emulated[..], &["true"]].concat()).is_none() {
        skip!("needs /usr/bin/qemu-aarch64-static and a user namespace that has binfmt_misc (Linux 6.7)")
    }
    let receiver = Receiver::start(&[]);
    let machine = Machine::new();
    let shown = machine.run(["show", "-f", FAMILY, "-v", "1"]).program(&built).under(emulated).run();
    assert_eq!(shown.json()["reports"][0]["metrics"][3]["value"], "aarch64 aarch64");
    machine.send(&receiver, "/", FAMILY).program(&built).under(emulated).run().sent();
    assert_eq!(receiver.requests()[0]["tls"], "TLSv1_3");
    assert_eq!(machine.receipts().len(), 1);
}

#[test]
fn without_a_network_the_record_waits() {
    let Some(offline) = offline("") else { skip!("needs a namespace without a network") };
    let machine = Machine::new();
    // No URL: this is the real endpoint, which cannot be reached from here.
    let ended = machine.run(["-f", FAMILY, "-v", "1", "-t", "1"]).under(offline).run().expect(0);
    assert!(ended.stderr.contains("pending"), "{ended:?}");
    assert_eq!(machine.pending()[0]["url"], "https://check.percona.com/v1/telemetry/GenericReport");
}
