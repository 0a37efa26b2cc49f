//! Argv to [`Request`], and nothing else: no environment, no file, no profile is looked at here.
//!
//! The short options are those of Percona's call-home.sh with getopts' meaning (`-fVALUE` and `-f VALUE`), so that
//! the binary can take its place under any file name.

use std::ffi::{OsStr, OsString};

use lexopt::Arg;

use crate::profile::Setting;
use crate::template::is_key;

/// Printed by `--help`, and by nothing else.
pub const HELP: &str = "\
install-record - report one installation, once, unless somebody said no

usage:
  install-record [send] -f FAMILY -v VERSION [options]   report this installation once
  install-record show   [same options]     print the exact body that would be sent; send and write nothing
  install-record status [--json]           decision and its source, IDs, what was sent, what is pending
  install-record off | on  [--profile P]   write / remove the persistent opt-out (no --profile: all profiles)
  install-record flush  [--due]            deliver what is pending, consent checked again; --due: what need not wait
  install-record forget [--profile P]      delete IDs, pending records and receipts; keep an opt-out
  install-record facts  [--json]           every fact this program can read, with this machine's values
  install-record check  PROFILE            look a profile over, and list what it can send and who can say no

options of send and show (in the percona profile, each also by the variable behind it):
  -f, --product-family FAMILY    letters, digits, _ - . , at most 64      [PERCONA_PRODUCT_FAMILY]
  -v, --product-version VERSION                                           [PERCONA_PRODUCT_VERSION]
  -d, --deployment VALUE         default: detected                        [PERCONA_DEPLOYMENT_METHOD]
  -s, --os VALUE                 default: detected                        [PERCONA_OPERATING_SYSTEM]
  -i, --instance-id UUID         used only when none is stored yet        [PERCONA_INSTANCE_ID]
  -j, --state-file FILE          where the IDs are                        [PERCONA_TELEMETRY_CONFIG_FILE_PATH]
  -u, --url URL                  where to send to: https                  [PERCONA_TELEMETRY_URL]
  -c, --connect-timeout SECONDS  default 2, fractions allowed             [PERCONA_CONNECT_TIMEOUT]
  -t, --timeout SECONDS          for everything, default 3                [PERCONA_SEND_TIMEOUT]

options of send and show, for the profiles that use them:
      --set KEY=VALUE            what only the product knows; JSON where it parses as JSON
      --event NAME               what happened
      --project DIR              the project that the product works on
      --state-dir DIR            the product's data directory
      --pid PID                  the product's process
      --telemetry=false, --telemetry-enabled=false
                                 a \"no\"

options of every command:
      --profile NAME|PATH        whose record this is, default percona
      --root DIR                 act on the system tree at DIR
      --quiet                    say nothing
      --verbose                  say on stderr what is decided, and why
      --strict                   exit 1 when something was to be delivered and was not
  -h, --help
      --version

to say no, any one of these is enough:
  PERCONA_TELEMETRY_DISABLE=1 or DO_NOT_TRACK=1 in the environment, or: install-record off
";

/// What the program is asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Command {
    /// Report this installation once.
    #[default]
    Send,
    /// Print the body that `Send` would post.
    Show,
    /// Print the decision and the state.
    Status,
    /// Write the persistent opt-out.
    Off,
    /// Remove it.
    On,
    /// Deliver what is pending.
    Flush,
    /// Delete IDs, pending records and receipts.
    Forget,
    /// Print every fact.
    Facts,
    /// Look a profile over.
    Check,
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
}

impl Command {
    fn named(word: &OsStr) -> Option<Command> {
        Some(match word.to_str()? {
            "send" => Command::Send,
            "show" => Command::Show,
            "status" => Command::Status,
            "off" => Command::Off,
            "on" => Command::On,
            "flush" => Command::Flush,
            "forget" => Command::Forget,
            "facts" => Command::Facts,
            "check" => Command::Check,
            _ => return None,
        })
    }
}

