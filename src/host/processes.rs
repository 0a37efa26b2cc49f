//! The processes above this one, as /proc shows them: who called us, and with which environment.
//!
//! The chain is read once. It ends at process 1, or where the parent is in another PID namespace.
//! [`Ancestors::broken_at`] tells where it breaks before that.

use std::{fmt::Display, io, io::ErrorKind, str::FromStr};

use rustix::process::geteuid;

use super::Host;

/// Arguments and environment together are at most three quarters of 8 MiB (execve(2)).
pub const MAX_BLOCK: usize = 6 << 20;

/// The most that is read of /proc/PID/stat, which is one line of numbers.
const MAX_STAT: usize = 4096;

/// Process 1 of the root's /proc.
const PROCESS_ONE: u32 = 1;

/// The processes above this one, by their numbers in the root's /proc.
#[derive(Debug, Default)]
pub struct Ancestors {
    /// The parent first, and process 1 last if it can be reached.
    pub processes: Vec<u32>,
    /// The process at which the chain breaks: it went away, or the chain is a loop.
    pub broken_at: Option<u32>,
}

impl Host {
    /// The environment block of a process: `NAME=value` entries, each ended by a NUL (proc(5), /proc/PID/environ).
    ///
    /// # Errors
    /// `PermissionDenied` where we may not look. A security module or a missing CAP_SYS_PTRACE can keep root from
    /// looking, too. Any other kind where the process went away, or where /proc makes no sense.
    pub fn process_environ(&self, pid: u32) -> io::Result<Vec<u8>> {
        match self.read(format!("proc/{pid}/environ"), MAX_BLOCK)? {
            Some(block) if !block.is_empty() => Ok(block),
            // A process without an environment has set nothing. But a process whose first thread has ended shows none
            // either.
            _ => match stat_field(&self.stat_of(pid)?, 3) {
                Some('Z') | None => Err(ErrorKind::InvalidData.into()),
                _ => Ok(Vec::new()),
            },
        }
    }

    /// The processes above this one; none where /proc shows no chain at all.
    pub fn ancestors(&self) -> &Ancestors {
        self.ancestors.get_or_init(|| {
            let (mut above, mut next) = (Ancestors::default(), self.parent_of("self").unwrap_or(0));
            // 0 is the parent of process 1, and of what was started from outside of the PID namespace.
            while next != 0 {
                let is_loop = above.processes.contains(&next);
                above.processes.push(next);
                if next == PROCESS_ONE {
                    break;
                }
                let parent = if is_loop { Err(ErrorKind::InvalidData.into()) } else { self.parent_of(next) };
                above.broken_at = parent.as_ref().is_err_and(is_lost).then_some(next);
                next = parent.unwrap_or(0);
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
