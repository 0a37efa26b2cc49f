//! The processes above this one, as /proc shows them: who called us, and with which environment.
//!
//! The chain is read once. It ends at process 1, or where the parent is in another PID namespace.
//! [`Ancestors::broken_at`] tells where it breaks before that.

use std::{fmt::Display, io, io::ErrorKind, str::FromStr};

use rustix::process::geteuid;

use super::Host;

/// Arguments and environment together are at most three quarters of 8 MiB (execve(2)).
const MAX_ENVIRON: usize = 6 << 20;

/// The most that is read of /proc/PID/stat, which is one line of numbers.
const MAX_STAT: usize = 4096;

/// A process above this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number in the root's /proc.
    pub pid: u32,
}

/// Process 1 of the root's /proc.
pub const PROCESS_ONE: Process = Process { pid: 1 };

/// The processes above this one.
#[derive(Debug, Default)]
pub struct Ancestors {
    /// The parent first, and process 1 last if it can be reached.
    pub processes: Vec<Process>,
    /// The process at which the chain breaks: it went away, or the chain is a loop.
    pub broken_at: Option<Process>,
}

impl Process {
    /// Its environment block: `NAME=value` entries, each ended by a NUL (proc(5), /proc/PID/environ).
    ///
    /// # Errors
    /// `PermissionDenied` where we may not look. A security module or a missing CAP_SYS_PTRACE can keep root from
    /// looking, too. Any other kind where the process went away, or where /proc makes no sense.
    pub fn environ(self, host: &Host) -> io::Result<Vec<u8>> {
        match host.read(format!("proc/{}/environ", self.pid), MAX_ENVIRON)? {
            Some(block) if !block.is_empty() => Ok(block),
            // A process without an environment has set nothing. But a process whose first thread has ended shows none
            // either.
            _ => match stat_field(&host.stat_of(self.pid)?, 3) {
                Some('Z') | None => Err(ErrorKind::InvalidData.into()),
                _ => Ok(Vec::new()),
            },
        }
    }

    /// Its name, at most 15 bytes (proc(5), /proc/PID/comm).
    pub fn name(self, host: &Host) -> Option<String> {
        host.line(format!("proc/{}/comm", self.pid))
    }

    /// Its arguments, each ended by a NUL (proc(5), /proc/PID/cmdline).
    pub fn arguments(self, host: &Host) -> Option<Vec<u8>> {
        host.head(format!("proc/{}/cmdline", self.pid), 4096)
    }
}

impl Host {
    /// The processes above this one; none where /proc shows no chain at all.
    pub fn ancestors(&self) -> &Ancestors {
        self.ancestors.get_or_init(|| {
            let (mut above, mut next) = (Ancestors::default(), self.parent_of("self").unwrap_or(0));
            // 0 is the parent of process 1, and of what was started from outside of the PID namespace.
            while next != 0 {
                let process = Process { pid: next };
                let is_loop = above.processes.contains(&process);
                let parent = if is_loop { Err(ErrorKind::InvalidData.into()) } else { self.parent_of(next) };
                above.processes.push(process);
                if process != PROCESS_ONE && parent.as_ref().is_err_and(is_lost) {
                    above.broken_at = Some(process);
                }
                next = if process == PROCESS_ONE { 0 } else { parent.unwrap_or(0) };
            }
            above
        })
    }

    fn parent_of(&self, process: impl Display) -> io::Result<u32> {
        stat_field(&self.stat_of(process)?, 4).ok_or(ErrorKind::InvalidData.into())
    }

    fn stat_of(&self, process: impl Display) -> io::Result<Vec<u8>> {
        // From users other than root, /proc can hide processes as if they did not exist (proc(5), hidepid).
        let gone = if geteuid().is_root() { ErrorKind::NotFound } else { ErrorKind::PermissionDenied };
        Ok(self.read(format!("proc/{process}/stat"), MAX_STAT)?.ok_or(gone)?)
    }
}

/// Whether a process cannot be known although we may look.
pub fn is_lost(error: &io::Error) -> bool {
    error.kind() != ErrorKind::PermissionDenied
}

/// A field of /proc/PID/stat behind the process's name, by its number in proc_pid_stat(5). The name is the second
/// field. It may hold blanks and parentheses.
pub fn stat_field<T: FromStr>(stat: &[u8], number: usize) -> Option<T> {
    let after_name = stat.iter().rposition(|b| *b == b')')? + 1;
    let fields = std::str::from_utf8(&stat[after_name..]).ok()?;
    fields.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}
