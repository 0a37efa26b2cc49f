//! What comes of the machines in tests/roots; records from hostile inputs, and of which system (items 3 and 4).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::commands::assert_is_usage_error;
use crate::consent::assert_sends;
use crate::harness::*;
use crate::vendors::WUNDERGRAPH;

/// The head of the table says how its rows are read.
#[test]
fn every_machine_in_roots_comes_to_what_is_expected_of_it() {
    // What one of the services answers is all the same to the others.
    let receiver = Receiver::start(&["--answer", WUNDERGRAPH.answer]);
    let (mut part, mut sent, mut seen) = (("", ""), 0, BTreeSet::from(["expected".to_owned()]));
    for row in include_str!("../roots/expected").lines() {
        part = row.strip_prefix('[').and_then(|row| row.split_once("] ")).unwrap_or(part);
        let Some((word, expected)) = row.split_once("| ") else { continue };
        let (root, options) = (part.0.replace('*', word.trim()), part.1.replace('*', word.trim()));
        let machine = Machine::of(&root);
        // Variables first, for env(1).
        let is_variable =
            |word: &&str| word.contains('=') && word.starts_with(|first: char| first.is_ascii_uppercase());
        let (variables, words): (Vec<&str>, Vec<&str>) = options.split_whitespace().partition(is_variable);
        let with_options =
            |run: Run| run.args(words.iter().map(|word| word.replace('~', " "))).under(["env"]).under(&variables);
        let show = || with_options(machine.run(["show"]));
        let send = || with_options(machine.run(["send"]).to(&receiver, "/"));
        seen.insert(root.clone());
        if let Some(named) = expected.strip_prefix("usage ") {
            [show(), send()].into_iter().for_each(|run| assert_is_usage_error(&machine, run, named));
            continue;
        }
        let reason = ["no ", "none "].iter().find_map(|no| expected.strip_prefix(no));
        let (before, shown) = (machine.snapshot(), show().run());
        assert_eq!((shown.status, &machine.snapshot()), (Some(0), &before), "{row}");
        assert_eq!(shown.stderr.contains("nothing would be sent"), reason.is_some(), "{row}: {shown:?}");
        assert_eq!(shown.stdout.is_empty(), expected.starts_with("none "), "{row}: {}", shown.text());
        assert_sends(row, reason.is_none(), &machine, &receiver, send());
        if let Some(reason) = reason {
            let said = send().args(["--verbose"]).run().expect(0).stderr;
            let said = said.replace(machine.root().to_str().expect("UTF-8"), "");
            assert!(said.contains(&format!("nothing is sent: {reason}")), "{row}: {said}");
        } else {
            sent += 1;
            let body = receiver.body(sent);
            let is_in = |record: &[u8]| String::from_utf8_lossy(record).contains(expected);
            assert!(is_in(&shown.stdout) && is_in(&body), "{row}: {}", shown.text());
            // A file that is there stays as it is.
            let is_file = |line: &&String| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("100"));
            let after = machine.snapshot();
            assert_eq!(before.iter().filter(is_file).find(|line| !after.contains(line)), None, "{row}");
        }
    }
    assert_eq!(receiver.connections(), sent);
    let names = fs::read_dir(ROOTS).expect("roots").map(|entry| entry.expect("entry").file_name());
    assert_eq!(seen, names.map(|name| name.into_string().expect("UTF-8")).collect());
}

/// tests/roots has no such link: the kernel's leads out of the tree.
#[test]
fn process_ones_root_is_the_kernels_word() {
    for leads_to_itself in [true, false] {
        let (machine, receiver) = (Machine::new(), Receiver::start(&[]));
        machine.sh(if leads_to_itself { "ln -s \"$PWD\" proc/1/root" } else { "ln -s / proc/1/root" });
        let run = machine.send(&receiver, "/", FAMILY).env("DPKG_MAINTSCRIPT_PACKAGE", "x");
        assert_sends(leads_to_itself, leads_to_itself, &machine, &receiver, run);
    }
}

