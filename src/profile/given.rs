//! What the caller supplies by `--set KEY=VALUE`, checked against what the profile says of each key.
//!
//! Pure: rules and texts in, values out. Only keys that the record's template names come through.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Profile;
use crate::template::{Given, MAX_GIVEN, Template};

/// What a profile says about one key.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(try_from = "GivenRuleText")]
pub struct GivenRule {
    /// The value where the caller gives none.
    pub default: Option<Value>,
    /// Whether a record cannot be made without it.
    pub required: bool,
    /// What the value has to be.
    pub form: Form,
    /// The counters that get through; `None` is every name that is an identifier.
    names: Option<Vec<String>>,
}

/// What a value has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Any JSON, or a text.
    #[default]
    Any,
    /// A number.
    Number,
    /// Words, sent in capitals with `_` between them, up to the first that is no plain lower-case word: `wunderctl up
    /// --debug secret` is `WUNDERCTL_UP`. What a user typed after a command's own words never leaves.
    Capitals,
    /// Counts by name: an object, or one `--set KEY.NAME=COUNT` for each.
    Counters,
}

/// A [`GivenRule`] as a profile writes it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GivenRuleText {
    default: Option<Value>,
    required: bool,
    form: Form,
    names: Option<Vec<String>>,
}

impl TryFrom<GivenRuleText> for GivenRule {
    type Error = &'static str;

    fn try_from(text: GivenRuleText) -> Result<GivenRule, &'static str> {
        let GivenRuleText { default, required, form, names } = text;
        if names.is_some() && form != Form::Counters {
            return Err("names: only counters have names");
        }
        if default.is_some() && required {
            return Err("default: what is required has no default");
        }
        if default.as_ref().is_some_and(|default| !form.takes(default)) {
            return Err("default: is not of the form that a given value must have");
        }
        Ok(GivenRule { default, required, form, names })
    }
}

impl Form {
    /// Whether a default can be `value`: it is sent as it is.
    fn takes(self, value: &Value) -> bool {
        match self {
            Form::Any => true,
            Form::Number => value.is_number(),
            Form::Capitals => value.as_str().is_some_and(|text| {
                text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"_-".contains(&b))
            }),
            Form::Counters => value.as_object().is_some_and(|counts| counts.values().all(Value::is_u64)),
        }
    }
}

/// A value that cannot be meant: one line that names the key and what it must be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GivenError {
    /// It is missing and cannot be.
    #[error("--set {0}=VALUE is missing: the profile {1} needs it")]
    Missing(String, String),
    /// It is of another form.
    #[error("--set {0}={1}: must be {2}")]
    Form(String, String, &'static str),
    /// A count is no number.
    #[error("--set {0}: the count of {1} is '{2}', no whole number")]
    Count(String, String, String),
    /// All together are too long.
    #[error("--set {0}: the values given have {1} bytes, and at most {MAX_GIVEN} fit in a record")]
    TooLong(String, usize),
}

/// What came through, and what did not.
#[derive(Debug, Default, PartialEq)]
pub struct Supplied {
    /// By key.
    pub values: Vec<(String, Given)>,
    /// What is left out, each as a phrase.
    pub ignored: Vec<String>,
}

impl Profile {
    /// The values of the keys that `body` and the headers name, from what was `given` and the rules of the profile.
    ///
    /// # Errors
    /// [`GivenError`].
    pub fn supplied(&self, body: &Template, given: &[(String, String)]) -> Result<Supplied, GivenError> {
        if let Some(key) = self.missing(body, given) {
            return Err(GivenError::Missing(key.to_owned(), self.name.clone()));
        }
        let wanted = self.named_given(body);
        let mut supplied = Supplied::default();
        for key in &wanted {
            if supplied.values.iter().any(|(known, _)| known == key) {
                continue;
            }
            let rule = self.given.get(*key).cloned().unwrap_or_default();
            let value = rule.value(key, given, &mut supplied.ignored)?;
            if let Some(value) = value.or(rule.default.map(Given::of)) {
                supplied.values.push(((*key).to_owned(), value));
            }
        }
        let is_counted = |key: &str, wanted: &str| {
            let is_counters = self.given.get(wanted).is_some_and(|rule| rule.form == Form::Counters);
            is_counters && key.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'))
        };
        let is_used = |key: &str| wanted.iter().any(|wanted| key == *wanted || is_counted(key, wanted));
        let unused = given.iter().map(|(key, _)| key).filter(|key| !is_used(key));
        supplied.ignored.extend(unused.map(|key| format!("--set {key}: the record of {} does not name it", self.name)));
        check_size(&wanted, &supplied.values)?;
        Ok(supplied)
    }
}