/// A command line, taken apart.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What to do.
    pub command: Command,
    settings: [Option<OsString>; Setting::ALL.len()],
    /// `--profile`, a name or a path; for `check`, its argument.
    pub profile: Option<OsString>,
    /// `--root`
    pub root: Option<OsString>,
    /// The flag that says no on the command line, as it was written.
    pub refusal: Option<String>,
    /// `--set KEY=VALUE`, in order.
    pub given: Vec<(String, String)>,
    /// `--json`
    pub json: bool,
    /// `--quiet`
    pub quiet: bool,
    /// `--verbose`
    pub verbose: bool,
    /// `--strict`
    pub strict: bool,
    /// `--due`: `flush` leaves alone what is to wait longer.
    pub due: bool,
}

impl Request {
    /// The value given for `setting`; the last one counts.
    pub fn setting(&self, setting: Setting) -> Option<&OsStr> {
        self.settings[setting as usize].as_deref()
    }
}

/// A command line or a variable that cannot be meant: one line that names the thing and the way out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Takes a command line apart, the program's own name left out.
///
/// # Errors
/// [`UsageError`] for an unknown command or option, a missing or an unexpected value.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, UsageError> {
    let mut request = Request::default();
    let mut command = None;
    let mut parser = lexopt::Parser::from_args(args);
    // getopts takes `-f=X` as the value `=X`.
    parser.set_short_equals(false);
    while let Some(arg) = parser.next().map_err(|error| usage(&error.to_string()))? {
        let setting = Setting::ALL.iter().find(|(_, long, short)| match arg {
            Arg::Short(letter) => Some(letter) == *short,
            Arg::Long(name) => name == *long,
            Arg::Value(_) => false,
        });
        if let Some((setting, ..)) = setting {
            let value = parser.value().map_err(|_| usage(&format!("{} needs a value", setting.flag())))?;
            request.settings[*setting as usize] = Some(value);
            continue;
        }
        let name = match arg {
            Arg::Short('h') => "help".to_owned(),
            Arg::Short(letter) => return Err(usage(&format!("unknown option -{letter}"))),
            Arg::Long(name) => name.to_owned(),
            Arg::Value(word) => {
                if command == Some(Command::Check) && request.profile.is_none() {
                    request.profile = Some(word);
                    continue;
                }
                let known = Command::named(&word).filter(|_| command.is_none());
                command =
                    Some(known.ok_or_else(|| usage(&format!("unexpected argument '{}'", word.to_string_lossy())))?);
                continue;
            }
        };
        let mut value = || parser.value().map_err(|_| usage(&format!("--{name} needs a value")));
        match name.as_str() {
            "profile" => request.profile = Some(value()?),
            "root" => request.root = Some(value()?),
            "set" => request.given.push(key_and_value(&value()?)?),
            // gflags takes `_` for `-`, and `no` before the name.
            "telemetry" | "telemetry-enabled" | "telemetry_enabled" => {
                if let Some(value) = parser.optional_value()
                    && !is_clear_yes(&value)
                {
                    request.refusal = Some(format!("--{name}={}", value.to_string_lossy()));
                }
            }
            "notelemetry" | "notelemetry-enabled" | "notelemetry_enabled" => {
                // Whatever value comes with it: it says no in every reading.
                let _ = parser.optional_value();
                request.refusal = Some(format!("--{name}"));
            }
            "json" => request.json = true,
            "quiet" => request.quiet = true,
            "verbose" => request.verbose = true,
            "strict" => request.strict = true,
            "due" => request.due = true,
            "help" => return Ok(Request { command: Command::Help, ..request }),
            "version" => return Ok(Request { command: Command::Version, ..request }),
            _ => return Err(usage(&format!("unknown option --{name}"))),
        }
    }
    request.command = command.unwrap_or_default();
    if request.command == Command::Check && request.profile.is_none() {
        return Err(usage("check needs the name or the path of a profile"));
    }
    Ok(request)
}

