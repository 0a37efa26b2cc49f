//! One product's rules, read from its profile: who may say no how, where the record goes, where its IDs live, what it
//! is made of, and how often it is sent. docs/profiles.md is the reference of the format.
//!
//! A profile is a JSON file, so that a new product needs no new binary and a reviewer can see from one page what
//! may leave a machine: a template can only name facts of the closed vocabulary in [`crate::facts`]. These structs are
//! the format: serde derives the reader, and an unknown key is an error.

pub mod consent_rules;
pub mod file_path;
pub mod given;
pub mod id_rule;
pub mod product_files;
mod remarks;
pub mod setting;
mod source;
pub mod success;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::endpoint::Endpoint;
use crate::facts::Fact;
use crate::template::{Template, is_key};
pub use consent_rules::ConsentRules;
use consent_rules::checked_pointer;
use given::GivenRule;
pub use id_rule::{IdFormat, IdLocation, IdRule};
pub use setting::{OptionRule, Setting};
pub use source::{DEFAULT, ProfileError, Source, all_names, is_name};
use success::{Expected, Success};

/// A whole profile.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name: the key of the opt-out switch and of its pending records.
    pub name: String,
    /// What it reports and when, for people.
    #[serde(default)]
    pub about: String,
    /// Who may say no how.
    #[serde(deserialize_with = "object")]
    pub consent: ConsentRules,
    /// Where records go by default.
    endpoint: String,
    #[serde(default, deserialize_with = "object")]
    endpoint_variables: EndpointVariables,
    /// Headers of the request, in order.
    #[serde(default, deserialize_with = "in_order")]
    pub headers: Vec<(String, Template)>,
    /// Which answers mean that a record arrived.
    #[serde(default, deserialize_with = "object")]
    pub success: Success,
    #[serde(default)]
    options: BTreeMap<Setting, OptionRule>,
    /// Where the IDs live; the first is the one that marks, receipts and clones go by.
    #[serde(default, deserialize_with = "in_order")]
    pub identity: Vec<(IdFact, IdRule)>,
    /// How often it reports.
    #[serde(default)]
    pub once: Once,
    /// Variables that ask for a copy of what is sent, on stdout.
    #[serde(default, deserialize_with = "consent_rules::variables")]
    pub debug: Vec<String>,
    /// What is known of the keys of `--set`.
    #[serde(default, rename = "set")]
    pub given: BTreeMap<String, GivenRule>,
    /// The record of a product that tells no events apart.
    body: Option<Template>,
    /// The records by event.
    #[serde(default, deserialize_with = "in_order")]
    events: Vec<(String, Template)>,
    /// The events that are meant where none is named, the first that has all it needs.
    #[serde(default)]
    default_events: Vec<String>,
    /// For editors; nothing here goes by it.
    #[serde(default, rename = "$schema")]
    _schema: String,
}

/// The product's own variables that move its endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EndpointVariables {
    /// In the place of scheme and host; a host alone is https.
    #[serde(deserialize_with = "consent_rules::variable")]
    base: Option<String>,
    /// In the place of the path.
    #[serde(deserialize_with = "consent_rules::variable")]
    path: Option<String>,
}

/// The facts that are IDs of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum IdFact {
    /// Of one installation.
    Instance,
    /// Of one project.
    Project,
}

/// A name of none of them.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is none of instance.id, project.id")]
pub struct NoId(String);

impl TryFrom<String> for IdFact {
    type Error = NoId;

    fn try_from(name: String) -> Result<IdFact, NoId> {
        [IdFact::Instance, IdFact::Project].into_iter().find(|id| id.fact().name() == name).ok_or(NoId(name))
    }
}

impl IdFact {
    /// The fact.
    pub fn fact(self) -> Fact {
        match self {
            IdFact::Instance => Fact::InstanceId,
            IdFact::Project => Fact::ProjectId,
        }
    }
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

/// The key in `events` that stands for every whole number.
const INTEGER: &str = "integer";

/// Why a profile has no record for a run.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{profile} reports only the event {}, and {}", known.join(" or "),
    event.as_ref().map_or("there is no --event".to_owned(), |event| format!("this is '{event}'")))]
pub struct NoRecord {
    profile: String,
    known: Vec<String>,
    event: Option<String>,
}

