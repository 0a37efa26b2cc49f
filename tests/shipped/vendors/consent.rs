//! Consent before identity (issue 7, item 3): each "no" of each product under strace. The files of its IDs are not
//! looked at for anything, nor is a fact, and no socket is made.

use std::fs;

use super::{Kind, PROJECT_ID, package_json, server};
use crate::consent::is_deed;
use crate::harness::{Machine, Receiver, Run, TempDir, tool};
use crate::skip;

/// A way to say no to one product.
struct No {
    what: String,
    /// Put on the machine.
    file: Option<(String, String)>,
    env: Option<(&'static str, &'static str)>,
    arg: Option<&'static str>,
    /// The one file of its IDs that holds the "no" itself, and how often that may be opened.
    speaks: Option<(&'static str, usize)>,
}

const ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";
const KSUID: &str = "2Ie8ynG6f1hTKs3EVjItsy0DBcn";
const MEDUSA: &str = "home/dev/.config/medusa/config.json";
const PACKAGE: &str = "srv/app/package.json";

/// What holds an ID of any of the products, or a fact.
const NAMES: [&str; 12] = [
    "telemetry_uuid",
    "config.json",
    ".medusa-project-id",
    "wundergraph.config.json",
    "package.json",
    "telemetry_id",
    "machine-id",
    "os-release",
    "cpuinfo",
    "meminfo",
    "osrelease",
    "resolv.conf",
];

/// The product's own variable, and a value of it that is a no.
fn variable(profile: &str) -> (&'static str, &'static str) {
    match profile {
        "percona" => ("PERCONA_TELEMETRY_DISABLE", "1"),
        "medusa" => ("MEDUSA_DISABLE_TELEMETRY", "true"),
        "wundergraph" => ("WG_TELEMETRY_DISABLED", ""),
        "strapi" => ("STRAPI_TELEMETRY_DISABLED", "true"),
        _ => ("DO_NOT_TRACK", "1"),
    }
}

/// In files of the product's own.
fn own_rules(profile: &str) -> Vec<(&'static str, String)> {
    let uuid = format!(r#""uuid":"{PROJECT_ID}""#);
    let disabled = |value: &str| (PACKAGE, package_json(&format!(r#"{uuid},"telemetryDisabled":{value}"#)));
    let conf = |line: &str| ("etc/memgraph/memgraph.conf", format!("--log-level=INFO\n{line}\n"));
    match profile {
        "medusa" => {
            vec![(MEDUSA, format!(r#"{{"telemetry":{{"enabled":false,"machine_id":"{ID}"}}}}"#))]
        }
        "strapi" => vec![
            (PACKAGE, package_json("")),
            (PACKAGE, package_json(r#""uuid":"""#)),
            disabled("true"),
            disabled("1"),
            disabled("\"true\""),
            disabled("\"1\""),
        ],
        "memgraph" => {
            vec![conf("--telemetry-enabled=false"), conf("--notelemetry-enabled"), conf("--telemetry_enabled=0")]
        }
        _ => Vec::new(),
    }
}

fn every_no(profile: &'static str) -> Vec<No> {
    let plain = |what: &str| No { what: what.to_owned(), file: None, env: None, arg: None, speaks: None };
    let flag = |arg| No { arg: Some(arg), ..plain(arg) };
    let file = |path: &str, text: String| No { file: Some((path.to_owned(), text)), ..plain(path) };
    let mut every = vec![flag("--telemetry=false"), flag("--telemetry-enabled=false"), flag("--notelemetry-enabled")];
    for (name, value) in [("DO_NOT_TRACK", "1"), variable(profile)] {
        every.push(No { env: Some((name, value)), ..plain(name) });
        every.push(file("proc/7/environ", format!("A=1\0{name}={value}\0")));
        every.push(file("proc/1/environ", format!("{name}={value}\0")));
        every.push(file("etc/environment", format!("{name}={value}\n")));
        every.push(file("etc/profile.d/x.sh", format!("export {name}={value}\n")));
    }
    every.push(file("etc/install-record/off", String::new()));
    every.push(file(&format!("etc/install-record/off.d/{profile}"), String::new()));
    for (path, text) in own_rules(profile) {
        let speaks = match path {
            MEDUSA => Some(("config.json", 1)),
            // Two rules are about it.
            PACKAGE => Some(("package.json", 2)),
            _ => None,
        };
        every.push(No { speaks, ..file(path, text) });
    }
    every
}

/// A machine on which every product has its IDs, and whose process 7, make, has called us.
fn used_machine() -> Machine {
    server()
        .with("usr/local/percona/telemetry_uuid", format!("instanceId:{ID}\n"))
        .with(MEDUSA, format!(r#"{{"telemetry":{{"machine_id":"{ID}"}}}}"#))
        .with("srv/app/.medusa-project-id", ID)
        .with("home/dev/wundergraph.config.json", format!(r#"{{"anonymousid":"{KSUID}"}}"#))
        .with("srv/data/telemetry_id", ID)
        .with("proc/self/stat", "9 (install-record) S 7 7 7 0 -1\n")
        .with("proc/7/stat", "7 (make) S 1 7 7 0 -1\n")
        .with("proc/7/comm", "make\n")
        .with("proc/1/stat", "1 (init) S 0 1 1 0 -1\n")
}

/// The lines of a trace by which `name` was opened or asked about.
fn mentions<'t>(trace: &'t str, name: &str) -> Vec<&'t str> {
    let ends = [format!("\"{name}\""), format!("/{name}\"")];
    trace.lines().skip(1).filter(|line| ends.iter().any(|end| line.contains(end))).collect()
}

#[test]
fn no_id_file_and_no_network_is_touched_after_a_no() {
    if tool(&["strace", "-o", "/dev/null", "true"]).is_none() {
        skip!("needs strace, and to be allowed to trace")
    }
    let (receiver, directory) = (Receiver::start(&[]), TempDir::new());
    let log = directory.path().join("trace");
    let traced = |run: Run| {
        let ended = run.under(["strace", "-f", "-qq", "-o"]).under([&log]).run();
        (ended, fs::read_to_string(&log).expect("trace"))
    };
    for profile in ["percona", "medusa", "wundergraph", "strapi", "memgraph"] {
        let kind = Kind::of(profile);
        let send = |machine: &Machine| {
            // Whoever asks for a copy of what is sent gets none of what is not.
            kind.send(machine, &receiver).env("WUNDER_TELEMETRY_DEBUG", "true")
        };
        for no in every_no(profile) {
            let what = format!("{profile}, {}", no.what);
            let machine = match &no.file {
                Some((path, text)) => used_machine().with(path, text),
                None => used_machine(),
            };
            let run = no.env.iter().fold(send(&machine), |run, (name, value)| run.env(name, value)).args(no.arg);
            let before = machine.snapshot();
            let (ended, trace) = traced(run);
            ended.silent();
            assert_eq!(machine.snapshot(), before, "{what}");
            assert!(trace.contains("exit_group(0)"), "{what}: {trace}");
            let deeds: Vec<&str> = trace.lines().skip(1).filter(|line| is_deed(line)).collect();
            assert_eq!(deeds, [""; 0], "{what}");
            for name in NAMES {
                let (mentions, speaks) = (mentions(&trace, name), no.speaks.filter(|(speaks, _)| *speaks == name));
                // O_PATH opens nothing for reading: it is how a path is walked below --root.
                let opened = mentions.iter().filter(|line| line.contains("open") && !line.contains("O_PATH")).count();
                assert!(opened <= speaks.map_or(0, |(_, times)| times), "{what}: {mentions:?}");
                assert!(speaks.is_some() || mentions.is_empty(), "{what}: {mentions:?}");
            }
            // Nor may a process be touched, beyond the environment of our callers.
            assert_eq!(mentions(&trace, "status"), [""; 0], "{what}");
        }
        // The same look finds all of it in a run that nobody refused.
        let (ended, trace) = traced(kind.send(&used_machine(), &receiver));
        ended.expect(0);
        let ids: &[&str] = match profile {
            "percona" => &["telemetry_uuid", "os-release"],
            "medusa" => &["config.json", ".medusa-project-id", "cpuinfo", "osrelease"],
            "wundergraph" => &["wundergraph.config.json", "cpuinfo"],
            "strapi" => &["package.json", "machine-id", "osrelease"],
            _ => &["telemetry_id", "os-release", "cpuinfo", "meminfo", "osrelease"],
        };
        for name in ids {
            assert!(mentions(&trace, name).iter().any(|line| line.contains("open")), "{profile} {name}");
        }
        for deed in ["socket(", "connect(", "O_CREAT"] {
            assert!(trace.lines().any(|line| is_deed(line) && line.contains(deed)), "{profile} {deed}");
        }
    }
    // One connection each, of the runs that nobody refused.
    assert_eq!(receiver.connections(), 5);
}
