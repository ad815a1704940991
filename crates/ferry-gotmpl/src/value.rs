//! The values a template sees.

use std::collections::BTreeMap;
use std::rc::Rc;

/// A value with the distinctions of Go that templates can observe.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// The value of a key that a map lacks.
    Missing,
    /// `nil`
    #[default]
    Nil,
    /// A typed pointer that is nil.
    NilPointer(Rc<NilPointer>),
    /// `bool`
    Bool(bool),
    /// Any signed integer.
    Int(i64),
    /// An integer beyond `i64`.
    Uint(u64),
    /// `float64`
    Float(f64),
    /// `string`
    Text(Rc<str>),
    /// A slice.
    List(Rc<[Value]>),
    /// A slice that is nil: empty like any other, but `null` in JSON.
    NilList,
    /// A map with string keys; iterates sorted.
    Map(Rc<Map>),
    /// A struct with named fields in order.
    Struct(Rc<Struct>),
    /// A method that takes a key, such as `.Label "name"`; unknown keys give empty text.
    Lookup(Rc<BTreeMap<String, String>>),
    /// A method that takes a key and answers the key's last part, as the header of a column of labels.
    KeyTitle,
}

/// A typed nil pointer: its fields are known but cannot be read.
#[derive(Debug)]
pub struct NilPointer {
    /// Go's name for the type it points to.
    pub type_name: String,
    /// The fields of that type.
    pub fields: Vec<String>,
}

/// A map value.
#[derive(Debug)]
pub struct Map {
    /// The entries, sorted by key.
    pub entries: BTreeMap<String, Value>,
    /// What `index` gives for a key that is not there.
    pub zero: Value,
    /// Go's name for the type.
    pub type_name: String,
    /// A nil map, which `json` prints as `null`.
    pub null: bool,
}

/// A struct value.
#[derive(Debug)]
pub struct Struct {
    /// Go's name for the type, shown in error texts.
    pub type_name: String,
    /// Field names and values in declared order.
    pub fields: Vec<(String, Value)>,
    /// What the `json` function prints; `None` means an object of the fields, sorted by name.
    pub json: Option<serde_json::Value>,
    /// Reached through a pointer.
    pub pointer: bool,
    /// What its `String` method says, where it has one.
    pub text: Option<String>,
}

impl Struct {
    /// The field's value.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }
}

impl Value {
    /// Makes a text value.
    pub fn text(text: impl Into<Rc<str>>) -> Self {
        Self::Text(text.into())
    }

    /// Makes a list value.
    pub fn list(values: Vec<Value>) -> Self {
        Self::List(values.into())
    }

    /// Makes a `map[string]interface {}`.
    pub fn map(entries: BTreeMap<String, Value>) -> Self {
        Self::Map(Rc::new(Map {
            entries,
            zero: Self::Nil,
            type_name: "map[string]interface {}".to_owned(),
            null: false,
        }))
    }

    /// Makes a value of untyped JSON: objects become maps.
    pub fn from_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Nil,
            serde_json::Value::Bool(truth) => Self::Bool(*truth),
            serde_json::Value::Number(number) => Self::number(number),
            serde_json::Value::String(text) => Self::text(text.as_str()),
            serde_json::Value::Array(items) => Self::list(items.iter().map(Self::from_json).collect()),
            serde_json::Value::Object(object) => {
                Self::map(object.iter().map(|(key, value)| (key.clone(), Self::from_json(value))).collect())
            }
        }
    }

    fn number(number: &serde_json::Number) -> Self {
        if let Some(value) = number.as_i64() {
            Self::Int(value)
        } else if let Some(value) = number.as_u64() {
            Self::Uint(value)
        } else {
            Self::Float(number.as_f64().unwrap_or_default())
        }
    }

    /// Go's truth: zero values and empty collections are false, structs are true.
    pub fn truth(&self) -> bool {
        match self {
            Self::Missing | Self::Nil | Self::NilPointer(_) | Self::NilList => false,
            Self::Bool(truth) => *truth,
            Self::Int(number) => *number != 0,
            Self::Uint(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(map) => !map.entries.is_empty(),
            // A number that is shown in words.
            Self::Struct(record)
                if record.fields.is_empty() && record.json.as_ref().is_some_and(serde_json::Value::is_number) =>
            {
                record.json.as_ref().and_then(serde_json::Value::as_i64) != Some(0)
            }
            Self::Struct(_) | Self::Lookup(_) | Self::KeyTitle => true,
        }
    }

    /// Go's name for the value's type.
    pub fn type_name(&self) -> String {
        match self {
            Self::Missing | Self::Nil => "<nil>".to_owned(),
            Self::NilPointer(pointer) => format!("*{}", pointer.type_name),
            Self::Bool(_) => "bool".to_owned(),
            Self::Int(_) => "int".to_owned(),
            Self::Uint(_) => "uint64".to_owned(),
            Self::Float(_) => "float64".to_owned(),
            Self::Text(_) => "string".to_owned(),
            Self::List(_) | Self::NilList => "[]interface {}".to_owned(),
            Self::Map(map) => map.type_name.clone(),
            Self::Lookup(_) | Self::KeyTitle => "func(string) string".to_owned(),
            Self::Struct(record) => record.type_name.clone(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}
