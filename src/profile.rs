//! One product's rules, read from its profile: who may say no how, where the record goes, where its IDs live, and
//! the template of the record.
//!
//! A profile is a JSON file, so that a new product needs no new binary and a reviewer can see from one page what
//! may leave a machine: a template can only name facts of the closed vocabulary in [`crate::facts`]. The ones that
//! come with the program are compiled in from `profiles/`.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;

use serde_core::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::cli::Setting;
use crate::consent::product_file::{FileRule, SaysNo};
use crate::host::{Content, Host};
use crate::record::Template;

/// The profile that is meant where none is named.
pub const DEFAULT: &str = "percona";

const BUILT_IN: [BuiltIn; 1] = [BuiltIn::new("percona", include_str!("../profiles/percona.json"))];

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
    /// The file is there and cannot be read as one.
    #[error("profile {}: {problem}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// Its text is not a profile.
    #[error("profile {name}: {problem}")]
    Malformed {
        /// Its name or path.
        name: String,
        /// What is wrong, with the place.
        problem: String,
    },
}

/// How the product itself lets an administrator say no, beside what holds for every product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentRules {
    /// The profile that they are from.
    pub profile: String,
    /// Variables that say no by any value but an empty or a clearly negative one.
    pub variables: Vec<String>,
    /// The product's own files.
    pub files: Vec<FileRule>,
}

/// What a profile says about one option of the command line.
#[derive(Clone, Debug, Default)]
pub struct OptionRule {
    /// The variable that gives its value where the flag is absent.
    pub variable: Option<String>,
    /// Whether a run without it is a usage error.
    pub required: bool,
    /// The values that the receiving service knows; others are sent all the same.
    pub known: Vec<String>,
}

/// Where a product keeps its ID: a file of `KEY:VALUE` lines that other software may share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityRules {
    /// The file, absolute.
    pub file: PathBuf,
    /// The key of the line that holds the instance ID.
    pub id: String,
    /// Keys of lines that look like a reported family and are not.
    pub reserved: Vec<String>,
}

/// A whole profile.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name: the key of the opt-out switch and of its pending records.
    pub name: String,
    /// Where records go by default.
    pub endpoint: String,
    /// Headers of the request, in order.
    pub headers: Vec<(String, String)>,
    /// Where the IDs live.
    pub identity: IdentityRules,
    /// The record.
    pub body: Template,
    options: Vec<(String, OptionRule)>,
}

impl Profile {
    /// What the profile says about `setting`.
    pub fn option(&self, setting: Setting) -> OptionRule {
        let rule = self.options.iter().find(|(long, _)| long == setting.long());
        rule.map(|(_, rule)| rule.clone()).unwrap_or_default()
    }
}

/// A profile's text, found but not read in full: a run that is refused needs only its consent rules.
#[derive(Debug)]
pub struct Source {
    /// The name it was asked for by, or its path.
    name: String,
    text: Cow<'static, str>,
    /// The consent section of a profile that is compiled in.
    consent: Option<&'static str>,
}

impl Source {
    /// Finds the profile called `wanted`: a name, or a path where it has a slash in it.
    ///
    /// # Errors
    /// [`ProfileError::Unknown`] and [`ProfileError::Unreadable`].
    pub fn find(host: &Host, wanted: Option<&OsStr>) -> Result<Source, ProfileError> {
        let wanted = wanted.map_or(DEFAULT.into(), OsStr::to_string_lossy);
        if let Some(built_in) = BUILT_IN.iter().find(|built_in| built_in.name == wanted) {
            return Ok(Source::of(built_in));
        }
        if wanted.contains('/') {
            // The one path that is not inside --root: a profile belongs to the caller, not to the machine.
            let path = Host::new(None).given_path(OsStr::new(&*wanted));
            return Source::of_content(&wanted, path.clone(), Host::new(None).read(&path, MAX_PROFILE))?
                .ok_or_else(|| ProfileError::Unknown(wanted.into_owned()));
        }
        if is_name(&wanted) {
            for directory in DIRECTORIES {
                let path = PathBuf::from(directory).join(format!("{wanted}.json"));
                if let Some(found) = Source::of_content(&wanted, host.path(&path), host.read(&path, MAX_PROFILE))? {
                    return Ok(found);
                }
            }
        }
        Err(ProfileError::Unknown(wanted.into_owned()))
    }

    fn of(built_in: &BuiltIn) -> Source {
        let text = Cow::Borrowed(built_in.text);
        Source { name: built_in.name.to_owned(), text, consent: Some(built_in.consent) }
    }

    fn of_content(name: &str, path: PathBuf, content: Content) -> Result<Option<Source>, ProfileError> {
        let unreadable = |problem: String| Err(ProfileError::Unreadable { path: path.clone(), problem });
        match content {
            Content::Missing => Ok(None),
            Content::Forbidden => unreadable("no permission to read it".to_owned()),
            Content::Unreadable(error) => unreadable(error.to_string()),
            Content::Bytes { truncated: true, .. } => unreadable(format!("larger than {MAX_PROFILE} bytes")),
            Content::Bytes { bytes, .. } => match String::from_utf8(bytes) {
                Ok(text) => Ok(Some(Source { name: name.to_owned(), text: text.into(), consent: None })),
                Err(_) => unreadable("not UTF-8".to_owned()),
            },
        }
    }

