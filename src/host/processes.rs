//! The processes above this one, as /proc shows them: who called us, and with which environment.
//!
//! A chain is bounded and taken once; processes that vanish in between, a /proc that is missing or hides others,
//! and nonsense in a file end it early instead of failing.

use super::{Content, Host};

/// More generations than any package manager has; a longer chain is somebody's joke.
const MAX_ANCESTORS: usize = 64;

/// Arguments and environment together are at most three quarters of 8 MiB (execve(2)).
const MAX_ENVIRON: usize = 6 << 20;

/// A process above this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number in the root's /proc.
    pub pid: u32,
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
}

impl Host {
    /// Process 1 of the root's /proc.
    pub fn process_one(&self) -> Process {
        Process { pid: 1 }
    }

    /// The processes above this one, the parent first, process 1 last where it can be reached.
    pub fn ancestors(&self) -> &[Process] {
        self.ancestors.get_or_init(|| {
            let mut above = Vec::new();
            let mut next = self.parent_of("self");
            while let Some(pid) = next
                && above.len() < MAX_ANCESTORS
                && !above.contains(&Process { pid })
            {
                above.push(Process { pid });
                next = self.parent_of(&pid.to_string());
            }
            above
        })
    }

    /// The fourth field of /proc/PID/stat; the second, the name, may hold blanks and parentheses (proc(5)).
    fn parent_of(&self, process: &str) -> Option<u32> {
        let stat = self.read(format!("proc/{process}/stat"), 4096).bytes()?;
        let after_name = stat.iter().rposition(|b| *b == b')')? + 1;
        let mut fields = stat[after_name..].split(|b| b.is_ascii_whitespace()).filter(|f| !f.is_empty());
        let parent: u32 = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?;
        (parent != 0).then_some(parent)
    }
}
