//! One product's rules, read from its profile: who may say no how, where the record goes, where its IDs live, what it
//! is made of, and how often it is sent. docs/profiles.md is the reference of the format.
//!
//! A profile is a JSON file, so that a new product needs no new binary and a reviewer can see from one page what
//! may leave a machine: a template can only name facts of the closed vocabulary in [`crate::facts`]. The ones that
//! come with the program are compiled in from `profiles/`.

pub mod consent_rules;
pub mod file_path;
pub mod given;
mod remarks;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::cli::Setting;
use crate::courier::success::{Expected, Success};
use crate::document::{Document, Part};
use crate::endpoint::Endpoint;
use crate::facts::Fact;
use crate::host::{Content, Host};
use crate::ledger::id::IdFormat;
use crate::record::{Template, is_key};
pub use consent_rules::ConsentRules;
use file_path::FilePath;
use given::{Form, GivenRule};

/// The profile that is meant where none is named.
pub const DEFAULT: &str = "percona";

const BUILT_IN: [BuiltIn; 5] = [
    BuiltIn::new("percona", include_str!("../profiles/percona.json")),
    BuiltIn::new("medusa", include_str!("../profiles/medusa.json")),
    BuiltIn::new("wundergraph", include_str!("../profiles/wundergraph.json")),
    BuiltIn::new("strapi", include_str!("../profiles/strapi.json")),
    BuiltIn::new("memgraph", include_str!("../profiles/memgraph.json")),
];

/// A profile that is compiled in. Its consent section is cut out by the compiler: an opted-out run reads nothing else,
/// and does not pay for the rest of the file (20,000 of 94,000 instructions, when it did).
struct BuiltIn {
    name: &'static str,
    text: &'static str,
    consent: &'static str,
}

impl BuiltIn {
    const fn new(name: &'static str, text: &'static str) -> BuiltIn {
        BuiltIn { name, text, consent: section(text, "\"consent\": {") }
    }
}

/// The object at the end of `key`, up to its closing brace; no text in it may hold a brace, which a test sees to.
const fn section(text: &'static str, key: &str) -> &'static str {
    let (bytes, key) = (text.as_bytes(), key.as_bytes());
    let (mut start, mut matched) = (0, 0);
    while matched < key.len() {
        matched = if bytes[start] == key[matched] { matched + 1 } else { 0 };
        start += 1;
    }
    let (mut end, mut depth) = (start, 1);
    while depth > 0 {
        match bytes[end] {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        end += 1;
    }
    text.split_at(end).0.split_at(start - 1).1
}

/// Directories of further profiles, the administrator's first.
const DIRECTORIES: [&str; 2] = ["etc/install-record/profiles", "usr/share/install-record/profiles"];

/// A profile is a page of text; more than this is no profile.
const MAX_PROFILE: usize = 64 << 10;

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is none of that name.
    #[error("unknown profile '{0}': install its file in /usr/share/install-record/profiles or give a path")]
    Unknown(String),
    /// Its text is not a profile, or the path that was given is no file.
    #[error("profile {name}: {problem}")]
    Malformed {
        /// Its name or path.
        name: String,
        /// What is wrong, with the place.
        problem: String,
    },
    /// It is installed, and this machine keeps us from using it: no fault of whoever called us.
    #[error("profile {}: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not, with the way out.
        problem: String,
    },
}

/// What a profile says about one option of the command line.
#[derive(Clone, Debug, Default)]
pub struct OptionRule {
    /// The variable that gives its value where the flag is absent.
    pub variable: Option<String>,
    /// Its value where neither is there.
    pub default: Option<String>,
    /// Whether a run without it is a usage error.
    pub required: bool,
    /// The values that the receiving service knows; others are sent all the same.
    pub known: Vec<String>,
}

/// Where records go by default.
#[derive(Clone, Debug)]
pub struct EndpointRule {
    base: String,
    path: String,
    base_variable: Option<String>,
    path_variable: Option<String>,
}

