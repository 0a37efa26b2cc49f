//! Argv to [`Request`], and nothing else: no environment, no file, no profile is looked at here.
//!
//! The short options are those of Percona's call-home.sh with the meaning that getopts gives them (`-fVALUE` and
//! `-f VALUE`), so that the program can take its place under any file name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use lexopt::Arg;

use crate::nearest::nearest;
use crate::profile::Setting;
use crate::template::is_key;

/// Printed by `--help`, and by nothing else.
pub const HELP: &str = "\
install-record - report one installation, once, unless somebody said no

Commands:
  install-record [send] -f FAMILY -v VERSION [options]   report this installation once
  install-record show   [same options]     print the body that would be sent; send and write nothing
  install-record status [--json]           print who said no, the IDs, what was sent and what waits
  install-record off | on  [--profile P]   switch records off or on again (without --profile: for all products)
  install-record flush                     send what waits; consent is checked again
  install-record forget [--profile P]      delete IDs, waiting records and receipts; what is off stays off
  install-record facts  [--json]           print every fact that this program can read, with its value here
  install-record check  PROFILE            check a profile; print what it can send and who can say no
  install-record help                      print this text

Options of send and show (the percona profile also reads the variable behind each):
  -f, --product-family FAMILY    letters, digits, _ - . , at most 64      [PERCONA_PRODUCT_FAMILY]
  -v, --product-version VERSION                                           [PERCONA_PRODUCT_VERSION]
  -d, --deployment VALUE         default: detected                        [PERCONA_DEPLOYMENT_METHOD]
  -s, --os VALUE                 default: detected                        [PERCONA_OPERATING_SYSTEM]
  -i, --instance-id UUID         used only where none is stored yet       [PERCONA_INSTANCE_ID]
  -j, --state-file FILE          where the ID is stored                   [PERCONA_TELEMETRY_CONFIG_FILE_PATH]
  -u, --url URL                  where to send to: https                  [PERCONA_TELEMETRY_URL]
  -c, --connect-timeout SECONDS  default 2, at most 60, fractions allowed [PERCONA_CONNECT_TIMEOUT]
  -t, --timeout SECONDS          for everything, default 3, at most 60    [PERCONA_SEND_TIMEOUT]

Options of send and show, for the profiles that use them:
      --set KEY=VALUE            a value that only the product knows: JSON, or else a text
      --event NAME               what happened
      --project DIR              the project that the product works on
      --state-dir DIR            the product's data directory
      --pid PID                  the product's process
      --telemetry=false, --telemetry-enabled=false
                                 say no

Options of every command:
      --profile NAME|PATH        the product's profile, default percona
      --root DIR                 act on the system tree at DIR
      --quiet                    print nothing on stderr but errors
      --verbose                  print each decision and its reason on stderr
  -h, --help                     print this text
  -V, --version                  print the version
Of send and flush:
      --strict                   exit 1 where a record was to be delivered and was not

To say no, any one of these is enough:
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

use Command::{Check, Facts, Flush, Forget, Off, On, Send, Show, Status};

/// Every command with its word.
pub const COMMANDS: [(&str, Command); 10] = [
    ("send", Send),
    ("show", Show),
    ("status", Status),
    ("off", Off),
    ("on", On),
    ("flush", Flush),
    ("forget", Forget),
    ("facts", Facts),
    ("check", Check),
    ("help", Command::Help),
];

const EVERY: &[Command] = &[Send, Show, Status, Off, On, Flush, Forget, Facts, Check];
const RECORD: &[Command] = &[Send, Show];
const CONSENT: &[Command] = &[Send, Show, Status, Flush];
const DIRECTORY: &[Command] = &[Send, Show, Status, Off, On, Flush, Forget];

/// Every long option with the commands that use it. What a command does not use is an error there.
pub const OPTIONS: [(&str, &[Command]); 28] = [
    ("product-family", RECORD),
    ("product-version", RECORD),
    ("deployment", RECORD),
    ("os", RECORD),
    ("instance-id", RECORD),
    ("state-file", &[Send, Show, Status, Flush, Forget]),
    ("url", &[Send, Show, Status]),
    ("connect-timeout", &[Send, Show, Flush]),
    ("timeout", &[Send, Show, Flush]),
    ("event", RECORD),
    ("pid", RECORD),
    ("project", DIRECTORY),
    ("state-dir", DIRECTORY),
    ("set", RECORD),
    ("telemetry", CONSENT),
    ("telemetry-enabled", CONSENT),
    ("telemetry_enabled", CONSENT),
    ("notelemetry", CONSENT),
    ("notelemetry-enabled", CONSENT),
    ("notelemetry_enabled", CONSENT),
    ("profile", DIRECTORY),
    ("root", EVERY),
    ("json", &[Status, Facts]),
    ("quiet", EVERY),
    ("verbose", EVERY),
    ("strict", &[Send, Flush]),
    ("help", EVERY),
    ("version", EVERY),
];

