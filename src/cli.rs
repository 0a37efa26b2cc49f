//! Turns the arguments into a [`Request`]. Nothing else is looked at here: no environment, no file and no profile.
//!
//! The short options are those of Percona's call-home.sh, and mean what getopts makes of them: `-f VALUE` is the same
//! as `-fVALUE`. So the program can take the script's place under any file name. The parser, the help and the errors
//! all come from one table of commands and one table of options.

use std::ffi::{OsStr, OsString};

use lexopt::Arg;

use crate::{endpoint::may_hold_a_password, nearest::nearest, template::is_key};

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
    /// Print the version.
    Version,
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

/// The name under which the operand of `check` is kept among the options.
const OPERAND: &str = "PROFILE";

const TITLE: &str = "install-record - report one installation, once, unless somebody said no\n\nCommands:\n";
const SAY_NO: &str = "
To say no, any one of these is enough:
  PERCONA_TELEMETRY_DISABLE=1 or DO_NOT_TRACK=1 in the environment, or: install-record off
The names in [] are the percona profile's variables; an option wins over its variable.
";

/// The text of `--help`.
pub fn help() -> String {
    let mut text = TITLE.to_owned();
    for (word, _, operands, about) in COMMANDS {
        text += &format!("  install-record {:<38} {about}\n", format!("{word} {operands}"));
    }
    let mut section: &[Command] = &[];
    for (long, letter, value, commands, about) in OPTIONS {
        if commands != section {
            let words = COMMANDS.iter().filter(|(_, command, ..)| commands.contains(command)).map(|(word, ..)| *word);
            text += &format!("\nOptions of {}:\n", words.collect::<Vec<_>>().join(", "));
            section = commands;
        }
        let short = if letter == ' ' { "    ".to_owned() } else { format!("-{letter}, ") };
        let gap = if value.is_empty() || value.starts_with('=') { "" } else { " " };
        text += &format!("  {short}{:<27} {about}\n", format!("--{long}{gap}{value}"));
    }
    text + SAY_NO
}

/// An option as messages name it: `-f (--product-family)`.
pub fn flag(long: &str) -> String {
    let known = OPTIONS.iter().find(|(known, letter, ..)| *known == long && *letter != ' ');
    known.map_or_else(|| format!("--{long}"), |(_, letter, ..)| format!("-{letter} (--{long})"))
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
        self.value("profile").or_else(|| self.value(OPERAND))
    }

    /// Whether a run counts as failed when a bug or the alarm ends it. An installation must not fail because of that,
    /// but an administrator must not believe that the command was carried out.
    pub fn fails_when_cut_short(&self) -> bool {
        self.has("strict") || !matches!(self.command, Send | Flush)
    }
}

