//! JSON as Go's encoder writes it without HTML escaping.

use crate::Value;

/// Encodes a value: maps sorted, structs by their own JSON.
pub fn encode(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Missing | Value::Nil | Value::NilPointer(_) | Value::NilList | Value::Lookup(_) | Value::KeyTitle => {
            out.push_str("null")
        }
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::Uint(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(&crate::format::float_json(*number)),
        Value::Text(text) => write_text(out, text),
        Value::List(items) => write_all(out, ('[', ']'), items.iter(), write_value),
        Value::Map(map) if map.null => out.push_str("null"),
        Value::Map(map) => write_all(out, ('{', '}'), map.entries.iter(), |out, (key, value)| {
            write_text(out, key);
            out.push(':');
            write_value(out, value);
        }),
        Value::Struct(record) => match &record.json {
            Some(json) => write_json(out, json),
            None => {
                let mut fields: Vec<_> = record
                    .fields
                    .iter()
                    .filter(|(_, field)| !matches!(field, Value::Lookup(_) | Value::KeyTitle))
                    .collect();
                fields.sort_by(|left, right| left.0.cmp(&right.0));
                let mut object = String::new();
                write_all(&mut object, ('{', '}'), fields.into_iter(), |out, (key, value)| {
                    write_text(out, key);
                    out.push(':');
                    write_value(out, value);
                });
                // Such rows go through Go's default encoder, which escapes for HTML.
                out.push_str(&object.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"));
            }
        },
    }
}

fn write_json(out: &mut String, json: &serde_json::Value) {
    match json {
        serde_json::Value::Array(items) => write_all(out, ('[', ']'), items.iter(), write_json),
        serde_json::Value::Object(object) => write_all(out, ('{', '}'), object.iter(), |out, (key, value)| {
            write_text(out, key);
            out.push(':');
            write_json(out, value);
        }),
        serde_json::Value::String(text) => write_text(out, text),
        plain => out.push_str(&plain.to_string()),
    }
}

fn write_all<T>(
    out: &mut String,
    (open, close): (char, char),
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) {
    out.push(open);
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(close);
}

/// Go escapes control characters and the two line separators that JavaScript trips over.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            control if (control as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", control as u32)),
            plain => out.push(plain),
        }
    }
    out.push('"');
}
