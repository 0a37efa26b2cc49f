//! System calls that none of our crates offers as a safe function: Landlock, the alarm, seccomp(2), close_range(2),
//! signal dispositions, IP_RECVERR. All of this crate's `unsafe` is here, except for one attribute in main.rs.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::{io, net::UdpSocket, sync::OnceLock, sync::atomic::AtomicI32, sync::atomic::Ordering, time::Duration};

use libc::{c_int, c_long, c_void};
use linux_raw_sys::landlock::{
    LANDLOCK_ACCESS_NET_CONNECT_TCP, LANDLOCK_CREATE_RULESET_VERSION, landlock_net_port_attr, landlock_rule_type,
    landlock_ruleset_attr,
};

/// The exit status of a run that aborts.
pub static ABORT_STATUS: AtomicI32 = AtomicI32::new(0);

/// The line that a run prints when a signal ends it.
pub static LAST_WORDS: OnceLock<String> = OnceLock::new();

/// The handler of signals that end a run.
const LEAVE: extern "C" fn(c_int) = leave;

extern "C" fn leave(_: c_int) {
    let words = LAST_WORDS.get().map_or("", String::as_str);
    let mut stderr = libc::pollfd { fd: 2, events: libc::POLLOUT, revents: 0 };
    // SAFETY: poll(2), write(2) and _exit(2) are async-signal-safe, and so is reading atomics. A full stderr is not
    // waited for.
    unsafe {
        if libc::poll(&raw mut stderr, 1, 0) == 1 {
            libc::write(2, words.as_ptr().cast(), words.len());
        }
        libc::_exit(ABORT_STATUS.load(Ordering::Relaxed))
    }
}

/// Arranges the signals that could end this process, whatever the caller has set. An abort (no memory, no stack, no
/// standard descriptors and no /dev/null in their place) ends with [`ABORT_STATUS`], because an installation must not
/// fail because of it. A write beyond RLIMIT_FSIZE is an error and does not kill the process. A courier that has ended
/// keeps its process number until it is waited for, so killing it cannot hit another process.
pub extern "C" fn arrange_signals() {
    // SAFETY: `LEAVE` is a handler by its type and only does what a handler may; the others are constants.
    unsafe {
        libc::signal(libc::SIGABRT, LEAVE as libc::sighandler_t);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

/// Ends the process with [`ABORT_STATUS`] after that time, whatever it is waiting for (setitimer(2)). It leaves the
/// files as a power cut would. A second call replaces the first.
pub fn end_process_after(time: Duration) {
    // 0 would take the timer away.
    let time = time.max(Duration::from_millis(1));
    let it_value = libc::timeval { tv_sec: time.as_secs() as i64, tv_usec: time.subsec_micros().into() };
    let timer = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value };
    // A caller may have blocked it.
    mask_alarm(libc::SIG_UNBLOCK);
    // SAFETY: `LEAVE` only does what a handler may; the kernel reads the timer.
    unsafe {
        libc::signal(libc::SIGALRM, LEAVE as libc::sighandler_t);
        libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
    }
}

/// Gives the alarm to a thread of its own, which only waits for it. While this thread waits for a network file system
/// whose server is gone, no handler of a signal can run in it. But another thread can end the process.
pub fn give_alarm_to_thread() {
    extern "C" fn wait(_: *mut c_void) -> *mut c_void {
        std::thread::sleep(Duration::MAX);
        std::ptr::null_mut()
    }
    // SAFETY: the thread's number is written before it could be read, and the thread gets no pointer.
    let failed = unsafe {
        let mut thread = std::mem::zeroed();
        libc::pthread_create(&mut thread, std::ptr::null(), wait, std::ptr::null_mut())
    };
    // Without another thread (RLIMIT_NPROC), this one keeps the alarm.
    if failed == 0 {
        mask_alarm(libc::SIG_BLOCK);
    }
}

/// Blocks or unblocks the alarm in this thread.
fn mask_alarm(how: c_int) {
    // SAFETY: the set is initialised before it is read.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGALRM);
        libc::pthread_sigmask(how, &set, std::ptr::null_mut());
    }
}

/// Marks all descriptors from `first` on, so that they are closed when a program is executed. Linux before 5.11 cannot
/// do this in one call. There, only the descriptors below 1024 are marked: bash and debconf use fewer than 300.
pub fn close_on_exec_from(first: RawFd) {
    const LIKELY: RawFd = 1024;
    // SAFETY: with this flag it closes nothing, so no owner of a descriptor is deceived.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, c_int::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if closed != 0 {
        // SAFETY: closes nothing either; where there is no such descriptor, it fails.
        (first..LIKELY).for_each(|descriptor| unsafe {
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        });
    }
}

/// The version of Landlock that the kernel has, 1 or more (landlock(7)).
///
/// # Errors
/// `ENOSYS` or `EOPNOTSUPP`: none.
pub fn landlock_abi() -> io::Result<u32> {
    let (call, none) = (libc::SYS_landlock_create_ruleset, std::ptr::null::<landlock_ruleset_attr>());
    // SAFETY: with this flag, the call reads no memory.
    Ok(checked(unsafe { libc::syscall(call, none, 0_usize, LANDLOCK_CREATE_RULESET_VERSION) })? as u32)
}

/// Denies the calling thread, and everything that it starts from now on, what `attributes` name. Connecting to `ports`
/// stays allowed. The kernel's version of Landlock must know everything that is named.
///
/// # Errors
/// Those of landlock_create_ruleset(2), landlock_add_rule(2) and landlock_restrict_self(2).
pub fn landlock_restrict(attributes: &landlock_ruleset_attr, ports: &[u16]) -> io::Result<()> {
    let (call, size) = (libc::SYS_landlock_create_ruleset, size_of::<landlock_ruleset_attr>());
    // SAFETY: the kernel reads `size` bytes of a structure that has them. The descriptor is new, and nobody else owns
    // it.
    let owner = unsafe { OwnedFd::from_raw_fd(checked(libc::syscall(call, attributes, size, 0))? as RawFd) };
    let (ruleset, kind) = (owner.as_raw_fd(), landlock_rule_type::LANDLOCK_RULE_NET_PORT as c_int);
    for port in ports.iter().map(|port| u64::from(*port)) {
        let rule = landlock_net_port_attr { allowed_access: LANDLOCK_ACCESS_NET_CONNECT_TCP.into(), port };
        // SAFETY: `rule` is the structure that goes with this type of rule, and the kernel only reads it.
        checked(unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset, kind, &raw const rule, 0) })?;
    }
    // SAFETY: no memory is involved.
    checked(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) }).map(drop)
}

/// Filters the calling thread's system calls from now on, by a program of classic BPF (seccomp(2)).
///
/// # Errors
/// Those of seccomp(2).
pub fn filter_system_calls(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies `length` instructions, which are there, and changes nothing.
    checked(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) }).map(drop)
}

/// Turns all ICMP messages about a socket's packets into errors of the socket, those of routers as well (ip(7),
/// ipv6(7)). A socket accepts the option of its own address family. Where it accepts neither, only messages of the
/// other host become errors.
pub fn hear_routers(socket: &UdpSocket) {
    let (on, size): (c_int, _) = (1, size_of::<c_int>() as libc::socklen_t);
    for (level, name) in [(libc::IPPROTO_IP, libc::IP_RECVERR), (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)] {
        // SAFETY: the kernel reads `size` bytes of a number that has them.
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), size) };
    }
}

fn checked(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
