//! What one run works with: a flag wins over the profile's variable, which wins over the default. Resolved once.
//!
//! A flag that cannot be used is the caller's mistake, and a usage error. A variable is not: what cannot be used in one
//! is ignored with a line on stderr. An endpoint's variable is the exception: somebody meant another server, so nothing
//! is sent.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use crate::cli::{Request, UsageError};
use crate::endpoint::Endpoint;
use crate::facts::Fact;
use crate::facts::process::duration;
use crate::host::Host;
use crate::ledger::IdentityFile;
use crate::outcome::{Outcome, Reporter};
use crate::profile::file_path::{Directories, Missing};
use crate::profile::{IdLocation, Profile, Setting};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(3);

/// Nobody waits longer than this for a hook.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

const MAX_FAMILY: usize = 64;

/// What a run of `send` or `show` works with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The product, where the profile knows families.
    pub family: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The deployment, where it is given.
    pub deployment: Option<String>,
    /// The operating system, where it is given.
    pub os: Option<String>,
    /// A proposal for the instance ID.
    pub instance_id: Option<String>,
    /// What happened, where it is given.
    pub event: Option<String>,
    /// The product's process.
    pub pid: Option<u32>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long everything may take.
    pub timeout: Duration,
    /// Where the record goes.
    pub endpoint: Endpoint,
    /// Where the IDs live.
    pub place: Place,
}

/// Where IDs live and records go by the command line and the environment; every command has that.
#[derive(Clone, Debug)]
pub struct Place {
    /// The files of the product's IDs, the one first that marks, receipts and clones go by.
    pub ids: Vec<(Fact, IdentityFile)>,
    /// Why some file is not among them.
    pub missing: Option<Missing>,
    /// The endpoint.
    pub endpoint: Result<Endpoint, BadEndpoint>,
}

/// An endpoint's variable that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {problem}, so nothing is sent")]
pub struct BadEndpoint {
    variable: String,
    problem: String,
}

/// Why a run has no options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// The command line cannot be meant.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// Somebody meant another server.
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
}

impl From<OptionsError> for Outcome {
    fn from(error: OptionsError) -> Outcome {
        match error {
            OptionsError::Usage(error) => Outcome::Usage(error.to_string()),
            OptionsError::Endpoint(error) => Outcome::Lost { why: error.to_string() },
        }
    }
}

impl Options {
    /// Resolves every option.
    ///
    /// # Errors
    /// [`OptionsError`], which names the flag or the variable.
    pub fn resolve(
        request: &Request,
        profile: &Profile,
        host: &Host,
        reporter: &Reporter,
    ) -> Result<Options, OptionsError> {
        let lookup = Lookup { request, profile, host, warnings: RefCell::default() };
        if let Some(operand) = &request.ignored_operand {
            lookup.warn(format!("'{operand}' is no option: it and what follows it are ignored"));
        }
        for setting in [Setting::Project, Setting::StateDir] {
            let is_there = |path: &OsStr| host.file_id(host.given_path(path)).map(drop);
            lookup.value(setting, "must be a directory that is there", is_there)?;
        }
        let family = |family: &OsStr| text(family).filter(|family| is_family(family, profile));
        let must = "must be letters, digits, _ - . , at most 64, and no other key of the identity file";
        let family = lookup.required(Setting::ProductFamily, lookup.value(Setting::ProductFamily, must, family)?)?;
        let pid = |pid: &OsStr| text(pid)?.parse().ok().filter(|pid| *pid > 0);
        let place = Place::of(&lookup)?;
        let options = Options {
            family,
            version: lookup.required(Setting::ProductVersion, lookup.text(Setting::ProductVersion))?,
            deployment: lookup.text(Setting::Deployment),
            os: lookup.text(Setting::Os),
            instance_id: lookup.text(Setting::InstanceId),
            event: lookup.required(Setting::Event, lookup.text(Setting::Event))?,
            pid: lookup.value(Setting::Pid, "must be the number of a process", pid)?,
            connect_timeout: lookup.seconds(Setting::ConnectTimeout, CONNECT_TIMEOUT)?,
            timeout: lookup.seconds(Setting::Timeout, TIMEOUT)?,
            endpoint: place.endpoint.clone()?,
            place,
        };
        let known = profile.option(Setting::ProductFamily).known;
        if let Some(family) = options.family.as_ref().filter(|family| !known.is_empty() && !known.contains(family)) {
            reporter
                .explain(format_args!("{family}: {} does not know this family; it is sent all the same", profile.name));
        }
        if options.event.is_some() && !profile.has_events() {
            reporter.explain(format_args!("--event is ignored: the profile {} knows no events", profile.name));
        }
        lookup.report(reporter);
        Ok(options)
    }
}

impl Place {
    /// Resolves what does not need a product.
    ///
    /// # Errors
    /// [`UsageError`], which names the flag.
    pub fn resolve(
        request: &Request,
        profile: &Profile,
        host: &Host,
        reporter: &Reporter,
    ) -> Result<Place, UsageError> {
        let lookup = Lookup { request, profile, host, warnings: RefCell::default() };
        let place = Place::of(&lookup)?;
        lookup.report(reporter);
        Ok(place)
    }

