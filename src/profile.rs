//! One product's rules, read from its profile: who may say no how, where the record goes, where its IDs live, what it
//! is made of, and how often it is sent. docs/profiles.md is the reference of the format.
//!
//! A profile is a JSON file, so that a new product needs no new binary and a reviewer can see from one page what
//! may leave a machine: a template can only name facts of the closed vocabulary in [`crate::facts`]. These structs are
//! the format: serde derives the reader, and an unknown key is an error.

pub mod file_path;
mod form;
pub mod given;
pub mod product_files;
mod source;
pub mod success;

use std::{collections::BTreeMap, fmt::Display};

use serde::{Deserialize, de::Error};

use crate::template::{MAX_BODY, Template, Values, is_key, render};
use crate::{endpoint::Endpoint, id::IdFormat, outcome::Outcome};
pub use form::Pointer;
use form::{FilePath, Key, Variable};
use given::{Form, GivenRule};
pub use source::{DEFAULT, Source, all_names, is_name};
use success::Success;

/// A whole profile.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a profile, which is an object")]
pub struct Profile {
    /// Its name: the key of the opt-out switch and of its pending records.
    pub name: String,
    /// What it reports and when, for people.
    pub about: String,
    /// Who may say no how.
    pub consent: ConsentRules,
    /// Where records go by default.
    endpoint: String,
    /// The product's own variable that replaces its scheme and host. A host alone means https.
    endpoint_base: Option<Variable>,
    /// The one that replaces its path.
    endpoint_path: Option<Variable>,
    /// Headers of the request. Each value is a text.
    pub headers: BTreeMap<String, Template>,
    /// Which answers mean that a record arrived.
    pub success: Success,
    /// The variables and defaults for options of the command line, by the options' long names.
    options: BTreeMap<String, OptionRule>,
    /// Where the IDs live, by their facts. Marks, receipts and the recognition of clones use the first: that of the
    /// instance, if there is one.
    pub identity: BTreeMap<String, IdRule>,
    /// How often it reports.
    pub once: Once,
    /// Variables that ask for a copy of what is sent, on stdout.
    pub debug: Vec<Variable>,
    /// What is known of the keys of `--set`.
    set: BTreeMap<String, GivenRule>,
    /// The record of a product that tells no events apart.
    body: Option<Template>,
    /// The records by event.
    events: BTreeMap<String, Template>,
    /// The events to choose from if none is named. The first counts that has all it needs.
    default_events: Vec<String>,
    /// For editors; this program ignores it.
    #[serde(rename = "$schema")]
    _schema: String,
}

/// A product's own ways to say no, besides those that hold for every product. These types only hold data.
/// [`crate::consent`] decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct ConsentRules {
    /// The profile that they are from; not part of the section.
    #[serde(skip)]
    pub profile: String,
    /// Variables that say no by any value but an empty or a clearly negative one.
    pub variables: Vec<Variable>,
    /// Variables that say no by being there, even empty.
    pub present: Vec<Variable>,
    /// Files of a project that set these variables, by the line rule.
    pub environment_files: Vec<FilePath>,
    /// The product's own files, each of which can say no.
    pub files: Vec<FileRule>,
    /// Whether the product is off unless a flag in one of these files is on.
    pub default_off: bool,
}

/// One rule about one file: one of four ways to say no.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct FileRule {
    /// The file.
    pub path: FilePath,
    /// A boolean flag of a gflags flagfile that is off.
    pub gflag: Option<Key>,
    /// A JSON value that is there and not true.
    #[serde(rename = "false")]
    pub is_false: Option<Pointer>,
    /// A JSON value that is there and not false.
    #[serde(rename = "true")]
    pub is_true: Option<Pointer>,
    /// A JSON value that is missing or empty. A file that is missing counts as well.
    pub absent: Option<Pointer>,
    /// Whether `off` and `on` with this profile's name write `false` and `true` there as well.
    #[serde(default)]
    pub written: bool,
}

/// How often a product reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Once {
    /// Once for each product family.
    #[default]
    Family,
    /// Once for each version of it.
    Version,
    /// At every call.
    Call,
}