fn key_and_value(given: &OsStr) -> Result<(String, String), UsageError> {
    let given = given.to_string_lossy();
    match given.split_once('=') {
        Some((key, value)) if is_key(key) => Ok((key.to_owned(), value.to_owned())),
        _ => {
            let shown: String = given.chars().take(80).collect();
            Err(usage(&format!("--set {shown}: must be KEY=VALUE, the key of letters, digits, . _ - , at most 64")))
        }
    }
}

/// Consent is the one place where doubt has a side: only a clear yes is none of a "no".
fn is_clear_yes(value: &OsStr) -> bool {
    let value = value.to_string_lossy();
    ["1", "true", "yes", "on"].iter().any(|yes| value.trim().eq_ignore_ascii_case(yes))
}

fn usage(problem: &str) -> UsageError {
    UsageError(format!("{problem}; see install-record --help"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[&str]) -> Result<Request, UsageError> {
        parse(line.iter().map(OsString::from))
    }

    #[test]
    fn call_home_sh_options_long_and_short() {
        for line in [
            &["-f", "PS", "-v", "8.0", "-d", "DOCKER", "-s", "el9", "-t", "7", "-c", "2", "-u", "https://x/"][..],
            &["-fPS", "-v8.0", "-dDOCKER", "-sel9", "-t7", "-c2", "-uhttps://x/"],
            &[
                "send",
                "--product-family=PS",
                "--product-version",
                "8.0",
                "--deployment=DOCKER",
                "--os=el9",
                "--timeout=7",
                "--connect-timeout=2",
                "--url=https://x/",
            ],
        ] {
            let request = parsed(line).unwrap();
            assert_eq!(request.command, Command::Send);
            let settings: Vec<_> = Setting::ALL.iter().map(|(s, ..)| request.setting(*s)).collect();
            let expected = [Some("PS"), Some("8.0"), Some("DOCKER"), Some("el9"), None, None];
            assert_eq!(settings[..6], expected.map(|v| v.map(OsStr::new)));
            assert_eq!(settings[6..9], ["https://x/", "2", "7"].map(|v| Some(OsStr::new(v))));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_named_with_the_way_out() {
        for (line, named) in [
            (&["--colour"][..], "--colour"),
            (&["-x"], "-x"),
            (&["sned"], "sned"),
            (&["send", "show"], "show"),
            (&["-f"], "-f"),
            (&["--url"], "--url"),
            (&["--set", "novalue"], "--set novalue"),
            (&["--set", "a b=1"], "--set a b=1"),
            (&["check"], "check needs"),
            (&["--quiet=1"], "--quiet"),
        ] {
            let error = parsed(line).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("--help"), "{line:?}: {error}");
            assert!(!error.contains('\n'));
        }
    }

    #[test]
    fn what_the_product_supplies_keeps_its_text() {
        let request = parsed(&["--set", "a.b=1=2", "--set=c=", "--event", "7", "check", "./x.json"]).unwrap();
        assert_eq!(request.given, [("a.b", "1=2"), ("c", "")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(request.setting(Setting::Event), Some(OsStr::new("7")));
        assert_eq!(request.profile.as_deref(), Some(OsStr::new("./x.json")));
    }

    #[test]
    fn telemetry_flags_say_no_unless_they_clearly_say_yes() {
        for (value, says_no) in
            [("false", true), ("FALSE", true), ("0", true), ("", true), ("junk", true), ("true", false), ("On", false)]
        {
            let flag = format!("--telemetry={value}");
            assert_eq!(parsed(&[&flag]).unwrap().refusal, says_no.then_some(flag));
        }
        assert_eq!(parsed(&["--telemetry"]).unwrap().refusal, None);
        for flag in
            ["--telemetry-enabled=false", "--telemetry_enabled=0", "--notelemetry-enabled", "--notelemetry=true"]
        {
            assert!(parsed(&[flag]).unwrap().refusal.is_some(), "{flag}");
        }
    }
}
