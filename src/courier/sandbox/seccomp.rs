//! The system calls that are left, as a list; whatever is not on it fails with `EPERM`, as for want of privileges.
//!
//! On it is what TLS, DNS and HTTP by std and musl need, on x86_64 and aarch64, and no more: no way to execute or start
//! anything, to change a file or to make memory executable, no signals, no tracing, no sockets but TCP's and UDP's.

use std::collections::BTreeMap;
use std::io;

use libc::{c_int, c_long};
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// Calls that are left whatever their arguments are: on descriptors and memory that the courier has, and on itself.
const ALWAYS: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_ppoll,
    libc::SYS_connect,
    // musl's resolver binds its UDP sockets. TCP has Landlock, and there is no listen(2) here.
    libc::SYS_bind,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

/// One argument's number, and what its lower half, which is all that these calls look at, must be under a mask.
type Condition = (u8, u32, c_int);

const ALL: u32 = u32::MAX;
const READ_ONLY: c_int = libc::O_RDONLY;
const ANY_WRITING: u32 =
    (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND | libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;
const EXECUTABLE: u32 = libc::PROT_EXEC as u32;
/// It connects, and most kernels that have Landlock's ports do not ask it about that.
const FAST_OPEN: u32 = libc::MSG_FASTOPEN as u32;
/// The kind of a socket, without SOCK_CLOEXEC and SOCK_NONBLOCK.
const KIND: u32 = 0xf;

/// Calls that are left where all conditions of one of their lines hold.
const SOMETIMES: &[(c_long, &[Condition])] = &[
    (libc::SYS_openat, &[(2, ANY_WRITING, READ_ONLY)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, &[(1, ANY_WRITING, READ_ONLY)]),
    (libc::SYS_mmap, &[(2, EXECUTABLE, 0)]),
    (libc::SYS_mprotect, &[(2, EXECUTABLE, 0)]),
    // Up to F_SETLKW: not F_SETOWN, which has the kernel send signals.
    (libc::SYS_fcntl, &[(1, !7, libc::F_DUPFD)]),
    (libc::SYS_ioctl, &[(1, ALL, libc::FIONBIO as c_int)]),
    (libc::SYS_socket, &[(0, ALL, libc::AF_INET), (1, KIND, libc::SOCK_STREAM), (2, ALL, 0)]),
    (libc::SYS_socket, &[(0, ALL, libc::AF_INET), (1, KIND, libc::SOCK_STREAM), (2, ALL, libc::IPPROTO_TCP)]),
    (libc::SYS_socket, &[(0, ALL, libc::AF_INET), (1, KIND, libc::SOCK_DGRAM), (2, ALL, 0)]),
    (libc::SYS_socket, &[(0, ALL, libc::AF_INET), (1, KIND, libc::SOCK_DGRAM), (2, ALL, libc::IPPROTO_UDP)]),
    (libc::SYS_socket, &[(0, ALL, libc::AF_INET6), (1, KIND, libc::SOCK_STREAM), (2, ALL, 0)]),
    (libc::SYS_socket, &[(0, ALL, libc::AF_INET6), (1, KIND, libc::SOCK_STREAM), (2, ALL, libc::IPPROTO_TCP)]),
    (libc::SYS_socket, &[(0, ALL, libc::AF_INET6), (1, KIND, libc::SOCK_DGRAM), (2, ALL, 0)]),
    (libc::SYS_socket, &[(0, ALL, libc::AF_INET6), (1, KIND, libc::SOCK_DGRAM), (2, ALL, libc::IPPROTO_UDP)]),
    // Not SO_ATTACH_FILTER, which loads a program into the kernel, nor TCP_ULP, which loads modules.
    (libc::SYS_setsockopt, &[(1, ALL, libc::SOL_SOCKET), (2, ALL, libc::SO_RCVTIMEO)]),
    (libc::SYS_setsockopt, &[(1, ALL, libc::SOL_SOCKET), (2, ALL, libc::SO_SNDTIMEO)]),
    (libc::SYS_setsockopt, &[(1, ALL, libc::IPPROTO_TCP), (2, ALL, libc::TCP_NODELAY)]),
    (libc::SYS_setsockopt, &[(1, ALL, libc::IPPROTO_IPV6), (2, ALL, libc::IPV6_V6ONLY)]),
    (libc::SYS_sendto, &[(3, FAST_OPEN, 0)]),
    (libc::SYS_sendmsg, &[(2, FAST_OPEN, 0)]),
];

pub fn enter() -> io::Result<String> {
    let program = program().map_err(|error| io::Error::other(error.to_string()))?;
    apply_filter(&program).map_err(|error| match error {
        Error::Prctl(error) | Error::Seccomp(error) => error,
        other => io::Error::other(other.to_string()),
    })?;
    Ok("seccomp".to_owned())
}

fn program() -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
    for (call, conditions) in SOMETIMES {
        let condition = |&(argument, mask, value): &Condition| {
            let is = SeccompCmpOp::MaskedEq(mask.into());
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value as u32 as u64)
        };
        let conditions = conditions.iter().map(condition).collect::<Result<_, _>>()?;
        rules.entry(*call).or_default().push(SeccompRule::new(conditions)?);
    }
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, denied, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?.try_into()
}
