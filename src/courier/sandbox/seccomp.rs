//! The list of the system calls that the courier may make. Any other call fails with `EPERM`, as if a privilege were
//! missing.
//!
//! The list holds what TLS, DNS and HTTP need with std and musl, on x86_64 and aarch64, and no more. There is no way to
//! execute or start anything, to open a file, to make memory executable, to send signals or to trace. The only sockets
//! are those of TCP and UDP.

use std::io;

use libc::*;

use crate::kernel;

/// Calls that are allowed with any arguments. They work on descriptors and memory that the courier has, and on itself.
/// bind(2) is for the UDP sockets that ask name servers. For TCP, Landlock denies it, and there is no listen(2) here.
#[rustfmt::skip]
const ALWAYS: &[c_long] = &[
    SYS_read, SYS_readv, SYS_write, SYS_writev, SYS_close, SYS_fstat, SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    SYS_poll,
    SYS_connect, SYS_bind, SYS_recvfrom, SYS_shutdown, SYS_getsockname, SYS_getpeername, SYS_getsockopt,
    SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise, SYS_futex, SYS_sched_yield,
    SYS_getrandom, SYS_clock_gettime, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday,
    SYS_getpid, SYS_gettid, SYS_exit, SYS_exit_group, SYS_restart_syscall,
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack,
];

/// The number of an argument, a mask (`!0` hides nothing), and what the argument's lower half must be under that mask. The
/// lower half is all that these calls look at.
type Condition = (u32, u32, c_int);

/// The kind of a socket, without SOCK_CLOEXEC and SOCK_NONBLOCK.
const KIND: u32 = 0xf;
/// AF_INET or AF_INET6: 2 or 10.
const FAMILY: u32 = !(AF_INET ^ AF_INET6) as u32;

/// Calls that are allowed where all conditions of one of their lines hold.
const SOMETIMES: &[(c_long, &[Condition])] = &[
    (SYS_mmap, &[(2, PROT_EXEC as u32, 0)]),
    (SYS_mprotect, &[(2, PROT_EXEC as u32, 0)]),
    // The commands up to F_SETLKW. F_SETOWN, which makes the kernel send signals, is not among them.
    (SYS_fcntl, &[(1, !7, F_DUPFD)]),
    (SYS_ioctl, &[(1, !0, FIONBIO as c_int)]),
    (SYS_socket, &[(0, FAMILY, AF_INET), (1, KIND, SOCK_STREAM), (2, !0, 0)]),
    (SYS_socket, &[(0, FAMILY, AF_INET), (1, KIND, SOCK_DGRAM), (2, !0, 0)]),
    // Not SO_ATTACH_FILTER, which loads a program into the kernel, nor TCP_ULP, which loads modules.
    // SO_RCVTIMEO and SO_SNDTIMEO are 20 and 21.
    (SYS_setsockopt, &[(1, !0, SOL_SOCKET), (2, !1, SO_RCVTIMEO)]),
    (SYS_setsockopt, &[(1, !0, IPPROTO_TCP), (2, !0, TCP_NODELAY)]),
    (SYS_setsockopt, &[(1, !0, IPPROTO_IP), (2, !0, IP_RECVERR)]),
    (SYS_setsockopt, &[(1, !0, IPPROTO_IPV6), (2, !0, IPV6_RECVERR)]),
    // MSG_FASTOPEN connects. Most kernels that have Landlock's ports do not check them then.
    (SYS_sendto, &[(3, MSG_FASTOPEN as u32, 0)]),
];

/// The architecture whose call numbers these are (AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64 in linux/audit.h).
const ARCHITECTURE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };

/// Offsets in struct seccomp_data: the call's number, the architecture, the first argument's lower half.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

pub fn enter(_: &[u16]) -> io::Result<()> {
    if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    kernel::filter_system_calls(&program())
}

