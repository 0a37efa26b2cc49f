//! Which kernel this is, by proc_sys_kernel(5), else uname(2).
//!
//! Not /proc/version, which names who built the kernel, and on which host.

use crate::host::Host;

/// As `uname -r` prints it.
pub fn release(host: &Host) -> Option<String> {
    line(host, "proc/sys/kernel/osrelease")
        .or_else(|| rustix::system::uname().release().to_str().ok().map(str::to_owned))
}

/// As `uname -v` prints it: the number and date of the build.
pub fn version(host: &Host) -> Option<String> {
    line(host, "proc/sys/kernel/version").or_else(|| rustix::system::uname().version().to_str().ok().map(str::to_owned))
}

fn line(host: &Host, path: &str) -> Option<String> {
    host.line(path).filter(|line| !line.is_empty())
}
