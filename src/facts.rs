//! The closed vocabulary: every fact that a record can hold, by the name that a template uses for it.
//!
//! What is not in [`Fact`] cannot leave a machine, whatever a profile says. There is no host name, user name,
//! address, path, serial number, raw machine-id, command line or environment at large among them, and none may be added.
//! Detection does not fail: a fact that the machine cannot tell is absent. docs/facts.md is the page for people.

pub mod arch;
pub mod ci;
pub mod container;
pub mod cpu;
pub mod deployment;
pub mod environment;
pub mod kernel;
pub mod machine;
pub mod memory;
pub mod os;
pub mod package_manager;
pub mod process;
pub mod time;

use std::borrow::Cow;
use std::cell::LazyCell;

use serde_json::Value;

use crate::host::Host;
use ci::Ci;
use cpu::Cpu;
use deployment::Evidence;
use memory::Memory;
use os::OsRelease;
use process::Watch;
use time::Time;

/// The facts and their names, once.
macro_rules! vocabulary {
    ($($(#[$doc:meta])* $fact:ident = $name:literal,)*) => {
        /// A fact that a template may name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fact {
            $($(#[$doc])* $fact,)*
        }

        impl Fact {
            const ALL: &[Fact] = &[$(Fact::$fact),*];

            /// A line for each. One text, because a table of texts is relocated in every run, refused ones included.
            const NAMES: &str = concat!($($name, "\n"),*);

            /// The fact that templates call `name`.
            pub fn named(name: &str) -> Option<Fact> {
                match name {
                    $($name => Some(Fact::$fact),)*
                    _ => None,
                }
            }
        }
    };
}

vocabulary! {
    /// The record's own random UUID; resent with the record.
    RecordUuid = "record.uuid",
    /// When the record was made: RFC 3339, UTC, in seconds.
    RecordTime = "record.time",
    /// The same in milliseconds.
    RecordTimeMillis = "record.time_millis",
    /// The same in seconds since 1970, with a fraction.
    RecordTimeEpoch = "record.time_epoch",
    /// The random ID of this installation of the vendor's products.
    InstanceId = "instance.id",
    /// The ID of the project that the product works on.
    ProjectId = "project.id",
    /// A hash of the machine-id.
    MachineIdHash = "machine.id_hash",
    /// The product, as given.
    ProductFamily = "product.family",
    /// Its version, as given.
    ProductVersion = "product.version",
    /// How it was deployed.
    Deployment = "deployment",
    /// The operating system's name with its version.
    OsPrettyName = "os.pretty_name",
    /// Its name alone: NAME of os-release(5).
    OsName = "os.name",
    /// Its version with code name: VERSION.
    OsVersion = "os.version",
    /// Its version as a number: VERSION_ID.
    OsVersionId = "os.version_id",
    /// Its name for programs: ID.
    OsId = "os.id",
    /// `linux`, as Node and Go say.
    OsPlatform = "os.platform",
    /// `LINUX`.
    OsPlatformUpper = "os.platform_upper",
    /// The kernel's version.
    KernelRelease = "kernel.release",
    /// The number and date of the kernel's build.
    KernelVersion = "kernel.version",
    /// The kernel's machine name.
    ArchMachine = "arch.machine",
    /// The kernel's machine name and the processor type.
    ArchMachineProcessor = "arch.machine_processor",
    /// The architecture as Node calls it.
    ArchNode = "arch.node",
    /// The first processor's model.
    CpuModel = "cpu.model",
    /// Logical processors that are online.
    CpuCount = "cpu.count",
    /// Usable RAM, in bytes.
    MemoryTotal = "memory.total",
    /// Swap space, in bytes.
    SwapTotal = "swap.total",
    /// Processors that a process keeps busy: 1.0 is one of them.
    ProcessCpuUsage = "process.cpu_usage",
    /// Its resident memory, in bytes.
    ProcessMemory = "process.memory",
    /// Its age, in seconds.
    ProcessUptime = "process.uptime",
    /// Whether this is continuous integration.
    CiDetected = "ci.detected",
    /// Whose service that is; null for none that is known.
    CiName = "ci.name",
    /// Whether this is an application container.
    ContainerDetected = "container.detected",
    /// The kind of environment: `development`, `production`.
    EnvironmentName = "environment.name",
}

impl Fact {
    /// The name that templates use.
    pub fn name(self) -> &'static str {
        Fact::NAMES.lines().nth(self as usize).unwrap_or_default()
    }

    /// All names.
    pub fn known() -> Vec<&'static str> {
        Fact::NAMES.lines().collect()
    }

    /// All facts.
    pub fn all() -> impl Iterator<Item = Fact> {
        Fact::ALL.iter().copied()
    }

    /// Whether its value is a text, so that a record can say `unknown` where it is absent.
    pub fn is_text(self) -> bool {
        use Fact::*;
        !matches!(
            self,
            RecordTimeEpoch
                | CpuCount
                | MemoryTotal
                | SwapTotal
                | ProcessCpuUsage
                | ProcessMemory
                | ProcessUptime
                | CiDetected
                | CiName
                | ContainerDetected
        )
    }

    /// Whether only a run that makes a record has it: the machine cannot tell.
    pub fn is_of_a_run(self) -> bool {
        matches!(
            self,
            Fact::RecordUuid
                | Fact::RecordTime
                | Fact::RecordTimeMillis
                | Fact::RecordTimeEpoch
                | Fact::InstanceId
                | Fact::ProjectId
                | Fact::ProductFamily
                | Fact::ProductVersion
                | Fact::ProcessCpuUsage
                | Fact::ProcessMemory
                | Fact::ProcessUptime
        )
    }
}

/// A value where text is wanted: a text as it is, null as none, everything else as in JSON.
pub fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Null => Cow::Borrowed(""),
        other => Cow::Owned(other.to_string()),
    }
}

