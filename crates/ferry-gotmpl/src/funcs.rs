//! The functions a template may call: Go's own and those of Docker's client.

use std::cmp::Ordering;

use crate::{Functions, Value, format, json};

/// Why a call failed.
pub(crate) enum CallError {
    /// The arguments do not fit the function's shape.
    Shape(String),
    /// The argument at this place does not fit.
    Argument(usize, String),
    /// `call` of a value of this type.
    NotFunction(String),
    /// The function itself failed.
    Failed(String),
}

type Result = std::result::Result<Value, CallError>;

const NAMES: &[&str] = &[
    "and", "call", "eq", "ge", "gt", "html", "index", "join", "js", "json", "le", "len", "lower", "lt", "ne", "not",
    "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate", "upper", "urlquery",
];

/// Whether a function of that name is defined.
pub(crate) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls a function; `and` and `or` are the executor's.
pub(crate) fn call(name: &str, arguments: &[Value], functions: Functions) -> Result {
    if functions == Functions::Header && matches!(name, "json" | "split" | "join") {
        return header(arguments);
    }
    match (name, arguments) {
        ("json", [value]) => Ok(Value::Text(json::encode(value).into())),
        ("split", [_, _]) => split(&text_of(arguments, 0)?, &text_of(arguments, 1)?),
        ("join", [list, _]) => join(list, &text_of(arguments, 1)?),
        ("title", [_]) => Ok(title(&text_of(arguments, 0)?).into()),
        ("lower", [_]) => Ok(text_of(arguments, 0)?.to_lowercase().into()),
        ("upper", [_]) => Ok(text_of(arguments, 0)?.to_uppercase().into()),
        ("pad", [_, _, _]) => pad(&text_of(arguments, 0)?, int_of(arguments, 1)?, int_of(arguments, 2)?),
        ("truncate", [_, _]) => Ok(truncate(&text_of(arguments, 0)?, int_of(arguments, 1)?)),
        ("print", values) => Ok(format::print(values).into()),
        ("println", values) => Ok(format::println(values).into()),
        ("printf", [_, values @ ..]) => Ok(format::printf(&text_of(arguments, 0)?, values).into()),
        ("len", [value]) => len(value),
        ("index", [value, keys @ ..]) => index(value, keys),
        ("slice", [value, bounds @ ..]) => slice(value, bounds),
        ("not", [value]) => Ok((!value.truth()).into()),
        ("eq", [first, others @ ..]) => eq(first, others),
        ("ne", [left, right]) => Ok((!equal(left, right)?).into()),
        ("lt", [left, right]) => Ok((order(left, right)? == Ordering::Less).into()),
        ("le", [left, right]) => Ok((order(left, right)? != Ordering::Greater).into()),
        ("gt", [left, right]) => Ok((order(left, right)? == Ordering::Greater).into()),
        ("ge", [left, right]) => Ok((order(left, right)? != Ordering::Less).into()),
        ("html", values) => Ok(escape_html(&format::print(values)).into()),
        ("js", values) => Ok(escape_js(&format::print(values)).into()),
        ("urlquery", values) => Ok(escape_query(&format::print(values)).into()),
        ("call", [Value::Missing | Value::Nil, ..]) => Err(CallError::Failed("call of nil".to_owned())),
        ("call", [value, ..]) => Err(CallError::NotFunction(value.type_name())),
        _ => Err(CallError::Shape(wrong_count(name, arguments.len()))),
    }
}

/// Headers go through these functions unchanged.
fn header(arguments: &[Value]) -> Result {
    match arguments {
        [value, ..] => Ok(Value::text(format::plain(value))),
        [] => Err(CallError::Shape("wrong number of args: want 1 got 0".to_owned())),
    }
}

fn wrong_count(name: &str, got: usize) -> String {
    let want = match name {
        "pad" => "3",
        "split" | "join" | "truncate" | "ne" | "lt" | "le" | "gt" | "ge" => "2",
        "index" | "slice" | "printf" | "eq" | "call" => "at least 1",
        _ => "1",
    };
    format!("wrong number of args for {name}: want {want} got {got}")
}

fn text_of(arguments: &[Value], at: usize) -> std::result::Result<String, CallError> {
    match &arguments[at] {
        Value::Text(text) => Ok(text.to_string()),
        other => Err(CallError::Argument(at, mismatch("string", other))),
    }
}