/// What a profile says about one option of the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct OptionRule {
    /// The variable that gives its value where the flag is absent.
    pub variable: Option<Variable>,
    /// Its value where neither is there.
    pub default: Option<String>,
    /// Whether a run without it is a usage error.
    pub required: bool,
    /// The values that the receiving service knows; others are sent all the same. Empty: all.
    pub known: Vec<String>,
}

/// One of a product's IDs: which file holds it, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct IdRule {
    /// The file.
    pub file: FilePath,
    /// Files of the product's older versions; an ID in one of them is used where the file has none.
    #[serde(default)]
    pub also: Vec<FilePath>,
    /// The key of its line `KEY:ID`, in a file with `FAMILY:1` for every family that was reported. Without key and
    /// pointer, the whole file is the ID.
    pub key: Option<Key>,
    /// Keys of lines that look like a reported family and are not.
    #[serde(default)]
    pub reserved: Vec<String>,
    /// Its place in a JSON file.
    pub pointer: Option<Pointer>,
    /// What an ID looks like.
    #[serde(default)]
    pub format: IdFormat,
    /// Whether only the product makes one, and nothing is sent without it; otherwise one is made where there is none.
    #[serde(default)]
    pub product_made: bool,
    /// Whether everybody can read the file, and the directories that are made for it.
    #[serde(default)]
    pub public: bool,
}

/// The variable that says no to every product (consoledonottrack.com).
const DO_NOT_TRACK: &str = "DO_NOT_TRACK";

/// The options for which a profile may have a variable or a default. --project and --state-dir are not among them,
/// because consent may depend on a file in there.
const SETTINGS: &str = "product-family, product-version, deployment, os, instance-id, state-file, url, connect-timeout, \
    timeout, event, pid";

/// Headers that the transport sets itself. With another `Host`, a record could go elsewhere.
const OURS: &str = "host content-length transfer-encoding connection expect";

/// The facts that are IDs of the product.
const IDS: &str = "instance.id, project.id";

/// The key in `events` that stands for every whole number.
const INTEGER: &str = "integer";

impl Profile {
    /// What the profile says about an option of the command line.
    pub fn option(&self, long: &str) -> &OptionRule {
        static NO_RULE: OptionRule = OptionRule { variable: None, default: None, required: false, known: Vec::new() };
        self.options.get(long).unwrap_or(&NO_RULE)
    }

