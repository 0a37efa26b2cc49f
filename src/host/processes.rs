//! The processes above this one, as /proc shows them: who called us, and with which environment.
//!
//! The chain is taken once and ends at process 1, or below a parent of another PID namespace. Where it breaks before
//! that, it says so.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use super::{Content, Host};

/// Arguments and environment together are at most three quarters of 8 MiB (execve(2)).
const MAX_ENVIRON: usize = 6 << 20;

/// A process above this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number in the root's /proc.
    pub pid: u32,
}

/// The processes above this one.
#[derive(Debug)]
pub struct Ancestors {
    /// The parent first, process 1 last where it can be reached.
    pub processes: Vec<Process>,
    /// The process at which the chain breaks: it went away, or it is above itself.
    pub broken_at: Option<u32>,
    /// Whether root asks, from whom nothing of the chain should be hidden.
    pub is_for_root: bool,
}

impl Process {
    /// Its environment block: `NAME=value` entries, each ended by a NUL (proc(5), /proc/PID/environ).
    pub fn environ(self, host: &Host) -> Content {
        host.read(format!("proc/{}/environ", self.pid), MAX_ENVIRON)
    }

    /// Its name, at most 15 bytes (proc(5), /proc/PID/comm).
    pub fn name(self, host: &Host) -> Option<String> {
        host.line(format!("proc/{}/comm", self.pid))
    }

    /// Its arguments, each ended by a NUL (proc(5), /proc/PID/cmdline).
    pub fn arguments(self, host: &Host) -> Option<Vec<u8>> {
        host.read(format!("proc/{}/cmdline", self.pid), 4096).bytes()
    }

    /// Whether it has not ended yet.
    pub fn is_there(self, host: &Host) -> bool {
        host.read(format!("proc/{}/stat", self.pid), 4096).bytes().is_some()
    }
}

impl Host {
    /// Process 1 of the root's /proc.
    pub fn process_one(&self) -> Process {
        Process { pid: 1 }
    }

    /// The processes above this one; none where /proc shows no chain at all.
    pub fn ancestors(&self) -> &Ancestors {
        self.ancestors.get_or_init(|| {
            let (mut processes, mut seen, mut broken_at) = (Vec::new(), BTreeSet::new(), None);
            let mut next = self.parent_of("self").unwrap_or(0);
            // 0 is the parent of process 1, and of what was started from outside of the PID namespace.
            while next != 0 {
                let pid = next;
                if !seen.insert(pid) {
                    broken_at = Some(pid);
                    break;
                }
                processes.push(Process { pid });
                next = match self.parent_of(&pid.to_string()) {
                    _ if pid == 1 => 0,
                    Ok(parent) => parent,
                    Err(why) => {
                        broken_at = matches!(why, Broken::Lost).then_some(pid);
                        0
                    }
                };
            }
            Ancestors { processes, broken_at, is_for_root: rustix::process::geteuid().is_root() }
        })
    }

    /// The fourth field of /proc/PID/stat; the second, the name, may hold blanks and parentheses (proc(5)).
    fn parent_of(&self, process: &str) -> Result<u32, Broken> {
        let stat = match self.read(format!("proc/{process}/stat"), 4096) {
            Content::Bytes { bytes, .. } => bytes,
            Content::Forbidden => return Err(Broken::Hidden),
            Content::Unreadable(error) if error.kind() == ErrorKind::PermissionDenied => return Err(Broken::Hidden),
            Content::Missing | Content::Unreadable(_) => return Err(Broken::Lost),
        };
        let parent = || {
            let after_name = stat.iter().rposition(|b| *b == b')')? + 1;
            let mut fields = stat[after_name..].split(|b| b.is_ascii_whitespace()).filter(|f| !f.is_empty());
            std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()
        };
        parent().ok_or(Broken::Lost)
    }
}

/// Why a process's parent is not known.
enum Broken {
    /// We may not look.
    Hidden,
    /// The process went away, or its status is no status.
    Lost,
}
