//! YAML as data: one document into a JSON value, plain scalars typed by the core schema. Pure.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// Nesting beyond this is refused.
const MAX_DEPTH: usize = 64;
/// Aliases repeat what they stand for; a document may not grow beyond this many values by them.
const MAX_VALUES: usize = 100_000;

/// Reads one document.
///
/// # Errors
/// Where the text is no YAML, is more than one document, or grows without bound.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: Vec::new(), values: 0 };
    let mut document = None;
    loop {
        match reader.next()? {
            Event::StreamEnd => return Ok(document.unwrap_or(Value::Null)),
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            _ if document.is_some() => return Err("more than one document".to_owned()),
            event => document = Some(reader.value(event, 0)?),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// By anchor, what it names.
    anchors: Vec<(usize, Value)>,
    values: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        match self.parser.next_event() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(error.to_string()),
            None => Ok(Event::StreamEnd),
        }
    }

    fn value(&mut self, event: Event<'a>, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(format!("exceeded max depth of {MAX_DEPTH}"));
        }
        self.count(1)?;
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, _) => (anchor, scalar(&text, style)),
            Event::SequenceStart(anchor, _) => (anchor, self.sequence(depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.mapping(depth)?),
            Event::Alias(anchor) => {
                let found = self.anchors.iter().rev().find(|(known, _)| *known == anchor);
                let value = found.map(|(_, value)| value.clone()).ok_or("an alias of nothing")?;
                self.count(size(&value))?;
                return Ok(value);
            }
            _ => return Err("a value is missing".to_owned()),
        };
        if anchor != 0 {
            self.anchors.push((anchor, value.clone()));
        }
        Ok(value)
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, String> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Value::Array(items)),
                event => items.push(self.value(event, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, String> {
        let mut map = Map::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(Value::Object(map)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err("a key that is no text".to_owned()),
            };
            let event = self.next()?;
            let value = self.value(event, depth + 1)?;
            if map.insert(key.clone(), value).is_some() {
                return Err(format!("key {key:?} is there twice"));
            }
        }
    }

    fn count(&mut self, values: usize) -> Result<(), String> {
        self.values += values;
        if self.values > MAX_VALUES { Err("too many values".to_owned()) } else { Ok(()) }
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// Quoted text stays text.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let radix =
        |prefix: &str, radix| text.strip_prefix(prefix).and_then(|digits| i64::from_str_radix(digits, radix).ok());
    // YAML 1.1 reads a leading zero as octal, which is how people write modes.
    let octal = || match text.strip_prefix('0').filter(|digits| !digits.is_empty()) {
        Some(digits) => i64::from_str_radix(digits, 8).ok(),
        None => text.parse().ok(),
    };
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)).or_else(octal) {
        return number.into();
    }
    let looks_like_a_number = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    match text.parse::<f64>().ok().filter(|_| looks_like_a_number).and_then(Number::from_f64) {
        Some(number) => Value::Number(number),
        None => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::parse;

    #[test]
    fn values_have_types_and_quoted_ones_are_text() {
        let text =
            "a: 1\nb: '1'\nc: [true, null, x y, 0666, 0x10, 1.5, 1.2.3]\nd: {e: \"\"}\nf: &x [1]\ng: *x\nh: |\n  t\n";
        assert_eq!(
            parse(text).unwrap(),
            json!({
                "a": 1, "b": "1", "c": [true, null, "x y", 438, 16, 1.5, "1.2.3"], "d": {"e": ""}, "f": [1], "g": [1], "h": "t\n",
            })
        );
        assert_eq!(parse("").unwrap(), json!(null));
        assert_eq!(parse("{\"a\": [1, \"b\"]}").unwrap(), json!({"a": [1, "b"]}));
    }

    #[test]
    fn what_is_none_or_grows_is_refused() {
        assert!(parse("a: [").is_err());
        assert!(parse("a: 1\na: 2").unwrap_err().contains("twice"));
        assert!(parse("--- 1\n--- 2").unwrap_err().contains("more than one document"));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let last = level - 1;
            let items = vec![format!("*a{last}"); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert_eq!(parse(&bomb).unwrap_err(), "too many values");
        assert!(parse(&"[".repeat(100)).is_err());
    }
}