impl EndpointRule {
    /// The URL, with the product's own variables looked up by `variable`.
    pub fn url(&self, variable: impl Fn(&str) -> Option<String>) -> String {
        let set = |name: &Option<String>| name.as_deref().and_then(&variable).filter(|value| !value.is_empty());
        let base = match set(&self.base_variable) {
            Some(base) if base.contains("://") => base,
            Some(host) => format!("https://{host}"),
            None => self.base.clone(),
        };
        let path = set(&self.path_variable).unwrap_or_else(|| self.path.clone());
        if path.is_empty() {
            return base;
        }
        format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/'))
    }

    /// The variables that can change it.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        [&self.base_variable, &self.path_variable].into_iter().filter_map(Option::as_deref)
    }
}

/// One of a product's IDs: which file holds it, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdRule {
    /// The file.
    pub file: FilePath,
    /// Files of the product's older versions; an ID in one of them is used where the file has none.
    pub also: Vec<FilePath>,
    /// Where in the file it is.
    pub slot: Slot,
    /// What an ID looks like.
    pub format: IdFormat,
    /// Whether one is made where there is none; otherwise nothing is sent without it.
    pub is_made: bool,
    /// The mode of a file that we make; its directory is closed to others where the file is.
    pub mode: u32,
}

impl fmt::Display for IdRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = self.format.name();
        match &self.slot {
            Slot::Line { key, .. } => write!(f, "{format}, the line {key}: of {}", self.file.as_str()),
            Slot::Json(pointer) => write!(f, "{format}, {pointer} of {}", self.file.as_str()),
            Slot::Whole => write!(f, "{format}, {}", self.file.as_str()),
        }?;
        match self.is_made {
            true => write!(f, ", made where there is none (mode {:04o})", self.mode),
            false => f.write_str(", never made: without it nothing is sent"),
        }
    }
}

/// Where in a file an ID is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// A line `KEY:ID` among others, `FAMILY:1` for every family that was reported among them.
    Line {
        /// The key.
        key: String,
        /// Keys of lines that look like a reported family and are not.
        reserved: Vec<String>,
    },
    /// A text in a JSON file: a JSON Pointer, RFC 6901.
    Json(String),
    /// The whole file.
    Whole,
}

/// How often a product reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Once {
    /// Once for each product family.
    Family,
    /// Once for each version of it.
    Version,
    /// At every call.
    Call,
}

/// A whole profile.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name: the key of the opt-out switch and of its pending records.
    pub name: String,
    /// What it reports and when, for people.
    pub about: String,
    /// Where records go by default.
    pub endpoint: EndpointRule,
    /// Headers of the request, in order.
    pub headers: Vec<(String, Template)>,
    /// Which answers mean that a record arrived.
    pub success: Success,
    /// Where the IDs live; the first is the one that marks, receipts and clones go by.
    pub identity: Vec<(Fact, IdRule)>,
    /// How often it reports.
    pub once: Once,
    /// Variables that ask for a copy of what is sent, on stdout.
    pub debug: Vec<String>,
    /// What is known of the keys of `--set`.
    pub given: Vec<(String, GivenRule)>,
    /// The records by event; one without a name where the product knows no events.
    bodies: Vec<(String, Template)>,
    /// The events that are meant where none is named, the first that has all it needs.
    default_events: Vec<String>,
    options: Vec<(String, OptionRule)>,
}

/// The key in `events` that stands for every whole number.
const INTEGER: &str = "integer";

impl Profile {
    /// What the profile says about `setting`.
    pub fn option(&self, setting: Setting) -> OptionRule {
        let rule = self.options.iter().find(|(long, _)| long == setting.long());
        rule.map(|(_, rule)| rule.clone()).unwrap_or_default()
    }

    /// Whether the product tells events apart.
    pub fn has_events(&self) -> bool {
        self.bodies.iter().any(|(name, _)| !name.is_empty())
    }

