//! What the caller supplies by `--set KEY=VALUE`, checked against what the profile says of each key.
//!
//! Pure: rules and texts in, values out. Only keys that the record's template names come through.

use serde_json::{Map, Value};

use crate::record::{Given, MAX_GIVEN};

/// What a profile says about one key.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenRule {
    /// The value where the caller gives none.
    pub default: Option<Value>,
    /// Whether a record cannot be made without it.
    pub required: bool,
    /// What the value has to be.
    pub form: Form,
}

/// What a value has to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// Any JSON, or a text.
    Any,
    /// A number.
    Number,
    /// A text, sent in capitals with `_` for everything between words: `wunderctl up` is `WUNDERCTL_UP`.
    Capitals,
    /// Counts by name: an object, or one `--set KEY.NAME=COUNT` for each; of these names only, where there is a list.
    Counters(Option<Vec<String>>),
}

impl Form {
    /// Whether a default can be `value`: it is sent as it is.
    pub fn takes(&self, value: &Value) -> bool {
        match self {
            Form::Any => true,
            Form::Number => value.is_number(),
            Form::Capitals => value.as_str().is_some_and(|text| capitals(text) == text),
            Form::Counters(_) => value.as_object().is_some_and(|counts| counts.values().all(Value::is_u64)),
        }
    }
}

/// The values of the keys in `wanted`, from what was `given` and the profile's `rules`.
///
/// # Errors
/// One line that names the key and what it must be.
pub fn values(
    given: &[(String, String)],
    wanted: &[&str],
    rules: &[(String, GivenRule)],
) -> Result<Vec<(String, Given)>, String> {
    let mut values: Vec<(String, Given)> = Vec::new();
    for key in wanted {
        if values.iter().any(|(known, _)| known == key) {
            continue;
        }
        let rule = rules.iter().find(|(known, _)| known == key).map(|(_, rule)| rule);
        let text = given.iter().rfind(|(known, _)| known == key).map(|(_, text)| text.as_str());
        let value = match rule.map(|rule| &rule.form) {
            Some(Form::Counters(names)) => counters(key, text, given, names.as_deref())?,
            Some(Form::Capitals) => text.map(|text| Given::of(capitals(text).into())),
            Some(Form::Number) => text.map(|text| number(key, text)).transpose()?,
            Some(Form::Any) | None => text.map(Given::new),
        };
        let default = || rule.and_then(|rule| rule.default.clone()).map(Given::of);
        if let Some(value) = value.or_else(default) {
            values.push(((*key).to_owned(), value));
        }
    }
    // A template that names a key twice has its value twice.
    let size_of = |given: &Given| given.value.to_string().len().max(given.text.len());
    let times = |key: &String| wanted.iter().filter(|name| *name == key).count();
    let size: usize = values.iter().map(|(key, given)| times(key) * size_of(given)).sum();
    match values.iter().max_by_key(|(_, given)| given.text.len()) {
        Some((key, _)) if size > MAX_GIVEN => {
            Err(format!("--set {key}: the values given have {size} bytes, and at most {MAX_GIVEN} fit in a record"))
        }
        _ => Ok(values),
    }
}

/// Whether `key` is of use for one of the keys in `wanted`.
pub fn is_used(key: &str, wanted: &[&str], rules: &[(String, GivenRule)]) -> bool {
    let counts =
        |wanted: &str| rules.iter().any(|(known, rule)| known == wanted && matches!(rule.form, Form::Counters(_)));
    wanted.iter().any(|wanted| {
        key == *wanted || counts(wanted) && key.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'))
    })
}

fn capitals(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_uppercase).collect::<Vec<_>>().join("_")
}

fn number(key: &str, text: &str) -> Result<Given, String> {
    let value = Given::new(text);
    if value.value.is_number() { Ok(value) } else { Err(format!("--set {key}={}: must be a number", shown(text))) }
}

