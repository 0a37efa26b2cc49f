//! Changes one value in a JSON file that belongs to others. Every other value stays as it was written, digit by digit.
//! The objects on the way to it are written anew: sorted by key, and indented by tabs, as the products that own these
//! files do it.

use std::{collections::BTreeMap, io};

use serde_json::{Value, value::RawValue};

/// The JSON file `text` with `value` at `pointer` (RFC 6901), or without anything there. Missing objects on the way are
/// made. Objects that become empty are taken out.
///
/// # Errors
/// When the text is no JSON, or something on the way is no object.
pub fn json_with(text: &[u8], pointer: &str, value: Option<Value>) -> Result<Vec<u8>, io::Error> {
    let text = if text.trim_ascii().is_empty() { b"{}" } else { text.trim_ascii() };
    // Nothing is written that could not be read back. Beside good objects there may be bad JSON, or a number that is
    // too large.
    serde_json::from_slice::<Value>(text).map_err(|error| io::Error::other(format!("not JSON: {error}")))?;
    let keys: Vec<String> = pointer.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~")).collect();
    let written = put(&String::from_utf8_lossy(text), &keys, value.map(|value| value.to_string()), 1)?;
    Ok(format!("{}\n", written.as_deref().unwrap_or("{}")).into_bytes())
}

/// The object `text`, `depth` objects deep, with `value` at `keys` below it; `None` where nothing is left of it.
fn put(text: &str, keys: &[String], value: Option<String>, depth: usize) -> io::Result<Option<String>> {
    let [key, rest @ ..] = keys else { return Ok(value) };
    let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(text.as_bytes())
        .map_err(|_| io::Error::other("not the JSON object that it should be"))?;
    let old = members.remove(key);
    if let Some(new) = put(old.as_ref().map_or("{}", |old| old.get()), rest, value, depth + 1)? {
        members.insert(key.clone(), RawValue::from_string(new)?);
    }
    let line = |(key, value)| format!("\n{}{}: {value}", "\t".repeat(depth), Value::from(key));
    let lines: Vec<String> = members.into_iter().map(line).collect();
    Ok((!lines.is_empty()).then(|| format!("{{{}\n{}}}", lines.join(","), "\t".repeat(depth - 1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_goes_and_the_others_stay() {
        for (text, pointer, rest) in [
            (r#"{"a":1,"b":2,"c":3}"#, "/a", "{\n\t\"b\": 2,\n\t\"c\": 3\n}"),
            (r#"{"c":1e99, "b" : 2 ,"a~/":[1, 2]}"#, "/b", "{\n\t\"a~/\": [1, 2],\n\t\"c\": 1e99\n}"),
            (r#"{"a~/":1,"c":{"d" : 3} }"#, "/a~0~1", "{\n\t\"c\": {\"d\" : 3}\n}"),
            (r#"{"a":{"b":2},"c":3}"#, "/a/b", "{\n\t\"c\": 3\n}"),
            (r#"{"a":1}"#, "/a", "{}"),
            (r#"{"a":1}"#, "/b/c", "{\n\t\"a\": 1\n}"),
        ] {
            let found = String::from_utf8(json_with(text.as_bytes(), pointer, None).unwrap()).unwrap();
            assert_eq!(found.trim_end(), rest, "{text} {pointer}");
        }
    }
}
