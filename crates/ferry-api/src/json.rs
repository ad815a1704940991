//! JSON as Go's `encoding/json` reads and writes it.
//!
//! Reading: keys match a field regardless of case, `null` leaves the zero value, unknown fields are skipped, the last of several equal
//! keys wins, a fixed array may be shorter or longer than its type. Writing: serde's output is already Go's, field order and
//! sorted maps included; [`to_string_html`] adds the escapes of Go's default encoder.

use std::fmt;

use serde::Serialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};

/// Nesting beyond which a document is refused.
const MAX_DEPTH: usize = 64;

/// Why a document could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    path: String,
    message: String,
}

impl Error {
    fn new(message: impl fmt::Display) -> Self {
        Self { path: String::new(), message: message.to_string() }
    }

    fn inside(mut self, field: &str) -> Self {
        self.path = if self.path.is_empty() { field.to_owned() } else { format!("{field}.{}", self.path) };
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message)
    }
}

/// Reads one document, as Go's decoder would.
///
/// # Errors
/// When the bytes are no JSON, when something follows the document, when it is nested too deep, or when a value does not fit its field.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let value: Value = serde_json::from_slice(bytes).map_err(Error::new)?;
    from_value(value)
}

/// Reads a parsed document, as Go's decoder would.
///
/// # Errors
/// When it is nested too deep or a value does not fit its field.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    if !within_depth(&value, MAX_DEPTH) {
        return Err(Error::new(format_args!("exceeded max depth of {MAX_DEPTH}")));
    }
    T::deserialize(Tolerant(value))
}

/// Writes a value with the escapes of Go's default encoder: `<`, `>`, `&`, U+2028 and U+2029 as `\uXXXX`.
///
/// # Errors
/// When the value cannot be written as JSON, such as a map with keys that are no strings.
pub fn to_string_html<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let plain = serde_json::to_string(value)?;
    if !plain.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return Ok(plain);
    }
    let mut escaped = String::with_capacity(plain.len() + 16);
    for character in plain.chars() {
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    Ok(escaped)
}

/// Tells whether a value is the one that Go's `omitempty` leaves out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn within_depth(value: &Value, left: usize) -> bool {
    match value {
        Value::Array(items) => left > 0 && items.iter().all(|item| within_depth(item, left - 1)),
        Value::Object(map) => left > 0 && map.values().all(|item| within_depth(item, left - 1)),
        _ => true,
    }
}

/// A deserializer over a parsed document with Go's rules.
struct Tolerant(Value);

impl Tolerant {
    fn is_null(&self) -> bool {
        self.0.is_null()
    }
}

macro_rules! null_is_zero {
    ($($method:ident => $visit:ident($zero:expr)),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            if self.is_null() { visitor.$visit($zero) } else { self.deserialize_any(visitor) }
        }
    )*};
}

impl<'de> Deserializer<'de> for Tolerant {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::String(value) => visitor.visit_string(value),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter(), 0)),
            Value::Object(map) => visitor.visit_map(Entries { entries: map.into_iter(), value: None }),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => visitor.visit_u64(value),
                (None, Some(value)) => visitor.visit_i64(value),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
        }
    }

    null_is_zero! {
        deserialize_bool => visit_bool(false),
        deserialize_i8 => visit_i64(0), deserialize_i16 => visit_i64(0), deserialize_i32 => visit_i64(0), deserialize_i64 => visit_i64(0),
        deserialize_u8 => visit_u64(0), deserialize_u16 => visit_u64(0), deserialize_u32 => visit_u64(0), deserialize_u64 => visit_u64(0),
        deserialize_f32 => visit_f64(0.0), deserialize_f64 => visit_f64(0.0),
        deserialize_str => visit_str(""), deserialize_string => visit_str(""),
        deserialize_seq => visit_seq(Items(Vec::new().into_iter(), 0)),
        deserialize_map => visit_map(Entries { entries: Map::new().into_iter(), value: None }),
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        let mut items = match self.0 {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            other => return Tolerant(other).deserialize_any(visitor),
        };
        items.resize(length, Value::Null);
        visitor.visit_seq(Items(items.into_iter(), 0))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let map = match self.0 {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            // serde would fill a struct from a list; Go does not.
            Value::Array(_) => return Err(de::Error::invalid_type(de::Unexpected::Seq, &"an object")),
            other => return Tolerant(other).deserialize_any(visitor),
        };
        visitor.visit_map(Entries { entries: with_field_names(map, fields).into_iter(), value: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor).map_err(Error::new)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct tuple_struct identifier }
}

