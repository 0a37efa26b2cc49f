//! Landlock (landlock(7)) denies all files, whoever the courier's user is, and all TCP but to the ports of its job.

use std::io;

use linux_raw_sys::landlock::{
    LANDLOCK_ACCESS_FS_IOCTL_DEV, LANDLOCK_ACCESS_FS_MAKE_SYM, LANDLOCK_ACCESS_FS_REFER, LANDLOCK_ACCESS_FS_TRUNCATE,
    LANDLOCK_ACCESS_NET_BIND_TCP, LANDLOCK_ACCESS_NET_CONNECT_TCP, LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET,
    LANDLOCK_SCOPE_SIGNAL, landlock_ruleset_attr,
};

use crate::kernel;

/// Denies everything that the kernel's version can deny, except connecting to `ports`.
pub fn enter(ports: &[u16]) -> io::Result<String> {
    let abi = kernel::landlock_abi()?;
    let handled = handled(abi);
    let has_tcp = handled.handled_access_net != 0;
    kernel::landlock_restrict(&handled, if has_tcp { ports } else { &[] })?;
    Ok(format!("Landlock ABI {abi}{}", if has_tcp { "" } else { " (files only; TCP needs ABI 4)" }))
}

/// All that a version can deny. A later version than these only adds to it.
fn handled(abi: u32) -> landlock_ruleset_attr {
    // From LANDLOCK_ACCESS_FS_EXECUTE, the first, to the last of version 1.
    let mut files = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;
    for (since, right) in
        [(2, LANDLOCK_ACCESS_FS_REFER), (3, LANDLOCK_ACCESS_FS_TRUNCATE), (5, LANDLOCK_ACCESS_FS_IOCTL_DEV)]
    {
        if abi >= since {
            files |= right;
        }
    }
    let net = if abi >= 4 { LANDLOCK_ACCESS_NET_BIND_TCP | LANDLOCK_ACCESS_NET_CONNECT_TCP } else { 0 };
    let scopes = if abi >= 6 { LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | LANDLOCK_SCOPE_SIGNAL } else { 0 };
    landlock_ruleset_attr { handled_access_fs: files.into(), handled_access_net: net.into(), scoped: scopes.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_handles_what_it_knows() {
        for (abi, files, net, scopes) in [
            (1, 0x1fff, 0, 0),
            (2, 0x3fff, 0, 0),
            (3, 0x7fff, 0, 0),
            (4, 0x7fff, 3, 0),
            (5, 0xffff, 3, 0),
            (6, 0xffff, 3, 3),
            (99, 0xffff, 3, 3),
        ] {
            let found = handled(abi);
            let found = (found.handled_access_fs, found.handled_access_net, found.scoped);
            assert_eq!(found, (files, net, scopes), "{abi}");
        }
    }
}
