//! The second process, and what it cannot do: its sandbox's layers, and what the kernel says of the shipped one.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use crate::harness::*;

/// The fields of /proc/PID/status, which everybody may read; `None` where there is no such process, or only its name.
fn status_of(pid: u32) -> Option<BTreeMap<String, String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    let fields: BTreeMap<_, _> = fields.map(|(key, value)| (key.to_owned(), words(value))).collect();
    (!fields["State"].starts_with(['Z', 'X'])).then_some(fields)
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A run that has reached a receiver that never answers, its courier's number, and what has to stay. `wrapper` has to
/// replace itself by the program.
fn stalled(wrapper: &[&str]) -> (Running, u32, (Machine, Receiver)) {
    let (machine, receiver) = (Machine::new(), Receiver::start(&["--fault", "stall-accept"]));
    let run = machine.send(&receiver, "/", FAMILY).args(["-c", "120", "-t", "120"]).env("SECRET", "hunter2");
    let running = run.under(wrapper).spawn();
    wait_until("the courier has connected", || receiver.connections() == 1);
    let parent = running.child.0.id().to_string();
    let courier = tool(&["pgrep", "-P", &parent, "-f", "--", "--courier$"]).expect("a courier");
    (running, courier.trim().parse().expect("one courier"), (machine, receiver))
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
        return skipped("INSTALL_RECORD_AARCH64 names no binary");
    };
    let emulated = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", AS_AARCH64, "sh"];
    if tool(&[&emulated[..], &["true"]].concat()).is_none() {
        return skipped("needs /usr/bin/qemu-aarch64-static and a user namespace that has binfmt_misc (Linux 6.7)");
    }
    let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
    machine.send(&receiver, "/", FAMILY).program(&built).under(emulated).run().sent();
    assert_eq!(receiver.reports()[0]["metrics"][3]["value"], "aarch64 aarch64");
    assert_eq!((&receiver.requests()[0]["tls"], machine.receipts().len()), (&"TLSv1_3".into(), 1));
}

/// What each attempt comes to (`+` allowed, `-` denied) in these layers, started by root.
const LAYERS: [&str; 6] = ["none", "credentials", "credentials,limits", "landlock", "seccomp", "all"];
const OUTCOMES: &str = "read /etc/hosts +++---|read /etc/passwd +++---|read /etc/shadow +-----|\
    list a directory +++---|create and write a file ++----|open a file for writing +++---|truncate a file +++---|\
    rename a file +++---|unlink a file +++---|make a directory +++---|make a link +++---|connect ++++++|\
    connect to another port +++-+-|connect by fast open ++++--|listen +++---|a Unix socket ++++--|\
    a netlink socket ++++--|signal the parent +-----|become root +--+--|fork ++-+--|start a thread ++-+--|\
    take 1 GiB of memory ++-++-|open 100 files ++----|make memory executable ++++--|execute a file +++---";

fn prisoner_in(layers: &str) -> String {
    let directory = Machine::of("bare").with("a", "a").with("b", "b");
    directory.sh("chmod 777 .; chmod 666 a b");
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
    let ports = listeners.each_ref().map(|it| it.local_addr().expect("address").port().to_string());
    let mut command = Command::new(RECEIVER.with_file_name("prisoner"));
    let output = command.arg(layers).arg(directory.root()).args(ports).output().expect("prisoner");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{layers}: {}: {said}", output.status);
    said
}

#[test]
fn each_layer_holds_against_attempts_to_break_out() {
    needs!(is_root(), "root, who has everything to give up");
    let abi =
        |said: String| said.split("Landlock ABI ").nth(1)?.split([' ', '\n', ',', ';']).next()?.parse::<u32>().ok();
    needs!(abi(prisoner_in("landlock")) >= Some(6), "a kernel with Landlock ABI 6");
    let said = LAYERS.map(prisoner_in);
    let found = OUTCOMES.split('|').map(|row| {
        let name = row.rsplit_once(' ').expect("an outcome").0;
        let in_layers = said.iter().map(|said| {
            let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.map_or('?', |line| if line == "allowed" { '+' } else { '-' })
        });
        format!("{name} {}", in_layers.collect::<String>())
    });
    assert_eq!(found.collect::<Vec<_>>().join("|"), OUTCOMES, "{said:#?}");
    for (layers, said) in LAYERS.iter().zip(said) {
        assert!(!said.contains("missing "), "{layers}: {said}");
        // And what no attempt is made of: the kernel's other doors, by their numbers.
        let calls: Vec<&str> = said.lines().filter(|line| line.starts_with("call ")).collect();
        assert_eq!(calls.len() > 40, ["seccomp", "all"].contains(layers), "{layers}: {said}");
        assert!(calls.iter().all(|line| line.ends_with(" denied")), "{layers}: {calls:?}");
    }
}