/// A command line, taken apart.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What to do.
    pub command: Command,
    settings: BTreeMap<Setting, OsString>,
    /// `--profile`, a name or a path; for `check`, its argument.
    pub profile: Option<OsString>,
    /// `--root`; `None` where it is empty, as DPKG_ROOT has it.
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
    /// What ended the options of a run without a command's word, as getopts has it.
    pub ignored_operand: Option<String>,
}

impl Request {
    /// The value given for `setting`; the last one counts.
    pub fn setting(&self, setting: Setting) -> Option<&OsStr> {
        self.settings.get(&setting).map(OsString::as_os_str)
    }
}

/// A command line that cannot be meant: one line that names the thing and the way out.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Takes a command line apart, the program's own name left out.
///
/// # Errors
/// [`UsageError`] for an unknown command or option, one that the command does not use, a missing or an unexpected value.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, UsageError> {
    let (mut request, mut command, mut used) = (Request::default(), None, Vec::new());
    let mut parser = lexopt::Parser::from_args(args);
    // getopts takes `-f=X` as the value `=X`.
    parser.set_short_equals(false);
    while let Some(arg) = parser.next().map_err(|error| usage(&error.to_string()))? {
        let long = match arg {
            Arg::Short('h') => "help".to_owned(),
            Arg::Short('V') => "version".to_owned(),
            Arg::Short(letter) => {
                let setting = Setting::ALL.iter().find(|(.., short)| *short == Some(letter));
                setting
                    .map(|(_, long, _)| (*long).to_owned())
                    .ok_or_else(|| usage(&format!("unknown option -{letter}")))?
            }
            Arg::Long(name) => name.to_owned(),
            Arg::Value(word) => {
                let word = word.to_string_lossy().into_owned();
                match (command, COMMANDS.iter().find(|(known, _)| *known == word)) {
                    (None, Some((_, known))) => command = Some(*known),
                    (Some(Check), _) if request.profile.is_none() => request.profile = Some(word.into()),
                    // An operand ends the options; but a word with no option of a record before it is a slip.
                    (None, None) if !request.settings.is_empty() => {
                        request.ignored_operand = Some(word);
                        break;
                    }
                    (None, None) => return Err(unknown("command", "", &word, COMMANDS.iter().map(|(word, _)| *word))),
                    (Some(_), _) => return Err(usage(&format!("unexpected argument '{word}'"))),
                }
                continue;
            }
        };
        take(&mut request, &mut parser, &long)?;
        used.push(long);
    }
    request.command = command.unwrap_or_default();
    let word = COMMANDS.iter().find(|(_, known)| *known == request.command).map_or("", |(word, _)| word);
    for (asked, command) in [("help", Command::Help), ("version", Command::Version)] {
        if used.iter().any(|long| long == asked) {
            return Ok(Request { command, ..request });
        }
    }
    let is_used = |long: &str| OPTIONS.iter().any(|(known, by)| *known == long && by.contains(&request.command));
    match used.iter().find(|long| request.command != Command::Help && !is_used(long)) {
        Some(long) => Err(usage(&format!("{word} does not use --{long}"))),
        None if request.command == Check && request.profile.is_none() => {
            Err(usage("check needs the name or the path of a profile"))
        }
        None => Ok(request),
    }
}

