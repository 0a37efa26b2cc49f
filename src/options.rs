//! The options of one run, resolved once: a flag wins over the profile's variable, and the variable wins over the
//! default.
//!
//! A flag whose value cannot be used is the caller's mistake, and so a usage error. A variable is not: a value that
//! cannot be used is ignored, with a line on stderr. A variable for the endpoint is the exception. Somebody meant
//! another server, so nothing is sent.

use std::{ffi::OsStr, path::PathBuf, time::Duration, time::Instant};

use crate::cli::{Command, Request};
use crate::facts::{self, Fact, process::duration};
use crate::profile::file_path::{Directories, HOME, Known};
use crate::profile::{DEFAULT, IdRule, Profile};
use crate::{endpoint::Endpoint, host::Host, ledger::IdentityFile, outcome::Outcome, outcome::Reporter};

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
        let flag = self.request.setting("timeout").and_then(|flag| duration(flag.to_str()?.trim()));
        let takes_time = matches!(self.request.command, Command::Send | Command::Show | Command::Flush);
        within_limits(flag, if takes_time { TIMEOUT } else { MAX_TIMEOUT })
    }

    /// What `read` makes of the flag, else of the variable, else of the default. An empty value counts as none.
    ///
    /// # Errors
    /// Names the flag that cannot be used, or that a record requires. The latter is not the caller's mistake where its
    /// variable is set and cannot be used.
    fn value<T, F>(&self, profile: &Profile, setting: &str, must: &str, read: F) -> Result<Option<T>, Outcome>
    where
        F: Fn(&OsStr) -> Option<T>,
    {
        let wrong = |name: &str, given: &OsStr| format!("{name} '{:.80}' {must}", given.to_string_lossy());
        if let Some(given) = self.request.setting(setting) {
            return read(given).map(Some).ok_or_else(|| Outcome::Usage(wrong(&format!("--{setting}"), given)));
        }
        let rule = profile.option(setting);
        let variable = rule.variable.as_deref().and_then(|name| Some((name, self.host.var(name)?)));
        let found = variable.as_ref().and_then(|(_, value)| read(value));
        if let (Some((name, value)), None) = (&variable, &found) {
            self.reporter.warn(format_args!("{}; it is ignored", wrong(name, value)));
        }
        let found = found.or_else(|| read(rule.default.as_deref()?.as_ref()));
        if found.is_none() && rule.required && matches!(self.request.command, Command::Send | Command::Show) {
            let or = rule.variable.as_deref().map(|name| format!(" or set {name}")).unwrap_or_default();
            let why = format!("the {} is missing: give --{setting}{or}", setting.replace('-', " "));
            return Err(if variable.is_some() { Outcome::Lost(why) } else { Outcome::Usage(why) });
        }
        Ok(found)
    }

    fn endpoint(&self, profile: &Profile) -> Result<Result<Endpoint, Outcome>, Outcome> {
        if let Some(url) = self.request.setting("url") {
            let url = url.to_string_lossy();
            let wrong = || Outcome::Usage(format!("--url: {}", Endpoint::problem_of(&url)));
            return Endpoint::new(&url).map(Ok).ok_or_else(wrong);
        }
        let url = profile.endpoint(|name| Some(self.host.var(name)?.to_string_lossy().into_owned()));
        // The profile's own endpoint is a good one, so a bad one comes from a variable.
        let names: Vec<&str> = profile.endpoint_variables().into_iter().flatten().collect();
        let problem = || format!("{}: {}", names.join(" or "), Endpoint::problem_of(&url));
        Ok(Endpoint::new(&url).ok_or_else(|| Outcome::Lost(problem())))
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
    /// How long a connection may take to be made, and then its TLS handshake.
    pub connect_timeout: Duration,
    /// When everything has to be over.
    pub deadline: Instant,
    /// Where records go, or why the variable that names the endpoint cannot be used.
    pub endpoint: Result<Endpoint, Outcome>,
    /// The files of the product's IDs, up to the first that cannot be found.
    pub ids: Vec<(Fact, IdentityFile)>,
    /// The directories of this run that a record has to remember.
    pub directories: Known,
}

