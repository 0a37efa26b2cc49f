//! A record from hostile inputs, and what operating system it names (items 3 and 4). vendors.rs has it byte for byte.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

use crate::harness::{FAMILY, Machine, Receiver};
use crate::skip;

#[test]
fn hostile_values_are_cut_and_escaped_never_refused() {
    let receiver = Receiver::start(&[]);
    for input in [
        b"\"}],\"x\":[{\" \\ \\\" \\u0000 line\nfeed\r\n\ttab \\".to_vec(),
        (1..=0x1f).chain([0x7f]).collect(),
        b"\xff\xfe not UTF-8 \xc3\x28 \xed\xa0\x80".to_vec(),
        "é \u{2028} 😀 \u{202e} $(touch /tmp/x) `id` %s %n ${HOME}".into(),
        "\u{1}".repeat(100_000).into(),
        "😀".repeat(25_000).into(),
        b"-".to_vec(),
        b"--strict".to_vec(),
    ] {
        let text = String::from_utf8_lossy(&input).into_owned();
        let machine = Machine::new();
        // As one argument, because a value may begin with a dash.
        let joined = |flag: &str| OsString::from_vec([flag.as_bytes(), &input].concat());
        machine.send(&receiver, "/", FAMILY).args(["-v", "-s", "-d"].map(joined)).run().sent();
        let body = receiver.body(receiver.requests().len());
        assert!(body.len() <= 8 << 10, "{} bytes", body.len());
        let expected: String = text.chars().take(256).collect();
        assert_eq!(metrics(&body)[..3], [&*expected; 3]);
    }
}

/// The values of the metrics; that there are four, in order, is checked on the way.
#[track_caller]
fn metrics(body: &[u8]) -> Vec<String> {
    let body: Value = serde_json::from_slice(body).expect("JSON");
    let metrics = body["reports"][0]["metrics"].as_array().expect("metrics");
    let all = |key: &str| metrics.iter().map(|metric| metric[key].as_str().expect("text").to_owned()).collect();
    let keys: Vec<String> = all("key");
    assert_eq!(keys, ["deployment", "pillar_version", "OS", "hardware_arch"]);
    all("value")
}

/// The operating system that a record of this machine names; the time that it takes is checked on the way.
#[track_caller]
fn os_of(machine: &Machine) -> String {
    let ended = machine.run(["show", "-f", FAMILY, "-v", "1"]).run();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.time < Duration::from_secs(5) && ended.stdout.len() <= 8 << 10, "{:?}", ended.time);
    metrics(&ended.stdout)[2].clone()
}

#[test]
fn os_release_files_of_distributions() {
    let given = std::env::var_os("OS_RELEASE_SAMPLES").filter(|path| !path.is_empty());
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/os-release");
    let directory = given.map_or_else(beside, PathBuf::from);
    let Ok(expected) = fs::read(directory.join("expected.json")) else {
        skip!("no os-release samples in {} (OS_RELEASE_SAMPLES)", directory.display())
    };
    let expected: Value = serde_json::from_slice(&expected).expect("expected.json");
    let expected = expected.as_object().expect("expected.json");
    assert!(expected.len() >= 155, "{}", expected.len());
    for (name, values) in expected {
        let of = |key: &str| values[key].as_str().filter(|value| !value.is_empty()).map(str::to_owned);
        let fallback = || Some([of("NAME")?, of("VERSION_ID").unwrap_or_default()].join(" ").trim().to_owned());
        let sample = fs::read(directory.join("samples").join(name)).expect("sample");
        let machine = Machine::bare().with("etc/os-release", sample);
        assert_eq!(Some(os_of(&machine)), of("PRETTY_NAME").or_else(fallback), "{name}");
        let facts = machine.run(["facts", "--json"]).run().json();
        for key in ["NAME", "ID", "VERSION", "VERSION_ID"] {
            let fact = format!("os.{}", key.to_lowercase());
            assert_eq!(facts[&fact].as_str().map(str::to_owned), of(key), "{name}: {fact}");
        }
    }
}

/// src/facts/os.rs has those of a reasonable size, in UTF-8.
#[test]
fn hard_os_release_texts() {
    let much = "x\"\u{1}\\".repeat(1 << 18);
    let cut: String = much.chars().take(256).collect();
    for (text, expected) in [
        (b"".to_vec(), "unknown"),
        (b"PRETTY_NAME=\"caf\xe9 1\"\n".to_vec(), "caf\u{fffd} 1"),
        (format!("PRETTY_NAME=\"ten megabytes\"\n{}\n", "#".repeat(10 << 20)).into(), "ten megabytes"),
        (format!("PRETTY_NAME='{much}'\n").into(), &cut),
        (("\n".repeat(1 << 20) + "PRETTY_NAME=deep\n").into(), "deep"),
    ] {
        assert_eq!(os_of(&Machine::bare().with("etc/os-release", text)), expected);
    }
}

#[test]
fn hard_os_release_paths() {
    for (path, text, expected) in [
        ("etc/os-release/x", "PRETTY_NAME=a directory\n", "unknown"),
        ("usr/lib/os-release", "PRETTY_NAME=vendor\n", "vendor"),
        ("etc/system-release", "Amazon Linux 1\nx\n", "Amazon Linux 1"),
        ("etc/redhat-release", "\n \x1b\n  CentOS 6.10\n", "CentOS 6.10"),
        // An administrator may have written anything there.
        ("etc/issue", "web1\n", "unknown"),
    ] {
        assert_eq!(os_of(&Machine::bare().with(path, text)), expected, "{path}");
    }
    for (target, expected) in [
        ("os-release", "unknown"),
        ("nowhere", "unknown"),
        ("/dev/zero", "unknown"),
        ("/usr/share/os", "inside"),
        ("../../../../../usr/share/os", "inside"),
    ] {
        let machine = Machine::bare().with("etc/hostname", "h\n").with("usr/share/os", "PRETTY_NAME=inside\n");
        symlink(target, machine.path("etc/os-release")).expect("link");
        assert_eq!(os_of(&machine), expected, "{target}");
    }
    // What is a FIFO does not hide the next source.
    let fifo = Machine::bare().with("etc/system-release", "System 1\n");
    mknodat(CWD, fifo.path("etc/os-release"), FileType::Fifo, Mode::RWXU, 0).expect("FIFO");
    assert_eq!(os_of(&fifo), "System 1");
}
