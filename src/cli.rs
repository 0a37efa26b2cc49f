//! Turns the arguments into a [`Request`]. Nothing else is looked at here: no environment, no file and no profile.
//!
//! The short options are those of Percona's call-home.sh, and mean what getopts makes of them: `-f VALUE` is the same
//! as `-fVALUE`. So the program can take the script's place under any file name. The parser, the help and the errors
//! all come from one table of commands and one table of options.

use std::{ffi::OsStr, ffi::OsString, os::unix::ffi::OsStrExt};

use lexopt::Arg;

use crate::{endpoint::may_hold_a_password, nearest::nearest, outcome::Outcome, template::is_key};

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
    /// Check a profile.
    Check,
    /// Print [`help`].
    Help,
}

use Command::{Check, Facts, Flush, Forget, Off, On, Send, Show, Status};

/// Every command: its word, its arguments, and what it does.
pub const COMMANDS: [(&str, Command, &str, &str); 10] = [
    ("send", Send, "-f FAMILY -v VERSION [options]", "report this installation once"),
    ("show", Show, "[same options]", "print the body that would be sent; send and write nothing"),
    ("status", Status, "[--json]", "print who said no, what was sent and what waits"),
    ("off", Off, "[--profile P]", "switch records off (without --profile: for all products)"),
    ("on", On, "[--profile P]", "switch them on again"),
    ("flush", Flush, "", "send what waits; consent is checked again"),
    ("forget", Forget, "[--profile P]", "delete IDs, waiting records and receipts; what is off stays off"),
    ("facts", Facts, "[--json]", "print every fact that this program can read, with its value here"),
    ("check", Check, "PROFILE", "check a profile; print what it can send and who can say no"),
    ("help", Command::Help, "", "print this text"),
];

const EVERY: &[Command] = &[Send, Show, Status, Off, On, Flush, Forget, Facts, Check];
const RECORD: &[Command] = &[Send, Show];
const TIME: &[Command] = &[Send, Show, Flush];
const CONSENT: &[Command] = &[Send, Show, Status, Flush];
const IDENTITY: &[Command] = &[Send, Show, Status, Off, Flush, Forget];
const PLACE: &[Command] = &[Send, Show, Status, Off, On, Flush, Forget];

/// Every option: its name, its letter, its value, the commands that use it, and what it means. It is an error to give a
/// command an option that it does not use.
pub const OPTIONS: [(&str, char, &str, &[Command], &str); 24] = [
    ("product-family", 'f', "FAMILY", RECORD, "letters, digits, _ - . , at most 64 [PERCONA_PRODUCT_FAMILY]"),
    ("product-version", 'v', "VERSION", RECORD, "[PERCONA_PRODUCT_VERSION]"),
    ("deployment", 'd', "VALUE", RECORD, "default: detected [PERCONA_DEPLOYMENT_METHOD]"),
    ("os", 's', "VALUE", RECORD, "default: detected [PERCONA_OPERATING_SYSTEM]"),
    ("instance-id", 'i', "UUID", RECORD, "used only where none is stored yet [PERCONA_INSTANCE_ID]"),
    ("set", ' ', "KEY=VALUE", RECORD, "a value that only the product knows: JSON, or else a text"),
    ("event", ' ', "NAME", RECORD, "what happened"),
    ("pid", ' ', "PID", RECORD, "the product's process"),
    ("connect-timeout", 'c', "SECONDS", TIME, "default 2, at most 60, fractions allowed [PERCONA_CONNECT_TIMEOUT]"),
    ("timeout", 't', "SECONDS", TIME, "for everything, default 3, at most 60 [PERCONA_SEND_TIMEOUT]"),
    ("url", 'u', "URL", &[Send, Show, Status], "where to send to: https [PERCONA_TELEMETRY_URL]"),
    ("telemetry", ' ', "=false", CONSENT, "say no"),
    ("telemetry-enabled", ' ', "=false", CONSENT, "say no"),
    ("state-file", 'j', "FILE", IDENTITY, "where the ID is stored [PERCONA_TELEMETRY_CONFIG_FILE_PATH]"),
    ("profile", ' ', "NAME|PATH", PLACE, "the product's profile; for a record, the default is percona"),
    ("project", ' ', "DIR", PLACE, "the project that the product works on"),
    ("state-dir", ' ', "DIR", PLACE, "the product's data directory"),
    ("strict", ' ', "", TIME, "exit 1 if a record could not be delivered"),
    ("json", ' ', "", &[Status, Facts], "print JSON"),
    ("root", ' ', "DIR", EVERY, "act on the system tree at DIR"),
    ("quiet", ' ', "", EVERY, "print nothing on stderr but errors"),
    ("verbose", ' ', "", EVERY, "print each decision and its reason on stderr"),
    ("help", 'h', "", EVERY, "print this text"),
    ("version", 'V', "", EVERY, "print the version"),
];

