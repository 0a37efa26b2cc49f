//! The options of one run, resolved once: a flag wins over the profile's variable, and the variable wins over the
//! default.
//!
//! A flag whose value cannot be used is the caller's mistake, and so a usage error. A variable is not: a value that
//! cannot be used is ignored, with a line on stderr. A variable for the endpoint is the exception. Somebody meant
//! another server, so nothing is sent.

use std::{ffi::OsStr, ffi::OsString, path::Path, path::PathBuf, time::Duration, time::Instant};

use crate::cli::{Command, Request, UsageError, flag};
use crate::facts::{Fact, process::duration};
use crate::profile::file_path::{Directories, HOME, Known, Missing};
use crate::profile::{DEFAULT, Profile, ProfileError};
use crate::{endpoint::Endpoint, host::Host, ledger::IdentityFile, outcome::Reporter};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(3);

/// The longest time limit. Nobody waits longer for a hook.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// What every command works with: the command line, the machine, and the reporter.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The command line.
    pub request: &'a Request,
    /// The machine.
    pub host: &'a Host,
    /// Where messages go.
    pub reporter: &'a Reporter,
}

impl<'a> Run<'a> {
    /// The directories that the command line names.
    pub fn directories(&self) -> Directories<'a> {
        Directories::given(self.host, self.request.setting("project"), self.request.setting("state-dir"))
    }

    /// The time limit, as far as the command line alone tells it. Commands without `-t` have a minute, because they may
    /// wait for other runs, and those end within a minute.
    pub fn timeout(&self) -> Duration {
        let flag = self.request.setting("timeout").and_then(|flag| duration(text(flag)?.trim()));
        let takes_time = matches!(self.request.command, Command::Send | Command::Show | Command::Flush);
        within_limits(flag, if takes_time { TIMEOUT } else { MAX_TIMEOUT })
    }

    /// What `read` makes of the flag, else of the variable, else of the default. An empty value counts as none.
    fn value<T>(
        &self,
        profile: &Profile,
        setting: &str,
        must: &str,
        read: impl Fn(&OsStr) -> Option<T>,
    ) -> Result<Option<T>, UsageError> {
        if let Some(given) = self.request.setting(setting) {
            let wrong = || UsageError(format!("{} {} {must}", flag(setting), shown(given)));
            return read(given).map(Some).ok_or_else(wrong);
        }
        let rule = profile.option(setting);
        if let Some((name, value)) = rule.variable.as_deref().and_then(|name| Some((name, self.variable(name)?))) {
            match read(&value) {
                Some(value) => return Ok(Some(value)),
                None => self.reporter.warn(format_args!("{name} {} {must}; it is ignored", shown(&value))),
            }
        }
        Ok(rule.default.as_deref().and_then(|default| read(OsStr::new(default))))
    }

    fn variable(&self, name: &str) -> Option<OsString> {
        self.host.var(name).filter(|value| !value.is_empty())
    }

    fn endpoint(&self, profile: &Profile) -> Result<Result<Endpoint, ProfileError>, UsageError> {
        if let Some(url) = self.request.setting("url") {
            let wrong = |problem| UsageError(format!("{}: {problem}", flag("url")));
            let url = url.to_string_lossy();
            return Endpoint::new(&url).map(Ok).ok_or_else(|| wrong(Endpoint::problem_of(&url)));
        }
        let variable = |name: &str| self.variable(name).map(|value| value.to_string_lossy().into_owned());
        let url = profile.endpoint(variable);
        // The profile's own endpoint is a good one, so a bad one comes from a variable.
        let set: Vec<&str> =
            profile.endpoint_variables().into_iter().flatten().filter(|name| variable(name).is_some()).collect();
        let problem = || format!("{}: {}", set.join(" or "), Endpoint::problem_of(&url));
        Ok(Endpoint::new(&url).ok_or_else(|| ProfileError::Unusable(problem())))
    }
}

