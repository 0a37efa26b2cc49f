//! What the courier cannot do: each layer of its sandbox against attempts to break out of it, and what the kernel says
//! about the shipped courier while it waits for a server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use crate::courier::{stalled, status_of};
use crate::harness::{FAMILY, Machine, Receiver, is_root, prisoner, tool};
use crate::skip;

/// What each attempt comes to (`+` allowed, `-` denied) in these layers, started by root.
const LAYERS: [&str; 6] = ["none", "user,capabilities", "user,limits", "landlock", "seccomp", "all"];
const OUTCOMES: [(&str, &str); 25] = [
    ("read /etc/hosts", "+++---"),
    ("read /etc/passwd", "+++---"),
    ("read /etc/shadow", "+-----"),
    ("list a directory", "+++---"),
    ("create and write a file", "++----"),
    ("open a file for writing", "+++---"),
    ("truncate a file", "+++---"),
    ("rename a file", "+++---"),
    ("unlink a file", "+++---"),
    ("make a directory", "+++---"),
    ("make a link", "+++---"),
    ("connect", "++++++"),
    ("connect to another port", "+++-+-"),
    ("connect by fast open", "++++--"),
    ("listen", "+++---"),
    ("a Unix socket", "++++--"),
    ("a netlink socket", "++++--"),
    ("signal the parent", "+-----"),
    ("become root", "+--+--"),
    ("fork", "++-+--"),
    ("start a thread", "++-+--"),
    ("take 1 GiB of memory", "++-++-"),
    ("open 100 files", "++----"),
    ("make memory executable", "++++--"),
    ("execute a file", "+++---"),
];

struct Prison {
    directory: Machine,
    listeners: [TcpListener; 2],
}

impl Prison {
    fn new() -> Prison {
        let directory = Machine::bare().with("a", "a").with("b", "b");
        for (name, mode) in [("", 0o777), ("a", 0o666), ("b", 0o666)] {
            fs::set_permissions(directory.path(name), PermissionsExt::from_mode(mode)).expect("mode");
        }
        let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        Prison { directory, listeners: [listener(), listener()] }
    }