/// A mistake on the command line: one line that names the mistake and what to do instead.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Parses a command line, without the program's own name.
///
/// # Errors
/// [`UsageError`] for an unknown command or option, one that the command does not use, a missing or an unexpected
/// value.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, UsageError> {
    let args: Vec<OsString> = args.into_iter().collect();
    let (mut request, mut command) = (Request { refusal: refusal(&args), ..Request::default() }, None);
    let mut parser = lexopt::Parser::from_args(args);
    // getopts takes `-f=X` as the value `=X`.
    parser.set_short_equals(false);
    while let Some(arg) = parser.next().map_err(|error| usage(error.to_string()))? {
        match arg {
            Arg::Long(name) => take(&mut request, name.to_owned(), &mut parser)?,
            Arg::Short(letter) => {
                let known = OPTIONS.iter().find(|(_, known, ..)| *known == letter && letter != ' ');
                let known = known.ok_or_else(|| usage(format!("unknown option -{letter}")))?;
                take(&mut request, known.0.to_owned(), &mut parser)?;
            }
            Arg::Value(word) => {
                let text = word.to_string_lossy().into_owned();
                let text = if may_hold_a_password(&text) { "a URL with a password".to_owned() } else { text };
                match (command, COMMANDS.iter().find(|(known, ..)| *known == text)) {
                    (None, Some((_, known, ..))) => command = Some(*known),
                    (Some(Check), _) if !request.has(OPERAND) => request.options.push((OPERAND, word)),
                    // After one of call-home.sh's options, an operand ends the options. Without one before it, it is a
                    // mistyped command.
                    (None, None) if request.options.iter().any(|(long, _)| flag(long).contains('(')) => {
                        // These two choose the machine and the product, so they must not be ignored.
                        let begins = |word: &OsString, with: &str| word.as_encoded_bytes().starts_with(with.as_bytes());
                        let lost = |word| ["--root", "--profile"].into_iter().find(|lost| begins(&word, lost));
                        if let Some(lost) = parser.raw_args().into_iter().flatten().find_map(lost) {
                            return Err(usage(format!("'{text}' is no option, and {lost} after it would be ignored")));
                        }
                        request.ignored_operand = Some(text);
                        break;
                    }
                    (None, None) => return Err(unknown("command", "", &text, COMMANDS.iter().map(|(word, ..)| *word))),
                    (Some(_), _) => return Err(usage(format!("unexpected argument '{text}'"))),
                }
            }
        }
    }
    request.command = match command.unwrap_or_default() {
        _ if request.has("help") => Command::Help,
        _ if request.has("version") => Command::Version,
        command => command,
    };
    if request.command == Check && !request.has(OPERAND) {
        return Err(usage("check needs the name or the path of a profile".to_owned()));
    }
    let checked = COMMANDS.iter().find(|(_, known, ..)| *known == request.command && *known != Command::Help);
    let is_used = |name| OPTIONS.iter().any(|(known, .., by, _)| *known == name && by.contains(&request.command));
    let unused = request.options.iter().map(|(name, _)| *name).find(|name| *name != OPERAND && !is_used(*name));
    match checked.zip(unused) {
        Some(((word, ..), long)) => Err(usage(format!("{word} does not use --{long}"))),
        None => Ok(request),
    }
}

/// Takes one option with its value.
fn take(request: &mut Request, written: String, parser: &mut lexopt::Parser) -> Result<(), UsageError> {
    // gflags allows `_` in place of `-`, and `no` in front of the name.
    let name = written.replace('_', "-");
    let name = name.strip_prefix("no").filter(|name| name.starts_with("telemetry")).unwrap_or(&name);
    let Some((long, _, value, ..)) = OPTIONS.iter().find(|(known, ..)| *known == name) else {
        return Err(unknown("option", "--", &written, OPTIONS.iter().map(|(long, ..)| *long)));
    };
    let given = match value.as_bytes() {
        b"" => None,
        // A value may follow as a word of its own.
        [b'=', ..] => parser.optional_value().or_else(|| {
            let mut rest = parser.try_raw_args()?;
            rest.next_if(|next| is_value(&next.to_string_lossy()))
        }),
        _ => Some(parser.value().map_err(|_| usage(format!("{} needs a value", flag(long))))?),
    };
    // Only the last one would count, and a "no" that was meant for the first would be lost.
    if *long == "profile" && request.has(long) {
        return Err(usage("--profile is given twice".to_owned()));
    }
    if let ("set", Some(given)) = (*long, &given) {
        request.given.push(key_and_value(&given.to_string_lossy())?);
    }
    request.options.push((long, given.unwrap_or_default()));
    Ok(())
}

/// The flag that says no. It counts anywhere on the command line, also behind an operand or in place of a missing
/// value.
fn refusal(args: &[OsString]) -> Option<String> {
    let mut words = args.iter().map(|arg| arg.to_string_lossy()).peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--") else { continue };
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        let value = value.or_else(|| words.peek().map(|next| &**next).filter(|next| is_value(next)));
        // With `no` before the name, it says no whatever its value is.
        let is_no = match &*name.replace('_', "-") {
            "notelemetry" | "notelemetry-enabled" => true,
            "telemetry" | "telemetry-enabled" => value.is_some_and(|value| !is_clear_yes(value)),
            _ => false,
        };
        if is_no {
            return Some(word.into_owned());
        }
    }
    None
}

