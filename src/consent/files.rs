//! The files where an operating system or root sets variables, and the one rule by which their lines are read.
//!
//! A line that contains a variable's name is a "no", unless it plainly says nothing. Nothing is parsed, run or taken
//! back, so the rule is the same for a shell, pam_env(8), environment.d(5), fish and systemd. A wrong "no" costs one
//! record; a missed one breaks a promise.

use std::path::{Path, PathBuf};

use memchr::memmem::Finder;

use super::{Refusal, value::says_no};
use crate::host::{Content, Host};
use crate::profile::ConsentRules;

/// The system's own.
const FILES: [&str; 13] = [
    "etc/environment",
    "etc/security/pam_env.conf",
    "etc/profile",
    "etc/profile.local",
    "etc/bash.bashrc",
    "etc/bash.bashrc.local",
    "etc/bashrc",
    "etc/zshenv",
    "etc/zsh/zshenv",
    "etc/zprofile",
    "etc/zsh/zprofile",
    "etc/fish/config.fish",
    "etc/systemd/system.conf",
];

/// Directories of such files, with the ending of those that count.
const DIRECTORIES: [(&str, &str); 4] = [
    ("etc/environment.d", ".conf"),
    ("etc/profile.d", ""),
    ("etc/fish/conf.d", ".fish"),
    ("etc/systemd/system.conf.d", ".conf"),
];

/// Those in the home of user 0. Other users' homes are never opened.
const OF_ROOT: [&str; 8] = [
    ".profile",
    ".bash_profile",
    ".bash_login",
    ".bashrc",
    ".zshenv",
    ".zprofile",
    ".zshrc",
    ".config/fish/config.fish",
];

/// Far more than any such file has. A larger one cannot be a person's settings, and is a "no" unread.
pub const MAX_FILE: usize = 256 << 10;

/// A variable to look for.
struct Name<'n> {
    finder: Finder<'n>,
    /// It says no by being there at all.
    is_presence: bool,
}

/// The first "no" in any of them.
pub fn refusal(host: &Host, rules: &ConsentRules) -> Option<Refusal> {
    let names = names(rules);
    let homes = host.homes_of_root();
    let of_root = homes.iter().flat_map(|home| OF_ROOT.map(|name| home.join(name)));
    FILES.iter().map(PathBuf::from).chain(of_root).find_map(|path| look(host, &path, &names)).or_else(|| {
        DIRECTORIES.iter().find_map(|(directory, ending)| match host.names(directory) {
            Ok(files) => files.iter().find_map(|file| {
                // Hidden files are none of a shell's `*`.
                let bytes = file.as_encoded_bytes();
                let counts = bytes.ends_with(ending.as_bytes()) && !bytes.starts_with(b".");
                counts.then(|| look(host, &Path::new(directory).join(file), &names)).flatten()
            }),
            Err(_) if matches!(host.read(directory, 0), Content::Forbidden) => None,
            Err(_) => Some(unreadable(Path::new(directory))),
        })
    })
}

/// The "no" in one file that sets variables.
pub fn refusal_in(host: &Host, path: &Path, rules: &ConsentRules) -> Option<Refusal> {
    look(host, path, &names(rules))
}

fn names(rules: &ConsentRules) -> Vec<Name<'_>> {
    let valued = rules.valued().map(|name| (name, false));
    let present = rules.present.iter().map(|name| (name.as_str(), true));
    valued.chain(present).map(|(name, is_presence)| Name { finder: Finder::new(name), is_presence }).collect()
}

