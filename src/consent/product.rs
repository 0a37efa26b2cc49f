//! A product's own ways to say no: a line of its configuration file, a key of a JSON file, a switch that it ships as
//! off. Its profile has the rules.

use std::path::Path;

use super::{Refusal, SHIPPED_OFF, files, files::MAX_FILE, files::Read, value};
use crate::host::Host;
use crate::profile::file_path::Directories;
use crate::profile::product_files::{gflag, json_text};
use crate::profile::{ConsentRules, FileRule, Pointer};

const BY_FILE: &str = "the product's own file says no";

/// The first "no" among the product's own ways to say it.
pub fn refusal(host: &Host, rules: &ConsentRules, directories: &Directories) -> Option<Refusal> {
    let mut environment_files = rules.environment_files.iter().filter_map(|path| directories.resolve(path).ok());
    let of_environment = environment_files.find_map(|path| files::refusal_in(&path, read(host, &path), rules));
    let in_files = || rules.files.iter().find_map(|rule| in_file(host, rule, directories));
    of_environment.or_else(in_files).or_else(|| by_default(host, rules, directories))
}

fn read(host: &Host, path: &Path) -> Read {
    files::if_allowed(host.read_of_others(path, MAX_FILE))
}

fn in_file(host: &Host, rule: &FileRule, directories: &Directories) -> Option<Refusal> {
    // A file that cannot be found or may not be read says nothing, unless it is the one that would have to say yes.
    let by_absence = rule.absent.is_some();
    let path = match directories.resolve(&rule.path) {
        Ok(path) => path,
        Err(_) if !by_absence => return None,
        Err(what) => return Some(Refusal::Unplaced(format!("give {what}: {} may say no", &*rule.path))),
    };
    let refused = read(host, &path).map_or(true, |text| text.map_or(by_absence, |text| says_no(&text, rule)));
    refused.then(|| Refusal::Said(path.display().to_string(), BY_FILE))
}

/// Where a product is off unless one of its files turns it on, and none does.
fn by_default(host: &Host, rules: &ConsentRules, directories: &Directories) -> Option<Refusal> {
    let flags = rules.files.iter().filter_map(|it| Some((directories.resolve(&it.path).ok()?, it.gflag.as_ref()?)));
    let flags: Vec<_> = flags.collect();
    let says = |path: &Path, flag: &str| gflag(&read(host, path).ok()??, flag);
    let is_off = rules.default_off && !flags.iter().any(|(path, flag)| says(path, flag) == Some(true));
    let files = flags.iter().map(|(path, _)| path.display().to_string()).reduce(|all, path| all + ", " + &path);
    is_off.then(|| Refusal::Said(files.unwrap_or("the product's configuration".to_owned()), SHIPPED_OFF))
}

/// Whether `text` says no. A text that cannot be understood does.
fn says_no(text: &[u8], rule: &FileRule) -> bool {
    let is_true = |text: &str| ["true", "1", "yes", "on"].iter().any(|word| text.eq_ignore_ascii_case(word));
    let says = |at: &Option<Pointer>, no: &dyn Fn(Option<String>) -> bool| {
        at.as_ref().is_some_and(|pointer| json_text(text, pointer).map_or(true, no))
    };
    rule.gflag.as_ref().is_some_and(|flag| gflag(text, flag) == Some(false))
        || says(&rule.is_true, &|value| value.is_some_and(|value| value::says_no(value.as_bytes())))
        || says(&rule.is_false, &|value| value.is_some_and(|value| !is_true(&value)))
        || says(&rule.absent, &|value| value.is_none_or(|value| value.is_empty() || value == "false"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keys() {
        let rule = |way: &str| serde_json::from_str::<FileRule>(&format!(r#"{{"path":"/x","{way}":"/t/v"}}"#)).unwrap();
        let (off, on, absent) = (rule("false"), rule("true"), rule("absent"));
        for (text, is_false, is_true, is_absent) in [
            (r#"{"t":{"v":false}}"#, true, false, true),
            (r#"{"t":{"v":true}}"#, false, true, false),
            (r#"{"t":{"v":"true"}}"#, false, true, false),
            (r#"{"t":{"v":"1"}}"#, false, true, false),
            (r#"{"t":{"v":1}}"#, false, true, false),
            (r#"{"t":{"v":0}}"#, true, false, false),
            (r#"{"t":{"v":[]}}"#, true, true, false),
            (r#"{"t":{"v":"no"}}"#, true, false, false),
            (r#"{"t":{"v":"junk"}}"#, true, true, false),
            (r#"{"t":{"v":""}}"#, true, false, true),
            (r#"{"t":{"v":null}}"#, false, false, true),
            (r#"{"t":{}}"#, false, false, true),
            (r#"{"t":false}"#, true, true, true),
            (r#"{"t":null}"#, true, true, true),
            ("null", true, true, true),
            ("[]", false, false, true),
            ("{}", false, false, true),
            ("", true, true, true),
            ("{", true, true, true),
            ("\u{feff}{}", true, true, true),
        ] {
            let found = [&off, &on, &absent].map(|rule| says_no(text.as_bytes(), rule));
            assert_eq!(found, [is_false, is_true, is_absent], "{text}");
        }
    }
}