/// What is wrong with a profile as a whole, and where.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{place}: {problem}")]
pub struct ProfileProblem {
    place: String,
    problem: String,
}

impl ProfileProblem {
    fn at<T>(place: impl fmt::Display, problem: impl fmt::Display) -> Result<T, ProfileProblem> {
        Err(ProfileProblem { place: place.to_string(), problem: problem.to_string() })
    }
}

impl Profile {
    /// What the profile says about `setting`.
    pub fn option(&self, setting: Setting) -> OptionRule {
        self.options.get(&setting).cloned().unwrap_or_default()
    }

    /// The endpoint, with the product's own variables looked up by `variable`.
    pub fn endpoint(&self, variable: impl Fn(&str) -> Option<String>) -> String {
        let set = |name: &Option<String>| name.as_deref().and_then(&variable).filter(|value| !value.is_empty());
        let (base, path) = (set(&self.endpoint_variables.base), set(&self.endpoint_variables.path));
        let host = self.endpoint.find("://").map_or(0, |at| at + "://".len());
        let end = self.endpoint[host..].find('/').map_or(self.endpoint.len(), |at| host + at);
        let base = match base {
            Some(base) if base.contains("://") => base,
            Some(host) => format!("https://{host}"),
            None if path.is_none() => return self.endpoint.clone(),
            None => self.endpoint[..end].to_owned(),
        };
        let path = path.unwrap_or_else(|| self.endpoint[end..].to_owned());
        format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/'))
    }

    /// The variables that can move it.
    pub fn endpoint_variables(&self) -> impl Iterator<Item = &str> {
        [&self.endpoint_variables.base, &self.endpoint_variables.path].into_iter().filter_map(Option::as_deref)
    }

    /// Whether the product tells events apart.
    pub fn has_events(&self) -> bool {
        self.body.is_none()
    }

    /// The record for `event`, as far as what is `given` allows.
    ///
    /// # Errors
    /// [`NoRecord`]: nothing is sent for it.
    pub fn body(&self, event: Option<&str>, given: &[(String, String)]) -> Result<&Template, NoRecord> {
        if let Some(body) = &self.body {
            return Ok(body);
        }
        let find = |name: &str| self.events.iter().find(|(known, _)| known == name).map(|(_, body)| body);
        let has_all = |body: &&Template| self.missing(body, given).is_none();
        let found = match event {
            Some(event) if !event.is_empty() && event.bytes().all(|b| b.is_ascii_digit()) => find(INTEGER),
            Some(event) => find(event).filter(|_| event != INTEGER),
            None => {
                let mut defaults = self.default_events.iter().filter_map(|name| find(name));
                defaults.clone().find(has_all).or_else(|| defaults.next_back())
            }
        };
        let known = || self.events.iter().map(|(name, _)| name.clone()).collect();
        let event = event.map(str::to_owned);
        found.ok_or_else(|| NoRecord { profile: self.name.clone(), known: known(), event })
    }

    /// The first key of `--set` that `body` cannot do without and that is not `given`.
    pub fn missing<'b>(&'b self, body: &'b Template, given: &[(String, String)]) -> Option<&'b str> {
        self.needed(body).into_iter().find(|key| !given.iter().any(|(known, _)| known == key))
    }

    /// The keys of `--set` that `body` and the headers cannot do without.
    pub fn needed<'b>(&'b self, body: &'b Template) -> Vec<&'b str> {
        let is_required = |key: &&str| self.given.get(*key).is_some_and(|rule| rule.required);
        self.named_given(body).into_iter().filter(is_required).collect()
    }

    /// The keys of `--set` that `body` and the headers name.
    pub fn named_given<'b>(&'b self, body: &'b Template) -> Vec<&'b str> {
        body.given().into_iter().chain(self.headers.iter().flat_map(|(_, value)| value.given())).collect()
    }

    /// The facts that `body` and the headers name.
    pub fn named_facts(&self, body: &Template) -> Vec<Fact> {
        body.facts().into_iter().chain(self.headers.iter().flat_map(|(_, value)| value.facts())).collect()
    }

