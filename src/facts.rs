//! The closed vocabulary: every fact that a record can hold, by the name that a template uses for it.
//!
//! What is not in [`Fact`] cannot leave a machine, whatever a profile says. There is no host name, user name, address,
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

use std::ffi::CStr;

use rustix::system::Uname;
use serde_json::Value;

use crate::host::Host;
use cpu::Cpu;
use deployment::Evidence;
use process::Watch;
use time::Time;

/// A fact, its name, what its value is, and how it is read. What cannot be read comes from the command line, the ledger or
/// the run itself.
type Row = (Fact, &'static str, Kind, Option<Read>);

/// Reads a value from the machine, or from the process that is watched, if there is one.
type Read = fn(&Host, Option<Watch>) -> Option<Value>;

/// What a value is on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A text. A record says `unknown` where it is absent.
    Text,
    /// A number, a truth value, or what can be null. A record says null where it is absent.
    Other,
}

/// The facts, a row each.
macro_rules! vocabulary {
    ($($(#[$doc:meta])* $fact:ident = $name:literal, $kind:ident, $read:expr;)*) => {
        /// A fact that a template may name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fact {
            $($(#[$doc])* $fact,)*
        }

        /// In the order of [`Fact`].
        const ROWS: &[Row] = &[$((Fact::$fact, $name, Kind::$kind, $read)),*];
    };
}

vocabulary! {
    /// The record's own random UUID; resent with the record.
    RecordUuid = "record.uuid", Text, None;
    /// When the record was made: RFC 3339, UTC, in seconds.
    RecordTime = "record.time", Text, None;
    /// The same in milliseconds.
    RecordTimeMillis = "record.time_millis", Text, None;
    /// The same in seconds since 1970, with a fraction.
    RecordTimeEpoch = "record.time_epoch", Other, None;
    /// The random ID of this installation of the vendor's products.
    InstanceId = "instance.id", Text, None;
    /// The ID of the project that the product works on.
    ProjectId = "project.id", Text, None;
    /// A hash of the machine-id.
    MachineIdHash = "machine.id_hash", Text, Some(|host, _| value(machine::id_hash(host)));
    /// The product, as given.
    ProductFamily = "product.family", Text, None;
    /// Its version, as given.
    ProductVersion = "product.version", Text, None;
    /// How it was deployed.
    Deployment = "deployment", Text, Some(|host, _| value(Evidence::gather(host).verdict().0.deployment()));
    /// The operating system's name with its version.
    OsPrettyName = "os.pretty_name", Text, Some(|host, _| value(os::title(host)));
    /// Its name alone: NAME of os-release(5).
    OsName = "os.name", Text, Some(|host, _| value(os::given(os::release(host).name)));
    /// Its version with code name: VERSION.
    OsVersion = "os.version", Text, Some(|host, _| value(os::given(os::release(host).version)));
    /// Its version as a number: VERSION_ID.
    OsVersionId = "os.version_id", Text, Some(|host, _| value(os::given(os::release(host).version_id)));
    /// Its name for programs: ID.
    OsId = "os.id", Text, Some(|host, _| value(os::given(os::release(host).id)));
    /// `linux`, as Node and Go say.
    OsPlatform = "os.platform", Text, Some(|_, _| value(Some("linux")));
    /// `LINUX`.
    OsPlatformUpper = "os.platform_upper", Text, Some(|_, _| value(Some("LINUX")));
    /// The kernel's version, as `uname -r` prints it.
    KernelRelease = "kernel.release", Text, Some(|host, _| value(kernel(host, "osrelease", Uname::release)));
    /// The number and date of the kernel's build. Not /proc/version, which names who built it, and on which host.
    KernelVersion = "kernel.version", Text, Some(|host, _| value(kernel(host, "version", Uname::version)));
    /// The kernel's machine name.
    ArchMachine = "arch.machine", Text, Some(|_, _| value(arch::uname(Uname::machine)));
    /// The kernel's machine name and the processor type.
    ArchMachineProcessor = "arch.machine_processor", Text, Some(|_, _| value(arch::machine_and_processor()));
    /// The architecture as Node calls it.
    ArchNode = "arch.node", Text, Some(|_, _| value(arch::uname(Uname::machine).as_deref().map(arch::node)));
    /// The first processor's model.
    CpuModel = "cpu.model", Text, Some(|host, _| value(Cpu::of(host).model));
    /// Logical processors that are online.
    CpuCount = "cpu.count", Other, Some(|host, _| value(Cpu::of(host).count));
    /// Usable RAM, in bytes.
    MemoryTotal = "memory.total", Other, Some(|host, _| value(memory::bytes(host, "proc/meminfo", "MemTotal")));
    /// Swap space, in bytes.
    SwapTotal = "swap.total", Other, Some(|host, _| value(memory::bytes(host, "proc/meminfo", "SwapTotal")));
    /// Processors that a process keeps busy: 1.0 is one of them.
    ProcessCpuUsage = "process.cpu_usage", Other, Some(|host, watch| value(watch?.cpu_usage(host)));
    /// Its resident memory, in bytes.
    ProcessMemory = "process.memory", Other, Some(|host, watch| value(watch?.memory(host)));
    /// Its age, in seconds.
    ProcessUptime = "process.uptime", Other, Some(|host, watch| value(watch?.uptime(host)));
    /// Whether this is continuous integration.
    CiDetected = "ci.detected", Other, Some(|host, _| Some(ci::detect(|name| host.var(name)).is_some().into()));
    /// Whose service that is; null for none that is known.
    CiName = "ci.name", Other, Some(|host, _| Some(ci::detect(|name| host.var(name)).flatten().into()));
    /// Whether this is an application container.
    ContainerDetected = "container.detected", Other, Some(|host, _| Some(Evidence::gather(host).is_container().into()));
    /// The kind of environment: `development`, `production`.
    EnvironmentName = "environment.name", Text, Some(|host, _| value(environment::name(host.var("NODE_ENV"))));
}

/// A text about the kernel: from /proc of the root, else from the running kernel.
fn kernel(host: &Host, name: &str, field: fn(&Uname) -> &CStr) -> Option<String> {
    host.line(format!("proc/sys/kernel/{name}")).or_else(|| arch::uname(field))
}

fn value(known: Option<impl Into<Value>>) -> Option<Value> {
    known.map(Into::into)
}

impl Fact {
    /// The fact that templates call `name`.
    pub fn named(name: &str) -> Option<Fact> {
        Fact::all().find(|fact| fact.name() == name)
    }

    /// The name that templates use.
    pub fn name(self) -> &'static str {
        ROWS[self as usize].1
    }

    /// All facts.
    pub fn all() -> impl Iterator<Item = Fact> {
        ROWS.iter().map(|row| row.0)
    }

    /// Whether its value is a text, so that a record can say `unknown` where it is absent.
    pub fn is_text(self) -> bool {
        ROWS[self as usize].2 == Kind::Text
    }
}

/// A value where text is wanted: a text as it is, null as none, everything else as in JSON.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Facts with their values, in the types that they have on the wire; one that is absent is not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts(Vec<(Fact, Value)>);

impl Facts {
    /// Facts of known values.
    pub fn of<V: Into<Value>>(values: impl IntoIterator<Item = (Fact, V)>) -> Facts {
        Facts(values.into_iter().map(|(fact, value)| (fact, value.into())).collect())
    }

    /// The value of `fact`.
    pub fn get(&self, fact: Fact) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == fact).map(|(_, value)| value)
    }

    /// Adds a value; one that is there already stays.
    pub fn add(&mut self, fact: Fact, value: impl Into<Value>) {
        if self.get(fact).is_none() {
            self.0.push((fact, value.into()));
        }
    }

    /// Adds when the record was made, in all forms.
    pub fn add_time(&mut self, time: Time) {
        self.add(Fact::RecordTime, time.in_seconds());
        self.add(Fact::RecordTimeMillis, time.in_milliseconds());
        self.add(Fact::RecordTimeEpoch, time.epoch());
    }

    /// Reads from the machine those of `wanted` that are not there yet. `process.*` is about the process that is
    /// watched, and absent without one.
    pub fn detect(&mut self, host: &Host, wanted: &[Fact], watch: Option<Watch>) {
        for fact in wanted.iter().copied() {
            let read = ROWS[fact as usize].3.filter(|_| self.get(fact).is_none());
            let value = read.and_then(|read| read(host, watch));
            self.0.extend(value.map(|value| (fact, value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn names_lead_to_their_facts_and_back() {
        for (index, (name, fact)) in Fact::all().map(Fact::name).zip(Fact::all()).enumerate() {
            assert_eq!(fact as usize, index);
            assert_eq!(Fact::named(name), Some(fact));
            assert_eq!(fact.name(), name);
        }
        assert_eq!(Fact::named("os.hostname"), None);
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
        let names: Vec<&str> = page().iter().map(|(name, ..)| *name).collect();
        let known: Vec<&str> = Fact::all().map(Fact::name).chain(["set.KEY"]).collect();
        assert_eq!(names, known);
    }

    #[test]
    fn values_have_the_types_of_the_page() {
        let host = Host::new(None);
        let mut facts = Facts::default();
        facts.add_time(Time(host.now()));
        let deadline = Instant::now() + Duration::from_millis(500);
        facts.detect(&host, &Fact::all().collect::<Vec<_>>(), Some(Watch { pid: std::process::id(), deadline }));
        for (name, kind, example) in page() {
            assert!(is_of(kind, &example), "{name}: the example {example} is no {kind}");
            if let Some(value) = Fact::named(name).and_then(|fact| facts.get(fact)) {
                assert!(is_of(kind, value), "{name}: {value} is no {kind}");
            }
        }
        // What every Linux tells.
        for fact in ["memory.total", "swap.total", "process.cpu_usage", "process.uptime", "kernel.release", "ci.name"] {
            assert!(facts.get(Fact::named(fact).unwrap()).is_some(), "{fact}");
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