impl<'a> Options<'a> {
    /// Resolves every option. One that was not given and has no default is `None`.
    ///
    /// # Errors
    /// Names the flag that cannot be used or that is missing.
    pub fn resolve(run: Run<'_>, profile: &'a Profile) -> Result<Options<'a>, Outcome> {
        // This may be why something else is missing.
        if let Some(operand) = &run.request.ignored_operand {
            run.reporter.warn(format_args!("'{operand}' is no option: it and what follows it are ignored"));
        }
        let given = |setting| run.value(profile, setting, "", |text| Some(text.to_string_lossy().into_owned()));
        let family = |family: &OsStr| Some(family.to_str().filter(|it| profile.is_family(it))?.to_owned());
        let must = "must be letters, digits, _ - . , at most 64, and no other key of the identity file";
        let seconds = |setting, default| {
            let read = |given: &OsStr| duration(given.to_str()?.trim());
            run.value(profile, setting, "must be a number of seconds", read).map(|given| within_limits(given, default))
        };
        let pid = |pid: &OsStr| pid.to_str()?.parse().ok().filter(|pid| *pid > 0);
        // A record remembers the path, so it has to be text. A quote in front is one that a shell should have taken away.
        let is_file = |path: &&str| !path.ends_with('/') && !path.starts_with(['"', '\'']);
        let path = |given: &OsStr| Some(run.host.given_path(given.to_str().filter(is_file)?.as_ref()));
        let (here, first) = (run.directories(), run.value(profile, "state-file", "must be a file's path", path)?);
        // Without `--profile`, -j belongs to the default profile.
        let first = first.filter(|_| run.request.profile().is_some() || profile.name == DEFAULT);
        let of_id = profile.identity.values().take(1).flat_map(|rule| [&rule.file].into_iter().chain(&rule.also));
        let options = Options {
            profile,
            deployment: given("deployment")?,
            os: given("os")?,
            instance_id: given("instance-id")?,
            pid: run.value(profile, "pid", "must be the number of a process", pid)?,
            connect_timeout: seconds("connect-timeout", CONNECT_TIMEOUT)?,
            deadline: run.host.started + seconds("timeout", TIMEOUT)?,
            endpoint: run.endpoint(profile)?,
            ids: Vec::new(),
            directories: here.known(profile.consent.paths().chain(of_id)),
            // What may be missing is asked for last, so that a value that is wrong is named first.
            family: run.value(profile, "product-family", must, family)?,
            version: given("product-version")?,
            event: given("event")?,
        };
        Ok(options.with_files(first, &here))
    }

    /// The same options with the identity files of these directories. `first` is the path of the first one, where it is
    /// known.
    pub fn with_files(mut self, mut first: Option<PathBuf>, here: &Directories) -> Options<'a> {
        let file = |(id, rule): (&String, &IdRule)| {
            let path = first.take().or_else(|| here.resolve(&rule.file).ok())?;
            Some((facts::named(id)?, IdentityFile::at(path, rule, &self.profile.name, here)))
        };
        self.ids = self.profile.identity.iter().map_while(file).collect();
        self
    }

    /// Checks that the directories are there, that the file of every ID is known, and that there is an ID in it if only
    /// the product makes one.
    ///
    /// # Errors
    /// Names the directory, the option, the variable or the file. A missing HOME is not the caller's mistake.
    pub fn placed(&self, run: Run<'_>) -> Result<(), Outcome> {
        // A directory that the product has not made yet is not made for it.
        let mut given = ["project", "state-dir"].into_iter().filter_map(|setting| run.request.setting(setting));
        if let Some(path) = given.find(|path| run.host.file_id(run.host.given_path(path)).is_none()) {
            return Err(Outcome::Lost(format!("'{:.80}' is not an existing directory", path.to_string_lossy())));
        }
        let next = self.profile.identity.values().nth(self.ids.len());
        if let Some(Err(missing)) = next.map(|rule| run.directories().resolve(&rule.file)) {
            let why = format!("give {missing}: the profile {} keeps its ID there", self.profile.name);
            return Err(if missing == HOME { Outcome::Lost(why) } else { Outcome::Usage(why) });
        }
        let mut files = self.ids.iter().map(|(_, file)| file).filter(|file| file.rule.product_made);
        let Some(file) = files.find(|file| file.id(run.host).ok().flatten().is_none()) else { return Ok(()) };
        let format = format!("{:?}", file.rule.format).to_ascii_uppercase();
        Err(Outcome::Skipped(format!("{} holds no {format}", run.host.path(&file.path).display())))
    }

    /// The file of the first ID, which marks, receipts and the recognition of clones use. It is `None` where the
    /// product has no ID, or where the caller did not name its directory.
    pub fn identity_file(&self) -> Option<&IdentityFile> {
        self.ids.first().map(|(_, file)| file)
    }
}

/// 0 means the default, and more than a minute means a minute.
fn within_limits(given: Option<Duration>, default: Duration) -> Duration {
    given.filter(|given| !given.is_zero()).unwrap_or(default).min(MAX_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli;
    use crate::profile::Source;

    fn resolved(args: &[&str]) -> Result<Duration, Outcome> {
        let host = &Host::new(None);
        let profile = Source::find(host, None).unwrap().profile().unwrap();
        let line = ["-f", "PS", "-v", "8"].iter().chain(args).map(OsString::from);
        let request = &cli::parse(line).unwrap();
        let reporter = &Reporter { is_quiet: true, is_verbose: false };
        Options::resolve(Run { request, host, reporter }, &profile).map(|options| options.deadline - host.started)
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
            assert!(error.contains("--timeout") && error.contains("must be a number of seconds"), "{error}");
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
            assert!(!error.contains("s3cret") && error.contains("--url: a URL with a user"), "{error}");
        }
        assert!(resolved(&["-u", "https://host/a@b"]).is_ok());
        let error = resolved(&["-u", "http://host/"]).unwrap_err().to_string();
        assert!(error.contains("--url: 'http://host/' must be an https URL"), "{error}");
    }

    #[test]
    fn a_family_is_a_key_of_its_own() {
        for (family, good) in [("A_b-9.x", true), ("a b", false), ("a/b", false), ("instanceId", false)] {
            assert_eq!(resolved(&["-f", family]).is_ok(), good, "{family}");
        }
        assert!(resolved(&["-f", &"x".repeat(65)]).is_err());
    }
}