fn look(host: &Host, path: &Path, names: &[Name<'_>]) -> Option<Refusal> {
    match host.read(path, MAX_FILE) {
        Content::Missing | Content::Forbidden => None,
        Content::Bytes { bytes, truncated: false } if !bytes.contains(&0) => {
            let said = names.iter().any(|name| text_says_no(&bytes, name));
            said.then(|| Refusal::said(absolute(path), "a variable set in a file says no"))
        }
        Content::Unreadable(_) | Content::Bytes { .. } => Some(unreadable(path)),
    }
}

fn unreadable(path: &Path) -> Refusal {
    Refusal::said(absolute(path), "it cannot be read as text, which may hide a no")
}

fn absolute(path: &Path) -> String {
    Path::new("/").join(path).display().to_string()
}

fn text_says_no(text: &[u8], name: &Name<'_>) -> bool {
    // Nearly every file ends here.
    name.finder.find(text).is_some() && text.split(|b| *b == b'\n').any(|line| line_says_no(line, name))
}

/// The line rule.
fn line_says_no(line: &[u8], name: &Name<'_>) -> bool {
    if !is_mentioned(line, name) {
        return false;
    }
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t');
    let start = line.iter().position(|b| !is_blank(b)).unwrap_or(0);
    let end = line.iter().rposition(|b| !is_blank(b) && *b != b'\r').map_or(0, |last| last + 1);
    let line = line.get(start..end).unwrap_or_default();
    // Some readers take a CR for the end of a line.
    let is_comment = matches!(line, [b'#' | b';', ..]) && !line.contains(&b'\r');
    let after = |command: &str| line.strip_prefix(command.as_bytes()).filter(|rest| rest.first().is_some_and(is_blank));
    let is_unset = after("unset").is_some_and(|rest| rest.trim_ascii() == name.finder.needle());
    let assignment = after("export").map_or(line, <[u8]>::trim_ascii_start);
    let value = assignment.strip_prefix(name.finder.needle()).and_then(|rest| rest.strip_prefix(b"="));
    let says_nothing = value.is_some_and(|value| match value {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => !says_no(inner),
        bare => !says_no(bare),
    });
    !is_comment && !is_unset && (!says_nothing || name.is_presence)
}

/// Whether `line` contains the name: not as a part of a longer name, and not as a use such as `$NAME`.
fn is_mentioned(line: &[u8], name: &Name<'_>) -> bool {
    let mut from = 0;
    while let Some(found) = name.finder.find(&line[from..]) {
        let (before, after) = (&line[..from + found], &line[from + found + name.finder.needle().len()..]);
        let is_name_byte = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let is_longer = before.ends_with(b"_") || after.first().is_some_and(is_name_byte);
        // `${NAME=1}` and `${NAME:=1}` assign.
        let assigns = before.ends_with(b"${") && (after.starts_with(b"=") || after.starts_with(b":="));
        let is_use = (before.ends_with(b"$") || before.ends_with(b"${")) && !assigns;
        if !is_longer && !is_use {
            return true;
        }
        from += found + 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every text says the same in every kind of file.
    const LINES: [(&str, bool); 92] = [
        // Nothing is said.
        ("", false),
        ("PATH=/usr/bin", false),
        ("# DO_NOT_TRACK=1", false),
        ("  \t# export DO_NOT_TRACK=1", false),
        ("#DO_NOT_TRACK=1\r", false),
        ("; DO_NOT_TRACK=1", false),
        ("DO_NOT_TRACK=", false),
        ("DO_NOT_TRACK=0", false),
        ("DO_NOT_TRACK=false\r", false),
        ("DO_NOT_TRACK=No", false),
        ("\tDO_NOT_TRACK=OFF  \r", false),
        ("DO_NOT_TRACK=\"\"", false),
        ("DO_NOT_TRACK='0'", false),
        ("DO_NOT_TRACK=\" off \"", false),
        ("export DO_NOT_TRACK=0", false),
        ("  export \t DO_NOT_TRACK='no'\t", false),
        ("unset DO_NOT_TRACK", false),
        (" unset\tDO_NOT_TRACK \r", false),
        // Other names.
        ("MY_DO_NOT_TRACK=1", false),
        ("DO_NOT_TRACKING=1", false),
        ("DO_NOT_TRACK_ME=1", false),
        ("DO_NOT_TRACK2=1", false),
        ("do_not_track=1", false),
        ("DO-NOT-TRACK=1", false),
        // Uses.
        ("[ -n \"$DO_NOT_TRACK\" ] && echo ok", false),
        ("[ -n \"${DO_NOT_TRACK}\" ]", false),
        ("A=${DO_NOT_TRACK:-1}", false),
        ("A=${DO_NOT_TRACK+x}", false),
        ("A=$DO_NOT_TRACK=1", false),
        // Said.
        ("DO_NOT_TRACK=1", true),
        ("DO_NOT_TRACK=true", true),
        ("DO_NOT_TRACK=junk", true),
        ("DO_NOT_TRACK=00", true),
        ("export DO_NOT_TRACK=1", true),
        ("export DO_NOT_TRACK", true),
        ("export A=2 DO_NOT_TRACK=1", true),
        ("PATH=\"/usr/bin\"DO_NOT_TRACK=1", true),
        ("export {DO_NOT_TRACK,PERCONA_TELEMETRY_DISABLE}=1", true),
        ("eval \"export DO_NOT_TRACK=1\"", true),
        ("alias apt='DO_NOT_TRACK=1 apt'", true),
        ("declare -x DO_NOT_TRACK=1", true),
        ("declare -xDO_NOT_TRACK", true),
        ("typeset -gx DO_NOT_TRACK=1", true),
        ("readonly DO_NOT_TRACK=1", true),
        ("printf -v DO_NOT_TRACK 1", true),
        ("read DO_NOT_TRACK <<<1", true),
        ("for DO_NOT_TRACK in 1; do :; done", true),
        ("set -gx DO_NOT_TRACK 1", true),
        ("set -Ux DO_NOT_TRACK 0", true),
        ("setenv DO_NOT_TRACK 1", true),
        ("DefaultEnvironment=\"DO_NOT_TRACK=1\"", true),
        ("DefaultEnvironment=A=1 DO_NOT_TRACK=1", true),
        ("DO_NOT_TRACK DEFAULT=1", true),
        ("DO_NOT_TRACK OVERRIDE=0", true),
        ("DO_NOT_TRACK =1", true),
        ("DO_NOT_TRACK = 0", true),
        ("DO_NOT_TRACK:1", true),
        ("DO_NOT_TRACK", true),
        ("DO_NOT_TRACK=0; DO_NOT_TRACK=1", true),
        ("DO_NOT_TRACK=0 DO_NOT_TRACK=1", true),
        ("DO_NOT_TRACK=0 # not here", true),
        ("DO_NOT_TRACK=0;", true),
        ("DO_NOT_TRACK='0", true),
        ("DO_NOT_TRACK=\"0'", true),
        ("DO_NOT_TRACK=\"0\"1", true),
        ("DO_NOT_TRACK=''1", true),
        ("DO_NOT_TRACK=\\", true),
        ("DO_NOT_TRACK=0\\", true),
        ("DO_NOT_TRACK=$(cat /x)", true),
        ("DO_NOT_TRACK=`cat /x`", true),
        ("DO_NOT_TRACK=$X", true),
        ("DO_NOT_TRACK=${X:-0}", true),
        ("DO_NOT_TRACK+=1", true),
        ("DO_NOT_TRACK[0]=1", true),
        (": ${DO_NOT_TRACK:=1}", true),
        (": \"${DO_NOT_TRACK=1}\"", true),
        ("unset -v DO_NOT_TRACK", true),
        ("unset DO_NOT_TRACK A", true),
        ("export -n DO_NOT_TRACK", true),
        ("exportDO_NOT_TRACK=0", true),
        ("if [ \"$DO_NOT_TRACK\" ]; then export DO_NOT_TRACK=1; fi", true),
        ("echo $DO_NOT_TRACK; DO_NOT_TRACK=1", true),
        ("MY_DO_NOT_TRACK=0 DO_NOT_TRACK=1", true),
        ("x DO_NOT_TRACK=1 # DO_NOT_TRACKING", true),
        ("\u{feff}DO_NOT_TRACK=1", true),
        ("\u{a0}DO_NOT_TRACK=0", true),
        ("DO_NOT_TRACK=\u{ff10}", true),
        ("echo # DO_NOT_TRACK=1", true),
        ("# a\rDO_NOT_TRACK=1", true),
        ("-uDO_NOT_TRACK", true),
        ("XDO_NOT_TRACK=1", true),
        ("  1 DO_NOT_TRACK\u{e9}", true),
    ];

    fn name(name: &str, is_presence: bool) -> Name<'_> {
        Name { finder: Finder::new(name), is_presence }
    }

    #[test]
    fn the_line_rule() {
        let name = name("DO_NOT_TRACK", false);
        for (line, says_no) in LINES {
            assert_eq!(line_says_no(line.as_bytes(), &name), says_no, "{line:?}");
            // The lines around it change nothing, and nothing is taken back.
            for text in
                [format!("{line}\n"), format!("A=1\n{line}"), format!("{line}\nunset DO_NOT_TRACK\nDO_NOT_TRACK=0\n")]
            {
                assert_eq!(text_says_no(text.as_bytes(), &name), says_no, "{text:?}");
            }
        }
        assert!(line_says_no(b"\xffDO_NOT_TRACK=0", &name));
    }

    #[test]
    fn a_variable_that_says_no_by_being_there() {
        let name = name("OFF", true);
        for (line, says_no) in [
            ("OFF=1", true),
            ("OFF=", true),
            ("OFF=0", true),
            ("export OFF", true),
            ("set -x OFF", true),
            ("# OFF=1", false),
            ("unset OFF", false),
            ("OFFICE=1", false),
            ("MY_OFF=1", false),
            ("echo $OFF", false),
        ] {
            assert_eq!(line_says_no(line.as_bytes(), &name), says_no, "{line:?}");
        }
    }

    /// A name that is a part of itself is found wherever it is.
    #[test]
    fn a_name_that_overlaps_itself() {
        assert!(line_says_no(b"AAA=1", &name("AA", false)));
        assert!(!line_says_no(b"A_A_A=1", &name("A_A", false)));
    }
}
