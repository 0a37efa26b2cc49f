//! The options of one run: a flag wins over the profile's variable, which wins over the default.

use std::ffi::OsString;
use std::time::Duration;

use crate::cli::{Request, UsageError};
use crate::endpoint::Endpoint;
use crate::facts::Fact;
use crate::host::Host;
use crate::ledger::IdentityFile;
use crate::outcome::Reporter;
use crate::profile::file_path::{Directories, Missing};
use crate::profile::{IdLocation, Profile, Setting};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(3);

/// Nobody waits longer than this for a hook; a larger number is a slip.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

const MAX_FAMILY: usize = 64;

/// What a run of `send` or `show` works with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The product; empty where the profile knows no families.
    pub family: String,
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
    /// What every command has.
    pub place: Place,
}

/// Where IDs live and records go; the settings of `status`, `flush` and `forget`.
#[derive(Clone, Debug)]
pub struct Place {
    /// The files of the product's IDs, the one first that marks, receipts and clones go by.
    pub ids: Vec<(Fact, IdentityFile)>,
    /// Why some file is not among them.
    pub missing: Option<Missing>,
    /// The endpoint.
    pub endpoint: Endpoint,
}

impl Settings {
    /// Settles every option.
    ///
    /// # Errors
    /// [`UsageError`] that names the flag and the variable.
    pub fn resolve(
        request: &Request,
        profile: &Profile,
        host: &Host,
        reporter: &Reporter,
    ) -> Result<Settings, UsageError> {
        let lookup = Lookup { request, profile, host };
        let family = lookup.required(Setting::ProductFamily)?.unwrap_or_default();
        check_family(&family, profile).map_err(|why| lookup.wrong(Setting::ProductFamily, &family, why))?;
        let known = profile.option(Setting::ProductFamily).known;
        if !known.is_empty() && !known.contains(&family) {
            reporter
                .explain(format_args!("{family} is not a family that {} knows; it is sent all the same", profile.name));
        }
        for setting in [Setting::Project, Setting::StateDir] {
            let given = lookup.given(setting);
            if let Some(given) = given.filter(|given| !host.is_directory(host.given_path(given))) {
                return Err(lookup.wrong(setting, &given.to_string_lossy(), "must be a directory that is there"));
            }
        }
        let pid = lookup.text(Setting::Pid).map(|text| {
            let pid = text.parse().ok().filter(|pid| *pid > 0);
            pid.ok_or_else(|| lookup.wrong(Setting::Pid, &text, "must be the number of a process"))
        });
        let place = Place::resolve(request, profile, host)?;
        let event = lookup.required(Setting::Event)?;
        if event.is_some() && !profile.has_events() {
            reporter.explain(format_args!("--event is ignored: the profile {} knows no events", profile.name));
        }
        Ok(Settings {
            family,
            version: lookup.required(Setting::ProductVersion)?,
            deployment: lookup.text(Setting::Deployment),
            os: lookup.text(Setting::Os),
            instance_id: lookup.text(Setting::InstanceId),
            event,
            pid: pid.transpose()?,
            connect_timeout: lookup.seconds(Setting::ConnectTimeout, CONNECT_TIMEOUT)?,
            timeout: lookup.seconds(Setting::Timeout, TIMEOUT)?,
            place,
        })
    }
}

impl Place {
    /// Checks that every ID has its place.
    ///
    /// # Errors
    /// The option that would tell it.
    pub fn complete(&self, profile: &Profile) -> Result<(), UsageError> {
        let missing =
            |missing| UsageError(format!("{missing} is missing: the profile {} keeps its ID there", profile.name));
        self.missing.map_or(Ok(()), |what| Err(missing(what)))
    }

