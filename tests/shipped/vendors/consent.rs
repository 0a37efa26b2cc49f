//! Consent before identity (issue 7, item 3): each "no" of each product under strace. The files of its IDs are not
//! looked at for anything, nor is a fact, and no socket is made.

use super::{Kind, LUMENQ, MEDUSA, MEMGRAPH, PERCONA, STRAPI, WUNDERGRAPH, server};
use crate::consent::{Tracer, deeds};
use crate::harness::{Machine, Receiver, roots};
use crate::skip;

const CONFIG: &str = "home/dev/.config/medusa/config.json";
const PACKAGE: &str = "srv/app/package.json";

/// What holds an ID of any of the products, or a fact; and of a process, what is beyond the environment.
const NAMES: &str = "telemetry_uuid config.json .medusa-project-id wundergraph.config.json package.json telemetry_id \
    project-id instance-id machine-id os-release cpuinfo meminfo osrelease resolv.conf status";

/// Each product: its own variable with a value of it that is a no, and which of the names a run opens that is not refused.
const PRODUCTS: [(Kind, (&str, &str), &str); 6] = [
    (PERCONA, ("PERCONA_TELEMETRY_DISABLE", "1"), "telemetry_uuid os-release"),
    (MEDUSA, ("MEDUSA_DISABLE_TELEMETRY", "true"), "config.json .medusa-project-id cpuinfo osrelease"),
    (WUNDERGRAPH, ("WG_TELEMETRY_DISABLED", ""), "wundergraph.config.json cpuinfo"),
    (STRAPI, ("STRAPI_TELEMETRY_DISABLED", "true"), "package.json machine-id osrelease"),
    (MEMGRAPH, ("DO_NOT_TRACK", "1"), "telemetry_id os-release cpuinfo meminfo osrelease"),
    (LUMENQ, ("LUMENQ_OFFLINE", "0"), "project-id instance-id os-release cpuinfo"),
];

/// Where each "no" is said, an option, a variable or a file, and with which text.
fn every_no(profile: &str, variable: (&str, &str)) -> Vec<(String, String)> {
    let of = |path: String| std::fs::read_to_string(roots().join(path)).expect("a file of tests/roots");
    // In files of the product's own.
    let mut every = match profile {
        "medusa" => vec![(CONFIG, of("medusa/home/off/.config/medusa/config.json".to_owned()))],
        "strapi" => ["no-uuid", "off-junk"].map(|it| (PACKAGE, of(format!("strapi/srv/{it}/package.json")))).to_vec(),
        "memgraph" => vec![("etc/memgraph/memgraph.conf", "--log-level=INFO\n--telemetry-enabled=false\n".to_owned())],
        "lumenq" => vec![("etc/lumenq/lumenq.flags", "--nosend_records\n".to_owned())],
        _ => vec![],
    };
    let switch = format!("etc/install-record/off.d/{profile}");
    let alone =
        ["--telemetry=false", "--telemetry-enabled=false", "--notelemetry-enabled", "etc/install-record/off", &switch];
    every.extend(alone.map(|place| (place, String::new())));
    for (name, value) in [("DO_NOT_TRACK", "1"), variable] {
        every.push((name, value.to_owned()));
        every.push(("proc/7/environ", format!("A=1\0{name}={value}\0")));
        every.push(("proc/1/environ", format!("{name}={value}\0")));
        every.push(("etc/environment", format!("{name}={value}\n")));
        every.push(("etc/profile.d/x.sh", format!("export {name}={value}\n")));
    }
    every.into_iter().map(|(place, text)| (place.to_owned(), text)).collect()
}

/// A machine on which every product has its IDs, and whose process 7, make, has called us.
fn used_machine() -> Machine {
    server().and("used")
}

/// The lines of a trace by which `name` was asked about, and how many of them open it. O_PATH opens nothing for reading: it
/// is how a path is walked below --root.
fn mentions<'t>(trace: &'t str, name: &str) -> (Vec<&'t str>, usize) {
    let ends = [format!("\"{name}\""), format!("/{name}\"")];
    let lines: Vec<&str> = trace.lines().filter(|line| ends.iter().any(|end| line.contains(end))).collect();
    let opened = lines.iter().filter(|line| line.contains("open") && !line.contains("O_PATH")).count();
    (lines, opened)
}

#[test]
fn no_id_file_and_no_network_is_touched_after_a_no() {
    let Some(tracer) = Tracer::new() else { skip!("needs strace, and to be allowed to trace") };
    let receiver = Receiver::start(&[]);
    for (kind, variable, opened) in PRODUCTS {
        let profile = kind.profile;
        for (place, text) in every_no(profile, variable) {
            let what = format!("{profile}, {place} {text}");
            let machine = if place.contains('/') { used_machine().with(&place, &text) } else { used_machine() };
            // Whoever asks for a copy of what is sent gets none of what is not.
            let run = kind.send(&machine, &receiver).env("WUNDER_TELEMETRY_DEBUG", "true");
            let run = match place.contains('/') {
                true => run,
                false if place.starts_with("--") => run.args([&place]),
                false => run.env(&place, &text),
            };
            let before = machine.snapshot();
            let (ended, trace) = tracer.run(run);
            ended.silent();
            assert_eq!((machine.snapshot(), deeds(&trace)), (before, Vec::new()), "{what}");
            // The one file of its IDs that holds the "no" itself may be opened, as often as there are rules about it.
            let speaks = match &*place {
                CONFIG => ("config.json", 1),
                PACKAGE => ("package.json", 2),
                _ => ("", 0),
            };
            for name in NAMES.split(' ') {
                match mentions(&trace, name) {
                    (lines, opened) if name == speaks.0 => assert!(opened <= speaks.1, "{what}: {lines:?}"),
                    (lines, _) => assert_eq!(lines, [""; 0], "{what}"),
                }
            }
        }
        // The same look finds all of it in a run that nobody refused.
        let (ended, trace) = tracer.run(kind.send(&used_machine(), &receiver));
        ended.expect(0);
        for name in opened.split(' ') {
            assert!(mentions(&trace, name).1 > 0, "{profile} {name}");
        }
        for deed in ["socket(", "connect(", "O_CREAT"] {
            assert!(deeds(&trace).iter().any(|line| line.contains(deed)), "{profile} {deed}");
        }
    }
    // One connection each, of the runs that nobody refused.
    assert_eq!(receiver.connections(), 6);
}