fn counters(
    key: &str,
    whole: Option<&str>,
    given: &[(String, String)],
    names: Option<&[String]>,
) -> Result<Option<Given>, String> {
    let mut counts = Map::new();
    let mut is_given = false;
    let mut take = |name: &str, value: Value, text: &str| {
        is_given = true;
        if !value.is_u64() {
            return Err(format!("--set {key}: the count of {} is '{}', no whole number", shown(name), shown(text)));
        }
        if is_name(name) && names.is_none_or(|names| names.iter().any(|known| known == name)) {
            counts.insert(name.to_owned(), value);
        }
        Ok(())
    };
    if let Some(text) = whole {
        let Value::Object(members) = Given::new(text).value else {
            return Err(format!("--set {key}={}: must be an object of counts", shown(text)));
        };
        for (name, value) in members {
            let text = value.to_string();
            take(&name, value, &text)?;
        }
    }
    for (full, text) in given {
        if let Some(name) = full.strip_prefix(key).and_then(|rest| rest.strip_prefix('.')) {
            take(name, Given::new(text).value, text)?;
        }
    }
    Ok((is_given || whole.is_some()).then(|| Given::of(Value::Object(counts))))
}

/// A counter's name: an identifier, or several with dots between them. Nothing else could be told from a path, an
/// address or a text of a user's.
fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.split('.').all(|part| {
            !part.is_empty()
                && !part.starts_with(|c: char| c.is_ascii_digit())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        })
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(form: Form) -> GivenRule {
        GivenRule { default: None, required: false, form }
    }

    fn taken(given: &[(&str, &str)], key: &str, rule: GivenRule) -> Result<Option<Value>, String> {
        let given: Vec<_> = given.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        let values = values(&given, &[key], &[(key.to_owned(), rule)])?;
        Ok(values.into_iter().next().map(|(_, given)| given.value))
    }

    #[test]
    fn values_by_their_form() {
        let names = Some(vec!["FailedQuery".to_owned()]);
        for (form, given, expected) in [
            (Form::Any, &[("k", "1.5")][..], Some(json!(1.5))),
            (Form::Any, &[("k", "v1.5")], Some(json!("v1.5"))),
            (Form::Any, &[("k", "[1,\"a\"]")], Some(json!([1, "a"]))),
            (Form::Any, &[("k", "")], Some(json!(""))),
            (Form::Any, &[("k", "1"), ("k", "2")], Some(json!(2))),
            (Form::Any, &[("other", "1")], None),
            (Form::Capitals, &[("k", "wunderctl up")], Some(json!("WUNDERCTL_UP"))),
            (Form::Capitals, &[("k", "generate  --all")], Some(json!("GENERATE_ALL"))),
            (Form::Number, &[("k", "600")], Some(json!(600))),
            (Form::Counters(None), &[("k", r#"{"nxalg.pagerank":2}"#)], Some(json!({"nxalg.pagerank": 2}))),
            (Form::Counters(None), &[("k.nxalg.pagerank", "2")], Some(json!({"nxalg.pagerank": 2}))),
            (Form::Counters(None), &[("k./home/u", "2"), ("k.a b", "1"), ("k.10.0.0.1", "1")], Some(json!({}))),
            (
                Form::Counters(names.clone()),
                &[("k.FailedQuery", "0"), ("k.Other", "1")],
                Some(json!({"FailedQuery": 0})),
            ),
        ] {
            assert_eq!(taken(given, "k", rule(form.clone())).unwrap(), expected, "{form:?} {given:?}");
        }
        let with_default = GivenRule { default: Some(json!("-0.0.0")), ..rule(Form::Any) };
        assert_eq!(taken(&[], "k", with_default).unwrap(), Some(json!("-0.0.0")));
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for (form, given, named) in [
            (Form::Number, ("k", "soon"), "--set k=soon: must be a number"),
            (Form::Counters(None), ("k", "7"), "must be an object of counts"),
            (Form::Counters(None), ("k.a", "-1"), "the count of a is '-1'"),
            (Form::Counters(None), ("k", r#"{"a":"x"}"#), "the count of a"),
        ] {
            let error = taken(&[given], "k", rule(form)).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        let long = "x".repeat(MAX_GIVEN + 1);
        assert!(taken(&[("k", &long)], "k", rule(Form::Any)).unwrap_err().contains("--set k: the values given have"));
    }

    #[test]
    fn a_value_counts_as_often_as_a_record_has_it() {
        let given = [("k".to_owned(), format!("[{}]", "1,".repeat(MAX_GIVEN / 6) + "1"))];
        assert!(values(&given, &["k", "k"], &[]).is_ok());
        assert!(values(&given, &["k", "k", "k", "k"], &[]).is_err());
    }
}