/// A template that names a key twice has its value twice.
fn check_size(wanted: &[&str], values: &[(String, Given)]) -> Result<(), GivenError> {
    let size_of = |given: &Given| given.value.to_string().len().max(given.text.len());
    let times = |key: &String| wanted.iter().filter(|name| *name == key).count();
    let size: usize = values.iter().map(|(key, given)| times(key) * size_of(given)).sum();
    match values.iter().max_by_key(|(_, given)| given.text.len()) {
        Some((key, _)) if size > MAX_GIVEN => Err(GivenError::TooLong(key.clone(), size)),
        _ => Ok(()),
    }
}

impl GivenRule {
    /// The value of `key`; `None` where none is given.
    fn value(
        &self,
        key: &str,
        given: &[(String, String)],
        ignored: &mut Vec<String>,
    ) -> Result<Option<Given>, GivenError> {
        let text = given.iter().rfind(|(known, _)| known == key).map(|(_, text)| text.as_str());
        let wrong = |text: &str, must| GivenError::Form(key.to_owned(), shown(text), must);
        match (self.form, text) {
            (Form::Counters, _) => self.counters(key, text, given, ignored),
            (_, None) => Ok(None),
            (Form::Any, Some(text)) => Ok(Some(Given::new(text))),
            (Form::Number, Some(text)) => {
                let value = Given::new(text);
                if value.value.is_number() { Ok(Some(value)) } else { Err(wrong(text, "a number")) }
            }
            (Form::Capitals, Some(text)) => match capitals(text) {
                // What was typed may be a secret, so it is not repeated.
                name if name.is_empty() => Err(wrong("…", "a plain lower-case word, or several")),
                name => Ok(Some(Given::of(name.into()))),
            },
        }
    }

    fn counters(
        &self,
        key: &str,
        whole: Option<&str>,
        given: &[(String, String)],
        ignored: &mut Vec<String>,
    ) -> Result<Option<Given>, GivenError> {
        let whole_counts = match whole.map(|text| (text, Given::new(text).value)) {
            None => Map::new(),
            Some((_, Value::Object(counts))) => counts,
            Some((text, _)) => return Err(GivenError::Form(key.to_owned(), shown(text), "an object of counts")),
        };
        let is_one = |full: &str| full.strip_prefix(key).and_then(|rest| rest.strip_prefix('.')).map(str::to_owned);
        let single = given.iter().filter_map(|(full, text)| Some((is_one(full)?, Given::new(text).value)));
        let all: Vec<(String, Value)> = whole_counts.into_iter().chain(single).collect();
        if whole.is_none() && all.is_empty() {
            return Ok(None);
        }
        let mut counts = Map::new();
        for (name, value) in all {
            if !value.is_u64() {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                return Err(GivenError::Count(key.to_owned(), shown(&name), shown(&text)));
            }
            if is_identifier(&name) && self.names.as_ref().is_none_or(|names| names.contains(&name)) {
                counts.insert(name, value);
            } else {
                ignored.push(format!("--set {key}: '{}' is no counter that the profile knows", shown(&name)));
            }
        }
        Ok(Some(Given::of(Value::Object(counts))))
    }
}

/// In capitals, the words up to the first that is not all lower-case letters, digits and inner `-`.
fn capitals(text: &str) -> String {
    let is_plain = |word: &&str| {
        word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !word.starts_with('-')
            && !word.ends_with('-')
    };
    let words = text.split_whitespace().take_while(is_plain);
    words.map(str::to_ascii_uppercase).collect::<Vec<_>>().join("_")
}