    /// Every record that the profile can make, with its event; none where it tells no events apart.
    pub fn bodies(&self) -> impl Iterator<Item = (Option<&str>, &Template)> {
        let events = self.events.iter().map(|(name, body)| (Some(name.as_str()), body));
        self.body.iter().map(|body| (None, body)).chain(events)
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        self.bodies().map(|(_, body)| body).chain(self.headers.iter().map(|(_, value)| value))
    }

    /// What no part of a profile can see by itself: forms of keys, and names that lead nowhere.
    ///
    /// # Errors
    /// The first that is wrong.
    fn check(&self) -> Result<(), ProfileProblem> {
        if self.body.is_some() != self.events.is_empty() {
            return ProfileProblem::at("body", "a profile has either a body or events");
        }
        for (event, body) in self.bodies() {
            let place = event.map_or("body".to_owned(), |event| format!("events.{event}"));
            if event.is_some_and(|event| !is_key(event) || event.bytes().all(|b| b.is_ascii_digit())) {
                let form = "an event is letters, digits, . _ - , at most 64, or integer for all numbers";
                return ProfileProblem::at(place, form);
            }
            body.check_size().or_else(|problem| ProfileProblem::at(place, problem))?;
        }
        if Endpoint::new(&self.endpoint).is_none() {
            let problem = format!("'{}' is neither https nor http to a loopback address", self.endpoint);
            return ProfileProblem::at("endpoint", problem);
        }
        for (name, value) in &self.headers {
            if !is_header(name) || !matches!(value, Template::Text(_) | Template::Value(_)) {
                return ProfileProblem::at(format_args!("headers.{name}"), "is no header that a profile can set");
            }
        }
        self.check_success()?;
        self.check_names()
    }

    fn check_success(&self) -> Result<(), ProfileProblem> {
        if self.success.status.is_some_and(|status| !(200..=299).contains(&status)) {
            return ProfileProblem::at("success.status", "must be a status from 200 to 299");
        }
        for (index, Expected::True(at) | Expected::Absent(at)) in self.success.any.iter().enumerate() {
            let place = format!("success.any[{index}]");
            checked_pointer(at.clone()).map(drop).or_else(|problem| ProfileProblem::at(place, problem))?;
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), ProfileProblem> {
        for fact in self.templates().flat_map(Template::facts) {
            let is_id = matches!(fact, Fact::InstanceId | Fact::ProjectId);
            if is_id && !self.identity.iter().any(|(id, _)| id.fact() == fact) {
                return ProfileProblem::at(
                    format_args!("identity.{}", fact.name()),
                    "missing, and a template names it",
                );
            }
        }
        for key in self.given.keys() {
            if !self.templates().any(|template| template.given().contains(&key.as_str())) {
                return ProfileProblem::at(format_args!("set.{key}"), format_args!("no template names $set.{key}"));
            }
        }
        let unknown = self.default_events.iter().find(|name| !self.events.iter().any(|(known, _)| known == *name));
        match unknown {
            Some(name) => ProfileProblem::at("default_events", format_args!("there is no event '{name}'")),
            None => Ok(()),
        }
    }
}

/// RFC 9110, section 5.1: a token; and none that the transport makes itself.
fn is_header(name: &str) -> bool {
    const OURS: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "expect"];
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        && !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

/// An object and nothing else: to serde, a list would do, and an empty one would be a section without rules.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Object<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_map(Object(PhantomData))
}

