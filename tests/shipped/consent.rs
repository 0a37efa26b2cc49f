//! A "no" and what is none, for both variables; a refused run under strace (item 5).

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::harness::{FAMILY, Machine, Receiver, TempDir, is_root, tool};
use crate::skip;

const VARIABLES: [&str; 2] = ["PERCONA_TELEMETRY_DISABLE", "DO_NOT_TRACK"];

const NO: [&[u8]; 16] = [
    b"1",
    b"true",
    b"TRUE",
    b"yes",
    b"on",
    b"2",
    b"-1",
    b"00",
    b"0.0",
    b"junk",
    b"nope",
    b"'0'",
    b"0 0",
    b"\xff\xfe",
    b"\xa0",
    b"disable=0",
];

const NO_OPINION: [&[u8]; 12] =
    [b"", b" ", b"\t\n", b"0", b"false", b"no", b"off", b"FALSE", b"No", b"oFf", b" 0 ", b"\tfalse\n"];

#[test]
fn a_refused_run_under_strace_does_nothing_at_all() {
    let receiver = Receiver::start(&[]);
    let trace = TempDir::new();
    let file = trace.path().join("trace");
    if tool(&["strace", "-o", "/dev/null", "true"]).is_none() {
        skip!("needs strace, and to be allowed to trace")
    }
    let machine = Machine::new();
    let before = machine.snapshot();
    for variable in VARIABLES {
        for value in NO {
            let run = machine.send(&receiver, "/", FAMILY).env(variable, OsStr::from_bytes(value));
            let strace = ["strace", "-f", "-qq", "-o", file.to_str().expect("UTF-8")];
            run.under(strace).run().silent();
            let calls = fs::read_to_string(&file).expect("trace");
            let deeds: Vec<&str> = calls.lines().skip(1).filter(|line| is_deed(line)).collect();
            assert_eq!(deeds, [""; 0], "{variable}={}", value.escape_ascii());
            assert!(calls.lines().next().is_some_and(|line| line.contains("execve(")), "{calls}");
            assert!(calls.contains("exit_group(0)") && calls.lines().count() > 5, "{calls}");
        }
    }
    assert_eq!(machine.snapshot(), before);
    assert_eq!(receiver.connections(), 0);
    // The same look finds the deeds of a run that nobody refused.
    let run = machine.send(&receiver, "/", FAMILY).under(["strace", "-f", "-qq", "-o"]).under([&file]);
    run.run().sent();
    let calls = fs::read_to_string(&file).expect("trace");
    for deed in ["socket(", "connect(", "O_CREAT", "write(", "execve(", "mkdirat(", "rename"] {
        assert!(calls.lines().skip(1).any(|line| is_deed(line) && line.contains(deed)), "{deed}: {calls}");
    }
}

/// Whoever is above the break may have said no.
#[test]
fn a_chain_of_callers_that_breaks_is_a_no_for_root() {
    if !is_root() {
        skip!("from others than root, processes can be hidden")
    }
    let receiver = Receiver::start(&[]);
    type Processes = &'static [(&'static str, &'static str)];
    let cases: [(&str, Processes, bool); 5] = [
        ("whole", &[("self", "S 20"), ("20", "S 30"), ("30", "S 1"), ("1", "S 0")], true),
        ("a process that went away", &[("self", "S 20"), ("20", "S 30"), ("1", "S 0")], false),
        ("a loop", &[("self", "S 20"), ("20", "S 30"), ("30", "S 20"), ("1", "S 0")], false),
        ("above itself", &[("self", "S 20"), ("20", "S 20"), ("1", "S 0")], false),
        ("no number", &[("self", "S 20"), ("20", "S x"), ("1", "S 0")], false),
    ];
    for (what, processes, is_sent) in cases {
        let machine = processes.iter().fold(Machine::new(), |machine, (pid, rest)| {
            let machine = machine.with(&format!("proc/{pid}/stat"), format!("{pid} (a (b) c) {rest} 7 7\n"));
            machine.with(&format!("proc/{pid}/environ"), "PATH=/bin\0")
        });
        let ended = machine.send(&receiver, "/", FAMILY).args(["--verbose"]).run().expect(0);
        assert_eq!(ended.stderr.contains("sent one install record"), is_sent, "{what}: {ended:?}");
        assert_eq!(ended.stderr.contains("nothing is sent: "), !is_sent, "{what}: {ended:?}");
        assert_eq!(machine.identity().is_some(), is_sent, "{what}");
    }
    assert_eq!(receiver.requests().len(), 1);
}