/// Every option of one product's run.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The product's rules.
    pub profile: &'a Profile,
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
    /// The moment at which `timeout` is over.
    pub deadline: Instant,
    /// Where records go, or why the variable that names the endpoint cannot be used.
    pub endpoint: Result<Endpoint, ProfileError>,
    /// The files of the product's IDs. Marks, receipts and the recognition of clones use the first.
    pub ids: Vec<(Fact, IdentityFile)>,
    /// What the run was not told, where that is needed to find one more of these files.
    pub missing: Option<Missing>,
    /// The directories of this run that a record has to remember.
    pub directories: Known,
}

/// The files of a product's IDs, by their facts, and what is missing to find one more of them.
pub type IdentityFiles = (Vec<(Fact, IdentityFile)>, Option<Missing>);

impl<'a> Options<'a> {
    /// Resolves every option. One that was not given and has no default is `None`.
    ///
    /// # Errors
    /// [`UsageError`], which names the flag.
    pub fn resolve(run: Run<'_>, profile: &'a Profile) -> Result<Options<'a>, UsageError> {
        let given = |setting| run.value(profile, setting, "", text);
        let is_family = |family: &OsStr| text(family).filter(|family| profile.is_family(family));
        let must = "must be letters, digits, _ - . , at most 64, and no other key of the identity file";
        let seconds = |setting, default| {
            let read = |given: &OsStr| duration(text(given)?.trim());
            Ok(within_limits(run.value(profile, setting, "must be a number of seconds", read)?, default))
        };
        let pid = |pid: &OsStr| text(pid)?.parse().ok().filter(|pid| *pid > 0);
        let path = |given: &OsStr| Some(run.host.given_path(given)).filter(|_| is_file(given));
        let timeout = seconds("timeout", TIMEOUT)?;
        let (here, first) = (run.directories(), run.value(profile, "state-file", "must be a file's path", path)?);
        // Without `--profile`, -j belongs to the default profile.
        let first = first.filter(|_| run.request.profile().is_some() || profile.name == DEFAULT);
        let (ids, missing) = Options::identity_files(profile, first, &here);
        let of_id = profile.identity.values().take(1).flat_map(|rule| [&rule.file].into_iter().chain(&rule.also));
        Ok(Options {
            profile,
            family: run.value(profile, "product-family", must, is_family)?,
            version: given("product-version")?,
            deployment: given("deployment")?,
            os: given("os")?,
            instance_id: given("instance-id")?,
            event: given("event")?,
            pid: run.value(profile, "pid", "must be the number of a process", pid)?,
            connect_timeout: seconds("connect-timeout", CONNECT_TIMEOUT)?,
            timeout,
            deadline: run.host.started + timeout,
            endpoint: run.endpoint(profile)?,
            ids,
            missing,
            directories: here.known(profile.consent.paths().chain(of_id)),
        })
    }

    /// The files of a product's IDs. `first` is the path of the first, where it is known.
    pub fn identity_files(profile: &Profile, mut first: Option<PathBuf>, here: &Directories) -> IdentityFiles {
        let (mut files, mut missing) = (Vec::new(), None);
        for (id, rule) in &profile.identity {
            let Some(id) = Fact::named(id) else { continue };
            match first.take().map_or_else(|| here.resolve(&rule.file), Ok) {
                Ok(path) => files.push((id, IdentityFile::at(path, rule, &profile.name, here))),
                Err(what) => missing = Some(what),
            }
        }
        (files, missing)
    }

    /// Checks that everything is there that a record needs.
    ///
    /// # Errors
    /// Names the option that is missing. It is not the caller's mistake where its variable is set and cannot be used.
    pub fn complete(&self, run: Run<'_>) -> Result<(), ProfileError> {
        let values = [("product-family", &self.family), ("product-version", &self.version), ("event", &self.event)];
        for (setting, value) in values {
            let rule = self.profile.option(setting);
            if rule.required && value.is_none() {
                let name = rule.variable.as_deref();
                let or = name.map(|name| format!(" or set {name}")).unwrap_or_default();
                let why = format!("the {} is missing: give {}{or}", setting.replace('-', " "), flag(setting));
                let is_unusable = name.is_some_and(|name| run.variable(name).is_some());
                return Err(if is_unusable { ProfileError::Unusable(why) } else { ProfileError::Wrong(why) });
            }
        }
        let given = ["project", "state-dir"].map(|setting| run.request.setting(setting));
        let is_missing =
            |path: &&OsStr| path.to_str().is_none() || run.host.file_id(run.host.given_path(path)).is_none();
        let Some(path) = given.into_iter().flatten().find(is_missing) else { return Ok(()) };
        Err(ProfileError::Unusable(format!("{} is not an existing directory with a path in UTF-8", shown(path))))
    }

    /// Checks that the file of every ID is known.
    ///
    /// # Errors
    /// Names the option or the variable that is missing. A missing HOME is not the caller's mistake.
    pub fn placed(&self) -> Result<(), ProfileError> {
        let Some(missing) = self.missing else { return Ok(()) };
        let why = format!("{missing} is missing: the profile {} keeps its ID there", self.profile.name);
        Err(if missing == HOME { ProfileError::Unusable(why) } else { ProfileError::Wrong(why) })
    }

    /// Which file lacks an ID that only the product makes.
    pub fn without_id(&self, host: &Host) -> Option<String> {
        let mut not_made = self.ids.iter().map(|(_, file)| file).filter(|file| !file.rule.is_made);
        let file = not_made.find(|file| file.id(host).ok().flatten().is_none())?;
        let format = format!("{:?}", file.rule.format).to_ascii_uppercase();
        Some(format!("{} holds no {format}", host.path(&file.path).display()))
    }

    /// The file of the first ID, which marks, receipts and the recognition of clones use. It is `None` where the
    /// product has no ID, or where the caller did not name its directory.
    pub fn identity_file(&self) -> Option<&IdentityFile> {
        let (first, (fact, file)) = (self.profile.identity.keys().next()?, self.ids.first()?);
        (fact.name() == first).then_some(file)
    }
}