/// The list as a program: a block for each line, in which every condition that does not hold leads to the next block.
fn program() -> Vec<sock_filter> {
    let step = |code: u32, k: u32, jf: usize| sock_filter { code: code as u16, jt: 0, jf: jf as u8, k };
    let load = |offset| step(BPF_LD | BPF_W | BPF_ABS, offset, 0);
    let unless_equal_skip = |value, count| step(BPF_JMP | BPF_JEQ | BPF_K, value, count);
    let end = |action| step(BPF_RET | BPF_K, action, 0);
    let deny = end(SECCOMP_RET_ERRNO | EPERM as u32);
    let is_ours = sock_filter { jt: 1, ..unless_equal_skip(ARCHITECTURE, 0) };
    let mut program = vec![load(ARCH), is_ours, deny];
    let lines = ALWAYS.iter().map(|call| (*call, &[][..])).chain(SOMETIMES.iter().copied());
    for (call, conditions) in lines {
        // A condition takes three steps; the last one of the block allows the call.
        program.extend([load(NUMBER), unless_equal_skip(call as u32, 3 * conditions.len() + 1)]);
        for (index, (argument, mask, value)) in conditions.iter().enumerate() {
            let (left, masked) = (3 * (conditions.len() - index - 1) + 1, step(BPF_ALU | BPF_AND | BPF_K, *mask, 0));
            program.extend([load(ARGUMENTS + 8 * argument), masked, unless_equal_skip(*value as u32, left)]);
        }
        program.push(end(SECCOMP_RET_ALLOW));
    }
    program.push(deny);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do: interprets the program for one call.
    fn verdict(architecture: u32, call: c_long, arguments: [u64; 6]) -> u32 {
        let program = program();
        let (mut at, mut value) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            match u32::from(step.code) {
                code if code == BPF_LD | BPF_W | BPF_ABS => {
                    value = match step.k {
                        NUMBER => call as u32,
                        ARCH => architecture,
                        offset => arguments[((offset - ARGUMENTS) / 8) as usize] as u32,
                    }
                }
                code if code == BPF_ALU | BPF_AND | BPF_K => value &= step.k,
                code if code == BPF_JMP | BPF_JEQ | BPF_K => {
                    at += usize::from(if value == step.k { step.jt } else { step.jf })
                }
                code if code == BPF_RET | BPF_K => return step.k,
                code => panic!("another instruction: {code:#x}"),
            }
        }
    }

    #[test]
    fn only_what_is_on_the_list() {
        let (inet, inet6) = (libc::AF_INET as u64, libc::AF_INET6 as u64);
        let (stream, datagram) = (libc::SOCK_STREAM as u64, libc::SOCK_DGRAM as u64);
        let cloexec = libc::SOCK_CLOEXEC as u64;
        for (call, arguments, is_allowed) in [
            (libc::SYS_read, [9; 6], true),
            (libc::SYS_sigaltstack, [9; 6], true),
            (libc::SYS_execve, [0; 6], false),
            (libc::SYS_openat, [0; 6], false),
            (libc::SYS_socket, [inet, stream, 0, 0, 0, 0], true),
            (libc::SYS_socket, [inet6, stream | cloexec, 0, 0, 0, 0], true),
            (libc::SYS_socket, [inet6, datagram | cloexec, 0, 0, 0, 0], true),
            (libc::SYS_socket, [libc::AF_UNIX as u64, stream, 0, 0, 0, 0], false),
            (libc::SYS_socket, [libc::AF_NETLINK as u64, datagram, 0, 0, 0, 0], false),
            (libc::SYS_socket, [libc::AF_VSOCK as u64, stream, 0, 0, 0, 0], false),
            (libc::SYS_socket, [0, stream, 0, 0, 0, 0], false),
            (libc::SYS_socket, [8, stream, 0, 0, 0, 0], false),
            (libc::SYS_socket, [inet, libc::SOCK_RAW as u64, 0, 0, 0, 0], false),
            (libc::SYS_socket, [inet, stream, libc::IPPROTO_MPTCP as u64, 0, 0, 0], false),
            (libc::SYS_mmap, [0, 0, libc::PROT_READ as u64, 0, 0, 0], true),
            (libc::SYS_mmap, [0, 0, libc::PROT_EXEC as u64, 0, 0, 0], false),
            (libc::SYS_fcntl, [0, libc::F_SETFL as u64, 0, 0, 0, 0], true),
            (libc::SYS_fcntl, [0, libc::F_SETOWN as u64, 0, 0, 0, 0], false),
            (libc::SYS_setsockopt, [0, libc::SOL_SOCKET as u64, libc::SO_SNDTIMEO as u64, 0, 0, 0], true),
            (libc::SYS_setsockopt, [0, libc::SOL_SOCKET as u64, libc::SO_ATTACH_FILTER as u64, 0, 0, 0], false),
            (libc::SYS_setsockopt, [0, libc::IPPROTO_IP as u64, libc::IP_RECVERR as u64, 0, 0, 0], true),
            (libc::SYS_setsockopt, [0, libc::IPPROTO_IPV6 as u64, libc::IPV6_RECVERR as u64, 0, 0, 0], true),
            (libc::SYS_setsockopt, [0, libc::IPPROTO_IP as u64, libc::IP_OPTIONS as u64, 0, 0, 0], false),
            (libc::SYS_setsockopt, [0, libc::IPPROTO_IPV6 as u64, libc::IP_RECVERR as u64, 0, 0, 0], false),
            (libc::SYS_setsockopt, [0, libc::SOL_SOCKET as u64, libc::SO_RCVTIMEO as u64, 0, 0, 0], true),
            (libc::SYS_setsockopt, [0, libc::SOL_SOCKET as u64, libc::SO_PEERCRED as u64, 0, 0, 0], false),
            (libc::SYS_setsockopt, [0, libc::SOL_SOCKET as u64, libc::SO_SNDTIMEO as u64 + 1, 0, 0, 0], false),
            (libc::SYS_sendto, [0, 0, 0, libc::MSG_NOSIGNAL as u64, 0, 0], true),
            (libc::SYS_sendto, [0, 0, 0, libc::MSG_FASTOPEN as u64, 0, 0], false),
            (libc::SYS_sendmsg, [0; 6], false),
        ] {
            let found = verdict(ARCHITECTURE, call, arguments);
            assert_eq!(found == SECCOMP_RET_ALLOW, is_allowed, "{call} {arguments:?}: {found:#x}");
            assert_eq!(verdict(0x4000_0003, call, arguments), SECCOMP_RET_ERRNO | libc::EPERM as u32, "i386");
        }
    }
}