    /// Who may say no how.
    ///
    /// # Errors
    /// [`ProfileError::Malformed`].
    pub fn consent(&self) -> Result<ConsentRules, ProfileError> {
        let malformed = |error: serde_json::Error| self.malformed(error.to_string());
        if let Some(section) = self.consent {
            let Consent { variables, files } = serde_json::from_str(section).map_err(malformed)?;
            return Ok(ConsentRules { profile: self.name.clone(), variables, files });
        }
        let whole: Value = serde_json::from_str(&self.text).map_err(malformed)?;
        let section = whole.get("consent").ok_or_else(|| self.malformed("consent: missing".to_owned()))?;
        let profile = checked_name(whole.get("name").unwrap_or(&Value::Null)).map_err(|e| self.malformed(e))?;
        let Consent { variables, files } = Consent::deserialize(section).map_err(malformed)?;
        Ok(ConsentRules { profile, variables, files })
    }

    /// The whole profile.
    ///
    /// # Errors
    /// [`ProfileError::Malformed`], with the place in the file and, for an unknown fact, the list of known ones.
    pub fn profile(&self) -> Result<Profile, ProfileError> {
        serde_json::from_str(&self.text).map_err(|error| self.malformed(error.to_string()))
    }

    fn malformed(&self, problem: String) -> ProfileError {
        ProfileError::Malformed { name: self.name.clone(), problem }
    }
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

/// The section `consent`.
#[derive(Default)]
struct Consent {
    variables: Vec<String>,
    files: Vec<FileRule>,
}

impl<'de> Deserialize<'de> for Consent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Consent, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Consent;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("consent: an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Consent, A::Error> {
                let mut consent = Consent::default();
                while let Some(key) = map.next_key::<&str>()? {
                    match key {
                        "variables" => consent.variables = map.next_value()?,
                        "files" => consent.files = map.next_value()?,
                        _ => {
                            let problem = format_args!("consent.{key}: unknown key; known are variables, files");
                            return Err(A::Error::custom(problem));
                        }
                    }
                }
                Ok(consent)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl<'de> Deserialize<'de> for FileRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FileRule, D::Error> {
        let rule = Value::deserialize(deserializer)?;
        file_rule(&rule).map_err(D::Error::custom)
    }
}

/// `{"path": …}` with one of `gflag` (a flag's name), `false`, `true` and `absent` (JSON Pointers).
fn file_rule(rule: &Value) -> Result<FileRule, String> {
    const PLACE: &str = "consent.files[]";
    let rule = object(rule, PLACE, &["path", "gflag", "false", "true", "absent"])?;
    let path = text(rule.get("path"), &format!("{PLACE}.path"))?;
    if !path.starts_with('/') {
        return Err(format!("{PLACE}.path: '{path}' must be absolute"));
    }
    type Make = fn(String) -> SaysNo;
    let kinds: [(&str, Make); 4] =
        [("gflag", SaysNo::Gflag), ("false", SaysNo::False), ("true", SaysNo::True), ("absent", SaysNo::Absent)];
    let mut given = kinds.iter().filter(|(kind, _)| rule.contains_key(*kind));
    match (given.next(), given.next()) {
        (Some((kind, make)), None) => {
            let operand = text(rule.get(*kind), &format!("{PLACE}.{kind}"))?;
            if *kind != "gflag" && !operand.starts_with('/') {
                return Err(format!("{PLACE}.{kind}: '{operand}' must be a JSON Pointer, such as /telemetry/enabled"));
            }
            Ok(FileRule { path, says_no: make(operand) })
        }
        _ => Err(format!("{PLACE}: must have one of gflag, false, true, absent")),
    }
}

const A_PROFILE: &str = "a profile: a JSON object";

impl<'de> Deserialize<'de> for Profile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Profile, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Profile;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(A_PROFILE)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Profile, A::Error> {
                let mut rest = Map::new();
                let mut body = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key == "body" {
                        // Not by way of `Value`, which would sort the keys: their order is the wire's.
                        body = Some(map.next_value::<Template>()?);
                    } else {
                        rest.insert(key, map.next_value()?);
                    }
                }
                let body = body.ok_or_else(|| A::Error::custom("body: missing"))?;
                read(&Value::Object(rest), body).map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

const KEYS: [&str; 6] = ["name", "consent", "endpoint", "headers", "options", "identity"];

fn read(rest: &Value, body: Template) -> Result<Profile, String> {
    let rest = object(rest, "profile", &KEYS)?;
    let empty = Value::Object(Map::new());
    let section = |key: &str| rest.get(key).unwrap_or(&empty).clone();
    let endpoint = text(rest.get("endpoint"), "endpoint")?;
    if crate::endpoint::Endpoint::new(&endpoint).is_none() {
        return Err(format!("endpoint: '{endpoint}' is neither https nor http to a loopback address"));
    }
    let mut headers = Vec::new();
    for (name, value) in section("headers").as_object().ok_or("headers: must be an object")? {
        headers.push((name.clone(), text(Some(value), &format!("headers.{name}"))?));
    }
    let mut options = Vec::new();
    for (long, rule) in section("options").as_object().ok_or("options: must be an object")? {
        let place = format!("options.{long}");
        if !Setting::ALL.iter().any(|(_, known, _)| known == long) {
            return Err(format!("{place}: there is no such option"));
        }
        let rule = object(rule, &place, &["variable", "required", "known"])?;
        let variable = rule.get("variable").map(|v| text(Some(v), &format!("{place}.variable"))).transpose()?;
        let required = match rule.get("required") {
            None => false,
            Some(Value::Bool(required)) => *required,
            Some(_) => return Err(format!("{place}.required: must be true or false")),
        };
        let known = texts(rule.get("known"), &format!("{place}.known"))?;
        options.push((long.clone(), OptionRule { variable, required, known }));
    }
    let section = section("identity");
    let identity = object(&section, "identity", &["file", "id", "reserved"])?;
    let file = PathBuf::from(text(identity.get("file"), "identity.file")?);
    if !file.is_absolute() || file.file_name().is_none() {
        return Err("identity.file: must be an absolute path of a file".to_owned());
    }
    Ok(Profile {
        name: checked_name(rest.get("name").unwrap_or(&Value::Null))?,
        endpoint,
        headers,
        identity: IdentityRules {
            file,
            id: text(identity.get("id"), "identity.id")?,
            reserved: texts(identity.get("reserved"), "identity.reserved")?,
        },
        body,
        options,
    })
}

fn checked_name(name: &Value) -> Result<String, String> {
    let name = text(Some(name), "name")?;
    if is_name(&name) { Ok(name) } else { Err(bad_name(&name)) }
}

fn bad_name(name: &str) -> String {
    format!("name: '{name}' must be letters, digits, . _ - , at most 64")
}

fn object<'v>(value: &'v Value, place: &str, known: &[&str]) -> Result<&'v Map<String, Value>, String> {
    let object = value.as_object().ok_or_else(|| format!("{place}: must be an object"))?;
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("{place}.{key}: unknown key; known are {}", known.join(", "))),
        None => Ok(object),
    }
}