    /// Settles what does not need a product.
    ///
    /// # Errors
    /// [`UsageError`] that names the flag and the variable.
    pub fn resolve(request: &Request, profile: &Profile, host: &Host) -> Result<Place, UsageError> {
        let lookup = Lookup { request, profile, host };
        let directories = directories(request, host);
        let mut given = match lookup.given(Setting::StateFile) {
            None => None,
            Some(given) => {
                Some(Some(host.given_path(&given)).filter(|path| is_file_path(path, &given)).ok_or_else(|| {
                    lookup.wrong(Setting::StateFile, &given.to_string_lossy(), "must be the path of a file")
                })?)
            }
        };
        let (mut ids, mut missing) = (Vec::new(), None);
        for (fact, rule) in &profile.identity {
            // --state-file is where the first one is.
            match given.take().map_or_else(|| directories.resolve(&rule.file), Ok) {
                Ok(path) => ids.push((fact.fact(), IdentityFile::at(path, rule, &directories))),
                Err(what) => missing = Some(what),
            }
        }
        let default = || profile.endpoint(|name| host.var(name).map(|value| value.to_string_lossy().into_owned()));
        let url = lookup.text(Setting::Url).unwrap_or_else(default);
        let must = "must be an https URL, or http to a loopback address";
        let endpoint =
            Endpoint::new(&url).ok_or_else(|| match profile.endpoint_variables().find(|n| host.var(n).is_some()) {
                Some(variable) if lookup.text(Setting::Url).is_none() => {
                    UsageError(format!("{variable}: '{url}' {must}"))
                }
                _ => lookup.wrong(Setting::Url, &url, must),
            })?;
        Ok(Place { ids, missing, endpoint })
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

/// The total budget of commands that have no product.
///
/// # Errors
/// [`UsageError`] that names the flag and the variable.
pub fn timeouts(request: &Request, profile: &Profile, host: &Host) -> Result<(Duration, Duration), UsageError> {
    let lookup = Lookup { request, profile, host };
    Ok((lookup.seconds(Setting::ConnectTimeout, CONNECT_TIMEOUT)?, lookup.seconds(Setting::Timeout, TIMEOUT)?))
}

struct Lookup<'a> {
    request: &'a Request,
    profile: &'a Profile,
    host: &'a Host,
}

impl Lookup<'_> {
    /// An empty value is as good as none.
    fn given(&self, setting: Setting) -> Option<OsString> {
        let flag = self.request.setting(setting).map(ToOwned::to_owned);
        let rule = self.profile.option(setting);
        let variable = || rule.variable.as_ref().and_then(|name| self.host.var(name));
        let is_given = |value: &OsString| !value.is_empty();
        flag.filter(is_given).or_else(variable).filter(is_given).or_else(|| rule.default.clone().map(OsString::from))
    }

    fn text(&self, setting: Setting) -> Option<String> {
        self.given(setting).map(|value| value.to_string_lossy().into_owned())
    }

    fn required(&self, setting: Setting) -> Result<Option<String>, UsageError> {
        let value = self.text(setting);
        let rule = self.profile.option(setting);
        if value.is_some() || !rule.required {
            return Ok(value);
        }
        let variable = rule.variable.map(|name| format!(" or set {name}")).unwrap_or_default();
        Err(UsageError(format!(
            "the {} is missing: give {}{variable}",
            setting.long().replace('-', " "),
            setting.flag()
        )))
    }

    fn seconds(&self, setting: Setting, default: Duration) -> Result<Duration, UsageError> {
        let Some(text) = self.text(setting) else { return Ok(default) };
        crate::facts::process::duration(text.trim())
            .filter(|duration| (Duration::from_millis(1)..=MAX_TIMEOUT).contains(duration))
            .ok_or_else(|| self.wrong(setting, &text, "must be seconds, more than 0 and at most 3600"))
    }

    fn wrong(&self, setting: Setting, value: &str, must: &str) -> UsageError {
        let name = match (self.request.setting(setting), self.profile.option(setting).variable) {
            (None, Some(variable)) => variable,
            _ => setting.flag(),
        };
        let shown: String = value.chars().take(80).collect();
        UsageError(format!("{name} '{shown}' {must}"))
    }
}

/// It is a key in a file.
fn check_family(family: &str, profile: &Profile) -> Result<(), &'static str> {
    if family.len() > MAX_FAMILY || !family.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
        return Err("must be letters, digits, _ - . , at most 64");
    }
    let has_other_meaning = |slot: &IdLocation| match slot {
        IdLocation::Line { key, reserved } => key == family || reserved.iter().any(|key| key == family),
        IdLocation::Json(_) | IdLocation::Whole => false,
    };
    if profile.identity.iter().any(|(_, rule)| has_other_meaning(&rule.location)) {
        return Err("has another meaning in the identity file; use the product's own name");
    }
    Ok(())
}

fn is_file_path(path: &std::path::Path, given: &OsString) -> bool {
    path.file_name().is_some_and(|name| name.to_str().is_some()) && !given.to_string_lossy().ends_with('/')
}