    fn of(lookup: &Lookup<'_>) -> Result<Place, UsageError> {
        let directories = directories(lookup.request, lookup.host);
        let is_file = |path: &Path, given: &OsStr| {
            path.file_name().is_some_and(|name| name.to_str().is_some()) && !given.to_string_lossy().ends_with('/')
        };
        let file = |given: &OsStr| Some(lookup.host.given_path(given)).filter(|path| is_file(path, given));
        let mut given = lookup.value(Setting::StateFile, "must be the path of a file", file)?;
        let (mut ids, mut missing) = (Vec::new(), None);
        for (id, rule) in &lookup.profile.identity {
            // --state-file is where the first one is.
            match given.take().map_or_else(|| directories.resolve(&rule.file), Ok) {
                Ok(path) => ids.push((id.fact(), IdentityFile::at(path, rule, &directories))),
                Err(what) => missing = Some(what),
            }
        }
        Ok(Place { ids, missing, endpoint: lookup.endpoint()? })
    }

    /// Checks that every ID has its place.
    ///
    /// # Errors
    /// The option that would tell it.
    pub fn complete(&self, profile: &Profile) -> Result<(), UsageError> {
        let missing =
            |missing| UsageError(format!("{missing} is missing: the profile {} keeps its ID there", profile.name));
        self.missing.map_or(Ok(()), |what| Err(missing(what)))
    }

    /// The file of the ID that marks, receipts and clones go by; `None` where the product has no ID, or where it is
    /// was not said.
    pub fn identity_file(&self) -> Option<&IdentityFile> {
        self.ids.first().map(|(_, file)| file)
    }
}

/// The directories that a run was told.
pub fn directories<'a>(request: &'a Request, host: &'a Host) -> Directories<'a> {
    Directories::given(host, request.setting(Setting::Project), request.setting(Setting::StateDir))
}

/// How long a connection and everything may take, for commands that have no product.
///
/// # Errors
/// [`UsageError`], which names the flag.
pub fn timeouts(
    request: &Request,
    profile: &Profile,
    host: &Host,
    reporter: &Reporter,
) -> Result<(Duration, Duration), UsageError> {
    let lookup = Lookup { request, profile, host, warnings: RefCell::default() };
    let times = (lookup.seconds(Setting::ConnectTimeout, CONNECT_TIMEOUT)?, lookup.seconds(Setting::Timeout, TIMEOUT)?);
    lookup.report(reporter);
    Ok(times)
}

/// How long a run may take, as far as its command line says so.
pub fn flagged_timeout(request: &Request) -> Duration {
    let flagged = request.setting(Setting::Timeout).and_then(|flag| duration(text(flag)?.trim()));
    flagged.filter(|time| !time.is_zero()).unwrap_or(TIMEOUT).min(MAX_TIMEOUT)
}

struct Lookup<'a> {
    request: &'a Request,
    profile: &'a Profile,
    host: &'a Host,
    /// What was ignored, a line each.
    warnings: RefCell<Vec<String>>,
}

impl Lookup<'_> {
    /// What `read` makes of the flag, else of the variable, else of the default. An empty value is as good as none.
    fn value<T>(
        &self,
        setting: Setting,
        must: &str,
        read: impl Fn(&OsStr) -> Option<T>,
    ) -> Result<Option<T>, UsageError> {
        if let Some(flag) = self.request.setting(setting).filter(|value| !value.is_empty()) {
            let wrong = || UsageError(format!("{} {} {must}", setting.flag(), shown(flag)));
            return read(flag).map(Some).ok_or_else(wrong);
        }
        let rule = self.profile.option(setting);
        if let Some((name, value)) = self.variable(rule.variable.as_deref()) {
            match read(&value) {
                Some(value) => return Ok(Some(value)),
                None => self.warn(format!("{name} {} {must}; it is ignored", shown(&value))),
            }
        }
        Ok(rule.default.as_deref().and_then(|default| read(OsStr::new(default))))
    }

    fn variable<'n>(&self, name: Option<&'n str>) -> Option<(&'n str, OsString)> {
        name.and_then(|name| Some((name, self.host.var(name)?))).filter(|(_, value)| !value.is_empty())
    }

    fn text(&self, setting: Setting) -> Option<String> {
        self.value(setting, "", text).ok().flatten()
    }

    fn required(&self, setting: Setting, value: Option<String>) -> Result<Option<String>, UsageError> {
        let rule = self.profile.option(setting);
        if value.is_some() || !rule.required {
            return Ok(value);
        }
        let variable = rule.variable.map(|name| format!(" or set {name}")).unwrap_or_default();
        let what = setting.long().replace('-', " ");
        Err(UsageError(format!("the {what} is missing: give {}{variable}", setting.flag())))
    }

    /// 0 means the default, and more than a minute a minute.
    fn seconds(&self, setting: Setting, default: Duration) -> Result<Duration, UsageError> {
        let read = |given: &OsStr| duration(text(given)?.trim());
        let given = self.value(setting, "must be a number of seconds", read)?;
        Ok(given.filter(|given| !given.is_zero()).unwrap_or(default).min(MAX_TIMEOUT))
    }

    fn endpoint(&self) -> Result<Result<Endpoint, BadEndpoint>, UsageError> {
        if let Some(url) = self.request.setting(Setting::Url).filter(|url| !url.is_empty()) {
            let wrong = |problem| UsageError(format!("{}: {problem}", Setting::Url.flag()));
            return checked(&url.to_string_lossy()).map(Ok).map_err(wrong);
        }
        let rule = self.profile.option(Setting::Url);
        let own = self.variable(rule.variable.as_deref());
        let variable = |name: &str| self.host.var(name).map(|value| value.to_string_lossy().into_owned());
        let moved = || self.profile.endpoint_variables().find(|name| self.variable(Some(name)).is_some());
        let (name, url) = match (&own, rule.default) {
            (Some((name, url)), _) => (*name, url.to_string_lossy().into_owned()),
            (None, Some(url)) => ("the profile's url", url),
            (None, None) => (moved().unwrap_or("the profile's endpoint"), self.profile.endpoint(variable)),
        };
        Ok(checked(&url).map_err(|problem| BadEndpoint { variable: name.to_owned(), problem }))
    }

    fn warn(&self, line: String) {
        self.warnings.borrow_mut().push(line);
    }

    fn report(&self, reporter: &Reporter) {
        self.warnings.borrow().iter().for_each(|line| reporter.warn(format_args!("{line}")));
    }
}