/// Renames keys to the fields they mean, drops unknown ones and those that are `null`.
fn with_field_names(map: Map<String, Value>, fields: &'static [&'static str]) -> Map<String, Value> {
    let mut named = Map::with_capacity(map.len());
    for (key, value) in map {
        let exact = fields.iter().find(|field| **field == key);
        let field = exact.or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(&key)));
        if let (Some(field), false) = (field, value.is_null()) {
            named.insert((*field).to_owned(), value);
        }
    }
    named
}

struct Items(std::vec::IntoIter<Value>, usize);

impl<'de> SeqAccess<'de> for Items {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(value) = self.0.next() else { return Ok(None) };
        let index = self.1;
        self.1 += 1;
        seed.deserialize(Tolerant(value)).map(Some).map_err(|error| error.inside(&format!("[{index}]")))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries {
    entries: serde_json::map::IntoIter,
    value: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        let deserializer: StrDeserializer<'_, Error> = key.as_str().into_deserializer();
        let decoded = seed.deserialize(deserializer)?;
        self.value = Some((key, value));
        Ok(Some(decoded))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, value) = self.value.take().ok_or_else(|| Error::new("value asked for before its key"))?;
        seed.deserialize(Tolerant(value)).map_err(|error| error.inside(&key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Sample {
        name: String,
        memory: i64,
        cmd: Option<Vec<String>>,
        labels: BTreeMap<String, String>,
        size: [u32; 2],
        inner: Option<Box<Sample>>,
        raw: Option<Value>,
    }

    fn read(text: &str) -> Result<Sample, Error> {
        from_slice(text.as_bytes())
    }

    #[test]
    fn keys_match_in_any_case_and_the_last_wins() {
        let sample = read(r#"{"NAME":"a","name":"b","mEmOrY":7,"inner":{"CMD":["x"]}}"#).unwrap();
        assert_eq!(sample.name, "b");
        assert_eq!(sample.memory, 7);
        assert_eq!(sample.inner.unwrap().cmd, Some(vec!["x".to_owned()]));
    }

    #[test]
    fn null_is_the_zero_value_everywhere() {
        let sample =
            read(r#"{"Name":null,"Memory":null,"Cmd":null,"Labels":{"a":null},"Size":null,"Inner":null}"#).unwrap();
        assert_eq!(sample, Sample { labels: BTreeMap::from([("a".to_owned(), String::new())]), ..Sample::default() });
        assert_eq!(read("null").unwrap(), Sample::default());
        assert_eq!(read(r#"{"Cmd":[null]}"#).unwrap().cmd, Some(vec![String::new()]));
    }

    #[test]
    fn unknown_fields_are_skipped_and_map_keys_keep_their_case() {
        let sample = read(r#"{"Nope":{"deep":[1,2]},"Labels":{"A":"1","a":"2"},"Raw":{"Z":1.5}}"#).unwrap();
        assert_eq!(sample.labels.len(), 2);
        assert_eq!(sample.raw.unwrap()["Z"], 1.5);
    }

    #[test]
    fn arrays_of_fixed_size_are_padded_and_cut() {
        assert_eq!(read(r#"{"Size":[1]}"#).unwrap().size, [1, 0]);
        assert_eq!(read(r#"{"Size":[1,2,3]}"#).unwrap().size, [1, 2]);
    }

    #[test]
    fn errors_name_the_field() {
        let error = read(r#"{"Inner":{"Memory":"x"}}"#).unwrap_err();
        assert_eq!(error.to_string(), "Inner.Memory: invalid type: string \"x\", expected i64");
        assert!(read(r#"{"Cmd":["a",1]}"#).unwrap_err().to_string().starts_with("Cmd.[1]: "));
        assert_eq!(read("[]").unwrap_err().to_string(), "invalid type: sequence, expected an object");
        assert!(read("{} {}").unwrap_err().to_string().contains("trailing characters"));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        assert!(from_slice::<Value>(deep.as_bytes()).unwrap_err().to_string().contains("depth"));
        let fine = format!("{}{}", "[".repeat(64), "]".repeat(64));
        assert!(from_slice::<Value>(fine.as_bytes()).is_ok());
    }

    #[test]
    fn html_escapes_are_those_of_go() {
        assert_eq!(to_string_html(&"[=> ] & <").unwrap(), r#""[=\u003e ] \u0026 \u003c""#);
    }
}