fn int_of(arguments: &[Value], at: usize) -> std::result::Result<i64, CallError> {
    match &arguments[at] {
        Value::Int(number) => Ok(*number),
        other => Err(CallError::Argument(at, mismatch("int", other))),
    }
}

fn mismatch(wanted: &str, got: &Value) -> String {
    match got {
        Value::Missing | Value::Nil => format!("invalid value; expected {wanted}"),
        other => format!("wrong type for value; expected {wanted}; got {}", other.type_name()),
    }
}

fn split(text: &str, separator: &str) -> Result {
    let parts = if separator.is_empty() {
        text.chars().map(|letter| Value::from(letter.to_string())).collect()
    } else {
        text.split(separator).map(Value::from).collect()
    };
    Ok(Value::list(parts))
}

fn join(list: &Value, separator: &str) -> Result {
    let parts: Vec<String> = match list {
        Value::List(items) => items.iter().map(format::plain).collect(),
        Value::Map(map) => map.entries.values().map(format::plain).collect(),
        Value::Missing | Value::Nil | Value::NilList => Vec::new(),
        other => return Err(CallError::Failed(format!("expected slice, got {}", other.type_name()))),
    };
    Ok(parts.join(separator).into())
}

/// Upper-cases the first letter of each word.
fn title(text: &str) -> String {
    let mut previous = ' ';
    text.chars()
        .flat_map(|letter| {
            let starts = !(previous.is_alphanumeric() || previous == '_' || previous == '\'');
            previous = letter;
            if starts { letter.to_uppercase().collect::<Vec<_>>() } else { vec![letter] }
        })
        .collect()
}

fn pad(text: &str, before: i64, after: i64) -> Result {
    if text.is_empty() {
        return Ok(text.into());
    }
    let blanks = |count: i64| " ".repeat(usize::try_from(count).unwrap_or(0).min(100_000));
    Ok(format!("{}{text}{}", blanks(before), blanks(after)).into())
}

