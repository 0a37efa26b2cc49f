//! The files where an operating system or root sets variables, and the one rule by which their lines are read.
//!
//! A line that contains a variable's name is a "no", unless it plainly says nothing. Nothing is parsed, run or taken
//! back, so the rule is the same for a shell, pam_env(8), environment.d(5), fish and systemd. A wrong "no" costs one
//! record; a missed one breaks a promise.

use std::{io, os::unix::ffi::OsStrExt, path::Path};

use memchr::memmem;

use super::{Refusal, UNREADABLE, value::says_no};
use crate::{host::Host, host::is_forbidden, profile::ConsentRules};

/// The system's files, separated by blanks. `*` stands for every name that is not hidden, as in a shell.
const FILES: &str = "etc/environment etc/environment.d/*.conf etc/security/pam_env.conf \
    etc/profile etc/profile.local etc/profile.d/* etc/bash.bashrc etc/bash.bashrc.local etc/bashrc \
    etc/zshenv etc/zsh/zshenv etc/zprofile etc/zsh/zprofile etc/fish/config.fish etc/fish/conf.d/*.fish \
    etc/systemd/system.conf etc/systemd/system.conf.d/*.conf";

/// The files in the home of user 0. No file in another user's home is read by this rule.
const OF_ROOT: &str = ".profile .bash_profile .bash_login .bashrc .zshenv .zprofile .zshrc .config/fish/config.fish";

/// The largest file that is read. Settings are never that large, so a larger file is a "no" unread.
pub const MAX_FILE: usize = 256 << 10;

/// The first "no" in any of these files.
pub fn refusal(host: &Host, rules: &ConsentRules) -> Option<Refusal> {
    let in_file = |path: &Path| refusal_in(path, if_allowed(host.read(path, MAX_FILE)), rules);
    let homes = host.homes(0);
    let mut of_root = homes.iter().flat_map(|home| OF_ROOT.split(' ').map(|name| home.join(name)));
    let in_pattern = |pattern: &str| match pattern.split_once("/*") {
        None => in_file(Path::new(pattern)),
        Some((directory, ending)) => match host.names(directory) {
            Ok(names) => names
                .iter()
                .filter(|name| name.as_bytes().ends_with(ending.as_bytes()) && !name.as_bytes().starts_with(b"."))
                .find_map(|name| in_file(&Path::new(directory).join(name))),
            Err(error) if is_forbidden(&error.into()) => None,
            Err(_) => Some(Refusal::Said(format!("/{directory}"), UNREADABLE)),
        },
    };
    FILES.split(' ').find_map(in_pattern).or_else(|| of_root.find_map(|path| in_file(&path)))
}

/// The "no" in one file that sets variables, by what was read of it.
pub fn refusal_in(path: &Path, read: Read, rules: &ConsentRules) -> Option<Refusal> {
    let reason = match read {
        Ok(None) => return None,
        Ok(Some(text)) if !text.contains(&0) => {
            rules.names().find(|(name, by_presence)| text_says_no(&text, name.as_bytes(), *by_presence))?;
            "a variable set in a file says no"
        }
        _ => UNREADABLE,
    };
    Some(Refusal::Said(Path::new("/").join(path).display().to_string(), reason))
}

/// A whole file that can say no, or `None`. An error is a refusal: something is there that cannot be read.
pub type Read = io::Result<Option<Vec<u8>>>;

/// The same, with `None` for a file that this user may not read.
pub fn if_allowed(read: Read) -> Read {
    if read.as_ref().is_err_and(is_forbidden) { Ok(None) } else { read }
}

/// Each line is judged by itself. Most texts do not contain the name at all.
fn text_says_no(text: &[u8], name: &[u8], by_presence: bool) -> bool {
    memmem::find(text, name).is_some() && text.split(|b| *b == b'\n').any(|line| line_says_no(line, name, by_presence))
}

/// The line rule.
fn line_says_no(line: &[u8], name: &[u8], by_presence: bool) -> bool {
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t');
    let line = line.trim_ascii_end();
    let line = &line[line.iter().take_while(|b| is_blank(b)).count()..];
    // Some programs take a CR for the end of a line. What follows it is then no comment.
    let is_comment = matches!(line, [b'#' | b';', ..]) && !line.contains(&b'\r');
    let after = |command: &str| line.strip_prefix(command.as_bytes()).filter(|rest| rest.first().is_some_and(is_blank));
    let is_unset = after("unset").is_some_and(|rest| rest.trim_ascii() == name);
    let assignment = after("export").map_or(line, <[u8]>::trim_ascii_start);
    let value = assignment.strip_prefix(name).and_then(|rest| rest.strip_prefix(b"="));
    let says_nothing = value.is_some_and(|value| match value {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => !says_no(inner),
        bare => !says_no(bare),
    });
    is_mentioned(line, name) && !is_comment && !is_unset && (!says_nothing || by_presence)
}