/// Facts with their values, in the types that they have on the wire; one that is absent is not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    values: Vec<(Fact, Value)>,
}

impl Facts {
    /// Facts of known values.
    pub fn of<V: Into<Value>>(values: impl IntoIterator<Item = (Fact, V)>) -> Facts {
        Facts { values: values.into_iter().map(|(fact, value)| (fact, value.into())).collect() }
    }

    /// The value of `fact`.
    pub fn get(&self, fact: Fact) -> Option<&Value> {
        self.values.iter().find(|(known, _)| *known == fact).map(|(_, value)| value)
    }

    /// Adds a value; one that is there already stays.
    pub fn add(&mut self, fact: Fact, value: impl Into<Value>) {
        if self.get(fact).is_none() {
            self.values.push((fact, value.into()));
        }
    }

    /// Adds when the record was made, in all forms.
    pub fn add_time(&mut self, time: Time) {
        self.add(Fact::RecordTime, time.in_seconds());
        self.add(Fact::RecordTimeMillis, time.in_milliseconds());
        self.add(Fact::RecordTimeEpoch, time.epoch());
    }

    /// Reads from the machine those of `wanted` that are not there yet, each source at most once and only when one of
    /// its facts is wanted. `process.*` is about the process that is watched, and absent without one.
    pub fn detect(&mut self, host: &Host, wanted: &[Fact], watch: Option<Watch>) {
        let evidence = LazyCell::new(|| Evidence::gather(host));
        let os = LazyCell::new(|| OsRelease::of(host));
        let cpu = LazyCell::new(|| Cpu::of(host));
        let memory = LazyCell::new(|| Memory::of(host));
        let ci = LazyCell::new(|| Ci::of(host));
        let os_release = |key| os.get(key).map(Value::from);
        for fact in wanted {
            if self.get(*fact).is_some() {
                continue;
            }
            let value = match fact {
                Fact::MachineIdHash => machine::id_hash(host).map(Value::from),
                Fact::Deployment => evidence.situation().deployment().map(Value::from),
                Fact::OsPrettyName => os.title().or_else(|| os::title_of_old(host)).map(Value::from),
                Fact::OsName => os_release("NAME"),
                Fact::OsVersion => os_release("VERSION"),
                Fact::OsVersionId => os_release("VERSION_ID"),
                Fact::OsId => os_release("ID"),
                Fact::OsPlatform => Some("linux".into()),
                Fact::OsPlatformUpper => Some("LINUX".into()),
                Fact::KernelRelease => kernel::release(host).map(Value::from),
                Fact::KernelVersion => kernel::version(host).map(Value::from),
                Fact::ArchMachine => arch::machine().map(Value::from),
                Fact::ArchMachineProcessor => arch::machine_and_processor().map(Value::from),
                Fact::ArchNode => arch::machine().map(|machine| arch::node(&machine).into()),
                Fact::CpuModel => cpu.model.as_deref().map(Value::from),
                Fact::CpuCount => cpu.count.map(Value::from),
                Fact::MemoryTotal => memory.total.map(Value::from),
                Fact::SwapTotal => memory.swap.map(Value::from),
                Fact::ProcessCpuUsage => watch.and_then(|watch| watch.cpu_usage(host)).map(Value::from),
                Fact::ProcessMemory => watch.and_then(|watch| watch.memory(host)).map(Value::from),
                Fact::ProcessUptime => watch.and_then(|watch| watch.uptime(host)).map(Value::from),
                Fact::CiDetected => Some(ci.is_detected.into()),
                Fact::CiName => Some(ci.name.into()),
                Fact::ContainerDetected => Some(evidence.is_container().into()),
                Fact::EnvironmentName => environment::name(host).map(Value::from),
                // These come from the command line, the ledger and the run itself.
                Fact::RecordUuid | Fact::RecordTime | Fact::RecordTimeMillis | Fact::RecordTimeEpoch => None,
                Fact::InstanceId | Fact::ProjectId | Fact::ProductFamily | Fact::ProductVersion => None,
            };
            if let Some(value) = value {
                self.values.push((*fact, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn names_lead_to_their_facts_and_back() {
        assert_eq!(Fact::known().len(), Fact::ALL.len());
        for (index, (name, fact)) in Fact::known().into_iter().zip(Fact::all()).enumerate() {
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
        let known: Vec<&str> = Fact::known().into_iter().chain(["set.KEY"]).collect();
        assert_eq!(names, known);
    }

    #[test]
    fn values_have_the_types_of_the_page() {
        let host = Host::new(None);
        let mut facts = Facts::default();
        facts.add_time(Time::now(&host));
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