fn truncate(text: &str, length: i64) -> Value {
    let length = usize::try_from(length).unwrap_or(0);
    if text.len() < length {
        return text.into();
    }
    let mut end = length;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

fn len(value: &Value) -> Result {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::NilList => 0,
        Value::Map(map) => map.entries.len(),
        Value::Missing | Value::Nil => {
            return Err(CallError::Failed("reflect: call of reflect.Value.Type on zero Value".to_owned()));
        }
        other => return Err(CallError::Failed(format!("len of type {}", other.type_name()))),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn index(value: &Value, keys: &[Value]) -> Result {
    let mut current = value.clone();
    for key in keys {
        current = match (&current, key) {
            (Value::Missing | Value::Nil, _) => return Err(CallError::Failed("index of untyped nil".to_owned())),
            (Value::List(items), Value::Int(at)) => usize::try_from(*at)
                .ok()
                .and_then(|at| items.get(at).cloned())
                .ok_or_else(|| CallError::Failed(format!("index out of range: {at}")))?,
            (Value::Text(text), Value::Int(at)) => usize::try_from(*at)
                .ok()
                .and_then(|at| text.as_bytes().get(at).copied())
                .map(|byte| Value::Int(i64::from(byte)))
                .ok_or_else(|| CallError::Failed(format!("index out of range: {at}")))?,
            (Value::NilList, Value::Int(at)) => return Err(CallError::Failed(format!("index out of range: {at}"))),
            (Value::List(_) | Value::NilList | Value::Text(_), Value::Missing | Value::Nil) => {
                return Err(CallError::Failed("cannot index slice/array with nil".to_owned()));
            }
            (Value::List(_) | Value::NilList | Value::Text(_), other) => {
                let message = format!("cannot index slice/array with type {}", other.type_name());
                return Err(CallError::Failed(message));
            }
            (Value::Map(map), Value::Text(key)) => map.entries.get(&**key).unwrap_or(&map.zero).clone(),
            (Value::Map(_), Value::Missing | Value::Nil) => {
                return Err(CallError::Failed("value is nil; should be of type string".to_owned()));
            }
            (Value::Map(_), other) => {
                let message = format!("value has type {}; should be string", other.type_name());
                return Err(CallError::Failed(message));
            }
            (other, _) => {
                return Err(CallError::Failed(format!("can't index item of type {}", other.type_name())));
            }
        };
    }
    Ok(current)
}

fn slice(value: &Value, bounds: &[Value]) -> Result {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::NilList => 0,
        Value::Missing | Value::Nil => return Err(CallError::Failed("slice of untyped nil".to_owned())),
        other => return Err(CallError::Failed(format!("can't slice item of type {}", other.type_name()))),
    };
    if bounds.len() > 3 || (bounds.len() == 3 && matches!(value, Value::Text(_))) {
        let message = match value {
            Value::Text(_) => "cannot 3-index slice a string".to_owned(),
            _ => format!("too many slice indexes: {}", bounds.len()),
        };
        return Err(CallError::Failed(message));
    }
    let mut ends = [0, length];
    for (end, bound) in ends.iter_mut().zip(bounds) {
        let Value::Int(at) = bound else {
            let message = format!("cannot index slice/array with type {}", bound.type_name());
            return Err(CallError::Failed(message));
        };
        *end = usize::try_from(*at)
            .ok()
            .filter(|at| *at <= length)
            .ok_or_else(|| CallError::Failed(format!("index out of range: {at}")))?;
    }
    let [start, end] = ends;
    if start > end {
        return Err(CallError::Failed(format!("invalid slice index: {start} > {end}")));
    }
    match value {
        Value::Text(text) => Ok(String::from_utf8_lossy(&text.as_bytes()[start..end]).into_owned().into()),
        Value::List(items) => Ok(Value::list(items[start..end].to_vec())),
        Value::NilList => Ok(Value::NilList),
        _ => Ok(Value::Nil),
    }
}

fn eq(first: &Value, others: &[Value]) -> Result {
    if others.is_empty() {
        return Err(CallError::Failed("missing argument for comparison".to_owned()));
    }
    for other in others {
        if equal(first, other)? {
            return Ok(true.into());
        }
    }
    Ok(false.into())
}

fn equal(left: &Value, right: &Value) -> std::result::Result<bool, CallError> {
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        (Value::Text(left), Value::Text(right)) => Ok(left == right),
        (Value::Int(left), Value::Int(right)) => Ok(left == right),
        (Value::Uint(left), Value::Uint(right)) => Ok(left == right),
        (Value::Int(left), Value::Uint(right)) | (Value::Uint(right), Value::Int(left)) => {
            Ok(i128::from(*left) == i128::from(*right))
        }
        (Value::Float(left), Value::Float(right)) => Ok(left == right),
        (Value::Missing | Value::Nil, Value::Missing | Value::Nil) => Ok(true),
        (Value::Missing | Value::Nil, _) | (_, Value::Missing | Value::Nil) => Ok(false),
        (Value::List(_) | Value::NilList, Value::List(_) | Value::NilList)
        | (Value::Map(_), Value::Map(_))
        | (Value::Struct(_), Value::Struct(_)) => {
            Err(CallError::Failed(format!("non-comparable type {}: {}", format::plain(left), left.type_name())))
        }
        _ => Err(CallError::Failed("incompatible types for comparison".to_owned())),
    }
}

fn order(left: &Value, right: &Value) -> std::result::Result<Ordering, CallError> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => Ok(left.cmp(right)),
        (Value::Int(left), Value::Int(right)) => Ok(left.cmp(right)),
        (Value::Uint(left), Value::Uint(right)) => Ok(left.cmp(right)),
        (Value::Int(left), Value::Uint(right)) => Ok(i128::from(*left).cmp(&i128::from(*right))),
        (Value::Uint(left), Value::Int(right)) => Ok(i128::from(*left).cmp(&i128::from(*right))),
        (Value::Float(left), Value::Float(right)) => Ok(left.partial_cmp(right).unwrap_or(Ordering::Greater)),
        (Value::Bool(_), Value::Bool(_)) => Err(CallError::Failed("invalid type for comparison".to_owned())),
        (left, _) if !matches!(left, Value::Text(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_)) => {
            Err(CallError::Failed("invalid type for comparison".to_owned()))
        }
        _ => Err(CallError::Failed("incompatible types for comparison".to_owned())),
    }
}

fn escape_html(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            plain => out.push(plain),
        }
    }
    out
}

fn escape_js(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", letter as u32)),
            control if (control as u32) < 0x20 => out.push_str(&format!("\\u{:04X}", control as u32)),
            plain => out.push(plain),
        }
    }
    out
}

fn escape_query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