/// An object whose order counts.
fn in_order<'de, D, K, V>(deserializer: D) -> Result<Vec<(K, V)>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + PartialEq,
    V: Deserialize<'de>,
{
    struct InOrder<K, V>(PhantomData<(K, V)>);
    impl<'de, K: Deserialize<'de> + PartialEq, V: Deserialize<'de>> Visitor<'de> for InOrder<K, V> {
        type Value = Vec<(K, V)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members: Vec<(K, V)> = Vec::new();
            while let Some((key, value)) = map.next_entry()? {
                if members.iter().any(|(known, _)| *known == key) {
                    return Err(serde::de::Error::custom("a key is there twice"));
                }
                members.push((key, value));
            }
            Ok(members)
        }
    }
    deserializer.deserialize_map(InOrder(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Profile, String> {
        Source::of_text("mine", text).profile().map_err(|error| error.to_string())
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
            (
                "https://check",
                "ftp://check",
                "endpoint: 'ftp://check.percona.com/v1/telemetry/GenericReport' is neither",
            ),
            ("\"consent\"", "\"consents\"", "consents: unknown key; known are name, about, consent, "),
            ("\"variables\"", "\"variable\"", "consent.variable: unknown key; known are variables, present, "),
            ("\"endpoint\": ", "\"about\": \"twice\", \"endpoint\": ", "about: is there twice"),
            ("\"name\": \"percona\"", "\"name\": \"../x\"", "name: '../x' must be letters"),
            ("\"name\": \"percona\",", "", "name: missing"),
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
            ("\"product-version\"", "\"state-dir\"", "options.state-dir: 'state-dir' is none of product-family, "),
            ("\"instance.id\"", "\"project.id\"", "identity.instance.id: missing, and a template names it"),
            (
                "\"instance.id\"",
                "\"machine.id\"",
                "identity.machine.id: 'machine.id' is none of instance.id, project.id",
            ),
            ("\"key\": \"instanceId\"", "\"pointer\": \"id\"", "identity.instance.id: 'id' must be a JSON Pointer"),
            ("\"mode\": \"0644\"", "\"mode\": \"0640\"", "identity.instance.id.mode: '0640' is none of 0600, 0644"),
            ("PERCONA_TELEMETRY_DISABLE", "PERCONA-TELEMETRY", "consent.variables: 'PERCONA-TELEMETRY' is no variable"),
            ("\"Content-Type\"", "\"Content-Length\"", "headers.Content-Length: is no header that a profile can set"),
            ("\"body\"", "\"boby\"", "boby: unknown key; known are "),
            ("\"body\": {", "\"set\": {\"x\": {}}, \"body\": {", "set.x: no template names $set.x"),
            ("\"body\": {", "\"once\": \"daily\", \"body\": {", "once: 'daily' is none of family, version, call"),
            ("\"body\": {", "\"success\": {\"status\": 300}, \"body\": {", "success.status: must be"),
            ("\"body\": {", "\"default_events\": [\"x\"], \"body\": {", "default_events: there is no event 'x'"),
            ("\"body\": {", "\"events\": {\"x\": 1}, \"body\": {", "body: a profile has either a body or events"),
            (
                "{\n    \"variables\": [\"PERCONA_TELEMETRY_DISABLE\"]\n  }",
                "[]",
                "consent: invalid type: sequence, expected an object",
            ),
            ("\"body\": {", "\"body\": [", "at line "),
        ] {
            assert!(percona.contains(from), "{from}");
            let error = read(&percona.replacen(from, to, 1)).unwrap_err();
            assert!(error.starts_with("profile mine: ") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_is_misspelt_is_reported_before_what_is_missing() {
        let text = built_in("percona").1.replacen("\"consent\"", "\"consents\"", 1);
        let error = Source::of_text("mine", &text).consent().unwrap_err().to_string();
        assert!(error.contains("consents: unknown key; known are "), "{error}");
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
            (Some(""), Some("in"), "https://telemetry.medusa-commerce.com/in"),
        ] {
            let variable = |name: &str| if name == "MEDUSA_TELEMETRY_HOST" { host } else { path }.map(str::to_owned);
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
        assert!(memgraph.body(Some("integer"), &[]).is_err());
        let medusa = profile("medusa");
        assert!(medusa.body(Some("start"), &[]).is_ok());
        let why = "medusa reports only the event start, and this is 'develop'";
        assert_eq!(medusa.body(Some("develop"), &[]).unwrap_err().to_string(), why);
        assert!(medusa.body(None, &[]).unwrap_err().to_string().ends_with("there is no --event"));
        let wundergraph = profile("wundergraph");
        let (usage, duration) = (wundergraph.body(Some("usage"), &[]), wundergraph.body(Some("duration"), &[]));
        assert_eq!(wundergraph.body(None, &given(&["command"])), usage);
        assert_eq!(wundergraph.body(None, &given(&["command", "duration"])), duration);
        let body = wundergraph.body(None, &[]).unwrap();
        assert_eq!(wundergraph.missing(body, &[]), Some("command"));
        assert!(profile("percona").body(Some("anything"), &[]).is_ok());
    }
}
