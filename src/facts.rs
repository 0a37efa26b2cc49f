//! The closed vocabulary: every fact that a record can hold, by the name that a template uses for it.
//!
//! What is not in the table below cannot leave a machine, whatever a profile says. There is no host name, user name, address,
//! path, serial number, raw machine-id, command line or environment at large among them, and none may be added.
//! Detection does not fail: a fact that the machine cannot tell is absent. docs/facts.md is the page for people.

pub mod arch;
pub mod ci;
pub mod container;
pub mod cpu;
pub mod deployment;
pub mod environment;
pub mod machine;
pub mod memory;
pub mod os;
pub mod package_manager;
pub mod process;
pub mod time;

use std::{collections::BTreeMap, ffi::CStr};

use rustix::system::Uname;
use serde_json::Value;

use crate::host::Host;
use deployment::{CONTAINER, Evidence};
use process::Watch;

/// A fact, by the name that templates use for it: one of those in the table.
pub type Fact = &'static str;

/// Facts with their values, in the types that they have on the wire; one that is absent is not known.
pub type Facts = BTreeMap<Fact, Value>;

/// Reads a value from the machine, or from the process that is watched, if there is one.
type Read = fn(&Host, Option<Watch>) -> Option<Value>;

/// A text. A record says `unknown` where it is absent.
const TEXT: bool = true;

/// A number, a truth value, or what can be null. A record says null where it is absent.
const OTHER: bool = false;

/// What is not read here, but comes from the command line, the ledger or the run itself.
const GIVEN: Read = |_, _| None;

/// The facts, a row each: the name, what the value is, and how it is read.
const FACTS: &[(Fact, bool, Read)] = &[
    // The record's own random UUID; resent with the record.
    ("record.uuid", TEXT, GIVEN),
    // When the record was made: RFC 3339, UTC, in seconds.
    ("record.time", TEXT, GIVEN),
    // The same in milliseconds.
    ("record.time_millis", TEXT, GIVEN),
    // The same in seconds since 1970, with a fraction.
    ("record.time_epoch", OTHER, GIVEN),
    // The random ID of this installation of the vendor's products.
    ("instance.id", TEXT, GIVEN),
    // The ID of the project that the product works on.
    ("project.id", TEXT, GIVEN),
    // A hash of the machine-id.
    ("machine.id_hash", TEXT, |host, _| value(machine::id_hash(host))),
    // The product, as given.
    ("product.family", TEXT, GIVEN),
    // Its version, as given.
    ("product.version", TEXT, GIVEN),
    // How it was deployed.
    ("deployment", TEXT, |host, _| value(Evidence::gather(host).verdict().0)),
    // The operating system's name with its version.
    ("os.pretty_name", TEXT, |host, _| value(os::title(host))),
    // Its name alone: NAME of os-release(5).
    ("os.name", TEXT, |host, _| value(os::given(os::release(host).name))),
    // Its version with code name: VERSION.
    ("os.version", TEXT, |host, _| value(os::given(os::release(host).version))),
    // Its version as a number: VERSION_ID.
    ("os.version_id", TEXT, |host, _| value(os::given(os::release(host).version_id))),
    // Its name for programs: ID.
    ("os.id", TEXT, |host, _| value(os::given(os::release(host).id))),
    // `linux`, as Node and Go say.
    ("os.platform", TEXT, |_, _| value(Some("linux"))),
    // `LINUX`.
    ("os.platform_upper", TEXT, |_, _| value(Some("LINUX"))),
    // The kernel's version, as `uname -r` prints it.
    ("kernel.release", TEXT, |host, _| value(kernel(host, "osrelease", Uname::release))),
    // The number and date of the kernel's build. Not /proc/version, which names who built it, and on which host.
    ("kernel.version", TEXT, |host, _| value(kernel(host, "version", Uname::version))),
    // The kernel's machine name.
    ("arch.machine", TEXT, |_, _| value(arch::uname(Uname::machine))),
    // The kernel's machine name and the processor type.
    ("arch.machine_processor", TEXT, |_, _| value(arch::machine_and_processor())),
    // The architecture as Node calls it.
    ("arch.node", TEXT, |_, _| value(arch::uname(Uname::machine).as_deref().map(arch::node))),
    // The first processor's model.
    ("cpu.model", TEXT, |host, _| value(cpu::model(&cpu::text(host)))),
    // Logical processors that are online.
    ("cpu.count", OTHER, |host, _| value(cpu::count(&cpu::text(host)))),
    // Usable RAM, in bytes.
    ("memory.total", OTHER, |host, _| value(memory::bytes(host, "proc/meminfo", "MemTotal"))),
    // Swap space, in bytes.
    ("swap.total", OTHER, |host, _| value(memory::bytes(host, "proc/meminfo", "SwapTotal"))),
    // Processors that a process keeps busy: 1.0 is one of them.
    ("process.cpu_usage", OTHER, |host, watch| value(watch?.cpu_usage(host))),
    // Its resident memory, in bytes.
    ("process.memory", OTHER, |host, watch| value(watch?.memory(host))),
    // Its age, in seconds.
    ("process.uptime", OTHER, |host, watch| value(watch?.uptime(host))),
    // Whether this is continuous integration.
    ("ci.detected", OTHER, |host, _| Some(ci::detect(|name| host.var(name)).is_some().into())),
    // Whether CI or ci is set, as some products look at it.
    ("ci.variable", OTHER, |host, _| Some(["CI", "ci"].iter().any(|name| host.var(name).is_some()).into())),
    // Whose service that is; null for none that is known.
    ("ci.name", OTHER, |host, _| Some(ci::detect(|name| host.var(name)).flatten().into())),
    // Whether this is an application container.
    ("container.detected", OTHER, |host, _| Some((Evidence::gather(host).verdict().0 == CONTAINER).into())),
    // The kind of environment: `development`, `production`.
    ("environment.name", TEXT, |host, _| value(environment::name(host.var("NODE_ENV")))),
];