/// Whether a word behind `--telemetry` is its value, and not a command that has such an option.
fn is_value(next: &str) -> bool {
    let is_command = |(word, command, ..): &(&str, Command, &str, &str)| *word == next && CONSENT.contains(command);
    !next.starts_with('-') && !COMMANDS.iter().any(is_command)
}

fn key_and_value(given: &str) -> Result<(String, String), UsageError> {
    let shown: String = given.chars().take(80).collect();
    let wrong = || usage(format!("--set {shown}: must be KEY=VALUE, the key of letters, digits, . _ - , at most 64"));
    let (key, value) = given.split_once('=').filter(|(key, _)| is_key(key)).ok_or_else(wrong)?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Whether the value clearly says yes. Any other value is a "no", because doubt about consent is a "no".
fn is_clear_yes(value: &str) -> bool {
    ["1", "true", "yes", "on"].iter().any(|yes| value.trim().eq_ignore_ascii_case(yes))
}

fn unknown(what: &str, dashes: &str, word: &str, known: impl Iterator<Item = &'static str>) -> UsageError {
    let nearest = nearest(word, known).map(|nearest| format!(", did you mean {dashes}{nearest}?"));
    usage(format!("unknown {what} {dashes}{word}{}", nearest.unwrap_or_default()))
}

fn usage(problem: String) -> UsageError {
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
            (&["check", "a", "--json"], "check does not use --json;"),
            (&["check", "--profile", "a"], "check needs"),
            (&["flush", "-u", "https://x/"], "flush does not use --url;"),
            (&["flush", "--due"], "unknown option --due"),
            (&["-f", "PS", "--json"], "send does not use --json;"),
            (
                &["-f", "PS", "-s", "Oracle", "Linux", "9", "--root", "/tree"],
                "'Linux' is no option, and --root after it would be ignored;",
            ),
            (&["-f", "PS", "Linux", "--root=/tree"], "--root after it"),
            (&["-f", "PS", "Linux", "--profile", "acme"], "--profile after it"),
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
        for (line, command) in [
            (&["-h"][..], Command::Help),
            (&["help"], Command::Help),
            (&["status", "--help"], Command::Help),
            (&["-V"], Command::Version),
            (&["--version"], Command::Version),
        ] {
            assert_eq!(parsed(line).unwrap().command, command, "{line:?}");
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
        assert_eq!(parsed(&["--telemetry"]).unwrap().refusal, None);
        for flag in
            ["--telemetry-enabled=false", "--telemetry_enabled=0", "--notelemetry-enabled", "--notelemetry=true"]
        {
            assert!(parsed(&[flag]).unwrap().refusal.is_some(), "{flag}");
        }
        // Behind an operand, as the operand itself, in the place of a value that is missing, after the end of options.
        for (line, says_no) in [
            (&["-f", "PS", "-s", "Oracle", "Linux", "9", "--telemetry=false"][..], true),
            (&["-f", "PS", "Linux", "--notelemetry_enabled"], true),
            (&["-f", "PS", "--telemetry", "false"], true),
            (&["-f", "PS", "--telemetry-enabled", "disabled"], true),
            (&["-f", "PS", "--telemetry", "yes"], false),
            (&["-f", "PS", "--telemetry", "-v", "8"], false),
            (&["-f", "PS", "-s", "--telemetry=false", "-v", "8"], true),
            (&["-f", "PS", "--", "--telemetry=false"], true),
            (&["-f", "PS", "Linux", "--telemetry=true", "-j", "/usr/local/percona/telemetry_uuid"], false),
            (&["--telemetry", "send", "-f", "PS"], false),
        ] {
            assert_eq!(parsed(line).unwrap().refusal.is_some(), says_no, "{line:?}");
        }
    }
}