    /// The endpoint, with the product's own variables looked up by `variable`.
    pub fn endpoint(&self, variable: impl Fn(&str) -> Option<String>) -> String {
        let [url, base, path] = self.endpoint_variables().map(|name| variable(name?));
        let base = base.map(|base| if base.contains("://") { base } else { format!("https://{base}") });
        let path_at = self.endpoint.match_indices('/').nth(2).map_or(self.endpoint.len(), |(at, _)| at);
        let (own_base, own_path) = self.endpoint.split_at(path_at);
        let (base, path) = (base.as_deref().unwrap_or(own_base), path.as_deref().unwrap_or(own_path));
        url.unwrap_or_else(|| format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/')))
    }

    /// The variables that can replace the endpoint, its base and its path.
    pub fn endpoint_variables(&self) -> [Option<&str>; 3] {
        [&self.option("url").variable, &self.endpoint_base, &self.endpoint_path].map(Option::as_deref)
    }

    /// The template for `event`. Without an event, it depends on what is `given`.
    ///
    /// # Errors
    /// [`Outcome::Skipped`].
    pub fn body(&self, event: Option<&str>, given: &[(String, String)]) -> Result<&Template, Outcome> {
        let is_given = |key: &str| given.iter().any(|(known, _)| known == key);
        let can_be_absent = |key: &str| self.set.get(key).is_none_or(|rule| !rule.required);
        let has_all = |body: &&Template| self.named_given(body).all(|key| can_be_absent(key) || is_given(key));
        let mut defaults = self.default_events.iter().filter_map(|name| self.events.get(name));
        let found = match event {
            _ if self.body.is_some() => self.body.as_ref(),
            None => defaults.clone().find(has_all).or_else(|| defaults.next_back()),
            Some(number) if serde_json::from_slice::<u64>(number.as_bytes()).is_ok() => self.events.get(INTEGER),
            Some(event) => self.events.get(event).filter(|_| event != INTEGER),
        };
        found.ok_or_else(|| {
            let known = self.events.keys().map(|key| &**key).collect::<Vec<_>>().join(" or ");
            let this = event.map_or("there is no --event".to_owned(), |event| format!("this is '{event}'"));
            Outcome::Skipped(format!("{} reports only the event {known}, and {this}", self.name))
        })
    }

    /// The keys of `--set` that `body` and the headers name.
    pub fn named_given<'b>(&'b self, body: &'b Template) -> impl Iterator<Item = &'b str> {
        self.names(body).filter_map(|name| name.strip_prefix("set."))
    }

    /// What `body` and the headers name: facts, and `set.KEY`.
    pub fn names<'b>(&'b self, body: &'b Template) -> impl Iterator<Item = &'b str> {
        [body].into_iter().chain(self.headers.values()).flat_map(Template::names)
    }

    /// Every record that the profile can make, with its event; none where it tells no events apart.
    pub fn bodies(&self) -> impl Iterator<Item = (Option<&str>, &Template)> {
        let events = self.events.iter().map(|(name, body)| (Some(name.as_str()), body));
        self.body.iter().map(|body| (None, body)).chain(events)
    }

    /// Whether `family` can be a product family. It becomes a key in the identity file, so it must not be one of that
    /// file's other keys.
    pub fn is_family(&self, family: &str) -> bool {
        let taken = |rule: &IdRule| rule.key.as_deref() == Some(family) || rule.reserved.iter().any(|it| it == family);
        is_key(family) && !self.identity.iter().any(|(_, rule)| taken(rule))
    }

    /// Checks what would make each record wrong or impossible, or hide a "no". The form of each value was checked when
    /// it was read.
    fn check(&self) -> Result<(), serde_json::Error> {
        ensure(Endpoint::new(&self.endpoint).is_some(), "endpoint", Endpoint::problem_of(&self.endpoint))?;
        for (index, rule) in self.consent.files.iter().enumerate() {
            let ways = [rule.gflag.is_some(), rule.is_false.is_some(), rule.is_true.is_some(), rule.absent.is_some()];
            let place = format!("consent.files[{index}]");
            ensure(ways.contains(&true), place, "must have one of gflag, false, true, absent")?;
        }
        let options = self.options.keys().map(|name| ("options", name, SETTINGS));
        let ids = self.identity.keys().map(|name| ("identity", name, IDS));
        for (section, name, known) in options.chain(ids) {
            let is_known = known.split(", ").any(|known| known == name);
            ensure(is_known, format!("{section}.{name}"), format!("'{name}' is none of {known}"))?;
        }
        for (name, rule) in &self.options {
            let can_be_missing = ["product-family", "product-version", "event", "pid"].contains(&&**name);
            ensure(can_be_missing || !rule.required, format!("options.{name}.required"), "it is never missing")?;
            let has_none = ["instance-id", "state-file", "url", "pid"].contains(&&**name);
            ensure(!has_none || rule.default.is_none(), format!("options.{name}.default"), "not allowed here")?;
        }
        ensure(self.body.is_some() == self.events.is_empty(), "body", "a profile has either a body or events")?;
        for (event, body) in self.bodies() {
            let place = event.map_or("body".to_owned(), |event| format!("events.{event}"));
            let is_small = render(body, &Values::default()).len() <= MAX_BODY;
            ensure(is_small, place, format!("is larger than {MAX_BODY} bytes without any values"))?;
        }
        for (name, value) in &self.headers {
            let is_ours = OURS.split(' ').any(|ours| name.eq_ignore_ascii_case(ours));
            let is_good = matches!(value, Template::Text(_)) && !is_ours;
            ensure(is_good, format!("headers.{name}"), format!("must be a text, and none of {OURS}"))?;
        }
        let is_success = self.success.status.is_none_or(|status| (200..=299).contains(&status));
        ensure(is_success, "success.status", "must be from 200 to 299")?;
        let named: Vec<&str> = self.bodies().flat_map(|(_, body)| self.names(body)).collect();
        for id in IDS.split(", ").filter(|id| named.contains(id)) {
            ensure(self.identity.contains_key(id), format!("identity.{id}"), "missing, and a template names it")?;
        }
        for (key, rule) in &self.set {
            let place = format!("set.{key}");
            ensure(named.contains(&&*place), &place, format!("no template names ${place}"))?;
            let can_have_names = rule.names.is_empty() || rule.form == Form::Counters;
            ensure(can_have_names, &place, "names: only counters have names")?;
        }
        Ok(())
    }
}

impl ConsentRules {
    /// Every variable that can say no, including the one that holds for every product; and whether it says no by merely
    /// being there.
    pub fn names(&self) -> impl Iterator<Item = (&str, bool)> {
        let by_value = self.variables.iter().map(|name| &**name).chain([DO_NOT_TRACK]).map(|name| (name, false));
        by_value.chain(self.present.iter().map(|name| (&**name, true)))
    }