    /// The record for `event`, as far as what is `given` allows; otherwise why nothing is sent for it.
    ///
    /// # Errors
    /// A sentence for an administrator.
    pub fn body(&self, event: Option<&str>, given: &[(String, String)]) -> Result<&Template, String> {
        let find = |name: &str| self.bodies.iter().find(|(known, _)| known == name).map(|(_, body)| body);
        if !self.has_events() {
            return find("").ok_or_else(|| format!("{} has no record", self.name));
        }
        let has_all = |body: &&Template| self.missing(body, given).is_none();
        let found = match event {
            Some(event) if !event.is_empty() && event.bytes().all(|b| b.is_ascii_digit()) => find(INTEGER),
            Some(event) => find(event).filter(|_| event != INTEGER),
            None => {
                let mut defaults = self.default_events.iter().filter_map(|name| find(name));
                defaults.clone().find(has_all).or_else(|| defaults.next_back())
            }
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = self.bodies.iter().map(|(name, _)| name.as_str()).collect();
            let is = event.map_or_else(|| "there is no --event".to_owned(), |event| format!("this is '{event}'"));
            format!("{} reports only the event {}, and {is}", self.name, names.join(" or "))
        })
    }

    /// The first key of `--set` that `body` cannot do without and that is not `given`.
    pub fn missing<'b>(&'b self, body: &'b Template, given: &[(String, String)]) -> Option<&'b str> {
        self.needed(body).into_iter().find(|key| !given.iter().any(|(known, _)| known == key))
    }

    /// The keys of `--set` that `body` and its headers cannot do without.
    pub fn needed<'b>(&'b self, body: &'b Template) -> Vec<&'b str> {
        let named = body.given().into_iter().chain(self.headers.iter().flat_map(|(_, value)| value.given()));
        let is_required = |key: &&str| self.given.iter().any(|(known, rule)| known == key && rule.required);
        named.filter(is_required).collect()
    }

    /// Every record that the profile can make, with its event.
    pub fn bodies(&self) -> impl Iterator<Item = (&str, &Template)> {
        self.bodies.iter().map(|(name, body)| (name.as_str(), body))
    }
}

/// A profile's text, found but not read in full: a run that is refused needs only its consent rules.
#[derive(Debug)]
pub struct Source {
    /// The name it was asked for by, or its path.
    name: Cow<'static, str>,
    text: Cow<'static, str>,
    /// The consent section of a profile that is compiled in.
    consent: Option<&'static str>,
    /// Whether it was found by its name, which is then the only one that it may have.
    is_named: bool,
}

impl Source {
    /// Finds the profile called `wanted`: a name, or a path where it has a slash in it.
    ///
    /// # Errors
    /// All of [`ProfileError`].
    pub fn find(host: &Host, wanted: Option<&OsStr>) -> Result<Source, ProfileError> {
        let wanted = wanted.map_or(DEFAULT.into(), OsStr::to_string_lossy);
        if let Some(built_in) = BUILT_IN.iter().find(|built_in| built_in.name == wanted) {
            return Ok(Source::of(built_in));
        }
        if wanted.contains('/') {
            // The one path that is not inside --root: a profile belongs to the caller, not to the machine.
            let caller = Host::new(None);
            let read = text_of(caller.read(caller.given_path(OsStr::new(&*wanted)), MAX_PROFILE));
            return match read {
                Ok(Some(text)) => {
                    Ok(Source { name: wanted.into_owned().into(), text: text.into(), consent: None, is_named: false })
                }
                Ok(None) => Err(ProfileError::Unknown(wanted.into_owned())),
                Err(problem) => Err(ProfileError::Malformed { name: wanted.into_owned(), problem }),
            };
        }
        for directory in DIRECTORIES.iter().filter(|_| is_name(&wanted)) {
            let path = PathBuf::from(directory).join(format!("{wanted}.json"));
            let unusable = |problem| ProfileError::Unusable { path: host.path(&path), problem };
            match installed(host, directory, &format!("{wanted}.json")).map_err(unusable)? {
                Some(text) => {
                    return Ok(Source {
                        name: wanted.into_owned().into(),
                        text: text.into(),
                        consent: None,
                        is_named: true,
                    });
                }
                None => continue,
            }
        }
        Err(ProfileError::Unknown(wanted.into_owned()))
    }

    fn of(built_in: &BuiltIn) -> Source {
        let text = Cow::Borrowed(built_in.text);
        Source { name: built_in.name.into(), text, consent: Some(built_in.consent), is_named: true }
    }