/// Values that say no, one byte strings and long ones, broken quotes and shell among them.
fn forty_values() -> Vec<Vec<u8>> {
    let more = [
        "disabled",
        "null",
        "-",
        "1.0",
        "0x1",
        "$X",
        "${X:-0}",
        "$(touch /pwned)",
        "`touch /pwned`",
        "1; touch /pwned",
    ];
    let odd =
        ["\"", "\"0", "0\"", "0'", "\\0", "0\\", "00", "0,0", "falsch", "nein", "o ff", "%s%n", "../../0", "\u{ff10}"];
    // In a file, one pair of quotes is no part of the value.
    let plain = NO.iter().map(|value| if *value == b"'0'" { b"'0'1".to_vec() } else { value.to_vec() });
    let all = plain.chain(more.iter().chain(&odd).map(|text| text.as_bytes().to_vec()));
    all.collect()
}

#[test]
fn no_source_does_anything_whatever_its_value() {
    if tool(&["strace", "-o", "/dev/null", "true"]).is_none() {
        skip!("needs strace, and to be allowed to trace")
    }
    let (receiver, trace, values) = (Receiver::start(&[]), TempDir::new(), forty_values());
    assert_eq!(values.len(), 40);
    let file = trace.path().join("trace");
    let machine = Machine::new()
        .with("proc/self/stat", "9 (install-record) S 7 7 7 0 -1\n")
        .with("proc/7/stat", "7 (sudo) S 1 7 7 0 -1\n")
        .with("proc/7/environ", "A=1\0")
        .with("proc/1/stat", "1 (init) S 0 1 1 0 -1\n")
        .with("etc/passwd", "root:x:0:0:root:/srv/root:/bin/sh\n");
    for source in [
        "env",
        "proc/7/environ",
        "proc/1/environ",
        "etc/environment",
        "etc/security/pam_env.conf",
        "etc/profile.d/x",
        "etc/zsh/zprofile",
        "etc/fish/conf.d/x.fish",
        "etc/systemd/system.conf",
        "srv/root/.bash_login",
        "root/.config/fish/config.fish",
        "etc/install-record/off",
        "etc/install-record/off.d/percona",
    ] {
        let path = machine.path(source);
        fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
        let was = fs::read(&path).ok();
        for value in &values {
            let mut run = machine.send(&receiver, "/", FAMILY).under(["strace", "-f", "-qq", "-o"]).under([&file]);
            match source {
                "env" => run = run.env("DO_NOT_TRACK", OsStr::from_bytes(value)),
                _ if source.ends_with("environ") => {
                    fs::write(&path, [b"DO_NOT_TRACK=", &value[..], b"\0"].concat()).expect("environ")
                }
                _ => fs::write(&path, [b"export DO_NOT_TRACK=", &value[..], b"\n"].concat()).expect("a file"),
            }
            let before = machine.snapshot();
            run.run().silent();
            let calls = fs::read_to_string(&file).expect("trace");
            let deeds: Vec<&str> = calls.lines().skip(1).filter(|line| is_deed(line)).collect();
            assert_eq!(deeds, [""; 0], "{source}: {}", value.escape_ascii());
            assert_eq!(machine.snapshot(), before, "{source}: {}", value.escape_ascii());
        }
        match was {
            Some(text) => fs::write(&path, text).expect("a file"),
            None if source != "env" => fs::remove_file(&path).expect("a file"),
            None => {}
        }
    }
    assert_eq!(receiver.connections(), 0);
    // The same machine, of which nobody says no.
    machine.send(&receiver, "/", FAMILY).run().sent();
}

/// The contract's list ("Saying no", 4), with a name in the place of each `*`; `srv/root` is the home by passwd(5).
const FILES: [&str; 33] = [
    "etc/environment",
    "etc/environment.d/50-x.conf",
    "etc/security/pam_env.conf",
    "etc/profile",
    "etc/profile.local",
    "etc/profile.d/x",
    "etc/bash.bashrc",
    "etc/bash.bashrc.local",
    "etc/bashrc",
    "etc/zshenv",
    "etc/zsh/zshenv",
    "etc/zprofile",
    "etc/zsh/zprofile",
    "etc/fish/config.fish",
    "etc/fish/conf.d/x.fish",
    "etc/systemd/system.conf",
    "etc/systemd/system.conf.d/x.conf",
    "root/.profile",
    "root/.bash_profile",
    "root/.bash_login",
    "root/.bashrc",
    "root/.zshenv",
    "root/.zprofile",
    "root/.zshrc",
    "root/.config/fish/config.fish",
    "srv/root/.profile",
    "srv/root/.bash_profile",
    "srv/root/.bash_login",
    "srv/root/.bashrc",
    "srv/root/.zshenv",
    "srv/root/.zprofile",
    "srv/root/.zshrc",
    "srv/root/.config/fish/config.fish",
];