/// A secret in a URL is not repeated.
fn checked(url: &str) -> Result<Endpoint, String> {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next();
    if authority.is_some_and(|authority| authority.contains('@')) {
        return Err("a URL with a user or a password in it is refused; give it without".to_owned());
    }
    let must = "must be an https URL, or http to a loopback address";
    Endpoint::new(url).ok_or_else(|| format!("{} {must}", shown(OsStr::new(url))))
}

fn text(value: &OsStr) -> Option<String> {
    Some(value.to_string_lossy().into_owned())
}

fn shown(value: &OsStr) -> String {
    format!("'{}'", value.to_string_lossy().chars().take(80).collect::<String>())
}

/// A family is a key in a file, in which other keys have another meaning.
fn is_family(family: &str, profile: &Profile) -> bool {
    let has_other_meaning = |location: &IdLocation| match location {
        IdLocation::Line { key, reserved } => key == family || reserved.iter().any(|key| key == family),
        IdLocation::Json(_) | IdLocation::Whole => false,
    };
    family.len() <= MAX_FAMILY
        && family.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        && !profile.identity.iter().any(|(_, rule)| has_other_meaning(&rule.location))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;
    use crate::profile::Source;

    fn resolved(args: &[&str]) -> Result<Options, OptionsError> {
        let host = Host::new(None);
        let profile = Source::find(&host, None).unwrap().profile().unwrap();
        let line = ["-f", "PS", "-v", "8"].iter().chain(args).map(OsString::from);
        Options::resolve(&cli::parse(line).unwrap(), &profile, &host, &Reporter { is_quiet: true, is_verbose: false })
    }

    #[test]
    fn times_have_a_default_and_an_end() {
        for (given, timeout) in [
            ("7", Duration::from_secs(7)),
            ("0.25", Duration::from_millis(250)),
            ("0", TIMEOUT),
            ("0.0", TIMEOUT),
            ("", TIMEOUT),
            ("60.5", MAX_TIMEOUT),
            ("99999999999999999999999", MAX_TIMEOUT),
        ] {
            assert_eq!(resolved(&["-t", given]).unwrap().timeout, timeout, "{given}");
        }
        for given in ["soon", "-1", "1e3", "nan", "inf", "\"7\""] {
            let error = resolved(&["-t", given]).unwrap_err().to_string();
            assert!(error.contains("-t (--timeout)") && error.contains("must be a number of seconds"), "{error}");
        }
    }

    #[test]
    fn a_secret_is_not_repeated() {
        for url in ["https://user:s3cret@host/", "https://s3cret@host", "user:s3cret@host", "ftp://u:s3cret@h/x"] {
            let error = resolved(&["-u", url]).unwrap_err().to_string();
            assert!(!error.contains("s3cret") && error.contains("-u (--url): a URL with a user"), "{error}");
        }
        assert!(resolved(&["-u", "https://host/a@b"]).is_ok());
        let error = resolved(&["-u", "http://host/"]).unwrap_err().to_string();
        assert!(error.contains("-u (--url): 'http://host/' must be an https URL"), "{error}");
    }

    #[test]
    fn a_family_is_a_key_of_its_own() {
        for (family, good) in [("A_b-9.x", true), ("a b", false), ("a/b", false), ("instanceId", false)] {
            assert_eq!(resolved(&["-f", family]).is_ok(), good, "{family}");
        }
        assert!(resolved(&["-f", &"x".repeat(65)]).is_err());
    }
}
