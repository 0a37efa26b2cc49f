//! JSON that keeps the order of its keys, and readers of it that know where they are.
//!
//! A profile's template is the wire, so its keys must stay in the order in which they were written; serde_json's own
//! `preserve_order` would cost four crates. Errors name the place (`body.reports[0].id`), which is what the author of
//! a profile needs.

use std::borrow::Cow;
use std::fmt;

use serde_core::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// A JSON value as it was written. Texts without escapes are those of the file: a profile has some three hundred, and
/// copying them is a quarter of what reading it costs.
#[derive(Clone, Debug, PartialEq)]
pub enum Document<'t> {
    /// `true`, `false`, `null` or a number.
    Scalar(Value),
    /// A text.
    Text(Cow<'t, str>),
    /// `[…]`
    List(Vec<Document<'t>>),
    /// `{…}`, no key twice.
    Object(Vec<(Cow<'t, str>, Document<'t>)>),
}

impl Document<'_> {
    /// The same without the order of keys.
    pub fn to_value(&self) -> Value {
        match self {
            Document::Scalar(value) => value.clone(),
            Document::Text(text) => text.as_ref().into(),
            Document::List(items) => items.iter().map(Document::to_value).collect(),
            Document::Object(members) => {
                members.iter().map(|(key, value)| (key.to_string(), value.to_value())).collect()
            }
        }
    }
}

impl<'v> From<&'v Value> for Document<'v> {
    fn from(value: &'v Value) -> Document<'v> {
        match value {
            Value::String(text) => Document::Text(text.into()),
            Value::Array(items) => Document::List(items.iter().map(Document::from).collect()),
            Value::Object(members) => {
                Document::Object(members.iter().map(|(key, value)| (key.into(), value.into())).collect())
            }
            scalar => Document::Scalar(scalar.clone()),
        }
    }
}

/// A part of a document. Its place is looked for only when something is wrong with it: a run that is refused reads a
/// profile too, and should not pay for sentences that nobody will see.
#[derive(Clone, Copy, Debug)]
pub struct Part<'d> {
    value: &'d Document<'d>,
    whole: &'d Document<'d>,
    /// What the whole is called in errors; empty for a file.
    name: &'static str,
}

impl<'d> Part<'d> {
    /// The whole document, called `name` in errors.
    pub fn new(whole: &'d Document<'d>, name: &'static str) -> Part<'d> {
        Part { value: whole, whole, name }
    }

    fn of(self, value: &'d Document<'d>) -> Part<'d> {
        Part { value, ..self }
    }

    /// The value.
    pub fn value(self) -> &'d Document<'d> {
        self.value
    }

    /// What is wrong here, with the place.
    pub fn wrong(self, problem: impl fmt::Display) -> String {
        let place = place_in(self.whole, self.value).unwrap_or_default();
        format!("{}: {problem}", format!("{}{place}", self.name).trim_start_matches('.'))
    }

    fn wrong_key(self, key: &str, problem: impl fmt::Display) -> String {
        let place = place_in(self.whole, self.value).unwrap_or_default();
        format!("{}: {problem}", format!("{}{place}.{key}", self.name).trim_start_matches('.'))
    }