    /// Who may say no how.
    ///
    /// # Errors
    /// [`ProfileError::Malformed`].
    pub fn consent(&self) -> Result<ConsentRules, ProfileError> {
        if let Some(section) = self.consent {
            let rules: ConsentRules = serde_json::from_str(section).map_err(|e| self.malformed(e.to_string()))?;
            return Ok(ConsentRules { profile: self.name.to_string(), ..rules });
        }
        let whole = self.document(&self.text)?;
        let top = Part::new(&whole, "");
        let profile = self.own_name(top).map_err(|problem| self.malformed(problem))?;
        top.need("consent").map_err(|problem| self.malformed(problem))?;
        let rules =
            serde_json::from_str::<OnlyConsent>(&self.text).map_err(|error| self.malformed(error.to_string()))?;
        Ok(ConsentRules { profile, ..rules.consent })
    }

    /// The whole profile.
    ///
    /// # Errors
    /// [`ProfileError::Malformed`], with the place in the file and, for an unknown fact, the list of known ones.
    pub fn profile(&self) -> Result<Profile, ProfileError> {
        let whole = self.document(&self.text)?;
        let top = Part::new(&whole, "");
        let profile = self.own_name(top).and_then(|name| read(name, top)).map_err(|problem| self.malformed(problem))?;
        // Read for its errors: a profile whose way to say no is broken is broken.
        self.consent().map(|_| profile)
    }

    /// The name in the file. Under another one than its file's, `install-record off` would not switch it off.
    fn own_name(&self, top: Part<'_>) -> Result<String, String> {
        let part = top.need("name")?;
        let name = part.text()?;
        if !is_name(name) {
            return Err(part.wrong(format_args!("'{name}' must be letters, digits, . _ - , at most 64")));
        }
        if self.is_named && name != self.name {
            return Err(part.wrong(format_args!("'{name}' must be the name of its file, {}.json", self.name)));
        }
        Ok(name.to_owned())
    }

    fn document<'t>(&self, text: &'t str) -> Result<Document<'t>, ProfileError> {
        serde_json::from_str(text).map_err(|error| self.malformed(error.to_string()))
    }

    fn malformed(&self, problem: String) -> ProfileError {
        ProfileError::Malformed { name: self.name.to_string(), problem }
    }
}

/// The text of an installed profile. What another user could have put there is not taken: it decides what leaves.
fn installed(host: &Host, directory: &str, name: &str) -> Result<Option<String>, String> {
    let opened = match host.directory(directory, false) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return Err(format!("/{directory} is a link or no directory, so nothing in it is used"));
        }
        Err(error) => return Err(error.to_string()),
    };
    if !opened.holds(name) {
        return Ok(None);
    }
    if !opened.is_ours(".") || !opened.is_ours(name) {
        return Err(format!(
            "it is a link, or others can write it or /{directory}, so it is not used: put the file itself there, \
             chown root, chmod go-w"
        ));
    }
    text_of(opened.read(name, MAX_PROFILE))
}

fn text_of(content: Content) -> Result<Option<String>, String> {
    match content {
        Content::Missing => Ok(None),
        Content::Forbidden => Err("no permission to read it".to_owned()),
        Content::Unreadable(error) => Err(error.to_string()),
        Content::Bytes { truncated: true, .. } => Err(format!("larger than {MAX_PROFILE} bytes")),
        Content::Bytes { bytes, .. } => String::from_utf8(bytes).map(Some).map_err(|_| "not UTF-8".to_owned()),
    }
}

/// A profile of which nothing but the consent section is looked at.
#[derive(serde::Deserialize)]
struct OnlyConsent {
    consent: ConsentRules,
}

/// The names of all profiles that this machine has, compiled in or installed.
pub fn all_names(host: &Host) -> Vec<String> {
    let mut names: Vec<String> = BUILT_IN.iter().map(|built_in| built_in.name.to_owned()).collect();
    for directory in DIRECTORIES {
        for file in host.names(directory).unwrap_or_default() {
            if let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".json"))
                && is_name(name)
                && !names.iter().any(|known| known == name)
            {
                names.push(name.to_owned());
            }
        }
    }
    names
}

/// Whether `name` can be a profile's: it becomes a file name.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// A name that a shell could set: anything else would look like a way to say no and be none.
fn variable(name: Part<'_>) -> Result<String, String> {
    let text = name.text()?;
    let is_variable =
        !text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_variable { Ok(text.to_owned()) } else { Err(name.wrong(format_args!("'{text}' is no variable's name"))) }
}