/// src/template.rs has what is escaped, and what is cut.
#[test]
fn hostile_values_are_cut_and_escaped_never_refused() {
    let receiver = Receiver::start(&[]);
    for input in [b"\xff\xfe not UTF-8 \xc3\x28 \xed\xa0\x80", &[1; 100_000][..], b"-", b"--strict"] {
        // As one argument, because a value may begin with a dash.
        let joined = |flag: &str| OsString::from_vec([flag.as_bytes(), input].concat());
        Machine::new().send(&receiver, "/", FAMILY).args(["-v", "-s", "-d"].map(joined)).run().sent();
        let body = receiver.body(receiver.requests().len());
        assert!(body.len() <= 8 << 10, "{} bytes", body.len());
        let expected: String = String::from_utf8_lossy(input).chars().take(256).collect();
        assert_eq!(metrics(&body)[..3], [&*expected; 3]);
    }
}

/// The values of the four metrics. golden/percona.json has their keys.
fn metrics(body: &[u8]) -> Vec<String> {
    let body: Value = serde_json::from_slice(body).expect("JSON");
    let metrics = body["reports"][0]["metrics"].as_array().expect("metrics");
    metrics.iter().map(|metric| metric["value"].as_str().expect("text").to_owned()).collect()
}

/// The operating system that a record of this machine names; the time that it takes is checked on the way.
#[track_caller]
fn os_of(machine: &Machine) -> String {
    let ended = machine.run(["show", "-f", FAMILY, "-v", "1"]).run().printed();
    assert!(ended.time < Duration::from_secs(5) && ended.stdout.len() <= 8 << 10, "{:?}", ended.time);
    metrics(&ended.stdout)[2].clone()
}

#[test]
fn os_release_files_of_distributions() {
    let given = std::env::var_os("OS_RELEASE_SAMPLES").filter(|path| !path.is_empty());
    let directory = given.map_or_else(|| PathBuf::from("../shared/os-release"), PathBuf::from);
    let Ok(expected) = fs::read(directory.join("expected.json")) else {
        return skipped(&format!("no os-release samples in {} (OS_RELEASE_SAMPLES)", directory.display()));
    };
    let expected: BTreeMap<String, Value> = serde_json::from_slice(&expected).expect("expected.json");
    assert!(expected.len() >= 155, "{}", expected.len());
    for (name, values) in expected {
        let of = |key: &str| values[key].as_str().filter(|value| !value.is_empty()).map(str::to_owned);
        let fallback = || Some([of("NAME")?, of("VERSION_ID").unwrap_or_default()].join(" ").trim().to_owned());
        let sample = fs::read(directory.join("samples").join(&name)).expect("sample");
        let machine = Machine::of("bare").with("etc/os-release", sample);
        assert_eq!(Some(os_of(&machine)), of("PRETTY_NAME").or_else(fallback), "{name}");
        let facts = machine.run(["facts", "--json"]).run().json();
        for key in ["NAME", "ID", "VERSION", "VERSION_ID"] {
            let fact = format!("os.{}", key.to_lowercase());
            assert_eq!(facts[&fact].as_str().map(str::to_owned), of(key), "{name}: {fact}");
        }
    }
}

/// src/facts/os.rs has those of a reasonable size, in UTF-8; the table has what a directory can hold.
#[test]
fn hard_os_release_files() {
    let much = "x\"\u{1}\\".repeat(1 << 18);
    let cut: String = much.chars().take(256).collect();
    for (text, expected) in [
        (format!("PRETTY_NAME=\"ten megabytes\"\n{}\n", "#".repeat(10 << 20)), "ten megabytes"),
        (format!("PRETTY_NAME='{much}'\n"), &cut),
        ("\n".repeat(1 << 20) + "PRETTY_NAME=deep\n", "deep"),
    ] {
        assert_eq!(os_of(&Machine::of("bare").with("etc/os-release", text)), expected);
    }
    // What is no file does not hide the next source.
    for script in ["mkfifo etc/os-release", "ln -s /dev/zero etc/os-release"] {
        let machine = Machine::of("os-system-release");
        machine.sh(script);
        assert_eq!(os_of(&machine), "Amazon Linux 1", "{script}");
    }
}
