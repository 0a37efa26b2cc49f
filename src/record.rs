//! A template and facts make a record's bytes: same input, same bytes.
//!
//! This is the wire: the order of keys, the escaping, the word `unknown` and the limits on length live here and
//! nowhere else. What is too long is cut, never refused, because a record with half a version is worth more to
//! both sides than an installation with an error.

use std::fmt;

use serde_core::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::facts::{Fact, Facts};

/// The longest text in a record, in characters.
pub const MAX_TEXT: usize = 256;

/// The largest record, in bytes.
pub const MAX_BODY: usize = 8 << 10;

/// What stands for a fact that this machine cannot tell.
const UNKNOWN: &str = "unknown";

/// A record with facts in the places of values. The order of keys is that of the profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// `$fact`
    Fact(Fact),
    /// A text that is sent as it is.
    Text(String),
    /// `true`, `false`, `null` or a number, as written.
    Scalar(String),
    /// `[…]`
    List(Vec<Template>),
    /// `{…}`
    Object(Vec<(String, Template)>),
}

impl Template {
    /// The facts that the template names, and so all that is ever read for it.
    pub fn facts(&self) -> Vec<Fact> {
        match self {
            Template::Fact(fact) => vec![*fact],
            Template::Text(_) | Template::Scalar(_) => Vec::new(),
            Template::List(items) => items.iter().flat_map(Template::facts).collect(),
            Template::Object(members) => members.iter().flat_map(|(_, value)| value.facts()).collect(),
        }
    }
}

/// The record as it is posted: valid JSON of at most [`MAX_BODY`] bytes, no text longer than [`MAX_TEXT`].
pub fn render(template: &Template, facts: &Facts) -> String {
    let mut limit = MAX_TEXT;
    loop {
        let mut body = String::new();
        write(template, facts, limit, &mut body);
        if body.len() <= MAX_BODY || limit == 0 {
            return body;
        }
        limit /= 2;
    }
}

fn write(template: &Template, facts: &Facts, limit: usize, out: &mut String) {
    match template {
        Template::Fact(fact) => match facts.get(*fact) {
            Some(Value::String(text)) => write_text(text, limit, out),
            Some(value) => out.push_str(&value.to_string()),
            None => write_text(UNKNOWN, limit, out),
        },
        Template::Text(text) => write_text(text, limit, out),
        Template::Scalar(scalar) => out.push_str(scalar),
        Template::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, facts, limit, out);
            }
            out.push(']');
        }
        Template::Object(members) => {
            out.push('{');
            for (index, (key, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_text(key, usize::MAX, out);
                out.push(':');
                write(value, facts, limit, out);
            }
            out.push('}');
        }
    }
}

fn write_text(text: &str, limit: usize, out: &mut String) {
    let end = text.char_indices().nth(limit).map_or(text.len(), |(index, _)| index);
    out.push_str(&serde_json::Value::from(&text[..end]).to_string());
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Template, D::Error> {
        struct Node;
        impl<'de> Visitor<'de> for Node {
            type Value = Template;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a template")
            }
            fn visit_str<E: serde_core::de::Error>(self, text: &str) -> Result<Template, E> {
                match text.strip_prefix('$') {
                    None => Ok(Template::Text(text.to_owned())),
                    Some(name) => Fact::named(name).map(Template::Fact).ok_or_else(|| {
                        E::custom(format_args!("'{name}' is no fact; known are {}", Fact::known().join(", ")))
                    }),
                }
            }
            fn visit_bool<E>(self, value: bool) -> Result<Template, E> {
                Ok(Template::Scalar(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Template, E> {
                Ok(Template::Scalar(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Template, E> {
                Ok(Template::Scalar(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Template, E> {
                Ok(Template::Scalar(serde_json::Value::from(value).to_string()))
            }
            fn visit_unit<E>(self) -> Result<Template, E> {
                Ok(Template::Scalar("null".to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Template, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Template::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Template, A::Error> {
                let mut members: Vec<(String, Template)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Template>()? {
                    if members.iter().any(|(known, _)| *known == key) {
                        return Err(A::Error::custom(format_args!("the key '{key}' is there twice")));
                    }
                    members.push((key, value));
                }
                Ok(Template::Object(members))
            }
        }
        deserializer.deserialize_any(Node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn keys_keep_their_order_and_scalars_their_type() {
        let facts = Facts::of([(Fact::Deployment, "PACKAGE")]);
        let text = r#"{"z":"$deployment","a":[1,-2,2.5,true,null,"x"],"m":{}}"#;
        assert_eq!(render(&template(text), &facts), r#"{"z":"PACKAGE","a":[1,-2,2.5,true,null,"x"],"m":{}}"#);
    }

    #[test]
    fn a_fact_that_is_missing_is_unknown() {
        assert_eq!(render(&template(r#"["$os.pretty_name"]"#), &Facts::default()), r#"["unknown"]"#);
    }

    #[test]
    fn any_text_is_valid_json_and_comes_back_as_it_was() {
        for text in ["", "a\"b\\c", "line\nfeed\r\t\u{0}\u{1f}\u{7f}", "é\u{2028}😀", "\u{fffd}", "${x} $y"] {
            let facts = Facts::of([(Fact::OsPrettyName, text)]);
            let body = render(&template(r#"["$os.pretty_name"]"#), &facts);
            assert_eq!(serde_json::from_str::<Vec<String>>(&body).unwrap(), [text]);
        }
    }

    #[test]
    fn long_texts_are_cut_at_256_characters() {
        for text in ["x".repeat(1_000_000), "😀".repeat(1000), "\u{1}".repeat(1000)] {
            let facts = Facts::of([(Fact::OsPrettyName, text.as_str())]);
            let body = render(&template(r#"["$os.pretty_name"]"#), &facts);
            let back: Vec<String> = serde_json::from_str(&body).unwrap();
            assert_eq!(back[0].chars().count(), MAX_TEXT);
            assert!(text.starts_with(&back[0]));
        }
    }

    #[test]
    fn a_record_that_is_too_large_loses_text_not_keys() {
        let text = "\u{1}".repeat(1000);
        let facts = Facts::of([(Fact::OsPrettyName, text.as_str())]);
        let many = format!("[{}]", vec![r#""$os.pretty_name""#; 20].join(","));
        let body = render(&template(&many), &facts);
        assert!(body.len() <= MAX_BODY, "{}", body.len());
        assert_eq!(serde_json::from_str::<Vec<String>>(&body).unwrap().len(), 20);
    }

    #[test]
    fn a_key_twice_is_refused() {
        assert!(serde_json::from_str::<Template>(r#"{"a":1,"a":2}"#).is_err());
    }
}