    fn run(&self, layers: &str, more: &[&str]) -> (ExitStatus, String) {
        let ports = self.listeners.each_ref().map(|it| it.local_addr().expect("address").port().to_string());
        // A core file, where one is left, goes there.
        let mut command = Command::new("prlimit");
        command.args(["--core=unlimited:unlimited"]).arg(prisoner()).arg(layers).current_dir(self.directory.root());
        command.arg(self.directory.root()).args(ports).args(more);
        let output = command.output().expect("prisoner");
        (output.status, String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The version of Landlock that this kernel has; 0: none.
fn landlock() -> u32 {
    let (_, said) = Prison::new().run("landlock", &["crash"]);
    let abi = said.split("Landlock ABI ").nth(1);
    abi.map_or(0, |rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().expect("ABI"))
}

#[test]
fn each_layer_holds_against_attempts_to_break_out() {
    if !is_root() {
        skip!("only root has everything to give up")
    }
    if landlock() < 6 {
        skip!("needs a kernel with Landlock ABI 6, this has {}", landlock())
    }
    let mut wrong = Vec::new();
    let mut table: BTreeMap<String, String> = BTreeMap::new();
    for (column, layers) in LAYERS.iter().enumerate() {
        let (status, said) = Prison::new().run(layers, &[]);
        assert!(status.success() && !said.contains("missing "), "{layers}: {status}: {said}");
        for (name, outcomes) in OUTCOMES {
            let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("not tried");
            let expected = outcomes.as_bytes()[column] as char;
            let found = if line == "allowed" { '+' } else { '-' };
            table.entry(name.to_owned()).or_default().push(found);
            if line == "not tried" || found != expected {
                wrong.push(format!("{layers}: {name}: {line}"));
            }
        }
        // And what no attempt is made of: the kernel's other doors, by their numbers.
        let is_filtered = layers.contains("seccomp") || *layers == "all";
        let calls: Vec<&str> = said.lines().filter(|line| line.starts_with("call ")).collect();
        assert_eq!(calls.len() > 40, is_filtered, "{layers}: {said}");
        wrong.extend(calls.iter().filter(|line| !line.ends_with(" denied")).map(|line| format!("{layers}: {line}")));
    }
    eprintln!("     {:28} {}", "", LAYERS.join(" | "));
    for (name, found) in table {
        eprintln!("     {name:28} {found}");
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn no_core_file_is_left() {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("core_pattern");
    if !is_root() || pattern.trim() != "core" {
        skip!("needs root and core files in the current directory, not '{}'", pattern.trim())
    }
    for (layers, is_left) in [("none", true), ("user", false), ("limits", false), ("all", false)] {
        let prison = Prison::new();
        let (status, said) = prison.run(layers, &["crash"]);
        assert_eq!(status.signal(), Some(11), "{layers}: {said}");
        assert_eq!(status.core_dumped(), is_left, "{layers}: {said}");
    }
}

#[test]
fn the_shipped_courier_is_in_all_layers() {
    let stalled = stalled("120", &[]);
    let status = status_of(stalled.courier).expect("status");
    assert_eq!((&*status["NoNewPrivs"], &*status["Seccomp"], &*status["Threads"]), ("1", "2", "1"));
    for capabilities in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status[capabilities], "0000000000000000", "{capabilities}");
    }
    if is_root() {
        assert_eq!((&*status["Uid"], &*status["Gid"]), ("65534 65534 65534 65534", "65534 65534 65534 65534"));
        assert_eq!(status["Groups"], "");
        // Its files in /proc are root's: nobody else of its user can look at it.
        let owner = tool(&["stat", "-c", "%u", &format!("/proc/{}/maps", stalled.courier)]);
        assert_eq!(owner.as_deref(), Some("0\n"));
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", stalled.courier)).expect("limits");
    for (name, limit) in [
        ("Max core file size", 0),
        ("Max file size", 0),
        ("Max processes", 0),
        ("Max open files", 64),
        ("Max address space", 128 << 20),
    ] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        let both: Vec<&str> = line.split_whitespace().take(2).collect();
        assert_eq!(both, [limit.to_string(), limit.to_string()], "{name}");
    }
}

#[test]
fn it_tells_which_layers_hold() {
    let receiver = Receiver::start(&[]);
    let machine = Machine::new();
    let ended = machine.send(&receiver, "/", FAMILY).args(["--verbose"]).run().sent();
    let user = if is_root() { "user nobody" } else { "user " };
    let line = ended.stderr.lines().find(|line| line.contains("courier: sandbox: ")).unwrap_or_default();
    for layer in [user, "no capabilities", "no new privileges", "limits", "seccomp"] {
        assert!(line.contains(layer), "{layer}: {ended:?}");
    }
    assert_eq!(line.contains("Landlock ABI "), landlock() > 0, "{ended:?}");
    assert_eq!(ended.stderr.matches("sandbox: ").count(), if landlock() > 0 { 1 } else { 2 }, "{ended:?}");
}

/// What `/proc/PID/fd` holds, by number.
fn descriptors(pid: u32) -> BTreeMap<u32, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("fd").flatten();
    let number = |path: &Path| path.file_name()?.to_str()?.parse().ok();
    let described = |path: &Path| fs::read_link(path).map(|target| target.display().to_string()).unwrap_or_default();
    entries.filter_map(|entry| Some((number(&entry.path())?, described(&entry.path())))).collect()
}

#[test]
fn the_courier_has_three_pipes_and_a_socket_whatever_its_caller_has_open() {
    if !is_root() {
        skip!("only root may look at a process that has made itself opaque")
    }
    let hold = "exec 3</etc/passwd 4>&1 9>/dev/null 100</ 5> >(cat) 7<>/dev/zero; exec \"$0\" \"$@\"";
    let caller = ["bash", "-c", hold];
    // As it is, and where close_range(2) is unknown, which has the list in /proc.
    let old = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=close_range:error=ENOSYS"];
    for old in [&[][..], &old] {
        if !old.is_empty() && tool(&["strace", "-o", "/dev/null", "true"]).is_none() {
            skip!("needs strace, and to be allowed to trace")
        }
        let stalled = stalled("120", &[&caller[..], old].concat());
        let parent = descriptors(stalled.running.child.id());
        for held in [3, 4, 5, 7, 9, 100] {
            assert!(parent.contains_key(&held), "the parent has lost {held}: {parent:?}");
        }
        let courier = descriptors(stalled.courier);
        let kinds: Vec<(u32, &str)> =
            courier.iter().map(|(number, target)| (*number, target.split(':').next().unwrap_or_default())).collect();
        assert_eq!(kinds, [(0, "pipe"), (1, "pipe"), (2, "pipe"), (3, "socket")], "{courier:?}");
        assert!(courier.values().all(|target| *target != parent[&5]), "the caller's pipe: {courier:?}");
        // And no leak in the parent: the record that it has claimed, where that is, the pipes; nothing twice.
        let own = parent.into_iter().filter(|(number, _)| ![0, 1, 2, 3, 4, 5, 7, 9, 100].contains(number));
        let own: Vec<String> = own.map(|(_, target)| target).collect();
        assert!(own.iter().collect::<BTreeSet<_>>().len() == own.len() && own.len() < 10, "{own:?}");
        eprintln!("     the parent's own: {}", own.join(", "));
    }
}