const SAY_NO: &str = "
To say no, any one of these is enough:
  PERCONA_TELEMETRY_DISABLE=1 or DO_NOT_TRACK=1 in the environment, or: install-record off
The names in [] are the percona profile's variables; an option wins over its variable.
";

/// The text of `--help`.
pub fn help() -> String {
    let mut text = "install-record - report one installation, once, unless somebody said no\n\nCommands:\n".to_owned();
    for (word, _, operands, about) in COMMANDS {
        text += &format!("  install-record {:<38} {about}\n", format!("{word} {operands}"));
    }
    text += "\nOptions, of which a command takes those that it uses:\n";
    for (long, letter, value, _, about) in OPTIONS {
        let short = if letter == ' ' { "    ".to_owned() } else { format!("-{letter}, ") };
        let gap = if value.is_empty() || value.starts_with('=') { "" } else { " " };
        text += &format!("  {short}{:<27} {about}\n", format!("--{long}{gap}{value}"));
    }
    text + SAY_NO
}

/// A parsed command line.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// The word that ended the options, as with getopts, where no command was given.
    pub ignored_operand: Option<String>,
    /// `--set KEY=VALUE`, in order.
    pub given: Vec<(String, String)>,
    /// The flag that says no on the command line, as it was written.
    pub refusal: Option<String>,
    /// The profile that `check` is given.
    operand: Option<OsString>,
    /// Every option with its value, in order.
    options: Vec<(&'static str, OsString)>,
}

impl Request {
    /// The value of an option; the last one counts.
    pub fn value(&self, long: &str) -> Option<&OsStr> {
        self.options.iter().rfind(|(known, _)| *known == long).map(|(_, value)| value.as_os_str())
    }

    /// The value of an option. An empty value counts as none.
    pub fn setting(&self, long: &str) -> Option<&OsStr> {
        self.value(long).filter(|value| !value.is_empty())
    }

    /// Whether an option is there.
    pub fn has(&self, long: &str) -> bool {
        self.value(long).is_some()
    }

    /// `--profile`, a name or a path; for `check`, its argument.
    pub fn profile(&self) -> Option<&OsStr> {
        self.value("profile").or(self.operand.as_deref())
    }

    /// Whether an installation or a timer calls it, and no administrator. It must not fail because of this program. An
    /// administrator must not believe that a command was carried out that was not.
    pub fn is_unattended(&self) -> bool {
        matches!(self.command, Send | Flush)
    }
}

/// Parses a command line, without the program's own name.
///
/// # Errors
/// [`Outcome::Printed`] for `--help` and `--version`, behind which nothing is looked at. [`Outcome::Usage`] for an unknown
/// command or option, one that the command does not use, a missing or an unexpected value.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, Outcome> {
    let args: Vec<OsString> = args.into_iter().collect();
    let (mut request, mut command) = (Request { refusal: refusal(&args), ..Request::default() }, None);
    let mut parser = lexopt::Parser::from_args(args);
    // getopts takes `-f=X` as the value `=X`.
    parser.set_short_equals(false);
    let wrong = |error: lexopt::Error| usage(error.to_string());
    while request.ignored_operand.is_none()
        && let Some(arg) = parser.next().map_err(wrong)?
    {
        let (long, _, value, ..) = match arg {
            Arg::Long(name) => {
                let known = OPTIONS.iter().find(|(long, ..)| *long == name);
                known.ok_or_else(|| unknown("option", "--", name, OPTIONS.iter().map(|(long, ..)| *long)))?
            }
            Arg::Short(letter) => {
                let known = OPTIONS.iter().find(|(_, known, ..)| *known == letter && letter != ' ');
                known.ok_or_else(|| usage(format!("unknown option -{letter}")))?
            }
            Arg::Value(word) => {
                command = operand(&mut request, command, word)?;
                continue;
            }
        };
        let given = if value.is_empty() { OsString::new() } else { parser.value().map_err(wrong)? };
        match *long {
            "help" => return Err(Outcome::printed(help())),
            "version" => return Err(Outcome::printed(format!("install-record {}\n", env!("CARGO_PKG_VERSION")))),
            // Only the last one would count, and a "no" that was meant for the first would be lost.
            "profile" if request.has(long) => return Err(usage("--profile is given twice".to_owned())),
            "set" => request.given.push(key_and_value(&given.to_string_lossy())?),
            _ => {}
        }
        request.options.push((long, given));
    }
    // These two choose the machine and the product, so an operand in front must not take them away.
    let lost = |arg: &OsString| ["--root", "--profile"].iter().any(|it| arg.as_bytes().starts_with(it.as_bytes()));
    if request.ignored_operand.is_some() && parser.raw_args().is_ok_and(|mut rest| rest.any(|arg| lost(&arg))) {
        return Err(usage(
            "an operand ends the options, and --root or --profile behind it would be ignored".to_owned(),
        ));
    }
    request.command = command.unwrap_or_default();
    if request.command == Check && request.operand.is_none() {
        return Err(usage("check needs the name or the path of a profile".to_owned()));
    }
    let command = COMMANDS.iter().find(|(_, known, ..)| *known == request.command);
    let is_used = |name| OPTIONS.iter().any(|(known, .., by, _)| *known == name && by.contains(&request.command));
    match command.zip(request.options.iter().find(|(name, _)| !is_used(*name))) {
        Some(((word, ..), (long, _))) => Err(usage(format!("{word} does not use --{long}"))),
        None => Ok(request),
    }
}