fn file_path(part: Part<'_>) -> Result<FilePath, String> {
    FilePath::new(part.text()?).map_err(|problem| part.wrong(problem))
}

fn pointer(part: Part<'_>) -> Result<String, String> {
    let text = part.text()?;
    let is_escape = |rest: &str| rest.starts_with(['0', '1']);
    if text.starts_with('/') && text.split('~').skip(1).all(is_escape) {
        Ok(text.to_owned())
    } else {
        Err(part.wrong(format_args!("'{text}' must be a JSON Pointer, such as /telemetry/enabled")))
    }
}

const KEY_FORM: &str = "a key is letters, digits, . _ - , at most 64";

const KEYS: [&str; 15] = [
    "name",
    "about",
    "consent",
    "endpoint",
    "headers",
    "success",
    "options",
    "identity",
    "once",
    "debug",
    "set",
    "body",
    "events",
    "default_event",
    "$schema",
];

fn read(name: String, top: Part<'_>) -> Result<Profile, String> {
    top.only(&KEYS)?;
    // For editors; nothing here goes by it.
    top.get("$schema").map_or(Ok(""), Part::text)?;
    let bodies = match (top.get("body"), top.get("events")) {
        (Some(body), None) => vec![(String::new(), Template::of(body)?)],
        (None, Some(_)) => top.each_member("events", event)?,
        _ => return Err("body: a profile has either a body or events".to_owned()),
    };
    if bodies.is_empty() {
        return Err("events: there are none".to_owned());
    }
    let profile = Profile {
        name,
        about: top.get("about").map_or(Ok(""), Part::text)?.to_owned(),
        endpoint: endpoint(top.need("endpoint")?)?,
        headers: top.each_member("headers", header)?,
        success: top.get("success").map_or(Ok(Success::default()), success)?,
        identity: top.each_member("identity", id_rule)?,
        once: top.get("once").map_or(Ok(Once::Family), once)?,
        debug: top.each("debug", variable)?,
        given: top.each_member("set", given_rule)?,
        default_events: top.get("default_event").map_or(Ok(Vec::new()), |part| default_events(part, &bodies))?,
        bodies,
        options: top.each_member("options", option)?,
    };
    check_references(&profile, top)?;
    Ok(profile)
}

/// What no part of a profile can see by itself: names that lead nowhere.
fn check_references(profile: &Profile, top: Part<'_>) -> Result<(), String> {
    let templates = || profile.bodies.iter().chain(&profile.headers).map(|(_, template)| template);
    for fact in templates().flat_map(Template::facts) {
        let is_id = matches!(fact, Fact::InstanceId | Fact::ProjectId);
        if is_id && !profile.identity.iter().any(|(known, _)| *known == fact) {
            return Err(format!("identity.{}: missing, and a template names it", fact.name()));
        }
    }
    for (key, _) in &profile.given {
        if !templates().any(|template| template.given().contains(&key.as_str())) {
            return Err(top.need("set")?.need(key)?.wrong(format_args!("no template names $set.{key}")));
        }
    }
    Ok(())
}

fn endpoint(part: Part<'_>) -> Result<EndpointRule, String> {
    let rule = if let Document::Text(url) = part.value() {
        EndpointRule { base: url.to_string(), path: String::new(), base_variable: None, path_variable: None }
    } else {
        part.only(&["base", "base_variable", "path", "path_variable"])?;
        let named = |key: &str| part.get(key).map(variable).transpose();
        EndpointRule {
            base: part.need("base")?.text()?.to_owned(),
            path: part.need("path")?.text()?.to_owned(),
            base_variable: named("base_variable")?,
            path_variable: named("path_variable")?,
        }
    };
    let url = rule.url(|_| None);
    match Endpoint::new(&url) {
        Some(_) => Ok(rule),
        None => Err(part.wrong(format_args!("'{url}' is neither https nor http to a loopback address"))),
    }
}

