//! Whether a package manager called us: is this run part of a maintainer script or scriptlet?

use crate::host::{Host, processes::MAX_BLOCK};

/// Programs that run maintainer scripts and scriptlets (comm, proc(5)): dpkg, and those with librpm in them. libzypp
/// starts %posttrans itself, from a file of its own.
const PROGRAMS: &str =
    "dpkg rpm dnf dnf-3 dnf-automatic dnf5 dnf5daemon-serv microdnf packagekitd tdnf yum zypp-rpm zypper";

/// Whether a package manager is among the callers. dpkg says so in a variable for every maintainer script
/// (deb-postinst(5)).
///
/// rpm sets no such variable. It runs a scriptlet from a file `rpm-tmp.XXXXXX` in its %_tmppath, usually /var/tmp
/// (rpmMkTempFile, the same from rpm 4.14 to 4.20). That file is looked for in the callers' arguments, as a program
/// that links librpm itself, such as Ansible, may have any name. A scriptlet in Lua is no process and has no such file,
/// so the names of known programs count as well.
pub fn is_calling(host: &Host) -> bool {
    let is_package_manager = |name: String| PROGRAMS.split(' ').any(|known| known == name);
    let calls = |pid: &u32| {
        let arguments = host.read_or_empty(format!("proc/{pid}/cmdline"), MAX_BLOCK);
        let name = host.line(format!("proc/{pid}/comm"));
        name.is_some_and(is_package_manager) || arguments.split(|b| *b == 0).any(is_scriptlet_file)
    };
    host.var("DPKG_MAINTSCRIPT_PACKAGE").is_some() || host.ancestors().processes.iter().any(calls)
}

/// An absolute path whose last name is `rpm-tmp.` and six letters or digits.
fn is_scriptlet_file(argument: &[u8]) -> bool {
    let Some(slash) = argument.iter().rposition(|b| *b == b'/') else { return false };
    let is_random = |end: &[u8]| end.len() == 6 && end.iter().all(u8::is_ascii_alphanumeric);
    argument.starts_with(b"/") && argument[slash + 1..].strip_prefix(b"rpm-tmp.").is_some_and(is_random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scriptlet_files() {
        for (arguments, expected) in [
            ("/var/tmp/rpm-tmp.eYqbTF|/srv/t m p/rpm-tmp.0aZ9zz|/rpm-tmp.abcdef", true),
            ("rpm-tmp.abcdef|/var/tmp/rpm-tmp.abcdefg|/var/tmp/rpm-tmp.abc/x|/var/tmp/rpm-tmp.|", false),
        ] {
            for argument in arguments.split('|') {
                assert_eq!(is_scriptlet_file(argument.as_bytes()), expected, "{argument}");
            }
        }
    }
}