/// Takes a word that is no option, and returns the command that is known then.
fn operand(request: &mut Request, command: Option<Command>, word: OsString) -> Result<Option<Command>, Outcome> {
    let text = word.to_string_lossy();
    let text = if may_hold_a_password(&text) { "a URL with a password".into() } else { text };
    match (command, COMMANDS.iter().find(|(known, ..)| *known == text)) {
        (None, Some((_, known, ..))) => return Ok(Some(*known)),
        (Some(Check), _) if request.operand.is_none() => request.operand = Some(word),
        // After one of call-home.sh's options, an operand ends the options. Without one before it, it is a mistyped
        // command.
        (None, None) if OPTIONS.iter().any(|(long, letter, ..)| *letter != ' ' && request.has(long)) => {
            request.ignored_operand = Some(text.into_owned());
        }
        (None, None) => return Err(unknown("command", "", &text, COMMANDS.iter().map(|(word, ..)| *word))),
        (Some(_), _) => return Err(usage(format!("unexpected argument '{text}'"))),
    }
    Ok(command)
}

// What was typed may be a secret, so it is not repeated.
fn key_and_value(given: &str) -> Result<(String, String), Outcome> {
    let wrong = || usage("--set must be KEY=VALUE, the key of letters, digits, . _ - , at most 64".to_owned());
    let (key, value) = given.split_once('=').filter(|(key, _)| is_key(key)).ok_or_else(wrong)?;
    Ok((key.to_owned(), value.to_owned()))
}

/// The flag that says no: all but `--telemetry=true` and its like. It counts anywhere on the command line, also behind
/// an operand or in place of a missing value.
fn refusal(args: &[OsString]) -> Option<String> {
    args.iter().map(|arg| arg.to_string_lossy()).find_map(|word| {
        let (name, value) = word.split_once('=').unwrap_or((&word, ""));
        // Doubt about consent is a "no".
        let is_yes = ["1", "true", "yes", "on"].iter().any(|yes| value.trim().eq_ignore_ascii_case(yes));
        let says_no = ["--telemetry", "--telemetry-enabled"].contains(&name) && !is_yes;
        says_no.then(|| word.to_string())
    })
}

fn unknown(what: &str, dashes: &str, word: &str, known: impl Iterator<Item = &'static str>) -> Outcome {
    let nearest = nearest(word, known).map(|nearest| format!(" (did you mean {dashes}{nearest}?)"));
    usage(format!("unknown {what} {dashes}{word}{}", nearest.unwrap_or_default()))
}