/// A counter's name: an identifier, or several with dots between them. Nothing else could be told from a path, an
/// address or a text of a user's.
fn is_identifier(name: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let is_part =
        |part: &str| !part.is_empty() && !part.starts_with(|c: char| c.is_ascii_digit()) && part.bytes().all(is_letter);
    name.len() <= 64 && name.split('.').all(is_part)
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::*;
    use serde_json::json;

    /// What a profile whose template is `body` makes of what is `given`, by one rule for the key `k`.
    fn supplied(body: &str, rule: &str, given: &[(&str, &str)]) -> Result<Supplied, GivenError> {
        let text = format!(
            r#"{{"name":"mine","consent":{{}},"endpoint":"https://x.example/","set":{{"k":{rule}}},"body":{body}}}"#
        );
        let profile = Source::of_text("mine", &text).profile().unwrap();
        let given: Vec<_> = given.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        profile.supplied(profile.body(None, &given).unwrap(), &given)
    }

    #[test]
    fn values_by_their_form() {
        const ANY: &str = "{}";
        const CAPITALS: &str = r#"{"form":"capitals"}"#;
        const COUNTERS: &str = r#"{"form":"counters"}"#;
        for (rule, given, expected) in [
            (ANY, &[("k", "1.5")][..], Some(json!(1.5))),
            (ANY, &[("k", "v1.5")], Some(json!("v1.5"))),
            (ANY, &[("k", "[1,\"a\"]")], Some(json!([1, "a"]))),
            (ANY, &[("k", "")], Some(json!(""))),
            (ANY, &[("k", "1"), ("k", "2")], Some(json!(2))),
            (ANY, &[("other", "1")], None),
            (CAPITALS, &[("k", "wunderctl up")], Some(json!("WUNDERCTL_UP"))),
            (CAPITALS, &[("k", "wunderctl up --debug --pin secret")], Some(json!("WUNDERCTL_UP"))),
            (CAPITALS, &[("k", "generate  all")], Some(json!("GENERATE_ALL"))),
            (CAPITALS, &[("k", "node start-all v2")], Some(json!("NODE_START-ALL_V2"))),
            (CAPITALS, &[("k", "add ./secret.json x")], Some(json!("ADD"))),
            (CAPITALS, &[("k", "add my_secret x")], Some(json!("ADD"))),
            (CAPITALS, &[("k", "add Mallory x")], Some(json!("ADD"))),
            (CAPITALS, &[("k", "add -- x")], Some(json!("ADD"))),
            (CAPITALS, &[("k", "add x- y")], Some(json!("ADD"))),
            (CAPITALS, &[("k", "add \u{e9} y")], Some(json!("ADD"))),
            (r#"{"form":"number"}"#, &[("k", "600")], Some(json!(600))),
            (COUNTERS, &[("k", r#"{"nxalg.pagerank":2}"#)], Some(json!({"nxalg.pagerank": 2}))),
            (COUNTERS, &[("k.nxalg.pagerank", "2")], Some(json!({"nxalg.pagerank": 2}))),
            (COUNTERS, &[("k./home/u", "2"), ("k.a b", "1"), ("k.10.0.0.1", "1")], Some(json!({}))),
            (
                r#"{"form":"counters","names":["FailedQuery"]}"#,
                &[("k.FailedQuery", "0"), ("k.Other", "1")],
                Some(json!({"FailedQuery": 0})),
            ),
            (r#"{"default":"-0.0.0"}"#, &[], Some(json!("-0.0.0"))),
        ] {
            let taken = supplied(r#"["$set.k"]"#, rule, given).unwrap().values;
            assert_eq!(taken.into_iter().next().map(|(_, given)| given.value), expected, "{rule} {given:?}");
        }
    }

    #[test]
    fn what_is_left_out_is_named() {
        let given = [("k.Known", "1"), ("k.Other", "1"), ("k./home/u", "2"), ("kk", "1"), ("x", "1")];
        let ignored = supplied(r#"["$set.k"]"#, r#"{"form":"counters","names":["Known"]}"#, &given).unwrap().ignored;
        assert_eq!(
            ignored,
            [
                "--set k: 'Other' is no counter that the profile knows",
                "--set k: '/home/u' is no counter that the profile knows",
                "--set kk: the record of mine does not name it",
                "--set x: the record of mine does not name it",
            ]
        );
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let long = "x".repeat(MAX_GIVEN + 1);
        for (rule, given, named) in [
            (r#"{"form":"number"}"#, ("k", "soon"), "--set k=soon: must be a number"),
            (r#"{"form":"counters"}"#, ("k", "7"), "must be an object of counts"),
            (r#"{"form":"counters"}"#, ("k.a", "-1"), "the count of a is '-1'"),
            (r#"{"form":"counters"}"#, ("k", r#"{"a":"x"}"#), "the count of a is 'x'"),
            (r#"{"form":"capitals"}"#, ("k", "--pin secret"), "--set k=…: must be a plain lower-case word"),
            (r#"{"required":true}"#, ("x", "1"), "--set k=VALUE is missing: the profile mine needs it"),
            ("{}", ("k", &long), "--set k: the values given have"),
        ] {
            let error = supplied(r#"["$set.k"]"#, rule, &[given]).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_value_counts_as_often_as_a_record_has_it() {
        let list = format!("[{}]", "1,".repeat(MAX_GIVEN / 6) + "1");
        assert!(supplied(r#"["$set.k","$set.k"]"#, "{}", &[("k", &list)]).is_ok());
        assert!(supplied(r#"["$set.k","$set.k","$set.k","$set.k"]"#, "{}", &[("k", &list)]).is_err());
    }

    #[test]
    fn what_a_rule_cannot_say() {
        for (rule, problem) in [
            (r#"{"names":["a"]}"#, "only counters have names"),
            (r#"{"default":1,"required":true}"#, "what is required has no default"),
            (r#"{"default":"x","form":"number"}"#, "is not of the form"),
            (r#"{"default":"a b","form":"capitals"}"#, "is not of the form"),
            (r#"{"default":{"a":-1},"form":"counters"}"#, "is not of the form"),
            (r#"{"form":"list"}"#, "unknown variant"),
            (r#"{"from":"list"}"#, "unknown field"),
        ] {
            let error = serde_json::from_str::<GivenRule>(rule).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