fn text(value: Option<&Value>, place: &str) -> Result<String, String> {
    match value {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        _ => Err(format!("{place}: must be a text that is not empty")),
    }
}

fn texts(value: Option<&Value>, place: &str) -> Result<Vec<String>, String> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let list = value.as_array().ok_or_else(|| format!("{place}: must be a list of texts"))?;
    list.iter().enumerate().map(|(index, item)| text(Some(item), &format!("{place}[{index}]"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { name: "mine".to_owned(), text: text.to_owned().into(), consent: None }
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
            ("$os.pretty_name", "$os.hostname", "'os.hostname' is no fact; known are record.uuid"),
            ("https://check", "ftp://check", "endpoint: 'ftp://check.percona.com/v1/telemetry/GenericReport'"),
            ("\"consent\"", "\"consnt\"", "profile.consnt: unknown key; known are name, consent"),
            ("\"name\": \"percona\"", "\"name\": \"../x\"", "name: '../x'"),
            ("/usr/local/percona/telemetry_uuid", "telemetry_uuid", "identity.file: must be an absolute path"),
            ("\"required\": true", "\"required\": 1", "options.product-family.required"),
            ("\"product-version\"", "\"product-colour\"", "options.product-colour: there is no such option"),
            ("\"body\"", "\"boby\"", "body: missing"),
        ] {
            assert!(percona.contains(from), "{from}");
            let error = source(&percona.replacen(from, to, 1)).profile().unwrap_err().to_string();
            assert!(error.starts_with("profile mine: ") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn rules_about_files_say_what_they_cannot_mean() {
        let with = |rule: &str| source(&format!(r#"{{"name":"mine","consent":{{"files":[{rule}]}}}}"#)).consent();
        assert_eq!(
            with(r#"{"path":"/etc/x.conf","gflag":"telemetry"}"#).unwrap().files,
            [FileRule { path: "/etc/x.conf".into(), says_no: SaysNo::Gflag("telemetry".into()) }]
        );
        for (rule, expected) in [
            (r#"{"path":"x","gflag":"t"}"#, "'x' must be absolute"),
            (r#"{"path":"/x"}"#, "must have one of gflag, false, true, absent"),
            (r#"{"path":"/x","true":"/a","false":"/a"}"#, "must have one of"),
            (r#"{"path":"/x","true":"a"}"#, "must be a JSON Pointer"),
            (r#"{"path":"/x","regex":"a"}"#, "unknown key"),
        ] {
            let error = with(rule).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn names_are_file_names_of_no_other_place() {
        for (name, good) in [("percona", true), ("a.b_c-1", true), ("", false), ("..", false), ("a/b", false)] {
            assert_eq!(is_name(name), good, "{name}");
        }
    }
}