/// Whether `path` can name a file. It has to be text, because a record remembers it. A quote in front is one that a
/// shell should have taken away.
fn is_file(path: &OsStr) -> bool {
    let is_path = |path: &str| !path.ends_with('/') && !path.starts_with(['"', '\'']);
    Path::new(path).file_name().is_some() && path.to_str().is_some_and(is_path)
}

/// 0 means the default, and more than a minute means a minute.
fn within_limits(given: Option<Duration>, default: Duration) -> Duration {
    given.filter(|given| !given.is_zero()).unwrap_or(default).min(MAX_TIMEOUT)
}

fn text(value: &OsStr) -> Option<String> {
    Some(value.to_string_lossy().into_owned())
}

fn shown(value: &OsStr) -> String {
    format!("'{}'", value.to_string_lossy().chars().take(80).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;
    use crate::profile::Source;

    fn resolved(args: &[&str]) -> Result<Duration, UsageError> {
        let host = &Host::new(None);
        let profile = Source::find(host, None).unwrap().profile().unwrap();
        let line = ["-f", "PS", "-v", "8"].iter().chain(args).map(OsString::from);
        let request = &cli::parse(line).unwrap();
        let reporter = &Reporter { is_quiet: true, is_verbose: false };
        Options::resolve(Run { request, host, reporter }, &profile).map(|options| options.timeout)
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
            assert_eq!(resolved(&["-t", given]).unwrap(), timeout, "{given}");
        }
        for given in ["soon", "-1", "1e3", "nan", "inf", "\"7\""] {
            let error = resolved(&["-t", given]).unwrap_err().to_string();
            assert!(error.contains("-t (--timeout)") && error.contains("must be a number of seconds"), "{error}");
        }
    }

    #[test]
    fn a_secret_is_not_repeated() {
        for url in [
            "https://user:s3cret@host/",
            "https://user:s3cret%40host/",
            "https://s3cret@host",
            "user:s3cret@host",
            "ftp://u:s3cret@h/x",
            "https:///user:s3cret@host/",
            "https://user:s3/cret@host/#s3cret",
        ] {
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