/// Whether `line` contains the name: not as a part of a longer name, and not as a use such as `$NAME`.
fn is_mentioned(line: &[u8], name: &[u8]) -> bool {
    line.windows(name.len()).enumerate().filter(|(_, window)| *window == name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        let is_name_byte = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let is_longer = before.ends_with(b"_") || after.first().is_some_and(is_name_byte);
        let is_use = before.ends_with(b"$") || before.ends_with(b"${");
        // `${NAME=1}` and `${NAME:=1}` assign, and so does `${NAME::=1}` in zsh.
        let assigns = before.ends_with(b"${") && after.iter().find(|b| **b != b':') == Some(&b'=');
        !is_longer && (!is_use || assigns)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines that say nothing: without the name, with a plain assignment, with a longer name, or with a mere use. The
    /// name stands in the place of each `@`.
    const NOTHING: &str = "|PATH=/usr/bin|# @=1|  \t# export @=1|#@=1\r|; @=1|@=|@=0|@=false\r|@=No|\t@=OFF  \r|\
        @=\"\"|@='0'|@=\" off \"|export @=0|  export \t @='no'\t|unset @| unset\t@ \r|MY_@=1|@ING=1|@_ME=1|@2=1|\
        do_not_track=1|DO-NOT-TRACK=1|[ -n \"$@\" ] && echo ok|[ -n \"${@}\" ]|A=${@:-1}|A=${@+x}|A=$@=1";

    /// Lines that say no, in the languages of all those files, and in no language at all.
    const NO: &str = "@=1|@=true|@=junk|@=00|export @=1|export @|export A=2 @=1|PATH=\"/usr/bin\"@=1|\
        export {@,PERCONA_TELEMETRY_DISABLE}=1|eval \"export @=1\"|alias apt='@=1 apt'|declare -x @=1|declare -x@|\
        typeset -gx @=1|readonly @=1|printf -v @ 1|read @ <<<1|for @ in 1; do :; done|set -gx @ 1|set -Ux @ 0|\
        setenv @ 1|DefaultEnvironment=\"@=1\"|DefaultEnvironment=A=1 @=1|@ DEFAULT=1|@ OVERRIDE=0|@ =1|@ = 0|@:1|@|\
        @=0; @=1|@=0 @=1|@=0 # not here|@=0;|@='0|@=\"0'|@=\"0\"1|@=''1|@=\\|@=0\\|@=$(cat /x)|@=`cat /x`|@=$X|\
        @=${X:-0}|@+=1|@[0]=1|: ${@:=1}|: ${@::=1}|: \"${@=1}\"|unset -v @|unset @ A|export -n @|export@=0|\
        if [ \"$@\" ]; then export @=1; fi|echo $@; @=1|MY_@=0 @=1|x @=1 # @ING|\u{feff}@=1|\u{a0}@=0|@=\u{ff10}|\
        echo # @=1|# a\r@=1|-u@|X@=1|  1 @\u{e9}";

    /// Each line, and whether it says no.
    fn lines() -> impl Iterator<Item = (String, bool)> {
        let rows = |rows: &str, says_no| {
            let lines = rows.split('|').map(|row| (row.replace('@', "DO_NOT_TRACK"), says_no));
            lines.collect::<Vec<_>>()
        };
        rows(NOTHING, false).into_iter().chain(rows(NO, true))
    }

    #[test]
    fn the_line_rule() {
        let name = b"DO_NOT_TRACK";
        assert_eq!(lines().count(), 93);
        for (line, says_no) in lines() {
            assert_eq!(line_says_no(line.as_bytes(), name, false), says_no, "{line:?}");
            // The lines around it change nothing, and nothing is taken back.
            for text in
                [format!("{line}\n"), format!("A=1\n{line}"), format!("{line}\nunset DO_NOT_TRACK\nDO_NOT_TRACK=0\n")]
            {
                assert_eq!(text_says_no(text.as_bytes(), name, false), says_no, "{text:?}");
            }
        }
        assert!(line_says_no(b"\xffDO_NOT_TRACK=0", name, false));
    }

    /// tests/shipped/consent.rs asks every file of the list in a whole run.
    #[test]
    fn every_line_says_the_same_in_every_file_of_the_list() {
        let root = std::env::temp_dir().join(format!("install-record-files-{}", std::process::id()));
        let (host, rules) = (Host::new(Some(root.clone())), ConsentRules::default());
        let of_root = OF_ROOT.split(' ').map(|name| format!("root/{name}"));
        let files: Vec<String> = FILES.split(' ').map(|pattern| pattern.replace('*', "x")).chain(of_root).collect();
        assert_eq!(files.len(), 25);
        for file in files {
            std::fs::create_dir_all(root.join(&file).parent().unwrap()).unwrap();
            for (line, says_no) in lines() {
                std::fs::write(root.join(&file), format!("A=1\n{line}\nB=2\n")).unwrap();
                let said = Refusal::Said(format!("/{file}"), "a variable set in a file says no");
                let read = if_allowed(host.read(&file, MAX_FILE));
                assert_eq!(refusal_in(Path::new(&file), read, &rules), says_no.then_some(said), "{file}: {line:?}");
            }
        }
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_variable_that_says_no_by_being_there() {
        for (lines, says_no) in
            [("OFF=1|OFF=|OFF=0|export OFF|set -x OFF", true), ("# OFF=1|unset OFF|OFFICE=1|MY_OFF=1|echo $OFF", false)]
        {
            for line in lines.split('|') {
                assert_eq!(line_says_no(line.as_bytes(), b"OFF", true), says_no, "{line:?}");
            }
        }
        // A name that overlaps itself is found wherever it is.
        assert!(line_says_no(b"AAA=1", b"AA", false));
        assert!(!line_says_no(b"A_A_A=1", b"A_A", false));
    }

    /// Runs random scripts in bash. Where bash exports a "no", the rule must find one in the script's text.
    /// RANDOM_SCRIPTS says how many scripts; the default is a few.
    #[test]
    fn what_bash_exports_is_found() {
        use std::process::Command;

        const NAME: &str = "DO_NOT_TRACK";
        if Command::new("bash").args(["-c", "exit"]).status().is_err() {
            eprintln!("skipped: there is no bash");
            return;
        }
        let count = std::env::var("RANDOM_SCRIPTS").ok().and_then(|count| count.parse().ok()).unwrap_or(200);
        let mut random = Random(1);
        let (mut exported, mut found) = (0, 0);
        for _ in 0..count {
            let script = random.script(NAME);
            // Only what the script itself sets: the environment is empty.
            let run = format!("shopt -s expand_aliases\n{script}\nexec 2>/dev/null; exec env -0\n");
            let mut bash = Command::new("bash");
            let output = bash.args(["--norc", "--noprofile", "-c", &run]).env_clear().env("PATH", "/usr/bin:/bin");
            let output = output.output().expect("bash");
            let is_no = |entry: &[u8]| {
                entry.strip_prefix(NAME.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")).is_some_and(says_no)
            };
            let says_no = text_says_no(script.as_bytes(), NAME.as_bytes(), false);
            found += usize::from(says_no);
            if output.stdout.split(|b| *b == 0).any(is_no) {
                exported += 1;
                assert!(says_no, "missed: {script:?}");
            }
        }
        // A rule that finds nothing fails here, and so does one that finds everything.
        eprintln!("{count} scripts: {exported} export a no, {found} are taken for one");
        assert!(exported * 5 > count && found < count, "{exported} and {found} of {count}");
    }

    /// Marsaglia's xorshift64: the same scripts in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 33).unwrap_or(0) % limit
        }

        fn of<'t>(&mut self, texts: &'t str) -> &'t str {
            let count = texts.split('@').count();
            texts.split('@').nth(self.below(count)).unwrap_or_default()
        }

        /// A script of one to six lines. `@` separates the texts below, `N` stands for the name, `V` for a value.
        fn script(&mut self, name: &str) -> String {
            const VALUES: &str = "1@0@true@no@@'1'@\"1\"@'0'@\"\"@$'1'@\\1@$((1))@`echo 1`@$(echo 1)@\"0\"1@''1@\
                0\\\n1@\"0\n1\"@$A@${A:-1}@yes # x@off\r";
            const COMMANDS: &str = "N=V@export N=V@export N@set -a@unset N@A=1@A=V@declare -x N=V@typeset -x N=V@\
                readonly N=V@export A=V N=V@export {A,N}=V@eval \"export N=V\"@eval 'N=V'@: ${N:=V}@: \"${N=V}\"@\
                export N=${N:-V}@printf -v N %s V@read -r N <<<V@N+=V@let N=1@((N=1))@for N in V; do :; done@\
                N=V true@local_() { export N=V; }; local_@(export N=V)@{ export N=V; }@alias e='export N=V'@e@\
                declare -n R=N@R=V@export \"N=V\"@export 'N'=V@[ -n \"$N\" ] || export N=V@\
                case x in x) export N=V ;; esac@echo $N >/dev/null";
            const FORMS: &str = "C@C@C@  C@\tC  @C; C@C && C@if true; then C; fi@# C@C # C@\
                if [ x = x ]\nthen\n  C\nfi@cat >/dev/null <<END\nC\nEND";
            let mut lines = Vec::new();
            for _ in 0..=self.below(6) {
                let mut line = self.of(FORMS).to_owned();
                while line.contains('C') {
                    let command = self.of(COMMANDS).replace('V', self.of(VALUES)).replace('N', "\u{1}");
                    line = line.replacen('C', &command, 1);
                }
                lines.push(line.replace('\u{1}', name));
            }
            lines.join("\n")
        }
    }
}
