//! The types that variables of bake files may have, and what a text from outside is as one of them. Pure.

use hcl::Expression;
use serde_json::Value;

use super::evaluate::{from_number, number, text, truth};

/// A type, as it is written: `string`, `list(number)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    Any,
    Text,
    Number,
    Truth,
    /// `list`, `set` or `map`, and of what.
    Many(String, Box<Type>),
    /// An object or a tuple, whose parts are not looked at.
    Parts(String),
}

impl Type {
    /// Reads a type.
    pub(super) fn read(expression: &Expression) -> Result<Self, String> {
        let wrong = || format!("Invalid type specification; {expression} is no type");
        match expression {
            Expression::Variable(name) => Self::named(name.as_str()).ok_or_else(wrong),
            // As it is written in JSON.
            Expression::String(text) => hcl::parse(&format!("type = {text}"))
                .ok()
                .and_then(|body: hcl::Body| body.into_attributes().next())
                .filter(|attribute| !matches!(attribute.expr(), Expression::String(_)))
                .map_or_else(|| Err(wrong()), |attribute| Self::read(attribute.expr())),
            Expression::FuncCall(call) => match (call.name.name.as_str(), call.args.as_slice()) {
                (kind @ ("list" | "set" | "map"), [of]) => Ok(Self::Many(kind.to_owned(), Box::new(Self::read(of)?))),
                (kind @ ("object" | "tuple"), [_]) => Ok(Self::Parts(kind.to_owned())),
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "any" => Self::Any,
            "string" => Self::Text,
            "number" => Self::Number,
            "bool" => Self::Truth,
            _ => return None,
        })
    }

    /// In words.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Any => "any type".to_owned(),
            Self::Text => "string".to_owned(),
            Self::Number => "number".to_owned(),
            Self::Truth => "bool".to_owned(),
            Self::Many(kind, of) => format!("{kind} of {}", of.name()),
            Self::Parts(kind) => kind.clone(),
        }
    }

    /// What a text of the command line or the environment is.
    pub(super) fn of_text(&self, name: &str, given: &str) -> Result<Value, String> {
        match self {
            Self::Any | Self::Text => Ok(Value::from(given)),
            Self::Number | Self::Truth => self
                .converted(&Value::from(given))
                .map_err(|_| format!("failed to parse {name} as {}: {given:?}", self.name())),
            Self::Many(kind, of) if kind != "map" => {
                let fields = ferry_dockerfile::csv::fields(given);
                let fields = fields.map_err(|error| format!("failed to convert variable {name} from CSV: {error}"))?;
                fields.into_iter().map(|field| of.of_text(name, &field)).collect()
            }
            Self::Many(..) | Self::Parts(_) => serde_json::from_str(given)
                .map_err(|error| format!("failed to convert variable {name} from JSON: {error}")),
        }
    }

    /// A value as one of this type.
    pub(super) fn converted(&self, value: &Value) -> Result<Value, String> {
        match (self, value) {
            (_, Value::Null) | (Self::Any | Self::Parts(_), _) => Ok(value.clone()),
            (Self::Text, value) => text(value).map(Value::String),
            (Self::Number, value) => number(value).map(from_number),
            (Self::Truth, value) => truth(value).map(Value::Bool),
            (Self::Many(_, of), Value::Array(items)) => items.iter().map(|item| of.converted(item)).collect(),
            (Self::Many(_, of), Value::Object(fields)) => {
                let fields = fields.iter().map(|(key, value)| Ok((key.clone(), of.converted(value)?)));
                fields.collect::<Result<serde_json::Map<_, _>, String>>().map(Value::Object)
            }
            (Self::Many(..), other) => Err(format!("{} is required, not {other}", self.name())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(written: &str) -> Result<Type, String> {
        let body: hcl::Body = hcl::parse(&format!("type = {written}")).unwrap();
        Type::read(body.attributes().next().unwrap().expr())
    }

    #[test]
    fn texts_become_values_of_a_type() {
        for (written, name, given, value) in [
            ("string", "string", "1", json!("1")),
            ("number", "number", "7", json!(7)),
            ("bool", "bool", "1", json!(true)),
            ("list(string)", "list of string", "a,b", json!(["a", "b"])),
            ("set(number)", "set of number", "1,2", json!([1, 2])),
            ("map(string)", "map of string", "{\"a\":\"b\"}", json!({"a": "b"})),
            ("\"list(bool)\"", "list of bool", "true", json!([true])),
        ] {
            let read = read(written).unwrap();
            assert_eq!((read.name().as_str(), read.of_text("X", given)), (name, Ok(value)), "{written}");
        }
        assert!(read("nothing").is_err() && read("list").is_err() && read("\"text\"").is_err());
        let failed = read("bool").unwrap().of_text("D", "maybe").unwrap_err();
        assert_eq!(failed, "failed to parse D as bool: \"maybe\"");
        assert!(read("list(number)").unwrap().converted(&json!("x")).is_err());
    }
}