#[test]
fn no_file_of_the_list_lets_anything_happen_whatever_is_in_it() {
    if tool(&["strace", "-o", "/dev/null", "true"]).is_none() {
        skip!("needs strace, and to be allowed to trace")
    }
    let (receiver, trace) = (Receiver::start(&[]), TempDir::new());
    let log = trace.path().join("trace");
    let machine = Machine::new().with("etc/passwd", "root:x:0:0:root:/srv/root:/bin/sh\n");
    let texts: [&[u8]; 6] = [
        b"DO_NOT_TRACK=1\n",
        b"PATH=/usr/bin\n\texport A=2 PERCONA_TELEMETRY_DISABLE='true'",
        b"set -gx DO_NOT_TRACK \xff\xfe\n",
        b"DefaultEnvironment=\"DO_NOT_TRACK=$(touch /pwned)\"\r\nunset DO_NOT_TRACK\r\n",
        // What cannot be read as lines.
        b"A=1\0",
        &[b'#'; (256 << 10) + 1],
    ];
    for file in FILES {
        let path = machine.path(file);
        fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
        for text in texts {
            fs::write(&path, text).expect("a file");
            let before = machine.snapshot();
            let run = machine.send(&receiver, "/", FAMILY);
            run.under(["strace", "-f", "-qq", "-o"]).under([&log]).run().silent();
            let calls = fs::read_to_string(&log).expect("trace");
            let deeds: Vec<&str> = calls.lines().skip(1).filter(|line| is_deed(line)).collect();
            let what = String::from_utf8_lossy(&text[..text.len().min(80)]);
            assert_eq!(deeds, [""; 0], "{file}: {what:?}");
            assert!(calls.contains("exit_group(0)") && calls.contains(path.file_name().unwrap().to_str().unwrap()));
            assert_eq!(machine.snapshot(), before, "{file}: {what:?}");
        }
        // From now on it says nothing, in as many words.
        fs::write(&path, "# DO_NOT_TRACK=1\nexport DO_NOT_TRACK=0\r\necho $DO_NOT_TRACK\n").expect("a file");
    }
    assert_eq!(receiver.connections(), 0);
    machine.send(&receiver, "/", FAMILY).run().sent();
}

/// Whether a line of strace's output is a system call by which something is sent, started, said or changed.
pub fn is_deed(line: &str) -> bool {
    let call = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
    let name = call.split('(').next().unwrap_or_default();
    let deeds = [
        "socket",
        "connect",
        "bind",
        "listen",
        "accept",
        "send",
        "recv",
        "clone",
        "fork",
        "vfork",
        "exec",
        "write",
        "pwrite",
        "sendfile",
        "splice",
        "mkdir",
        "mknod",
        "creat",
        "link",
        "symlink",
        "unlink",
        "rmdir",
        "rename",
        "chmod",
        "fchmod",
        "chown",
        "fchown",
        "lchown",
        "utime",
        "futime",
        "truncate",
        "ftruncate",
        "setxattr",
        "fsetxattr",
        "io_uring",
        "flock",
        "mount",
        "kill",
        "tkill",
        "tgkill",
        "pipe",
        "memfd",
        "inotify",
    ];
    let opens_to_write = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_TMPFILE"];
    let opens = name.starts_with("open") && opens_to_write.iter().any(|flag| call.contains(flag));
    opens || deeds.iter().any(|deed| name.starts_with(deed))
}

#[test]
fn every_no_is_silent_and_leaves_no_trace() {
    let receiver = Receiver::start(&[]);
    let machine = Machine::new();
    let before = machine.snapshot();
    for variable in VARIABLES {
        for value in NO.iter().copied().chain([&[b'x'; 65536][..]]) {
            machine.send(&receiver, "/", FAMILY).env(variable, OsStr::from_bytes(value)).run().silent();
        }
    }
    for flag in ["--telemetry=false", "--telemetry-enabled=false"] {
        machine.send(&receiver, "/", FAMILY).args([flag]).run().silent();
    }
    // A "no" is heard before a mistake on the command line, and nothing overrides it.
    machine.run(["send", "-u", &receiver.url("/"), "-t", "junk"]).env("DO_NOT_TRACK", "1").run().silent();
    let run = machine.send(&receiver, "/", FAMILY).args(["--telemetry=true"]);
    run.env("PERCONA_TELEMETRY_DISABLE", "1").env("DO_NOT_TRACK", "0").run().silent();
    let ended = machine.send(&receiver, "/", FAMILY).args(["--verbose"]).env("DO_NOT_TRACK", "yes").run().expect(0);
    assert!(ended.stderr.contains("nothing is sent: env DO_NOT_TRACK"), "{ended:?}");
    assert_eq!(machine.snapshot(), before);
    assert_eq!(receiver.connections(), 0);
}

#[test]
fn what_is_no_opinion_is_sent() {
    let receiver = Receiver::start(&[]);
    for variable in VARIABLES {
        for value in NO_OPINION {
            let machine = Machine::new();
            let run = machine.send(&receiver, "/", FAMILY).env(variable, OsStr::from_bytes(value));
            assert!(run.run().expect(0).stderr.contains("sent"), "{variable}={}", value.escape_ascii());
        }
    }
    assert_eq!(receiver.requests().len(), VARIABLES.len() * NO_OPINION.len());
}