/// Takes one option with its value.
fn take(request: &mut Request, parser: &mut lexopt::Parser, long: &str) -> Result<(), UsageError> {
    if let Some((setting, ..)) = Setting::ALL.iter().find(|(_, known, _)| *known == long) {
        let value = parser.value().map_err(|_| usage(&format!("{} needs a value", setting.flag())))?;
        request.settings.insert(*setting, value);
        return Ok(());
    }
    let mut value = || parser.value().map_err(|_| usage(&format!("--{long} needs a value")));
    match long {
        "profile" => request.profile = Some(value()?),
        "root" => request.root = Some(value()?).filter(|root| !root.is_empty()),
        "set" => request.given.push(key_and_value(&value()?)?),
        // gflags takes `_` for `-`, and `no` before the name.
        "telemetry" | "telemetry-enabled" | "telemetry_enabled" => {
            if let Some(value) = parser.optional_value().filter(|value| !is_clear_yes(value)) {
                request.refusal = Some(format!("--{long}={}", value.to_string_lossy()));
            }
        }
        "notelemetry" | "notelemetry-enabled" | "notelemetry_enabled" => {
            // Whatever value comes with it: it says no in every reading.
            let _ = parser.optional_value();
            request.refusal = Some(format!("--{long}"));
        }
        "json" => request.json = true,
        "quiet" => request.quiet = true,
        "verbose" => request.verbose = true,
        "strict" => request.strict = true,
        "help" | "version" => {}
        _ => return Err(unknown("option", "--", long, OPTIONS.iter().map(|(long, _)| *long))),
    }
    Ok(())
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

fn unknown(what: &str, dashes: &str, word: &str, known: impl Iterator<Item = &'static str>) -> UsageError {
    let nearest = nearest(word, known).map(|nearest| format!(", did you mean {dashes}{nearest}?"));
    usage(&format!("unknown {what} {dashes}{word}{}", nearest.unwrap_or_default()))
}

fn usage(problem: &str) -> UsageError {
    let end = if problem.ends_with('?') { "" } else { ";" };
    UsageError(format!("{problem}{end} see install-record --help"))
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
    fn every_option_is_in_the_table_and_in_the_help() {
        for (_, long, _) in Setting::ALL {
            assert!(OPTIONS.iter().any(|(known, _)| *known == long), "{long}");
        }
        for (long, _) in OPTIONS.iter().filter(|(long, _)| !long.contains('_') && !long.starts_with("no")) {
            assert!(HELP.contains(&format!("--{long}")), "{long}");
        }
        for (word, _) in COMMANDS {
            assert!(HELP.contains(word), "{word}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_named_with_the_way_out() {
        for (line, named) in [
            (&["--colour"][..], "unknown option --colour;"),
            (&["--prodct-family", "X"], "unknown option --prodct-family, did you mean --product-family?"),
            (&["--verison"], "unknown option --verison, did you mean --version?"),
            (&["-x"], "-x"),
            (&["sned"], "unknown command sned, did you mean send?"),
            (&["--profile", "mine", "stauts"], "unknown command stauts, did you mean status?"),
            (&["install"], "unknown command install;"),
            (&["send", "show"], "show"),
            (&["send", "-f", "PS", "Linux"], "unexpected argument 'Linux'"),
            (&["-f"], "-f"),
            (&["--url"], "--url"),
            (&["--set", "novalue"], "--set novalue"),
            (&["--set", "a b=1"], "--set a b=1"),
            (&["check"], "check needs"),
            (&["check", "a", "b"], "unexpected argument 'b'"),
            (&["--quiet=1"], "--quiet"),
            (&["status", "-f", "PS"], "status does not use --product-family;"),
            (&["facts", "--profile", "mine"], "facts does not use --profile;"),
            (&["off", "--json"], "off does not use --json;"),
            (&["flush", "-u", "https://x/"], "flush does not use --url;"),
            (&["flush", "--due"], "unknown option --due"),
            (&["show", "--strict"], "show does not use --strict;"),
            (&["-f", "PS", "--json"], "send does not use --json;"),
        ] {
            let error = parsed(line).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("--help"), "{line:?}: {error}");
            assert!(!error.contains('\n'));
        }
    }

    #[test]
    fn an_operand_ends_the_options_of_a_run_without_a_command() {
        let request = parsed(&["-f", "PS", "-v", "8", "-s", "Oracle", "Linux", "9", "--colour"]).unwrap();
        assert_eq!(request.ignored_operand.as_deref(), Some("Linux"));
        assert_eq!(request.setting(Setting::Os), Some(OsStr::new("Oracle")));
        assert_eq!(request.command, Command::Send);
    }

    #[test]
    fn what_the_product_supplies_keeps_its_text() {
        let request = parsed(&["--set", "a.b=1=2", "--set=c=", "--event", "7", "--profile", "./x.json"]).unwrap();
        assert_eq!(request.given, [("a.b", "1=2"), ("c", "")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(request.setting(Setting::Event), Some(OsStr::new("7")));
        assert_eq!(request.profile.as_deref(), Some(OsStr::new("./x.json")));
        assert_eq!(parsed(&["check", "./x.json"]).unwrap().profile.as_deref(), Some(OsStr::new("./x.json")));
    }

    #[test]
    fn help_version_and_an_empty_root() {
        for (line, command) in [
            (&["-h"][..], Command::Help),
            (&["help"], Command::Help),
            (&["status", "--help"], Command::Help),
            (&["-V"], Command::Version),
            (&["--version"], Command::Version),
        ] {
            assert_eq!(parsed(line).unwrap().command, command, "{line:?}");
        }
        assert_eq!(parsed(&["--root", ""]).unwrap().root, None);
        assert_eq!(parsed(&["--root="]).unwrap().root, None);
        assert_eq!(parsed(&["--root", "/x"]).unwrap().root.as_deref(), Some(OsStr::new("/x")));
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
