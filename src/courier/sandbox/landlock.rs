//! Landlock (landlock(7)) denies all files, whoever the courier's user is, and all TCP but to the ports of its job.

use std::io;

use linux_raw_sys::landlock::*;

use crate::kernel;

/// Denies everything that the kernel's version can deny, except connecting to `ports`.
pub fn enter(ports: &[u16]) -> io::Result<()> {
    let abi = kernel::landlock_abi()?;
    kernel::landlock_restrict(&handled(abi), if abi < 4 { &[] } else { ports })?;
    if abi < 4 { Err(io::Error::other("TCP needs ABI 4; files are denied")) } else { Ok(()) }
}

/// All that a version can deny. A later version than these only adds to it.
fn handled(abi: u32) -> landlock_ruleset_attr {
    let since = |version, rights: u32| if abi >= version { u64::from(rights) } else { 0 };
    landlock_ruleset_attr {
        // From LANDLOCK_ACCESS_FS_EXECUTE, the first, to the last of version 1.
        handled_access_fs: since(1, (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)
            | since(2, LANDLOCK_ACCESS_FS_REFER)
            | since(3, LANDLOCK_ACCESS_FS_TRUNCATE)
            | since(5, LANDLOCK_ACCESS_FS_IOCTL_DEV),
        handled_access_net: since(4, LANDLOCK_ACCESS_NET_BIND_TCP | LANDLOCK_ACCESS_NET_CONNECT_TCP),
        scoped: since(6, LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | LANDLOCK_SCOPE_SIGNAL),
    }
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
