//! The courier's sandbox from inside: enters the layers that it is told to enter, exactly as the courier does, then
//! tries to break out of each, and says what came of it. tests/shipped/courier.rs knows what must come of it; nothing
//! of this is in the shipped binary.
#![allow(unsafe_code)] // The raw calls are what an attacker would make.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use install_record::courier::sandbox::LAYERS;
use install_record::kernel;
use libc::c_long;

const USAGE: &str = "\
prisoner: tries to break out of the courier's sandbox

usage: prisoner LAYERS DIRECTORY PORT OTHER [crash]

LAYERS are separated by commas, or `all`, or `none`. DIRECTORY belongs to everybody and has the files `a` and `b`; on
both ports of 127.0.0.1 somebody listens, and the first one is what may be connected to. With `crash`, it ends by a signal that leaves a core file where it may.
Says `NAME allowed` or `NAME denied: ERROR` of each attempt.
";

/// What the attempts need.
struct Cell {
    directory: PathBuf,
    port: u16,
    other: u16,
}

type Attempt = fn(&Cell) -> io::Result<()>;

const ATTEMPTS: &[(&str, Attempt)] = &[
    ("read /etc/hosts", |_| read("/etc/hosts")),
    ("read /etc/passwd", |_| read("/etc/passwd")),
    ("read /etc/shadow", |_| read("/etc/shadow")),
    ("list a directory", |cell| fs::read_dir(&cell.directory)?.try_for_each(|entry| entry.map(drop))),
    ("create and write a file", |cell| fs::write(cell.path("new"), "x")),
    ("open a file for writing", |cell| OpenOptions::new().write(true).open(cell.path("a")).map(drop)),
    ("truncate a file", |cell| {
        let path = std::ffi::CString::new(cell.path("a").into_os_string().into_encoded_bytes())?;
        // SAFETY: a string that ends in NUL.
        checked(unsafe { libc::truncate(path.as_ptr(), 0) }.into())
    }),
    ("rename a file", |cell| fs::rename(cell.path("a"), cell.path("c"))),
    ("unlink a file", |cell| fs::remove_file(cell.path("b"))),
    ("make a directory", |cell| fs::create_dir(cell.path("d"))),
    ("make a link", |cell| std::os::unix::fs::symlink("/etc/shadow", cell.path("l"))),
    ("connect", |cell| connect(cell.port)),
    ("connect to another port", |cell| connect(cell.other)),
    ("connect by fast open", |cell| fast_open(cell.port)),
    ("listen", |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)),
    ("a Unix socket", |_| UnixDatagram::unbound().map(drop)),
    // SAFETY: no memory is involved.
    ("a netlink socket", |_| checked(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) }.into())),
    // SAFETY: no memory is involved.
    ("signal the parent", |_| checked(unsafe { libc::kill(libc::getppid(), 0) }.into())),
    // SAFETY: no memory is involved.
    ("become root", |_| checked(unsafe { libc::syscall(libc::SYS_setresuid, 0, 0, 0) })),
    ("fork", |_| fork()),
    ("start a thread", |_| std::thread::Builder::new().spawn(|| ()).map(drop)),
    ("take 1 GiB of memory", |_| Vec::<u8>::new().try_reserve_exact(1 << 30).map_err(io::Error::other)),
    ("open 100 files", |_| (0..100).map(|_| File::open("/etc/hosts")).collect::<io::Result<Vec<_>>>().map(drop)),
    ("make memory executable", |_| executable_memory()),
    // The last one: where it is allowed, echo says so in our place.
    ("execute a file", |_| Err(Command::new("/bin/echo").arg("execute a file allowed").exec())),
];