#[test]
fn the_shipped_courier_is_in_all_layers_has_no_environment_and_dies_with_its_parent() {
    let (mut running, courier, _rest) = stalled(&[]);
    let status = status_of(courier).expect("status");
    assert_eq!(["NoNewPrivs", "Seccomp", "Threads"].map(|field| &*status[field]), ["1", "2", "1"]);
    let capabilities = ["CapInh", "CapPrm", "CapEff", "CapAmb"].map(|field| &*status[field]);
    assert_eq!(capabilities, ["0000000000000000"; 4]);
    let of = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", courier)).expect("text");
    if is_root() {
        let nobody = "65534 65534 65534 65534";
        assert_eq!(["Uid", "Gid", "Groups"].map(|field| &*status[field]), [nobody, nobody, ""]);
        // Its files in /proc are root's: nobody else of its user can look at it.
        let owner = tool(&["stat", "-c", "%u", &format!("/proc/{}/maps", courier)]);
        assert_eq!(owner.as_deref(), Some("0\n"));
        assert_eq!((of("cmdline").matches('\0').count(), &*of("environ")), (2, ""));
        assert_eq!(fs::read_link(format!("/proc/{}/cwd", courier)).expect("cwd"), Path::new("/"));
    }
    let limits: Vec<String> = of("limits").lines().map(words).collect();
    for limit in ["core file size 0", "file size 0", "processes 0", "open files 64", "address space 134217728"] {
        let (name, value) = limit.rsplit_once(' ').expect("a value");
        let limit = format!("Max {name} {value} {value} ");
        assert!(limits.iter().any(|line| line.starts_with(&limit)), "{limit}: {limits:?}");
    }
    running.child.0.kill().expect("kill");
    let killed = Instant::now();
    wait_until("nothing is left", || status_of(courier).is_none());
    assert!(killed.elapsed() < Duration::from_secs(5), "it went by itself, after {:?}", killed.elapsed());
}

fn descriptors(pid: u32) -> BTreeMap<u32, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("fd").flatten();
    let described = |path: &Path| fs::read_link(path).map(|target| target.display().to_string()).unwrap_or_default();
    let numbered = entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    numbered.map(|(number, path): (u32, _)| (number, described(&path))).collect()
}

#[test]
fn the_courier_has_three_pipes_and_a_socket_whatever_its_caller_has_open() {
    needs!(is_root(), "root, who may look at a process that has made itself opaque");
    const HELD: [u32; 6] = [3, 4, 5, 7, 9, 100];
    let hold = "exec 3</etc/passwd 4>&1 9>/dev/null 100</ 5> >(cat) 7<>/dev/zero; exec \"$0\" \"$@\"";
    // As it is, and where close_range(2) is unknown, which has the list in /proc.
    let old = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=close_range:error=ENOSYS"];
    for old in [&[][..], &old] {
        needs!(old.is_empty() || has_strace(), "strace, and to be allowed to trace");
        let (running, courier, _rest) = stalled(&[&["bash", "-c", hold], old].concat());
        let parent = descriptors(running.child.0.id());
        assert!(HELD.iter().all(|held| parent.contains_key(held)), "the parent has lost one: {parent:?}");
        let courier = descriptors(courier);
        let kind = |(number, target): (&u32, &String)| format!("{number} {} ", target.replace(':', " "));
        let kinds: Vec<String> = courier.iter().map(kind).collect();
        let expected = ["0 pipe ", "1 pipe ", "2 pipe ", "3 socket "];
        assert!(kinds.len() == 4 && kinds.iter().zip(expected).all(|(kind, it)| kind.starts_with(it)), "{courier:?}");
        assert!(courier.values().all(|target| *target != parent[&5]), "the caller's pipe: {courier:?}");
    }
}