fn event((name, body): (&str, Part<'_>)) -> Result<(String, Template), String> {
    if !is_key(name) || name.bytes().all(|b| b.is_ascii_digit()) {
        return Err(body.wrong("an event is letters, digits, . _ - , at most 64, or integer for all numbers"));
    }
    Ok((name.to_owned(), Template::of(body)?))
}

/// RFC 9110, section 5.1: a token; and none that the transport makes itself.
fn header((name, value): (&str, Part<'_>)) -> Result<(String, Template), String> {
    const OURS: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "expect"];
    let is_token =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if !is_token || OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
        return Err(value.wrong("is no header that a profile can set"));
    }
    value.text()?;
    Ok(((*name).to_owned(), Template::of(value)?))
}

fn option((long, rule): (&str, Part<'_>)) -> Result<(String, OptionRule), String> {
    // Consent may hang on a file in there, and of a profile nothing but its consent rules is read before.
    let known = Setting::ALL.iter().filter(|(setting, ..)| !matches!(setting, Setting::Project | Setting::StateDir));
    let Some((setting, ..)) = known.clone().find(|(_, known, _)| *known == long) else {
        let known = known.map(|(_, long, _)| *long).collect::<Vec<_>>().join(", ");
        return Err(rule.wrong(format_args!("there is no such option; known are {known}")));
    };
    rule.only(match setting {
        Setting::ProductFamily => &["variable", "default", "required", "known"],
        Setting::ProductVersion | Setting::Event => &["variable", "default", "required"],
        _ => &["variable", "default"],
    })?;
    let text = |key: &str| rule.get(key).map(|value| value.text().map(str::to_owned)).transpose();
    let read = OptionRule {
        variable: rule.get("variable").map(variable).transpose()?,
        default: text("default")?,
        required: rule.get("required").map_or(Ok(false), |required| required.flag())?,
        known: rule.texts("known")?,
    };
    Ok(((*long).to_owned(), read))
}

/// `instance.id` or `project.id`, with the file and how the ID is in it.
fn id_rule((fact, rule): (&str, Part<'_>)) -> Result<(Fact, IdRule), String> {
    let fact = match Fact::named(fact) {
        Some(fact @ (Fact::InstanceId | Fact::ProjectId)) => fact,
        _ => return Err(rule.wrong("is no ID; known are instance.id, project.id")),
    };
    rule.only(&["file", "also", "key", "reserved", "pointer", "format", "made", "mode"])?;
    let slot = match (rule.get("key"), rule.get("pointer")) {
        (Some(key), None) => Slot::Line { key: line_key(key)?, reserved: rule.texts("reserved")? },
        (None, Some(part)) => Slot::Json(pointer(part)?),
        (None, None) => Slot::Whole,
        (Some(_), Some(_)) => return Err(rule.wrong("must have key (lines) or pointer (JSON), not both")),
    };
    if let (Some(reserved), None) = (rule.get("reserved"), rule.get("key")) {
        return Err(reserved.wrong("only an ID in a line, with a key, has other lines beside it"));
    }
    let format = match rule.get("format").map(|format| format.text()).transpose()? {
        None | Some("uuid") => IdFormat::Uuid,
        Some("ksuid") => IdFormat::Ksuid,
        Some(other) => return Err(rule.need("format")?.wrong(format_args!("'{other}' is none of uuid, ksuid"))),
    };
    let mode = match rule.get("mode").map(|mode| mode.text()).transpose()? {
        None | Some("0600") => 0o600,
        Some("0644") => 0o644,
        Some(other) => return Err(rule.need("mode")?.wrong(format_args!("'{other}' is none of 0600, 0644"))),
    };
    let read = IdRule {
        file: file_path(rule.need("file")?)?,
        also: rule.each("also", file_path)?,
        slot,
        format,
        is_made: rule.get("made").map_or(Ok(true), |made| made.flag())?,
        mode,
    };
    Ok((fact, read))
}

fn line_key(part: Part<'_>) -> Result<String, String> {
    let key = part.text()?;
    if is_key(key) { Ok(key.to_owned()) } else { Err(part.wrong(KEY_FORM)) }
}

fn once(part: Part<'_>) -> Result<Once, String> {
    match part.text()? {
        "family" => Ok(Once::Family),
        "version" => Ok(Once::Version),
        "call" => Ok(Once::Call),
        other => Err(part.wrong(format_args!("'{other}' is none of family, version, call"))),
    }
}

/// `{"status": 200, "any": [{"true": POINTER}, {"absent": POINTER}]}`
fn success(part: Part<'_>) -> Result<Success, String> {
    part.only(&["status", "any"])?;
    let status = match part.get("status") {
        None => None,
        Some(status) => match status.value().to_value().as_u64() {
            Some(code @ 200..=299) => u16::try_from(code).ok(),
            _ => return Err(status.wrong("must be a status from 200 to 299")),
        },
    };
    let expected = |part: Part<'_>| {
        part.only(&["true", "absent"])?;
        match (part.get("true"), part.get("absent")) {
            (Some(at), None) => Ok(Expected::True(pointer(at)?)),
            (None, Some(at)) => Ok(Expected::Absent(pointer(at)?)),
            _ => Err(part.wrong("must have one of true, absent")),
        }
    };
    Ok(Success { status, any: part.each("any", expected)? })
}

fn given_rule((key, rule): (&str, Part<'_>)) -> Result<(String, GivenRule), String> {
    if !is_key(key) {
        return Err(rule.wrong(KEY_FORM));
    }
    rule.only(&["default", "required", "form", "names"])?;
    let names = rule.get("names");
    let form = match rule.get("form").map(|form| form.text()).transpose()? {
        None | Some("any") => Form::Any,
        Some("number") => Form::Number,
        Some("capitals") => Form::Capitals,
        Some("counters") => Form::Counters(names.map(|_| rule.texts("names")).transpose()?),
        Some(other) => {
            let known = "any, number, capitals, counters";
            return Err(rule.need("form")?.wrong(format_args!("'{other}' is none of {known}")));
        }
    };
    if let (Some(names), false) = (names, matches!(form, Form::Counters(_))) {
        return Err(names.wrong("only counters have names"));
    }
    let default = rule.get("default");
    let required = rule.get("required").map_or(Ok(false), |required| required.flag())?;
    let value = default.map(|default| default.value().to_value());
    if let (Some(default), Some(value)) = (default, &value) {
        if required {
            return Err(default.wrong("what is required has no default"));
        }
        if !form.takes(value) {
            return Err(default.wrong("is not of the form that a given value must have"));
        }
    }
    Ok(((*key).to_owned(), GivenRule { default: value, required, form }))
}

fn default_events(part: Part<'_>, bodies: &[(String, Template)]) -> Result<Vec<String>, String> {
    let names = match part.value() {
        Document::Text(_) => vec![part.text()?.to_owned()],
        _ => part.items()?.map(|name| name.text().map(str::to_owned)).collect::<Result<_, _>>()?,
    };
    if bodies.iter().any(|(name, _)| name.is_empty()) {
        return Err(part.wrong("there are no events"));
    }
    match names.iter().find(|name| !bodies.iter().any(|(known, _)| known == *name)) {
        Some(name) => Err(part.wrong(format_args!("there is no event '{name}'"))),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { name: "mine".into(), text: text.to_owned().into(), consent: None, is_named: false }
    }

    #[test]
    fn every_built_in_profile_can_be_read_and_has_its_own_name() {
        for BuiltIn { name, text, .. } in &BUILT_IN {
            let (cut_out, whole) = (Source::of(&BuiltIn::new(name, text)), source(text));
            assert_eq!(cut_out.consent().unwrap(), whole.consent().unwrap());
            assert_eq!(cut_out.consent().unwrap().profile, *name);
            assert_eq!(whole.profile().unwrap().name, *name);
        }
    }

    #[test]
    fn errors_name_the_profile_the_place_and_the_way_out() {
        let percona = BUILT_IN[0].text;
        for (from, to, expected) in [
            (
                "$os.pretty_name",
                "$os.hostname",
                "body.reports[0].metrics[2].value: 'os.hostname' is no fact; known are",
            ),
            ("https://check", "ftp://check", "endpoint: 'ftp://check.percona.com/v1/telemetry/GenericReport'"),
            ("\"consent\"", "\"consnt\"", "consnt: unknown key; known are name, about, consent"),
            ("\"name\": \"percona\"", "\"name\": \"../x\"", "name: '../x'"),
            (
                "/usr/local/percona/telemetry_uuid",
                "telemetry_uuid",
                "identity.instance.id.file: 'telemetry_uuid' must be",
            ),
            ("\"required\": true", "\"required\": 1", "options.product-family.required: must be true or false"),
            ("\"product-version\"", "\"product-colour\"", "options.product-colour: there is no such option"),
            ("\"instance.id\"", "\"project.id\"", "identity.instance.id: missing, and a template names it"),
            ("\"instance.id\"", "\"machine.id\"", "identity.machine.id: is no ID; known are instance.id, project.id"),
            (
                "\"key\": \"instanceId\"",
                "\"pointer\": \"id\"",
                "identity.instance.id.pointer: 'id' must be a JSON Pointer",
            ),
            ("PERCONA_TELEMETRY_DISABLE", "PERCONA-TELEMETRY", "'PERCONA-TELEMETRY' is no variable's name"),
            ("\"Content-Type\"", "\"Content-Length\"", "headers.Content-Length: is no header that a profile can set"),
            ("\"body\"", "\"boby\"", "boby: unknown key"),
            ("\"body\": {", "\"set\": {\"x\": {}}, \"body\": {", "set.x: no template names $set.x"),
            ("\"body\": {", "\"once\": \"daily\", \"body\": {", "once: 'daily' is none of family, version, call"),
        ] {
            assert!(percona.contains(from), "{from}");
            let error = source(&percona.replacen(from, to, 1)).profile().unwrap_err().to_string();
            assert!(error.starts_with("profile mine: ") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn names_are_file_names_of_no_other_place() {
        for (name, good) in [("percona", true), ("a.b_c-1", true), ("", false), ("..", false), ("a/b", false)] {
            assert_eq!(is_name(name), good, "{name}");
        }
    }

    #[test]
    fn an_endpoint_follows_the_products_own_variables() {
        let medusa = source(BUILT_IN[1].text).profile().unwrap().endpoint;
        for (host, path, url) in [
            (None, None, "https://telemetry.medusa-commerce.com/batch"),
            (Some("https://localhost:1/x/"), None, "https://localhost:1/x/batch"),
            (Some("other.example"), Some("/in"), "https://other.example/in"),
            (Some(""), Some("in"), "https://telemetry.medusa-commerce.com/in"),
        ] {
            let variable = |name: &str| if name == "MEDUSA_TELEMETRY_HOST" { host } else { path }.map(str::to_owned);
            assert_eq!(medusa.url(variable), url);
        }
    }

    #[test]
    fn events_choose_the_record() {
        let profile =
            |name: &str| source(BUILT_IN.iter().find(|known| known.name == name).unwrap().text).profile().unwrap();
        let given = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), "1".to_owned())).collect::<Vec<_>>();
        let memgraph = profile("memgraph");
        assert_eq!(memgraph.body(None, &[]), memgraph.body(Some("startup"), &[]));
        assert_eq!(memgraph.body(Some("0"), &[]), memgraph.body(Some("12"), &[]));
        assert_ne!(memgraph.body(Some("0"), &[]), memgraph.body(None, &[]));
        assert!(memgraph.body(Some("integer"), &[]).is_err());
        let medusa = profile("medusa");
        assert!(medusa.body(Some("start"), &[]).is_ok());
        let why = "medusa reports only the event start, and this is 'develop'";
        assert_eq!(medusa.body(Some("develop"), &[]).unwrap_err(), why);
        assert!(medusa.body(None, &[]).unwrap_err().ends_with("there is no --event"));
        let wundergraph = profile("wundergraph");
        let (usage, duration) = (wundergraph.body(Some("usage"), &[]), wundergraph.body(Some("duration"), &[]));
        assert_eq!(wundergraph.body(None, &given(&["command"])), usage);
        assert_eq!(wundergraph.body(None, &given(&["command", "duration"])), duration);
        let body = wundergraph.body(None, &[]).unwrap();
        assert_eq!(wundergraph.missing(body, &[]), Some("command"));
        assert!(profile("percona").body(Some("anything"), &[]).is_ok());
    }
}