/// Calls with nothing but zeros for arguments: the sandbox must answer before the kernel looks at any.
const CALLS: &[(&str, c_long)] = &[
    ("execve", libc::SYS_execve),
    ("execveat", libc::SYS_execveat),
    ("clone", libc::SYS_clone),
    ("clone3", libc::SYS_clone3),
    ("ptrace", libc::SYS_ptrace),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("tgkill", libc::SYS_tgkill),
    ("openat2", libc::SYS_openat2),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("linkat", libc::SYS_linkat),
    ("mknodat", libc::SYS_mknodat),
    ("fchmodat", libc::SYS_fchmodat),
    ("fchownat", libc::SYS_fchownat),
    ("setxattr", libc::SYS_setxattr),
    ("memfd_create", libc::SYS_memfd_create),
    ("mount", libc::SYS_mount),
    ("umount2", libc::SYS_umount2),
    ("move_mount", libc::SYS_move_mount),
    ("pivot_root", libc::SYS_pivot_root),
    ("chroot", libc::SYS_chroot),
    ("unshare", libc::SYS_unshare),
    ("setns", libc::SYS_setns),
    ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module),
    ("kexec_load", libc::SYS_kexec_load),
    ("reboot", libc::SYS_reboot),
    ("bpf", libc::SYS_bpf),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("keyctl", libc::SYS_keyctl),
    ("shmget", libc::SYS_shmget),
    ("mq_open", libc::SYS_mq_open),
    ("prctl", libc::SYS_prctl),
    ("prlimit64", libc::SYS_prlimit64),
    ("personality", libc::SYS_personality),
    ("setuid", libc::SYS_setuid),
    ("capset", libc::SYS_capset),
    ("listen", libc::SYS_listen),
    ("accept4", libc::SYS_accept4),
    ("socketpair", libc::SYS_socketpair),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (layers, cell, is_crash) = match arguments.as_slice() {
        [layers, directory, port, other, rest @ ..] => {
            let number = |port: &String| port.parse().expect("a port");
            (layers, Cell { directory: directory.into(), port: number(port), other: number(other) }, !rest.is_empty())
        }
        _ => {
            eprint!("{USAGE}");
            std::process::exit(2);
        }
    };
    kernel::arrange_signals();
    println!("this kernel has Landlock ABI {}", kernel::landlock_abi().unwrap_or(0));
    for (name, enter) in LAYERS {
        if layers == "all" || layers.split(',').any(|layer| layer == name) {
            match enter(&[cell.port]) {
                Ok(()) => println!("entered {name}"),
                Err(why) => println!("missing {name}: {why}"),
            }
        }
    }
    if is_crash {
        // SAFETY: this instruction and no other is the purpose.
        unsafe { std::ptr::null_mut::<u8>().write_volatile(1) };
    }
    let is_filtered = layers == "all" || layers.contains("seccomp");
    for (name, call) in CALLS.iter().filter(|_| is_filtered) {
        // SAFETY: answered before the kernel acts; what would not be does nothing with zeros, or the test fails.
        let is_denied = unsafe { libc::syscall(*call, 0, 0, 0, 0, 0, 0) } == -1
            && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
        println!("call {name} {}", if is_denied { "denied" } else { "allowed" });
    }
    for (name, attempt) in ATTEMPTS {
        // Before the next one, which may replace us.
        io::stdout().flush().expect("stdout");
        match attempt(&cell) {
            Ok(()) => println!("{name} allowed"),
            Err(error) => println!("{name} denied: {error}"),
        }
    }
}

impl Cell {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn read(path: impl AsRef<Path>) -> io::Result<()> {
    fs::read(path).map(drop)
}

fn connect(port: u16) -> io::Result<()> {
    TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map(drop)
}

/// Connects by sending (tcp(7), TCP_FASTOPEN).
fn fast_open(port: u16) -> io::Result<()> {
    let to = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() },
        sin_zero: [0; 8],
    };
    let size = size_of_val(&to) as libc::socklen_t;
    // SAFETY: one byte of a string that has one, and an address of its size.
    checked(unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        libc::sendto(socket, c"x".as_ptr().cast(), 1, libc::MSG_FASTOPEN, (&raw const to).cast(), size) as c_long
    })
}

fn fork() -> io::Result<()> {
    // SAFETY: there is one thread, and the child only ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as ever.
        unsafe { libc::_exit(0) };
    }
    checked(child.into())
}

fn executable_memory() -> io::Result<()> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: new memory, which nobody uses.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    if memory == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn checked(result: c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