    /// The files that can say no.
    pub fn paths(&self) -> impl Iterator<Item = &FilePath> {
        self.files.iter().map(|rule| &rule.path).chain(&self.environment_files)
    }

    /// Who can say no: variables and files, for `install-record check`.
    pub fn sources(&self) -> Vec<String> {
        let variables = self.names().map(|(name, _)| name.to_owned());
        variables.chain(self.paths().map(|path| path.to_string())).collect()
    }
}

/// A condition of a profile: the `fault` at `place`, unless it is right.
fn ensure(is_right: bool, place: impl Display, fault: impl Display) -> Result<(), serde_json::Error> {
    if is_right { Ok(()) } else { Err(Error::custom(format_args!("{place}: {fault}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Profile, String> {
        Source::of_text("./mine.json", text).profile().map_err(|error| error.to_string())
    }

    fn built_in(name: &str) -> (Source, &'static str) {
        source::BUILT_IN
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(name, text)| (Source::of_text(name, text), *text))
            .expect("a profile")
    }

    #[test]
    fn every_built_in_profile_can_be_read_and_has_its_own_name() {
        for (name, _) in source::BUILT_IN {
            let (source, _) = built_in(name);
            let profile = source.profile().unwrap();
            profile.check().unwrap();
            assert_eq!((profile.name.as_str(), profile.consent.profile.as_str()), (name, name));
            assert_eq!(source.consent().unwrap(), profile.consent);
        }
    }

    #[test]
    fn errors_name_the_profile_the_place_and_the_way_out() {
        let percona = built_in("percona").1;
        for (from, to, expected) in [
            (
                "$os.pretty_name",
                "$os.hostname",
                "body.reports[0].metrics[2].value: 'os.hostname' is no fact; known are record.uuid, ",
            ),
            ("$os.pretty_name", "x${host.name}", "'host.name' is no fact"),
            ("$os.pretty_name", "${cpu.count", "metrics[2].value: '' is no fact"),
            ("$os.pretty_name", "$$cpu.count", "'$cpu.count' is no fact"),
            ("$os.pretty_name", "$set.a b", "'set.a b' is no fact"),
            ("$os.pretty_name", "$5", "'5' is no fact"),
            ("application/json", "${host.name}", "headers.Content-Type: 'host.name' is no fact"),
            (
                "https://check",
                "ftp://check",
                "endpoint: 'ftp://check.percona.com/v1/telemetry/GenericReport' must be an https URL",
            ),
            ("https://check", "https://u:s3cret@check", "endpoint: a URL with a user or a password in it is refused"),
            (
                "\"consent\"",
                "\"consents\"",
                "consents: unknown field `consents`, expected one of `name`, `about`, `consent`, ",
            ),
            (
                "\"variables\"",
                "\"variable\"",
                "consent.variable: unknown field `variable`, expected one of `variables`, `present`, ",
            ),
            ("\"endpoint\": ", "\"about\": \"twice\", \"endpoint\": ", "duplicate field `about`"),
            ("\"name\": \"percona\"", "\"name\": \"../x\"", "name: '../x' must be letters"),
            ("\"name\": \"percona\",", "", "missing field `name`"),
            (
                "/usr/local/percona/telemetry_uuid",
                "telemetry_uuid",
                "identity.instance.id.file: 'telemetry_uuid' must be",
            ),
            ("\"required\": true", "\"required\": 1", "options.product-family.required: invalid type: integer"),
            (
                "\"product-version\"",
                "\"product-colour\"",
                "options.product-colour: 'product-colour' is none of product-family, ",
            ),
            ("\"public\": true", "\"once\": 7", "identity.instance.id.once: unknown field"),
            ("\"public\": true", "\"format\": 7", "identity.instance.id.format: expected value"),
            ("{\n", "\u{feff}{\n", "profile ./mine.json: expected value at line 1"),
            ("\"product-version\"", "\"state-dir\"", "options.state-dir: 'state-dir' is none of product-family, "),
            ("\"instance.id\"", "\"project.id\"", "identity.instance.id: missing, and a template names it"),
            (
                "\"instance.id\"",
                "\"machine.id\"",
                "identity.machine.id: 'machine.id' is none of instance.id, project.id",
            ),
            (
                "\"key\": \"instanceId\"",
                "\"pointer\": \"id\"",
                "identity.instance.id.pointer: 'id' must be a JSON Pointer",
            ),
            (
                "\"public\": true",
                "\"format\": \"ulid\"",
                "identity.instance.id.format: unknown variant `ulid`, expected `uuid` or `ksuid`",
            ),
            (
                "PERCONA_TELEMETRY_DISABLE",
                "PERCONA-TELEMETRY",
                "consent.variables[0]: 'PERCONA-TELEMETRY' is no variable",
            ),
            ("\"application/json\"", "7", "headers.Content-Type: must be a text"),
            // Any case: with another `Host`, a record could go elsewhere.
            ("Content-Type", "hOST", "headers.hOST: must be a text, and none of host content-length "),
            ("\"body\": {", "\"success\": {\"status\": 304}, \"body\": {", "success.status: must be from 200 to 299"),
            ("\"body\"", "\"boby\"", "boby: unknown field `boby`, expected one of "),
            ("\"body\": {", "\"set\": {\"x\": {}}, \"body\": {", "set.x: no template names $set.x"),
            (
                "\"body\": {",
                "\"once\": \"daily\", \"body\": {",
                "once: unknown variant `daily`, expected one of `family`, `version`, `call`",
            ),
            (
                "\"instance-id\": {",
                "\"instance-id\": {\"default\": \"x\",",
                "options.instance-id.default: not allowed here",
            ),
            (
                "\"instance-id\": {",
                "\"os\": {\"required\": true}, \"instance-id\": {",
                "options.os.required: it is never missing",
            ),
            ("\"body\": {", "\"events\": {\"x\": 1}, \"body\": {", "body: a profile has either a body or events"),
            (
                "\"body\": {",
                "\"set\": {\"x\": true}, \"body\": {",
                "set.x: invalid type: boolean `true`, expected an object",
            ),
            ("\"body\": {", "\"body\": [", "at line "),
        ] {
            assert!(percona.contains(from), "{from}");
            let error = read(&percona.replacen(from, to, 1)).unwrap_err();
            assert!(error.starts_with("profile ./mine.json: ") && error.contains(expected), "{error}");
            assert!(!error.contains("?: "), "{error}");
        }
    }

    #[test]
    fn what_a_section_of_consent_may_hold() {
        for (text, problem) in [
            (r"{}", ""),
            (r#"{"variables": ["A_1"], "present": ["_b"], "environment_files": ["{project}/.env"]}"#, ""),
            (r#"{"files": [{"path": "$A", "gflag": "a-b"}], "default_off": true}"#, ""),
            (r#"{"files": [{"path": "/a", "false": "/b", "written": true}]}"#, ""),
            (r#"{"variable": []}"#, "unknown field `variable`"),
            (r#"{"variables": ["1A"]}"#, "'1A' is no variable's name"),
            (r#"{"present": [""]}"#, "'' is no variable's name"),
            (r#"{"environment_files": ["x"]}"#, "'x' must be the path of a file"),
            (r#"{"files": [{"path": "/a", "true": "b"}]}"#, "'b' must be a JSON Pointer"),
            (r#"{"files": [{"path": "/a", "true": "/~2"}]}"#, "'/~2' must be a JSON Pointer"),
            (r#"{"files": [{"path": "/a", "gflag": "--b"}]}"#, "'--b' must be letters, digits"),
            (r#"{"files": [{"path": "/a", "true": "/b", "x": 1}]}"#, "unknown field `x`"),
            (r#"{"default_off": {}}"#, "invalid type: map, expected a boolean"),
        ] {
            match serde_json::from_str::<ConsentRules>(text) {
                Ok(_) => assert_eq!(problem, "", "{text}"),
                Err(error) => assert!(!problem.is_empty() && error.to_string().contains(problem), "{text}: {error}"),
            }
        }
    }

    #[test]
    fn what_is_misspelt_is_reported_before_what_is_missing() {
        let text = built_in("percona").1.replacen("\"consent\"", "\"consents\"", 1);
        let error = Source::of_text("./mine.json", &text).consent().unwrap_err().to_string();
        assert!(error.contains("consents: unknown field `consents`, expected one of "), "{error}");
    }

    #[test]
    fn names_are_file_names_of_no_other_place() {
        for (name, good) in [("percona", true), ("a.b_c-1", true), ("", false), ("..", false), ("a/b", false)] {
            assert_eq!(is_name(name), good, "{name}");
        }
    }

    #[test]
    fn an_endpoint_follows_the_products_own_variables() {
        let medusa = built_in("medusa").0.profile().unwrap();
        for (host, path, url) in [
            (None, None, "https://telemetry.medusa-commerce.com/batch"),
            (Some("https://localhost:1/x/"), None, "https://localhost:1/x/batch"),
            (Some("other.example"), Some("/in"), "https://other.example/in"),
            (None, Some("in"), "https://telemetry.medusa-commerce.com/in"),
        ] {
            let set = |name: &str| if name == "MEDUSA_TELEMETRY_HOST" { host } else { path };
            let variable = |name: &str| set(name).map(str::to_owned);
            assert_eq!(medusa.endpoint(variable), url);
        }
    }

    #[test]
    fn events_choose_the_record() {
        let profile = |name: &str| built_in(name).0.profile().unwrap();
        let given = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), "1".to_owned())).collect::<Vec<_>>();
        let memgraph = profile("memgraph");
        assert_eq!(memgraph.body(None, &[]), memgraph.body(Some("startup"), &[]));
        assert_eq!(memgraph.body(Some("0"), &[]), memgraph.body(Some("12"), &[]));
        assert_ne!(memgraph.body(Some("0"), &[]), memgraph.body(None, &[]));
        assert!(memgraph.body(Some("integer"), &[]).is_err() && memgraph.body(Some("007"), &[]).is_err());
        let medusa = profile("medusa");
        assert!(medusa.body(Some("start"), &[]).is_ok());
        let why = "nothing is sent: medusa reports only the event start, and this is 'develop'";
        assert_eq!(medusa.body(Some("develop"), &[]).unwrap_err().to_string(), why);
        assert!(medusa.body(None, &[]).unwrap_err().to_string().ends_with("there is no --event"));
        let wundergraph = profile("wundergraph");
        let (usage, duration) = (wundergraph.body(Some("usage"), &[]), wundergraph.body(Some("duration"), &[]));
        assert_eq!(wundergraph.body(None, &given(&["command"])), usage);
        assert_eq!(wundergraph.body(None, &given(&["command", "duration"])), duration);
        assert_eq!(wundergraph.body(None, &[]), usage);
        assert!(profile("percona").body(Some("anything"), &[]).is_ok());
    }
}
