//! A look over foreign JSON before its meaning is read.
//!
//! Two parsers may disagree about a document with duplicate or case-varied keys, and one of them may be the one that checked it;
//! so such documents are refused, as are those nested deeper than any honest one.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// How deep an untrusted document may nest.
pub const MAX_DEPTH: usize = 64;

/// Objects under these keys hold free names, in which case carries meaning.
const FREE_FORM: &[&str] = &["annotations", "labels", "volumes", "exposedports"];

/// Checks that `bytes` are one JSON document without duplicate keys, without keys that differ in case alone, and of bounded
/// depth.
///
/// # Errors
/// The text says what is wrong and where.
pub fn check_unambiguous(bytes: &[u8]) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    Check { depth: 0, free_form: false }.deserialize(&mut deserializer)?;
    deserializer.end()
}

#[derive(Clone, Copy)]
struct Check {
    depth: usize,
    free_form: bool,
}

impl Check {
    fn below<E: serde::de::Error>(self, key: Option<&str>) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH} levels")));
        }
        let free_form = key.is_some_and(|key| FREE_FORM.iter().any(|name| name.eq_ignore_ascii_case(key)));
        Ok(Self { depth: self.depth + 1, free_form })
    }
}

impl<'de> DeserializeSeed<'de> for Check {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let below = self.below(None)?;
        while seq.next_element_seed(below)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let below = self.below(Some(&key))?;
            let folded = if self.free_form { key.clone() } else { key.to_lowercase() };
            if !seen.insert(folded) {
                return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
            }
            map.next_value_seed(below)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_documents_are_refused() {
        let deep_ok = format!("{}{}", "[".repeat(64), "]".repeat(64));
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        let cases: &[(&str, bool)] = &[
            (r#"{"a":1,"b":{"a":2}}"#, true),
            (r#"{"a":1,"a":1}"#, false),
            (r#"{"layers":[],"Layers":[]}"#, false),
            (r#"{"x":[{"size":1,"ſize":2}]}"#, true),
            (r#"{"x":[{"size":1,"sizE":2}]}"#, false),
            (r#"{"annotations":{"Key":"a","key":"b"}}"#, true),
            (r#"{"annotations":{"key":"a","key":"b"}}"#, false),
            (r#"{"config":{"Labels":{"Key":"a","key":"b"}}}"#, true),
            ("{} {}", false),
            ("", false),
            (&deep_ok, true),
            (&deep, false),
        ];
        for (text, fine) in cases {
            assert_eq!(check_unambiguous(text.as_bytes()).is_ok(), *fine, "{text}");
        }
    }
}