fn usage(problem: String) -> Outcome {
    Outcome::Usage(format!("{problem}; see install-record --help"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[&str]) -> Result<Request, Outcome> {
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
            let names = ["product-family", "product-version", "deployment", "os", "instance-id", "state-file"];
            let settings = names.map(|long| request.setting(long));
            let expected = [Some("PS"), Some("8.0"), Some("DOCKER"), Some("el9"), None, None];
            assert_eq!(settings, expected.map(|v| v.map(OsStr::new)));
            let settings = ["url", "connect-timeout", "timeout"].map(|long| request.setting(long));
            assert_eq!(settings, ["https://x/", "2", "7"].map(|v| Some(OsStr::new(v))));
        }
    }

    #[test]
    fn every_option_is_in_the_table_and_in_the_help() {
        let help = help();
        for (long, ..) in OPTIONS {
            assert!(help.contains(&format!("--{long}")), "{long}");
        }
        for (word, ..) in COMMANDS {
            assert!(help.contains(&format!("install-record {word} ")), "{word}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
    }

    #[test]
    fn what_cannot_be_meant_is_named_with_the_way_out() {
        for (line, named) in [
            (&["--colour"][..], "unknown option --colour;"),
            (&["--prodct-family", "X"], "unknown option --prodct-family (did you mean --product-family?);"),
            (&["--verison"], "unknown option --verison (did you mean --version?);"),
            (&["-x"], "-x"),
            (&["sned"], "unknown command sned (did you mean send?);"),
            (&["--profile", "mine", "stauts"], "unknown command stauts (did you mean status?);"),
            (&["install"], "unknown command install;"),
            (&["send", "show"], "show"),
            (&["send", "-f", "PS", "Linux"], "unexpected argument 'Linux'"),
            (&["-f"], "-f"),
            (&["--url"], "--url"),
            (&["--set", "novalue"], "--set must be KEY=VALUE"),
            (&["--set", "a b=1"], "--set must be KEY=VALUE"),
            (&["check"], "check needs"),
            (&["check", "a", "b"], "unexpected argument 'b'"),
            (&["--quiet=1"], "--quiet"),
            (&["status", "-f", "PS"], "status does not use --product-family;"),
            (&["facts", "--profile", "mine"], "facts does not use --profile;"),
            (&["off", "--json"], "off does not use --json;"),
            (&["check", "a", "--json"], "check does not use --json;"),
            (&["check", "--profile", "a"], "check needs"),
            (&["flush", "-u", "https://x/"], "flush does not use --url;"),
            (&["flush", "--due"], "unknown option --due"),
            (&["-f", "PS", "--json"], "send does not use --json;"),
            (&["--telemetry"], "missing argument for option '--telemetry';"),
            (&["--notelemetry-enabled"], "unknown option --notelemetry-enabled"),
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
        // These two choose the machine and the product.
        for lost in ["--root=/t", "--profile"] {
            let problem = parsed(&["-f", "PS", "-s", "Oracle", "Linux", "9", lost, "x"]).unwrap_err().to_string();
            assert!(problem.contains("behind it would be ignored"), "{problem}");
        }
        assert_eq!(request.setting("os"), Some(OsStr::new("Oracle")));
        assert_eq!(request.command, Command::Send);
    }

    #[test]
    fn what_the_product_supplies_keeps_its_text() {
        let request = parsed(&["--set", "a.b=1=2", "--set=c=", "--event", "7", "--profile", "./x.json"]).unwrap();
        assert_eq!(request.given, [("a.b", "1=2"), ("c", "")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(request.setting("event"), Some(OsStr::new("7")));
        assert_eq!(request.profile(), Some(OsStr::new("./x.json")));
        assert_eq!(parsed(&["check", "./x.json"]).unwrap().profile(), Some(OsStr::new("./x.json")));
    }

    #[test]
    fn help_version_and_an_empty_root() {
        assert_eq!(parsed(&["help"]).unwrap().command, Command::Help);
        let version = format!("install-record {}\n", env!("CARGO_PKG_VERSION"));
        for (line, text) in [
            (&["-h"][..], help()),
            (&["status", "--help"], help()),
            (&["-V"], version.clone()),
            (&["--version"], version),
        ] {
            assert_eq!(parsed(line).unwrap_err(), Outcome::printed(text), "{line:?}");
        }
        for (line, root) in [(&["--root", ""][..], None), (&["--root="], None), (&["--root", "/x"], Some("/x"))] {
            assert_eq!(parsed(line).unwrap().setting("root"), root.map(OsStr::new), "{line:?}");
        }
    }

    #[test]
    fn telemetry_flags_say_no_unless_they_clearly_say_yes() {
        for (value, says_no) in
            [("false", true), ("FALSE", true), ("0", true), ("", true), ("junk", true), ("true", false), ("On", false)]
        {
            let flag = format!("--telemetry={value}");
            assert_eq!(parsed(&[&flag]).unwrap().refusal, says_no.then_some(flag));
        }
        // Behind an operand, as the operand itself, in the place of a value that is missing, after the end of options.
        for (line, says_no) in [
            (&["-f", "PS", "-s", "Oracle", "Linux", "9", "--telemetry=false"][..], true),
            (&["-f", "PS", "--telemetry", "false"], true),
            (&["-f", "PS", "--telemetry-enabled", "disabled"], true),
            (&["-f", "PS", "--telemetry", "yes"], true),
            (&["-f", "PS", "--telemetry", "-v", "8"], true),
            (&["-f", "PS", "-s", "--telemetry=false", "-v", "8"], true),
            (&["-f", "PS", "--", "--telemetry=false"], true),
            (&["-f", "PS", "Linux", "--telemetry=true", "-j", "/usr/local/percona/telemetry_uuid"], false),
            (&["--telemetry", "send", "-f", "PS"], true),
        ] {
            assert_eq!(parsed(line).unwrap().refusal.is_some(), says_no, "{line:?}");
        }
    }
}