    /// The member `key`, if it is there.
    pub fn get(self, key: &str) -> Option<Part<'d>> {
        let Document::Object(members) = self.value else { return None };
        members.iter().find(|(known, _)| known == key).map(|(_, value)| self.of(value))
    }

    /// The member `key`.
    ///
    /// # Errors
    /// When it is missing.
    pub fn need(self, key: &str) -> Result<Part<'d>, String> {
        self.get(key).ok_or_else(|| self.wrong_key(key, "missing"))
    }

    /// Checks that this is an object of no other than the `known` keys.
    ///
    /// # Errors
    /// The first other key, with the list of the known ones.
    pub fn only(self, known: &[&str]) -> Result<(), String> {
        match self.members()?.find(|(key, _)| !known.contains(key)) {
            Some((key, _)) => Err(self.wrong_key(key, format_args!("unknown key; known are {}", known.join(", ")))),
            None => Ok(()),
        }
    }

    /// The members of an object.
    ///
    /// # Errors
    /// When it is none.
    pub fn members(self) -> Result<impl Iterator<Item = (&'d str, Part<'d>)>, String> {
        let Document::Object(members) = self.value else { return Err(self.wrong("must be an object")) };
        Ok(members.iter().map(move |(key, value)| (key.as_ref(), self.of(value))))
    }

    /// The items of a list.
    ///
    /// # Errors
    /// When it is none.
    pub fn items(self) -> Result<impl Iterator<Item = Part<'d>>, String> {
        let Document::List(items) = self.value else { return Err(self.wrong("must be a list")) };
        Ok(items.iter().map(move |value| self.of(value)))
    }

    /// A text that is not empty.
    ///
    /// # Errors
    /// When it is none.
    pub fn text(self) -> Result<&'d str, String> {
        match self.value {
            Document::Text(text) if !text.is_empty() => Ok(text),
            _ => Err(self.wrong("must be a text that is not empty")),
        }
    }

    /// What `read` makes of each item of the list `key`; nothing, where there is none.
    ///
    /// # Errors
    /// The first of `read`, or when it is no list.
    pub fn each<T>(self, key: &str, read: impl FnMut(Part<'d>) -> Result<T, String>) -> Result<Vec<T>, String> {
        self.get(key).map_or(Ok(Vec::new()), |list| list.items()?.map(read).collect())
    }

    /// What `read` makes of each member of the object `key`; nothing, where there is none.
    ///
    /// # Errors
    /// The first of `read`, or when it is no object.
    pub fn each_member<T>(
        self,
        key: &str,
        read: impl FnMut((&'d str, Part<'d>)) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        self.get(key).map_or(Ok(Vec::new()), |object| object.members()?.map(read).collect())
    }

    /// The texts of the list `key`; none, where there is no list.
    ///
    /// # Errors
    /// When it is no list of texts.
    pub fn texts(self, key: &str) -> Result<Vec<String>, String> {
        self.each(key, |item| item.text().map(str::to_owned))
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn flag(self) -> Result<bool, String> {
        match self.value {
            Document::Scalar(Value::Bool(flag)) => Ok(*flag),
            _ => Err(self.wrong("must be true or false")),
        }
    }
}

/// Where in `whole` the very value `wanted` is: `.body.reports[0]`.
fn place_in(whole: &Document<'_>, wanted: &Document<'_>) -> Option<String> {
    if std::ptr::eq(whole, wanted) {
        return Some(String::new());
    }
    let below = |value, step: String| place_in(value, wanted).map(|place| format!("{step}{place}"));
    match whole {
        Document::List(items) => items.iter().enumerate().find_map(|(at, item)| below(item, format!("[{at}]"))),
        Document::Object(members) => members.iter().find_map(|(key, value)| below(value, format!(".{key}"))),
        Document::Scalar(_) | Document::Text(_) => None,
    }
}

impl<'de> Deserialize<'de> for Document<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Document<'de>, D::Error> {
        struct Node;
        impl<'de> Visitor<'de> for Node {
            type Value = Document<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Document<'de>, E> {
                Ok(Document::Text(text.into()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Document<'de>, E> {
                Ok(Document::Text(text.to_owned().into()))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Document<'de>, E> {
                Ok(Document::Scalar(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Document<'de>, E> {
                Ok(Document::Scalar(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Document<'de>, E> {
                Ok(Document::Scalar(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Document<'de>, E> {
                Ok(Document::Scalar(value.into()))
            }
            fn visit_unit<E>(self) -> Result<Document<'de>, E> {
                Ok(Document::Scalar(Value::Null))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Document<'de>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Document::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document<'de>, A::Error> {
                let mut members: Vec<(Cow<'de, str>, Document<'de>)> = Vec::new();
                // A key is a text, and so a document of its own.
                while let Some((key, value)) = map.next_entry::<Document, Document>()? {
                    let Document::Text(key) = key else { return Err(A::Error::custom("a key is no text")) };
                    if members.iter().any(|(known, _)| *known == key) {
                        return Err(A::Error::custom(format_args!("the key '{key}' is there twice")));
                    }
                    members.push((key, value));
                }
                Ok(Document::Object(members))
            }
        }
        deserializer.deserialize_any(Node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn keys_keep_their_order_and_none_is_there_twice() {
        let Document::Object(members) = document(r#"{"z":1,"a":null,"m":"x"}"#) else { panic!() };
        assert_eq!(members.iter().map(|(key, _)| key.as_ref()).collect::<Vec<_>>(), ["z", "a", "m"]);
        assert!(serde_json::from_str::<Document>(r#"{"a":1,"a":2}"#).is_err());
    }

    #[test]
    fn errors_name_the_place() {
        let document = document(r#"{"a":{"b":["x",""]},"c":1}"#);
        let top = Part::new(&document, "");
        let texts = top.need("a").unwrap().texts("b");
        assert_eq!(texts.unwrap_err(), "a.b[1]: must be a text that is not empty");
        assert_eq!(top.need("d").unwrap_err(), "d: missing");
        assert_eq!(top.get("a").unwrap().only(&["x", "y"]).unwrap_err(), "a.b: unknown key; known are x, y");
        assert_eq!(top.get("c").unwrap().flag().unwrap_err(), "c: must be true or false");
    }
}