/// A text about the kernel: from /proc of the root, else from the running kernel.
fn kernel(host: &Host, name: &str, field: fn(&Uname) -> &CStr) -> Option<String> {
    host.line(format!("proc/sys/kernel/{name}")).or_else(|| arch::uname(field))
}

fn value(known: Option<impl Into<Value>>) -> Option<Value> {
    known.map(Into::into)
}

/// The names of all facts.
pub fn names() -> impl Iterator<Item = Fact> {
    FACTS.iter().map(|(name, ..)| *name)
}

/// The fact that templates call `name`.
pub fn named(name: &str) -> Option<Fact> {
    names().find(|known| *known == name)
}

/// Whether a fact's value is a text, so that a record can say `unknown` where it is absent.
pub fn is_text(name: &str) -> bool {
    FACTS.iter().any(|(known, is_text, _)| *known == name && *is_text)
}

/// A value where text is wanted: a text as it is, null as none, everything else as in JSON.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Reads from the machine those of `wanted` that are not there yet. `process.*` is about the process that is watched, and
/// absent without one.
pub fn detect(facts: &mut Facts, host: &Host, wanted: &[&str], watch: Option<Watch>) {
    for (name, _, read) in FACTS.iter().filter(|(name, ..)| wanted.contains(name)) {
        if !facts.contains_key(name) {
            facts.extend(read(host, watch).map(|value| (*name, value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_name_is_a_facts_or_none() {
        assert!(names().all(|name| named(name) == Some(name)));
        assert_eq!((named("os.hostname"), is_text("os.hostname")), (None, false));
    }

    /// The rows of docs/facts.md: the fact, its type and an example, a JSON value.
    fn page() -> Vec<(&'static str, &'static str, Value)> {
        let lines = include_str!("../docs/facts.md").lines().filter_map(|line| line.strip_prefix("| `"));
        let rows = lines.map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [name, kind, source, example, reveals, ""] = cells[..] else { panic!("not five columns: {line}") };
            assert!(!source.is_empty() && !reveals.is_empty(), "{line}");
            let example = serde_json::from_str(example.trim_matches('`')).expect(line);
            (name.trim_end_matches('`'), kind, example)
        });
        rows.collect()
    }

    fn is_of(kind: &str, value: &Value) -> bool {
        match kind {
            "text" => value.is_string(),
            "integer" => value.is_u64(),
            "number" => value.is_f64(),
            "boolean" => value.is_boolean(),
            "text or null" => value.is_string() || value.is_null(),
            other => other == "any",
        }
    }

    #[test]
    fn the_page_has_every_fact_and_no_other() {
        let page: Vec<&str> = page().iter().map(|(name, ..)| *name).collect();
        assert_eq!(page, names().chain(["set.KEY"]).collect::<Vec<_>>());
    }

    #[test]
    fn values_have_the_types_of_the_page() {
        let host = Host::new(None);
        let mut facts = Facts::new();
        let deadline = Instant::now() + Duration::from_millis(500);
        let watch = Some(Watch { pid: std::process::id(), deadline });
        detect(&mut facts, &host, &names().collect::<Vec<_>>(), watch);
        for (name, kind, example) in page() {
            assert!(is_of(kind, &example), "{name}: the example {example} is no {kind}");
            if let Some(value) = facts.get(name) {
                assert!(is_of(kind, value), "{name}: {value} is no {kind}");
            }
        }
        // What every Linux tells.
        for fact in ["memory.total", "swap.total", "process.cpu_usage", "process.uptime", "kernel.release", "ci.name"] {
            assert!(facts.contains_key(fact), "{fact}");
        }
    }

    #[test]
    fn texts_for_interpolation() {
        for (value, expected) in [
            (Value::from("a\"b"), "a\"b"),
            (8.into(), "8"),
            (1.5.into(), "1.5"),
            (true.into(), "true"),
            (Value::Null, ""),
        ] {
            assert_eq!(text(&value), expected);
        }
    }
}
