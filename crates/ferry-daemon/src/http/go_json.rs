//! Why JSON in a parameter cannot be read, in the words of Go's decoder: those that clients of Docker have seen so far.

use serde_json::Value;

/// What a parameter holds, by Go's names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// The whole: a map, or a list.
    pub(crate) whole: &'static str,
    /// What is in it.
    pub(crate) element: &'static str,
}

impl Shape {
    fn is_list(self) -> bool {
        self.whole.starts_with("[]")
    }
}

/// Returns why a text is not of a shape; `None` where Go would find nothing wrong with it.
pub(crate) fn reason(text: &str, shape: Shape) -> Option<String> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    if let Err(wrong) = scanner.whole() {
        return Some(wrong);
    }
    let value: Value = serde_json::from_str(text).ok()?;
    let mismatch = |value: &Value, wanted: &str| {
        Some(format!("json: cannot unmarshal {} into Go value of type {wanted}", kind(value)))
    };
    let fits = |value: &&Value| {
        let wants_text = shape.element == "string";
        value.is_null() || if wants_text { value.is_string() } else { value.is_object() }
    };
    let mut elements: Box<dyn Iterator<Item = &Value>> = match &value {
        Value::Null => return None,
        Value::Object(fields) if !shape.is_list() => Box::new(fields.values()),
        Value::Array(items) if shape.is_list() => Box::new(items.iter()),
        other => return mismatch(other, shape.whole),
    };
    elements.find(|value| !fits(value)).and_then(|value| mismatch(value, shape.element))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Reads JSON as Go's scanner does, for nothing but what is wrong with it. Texts are those of parameters, which are short and not deep.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Scanned = Result<(), String>;

/// Values within values beyond which Go gives up.
const MAX_DEPTH: usize = 128;

impl Scanner<'_> {
    fn whole(&mut self) -> Scanned {
        self.value(0)?;
        self.skip_blanks();
        match self.bytes.get(self.at) {
            None => Ok(()),
            Some(_) => self.wrong("after top-level value"),
        }
    }

    fn skip_blanks(&mut self) {
        while self.bytes.get(self.at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The next byte that is no blank, left where it is.
    fn peek(&mut self) -> Result<u8, String> {
        self.skip_blanks();
        self.here()
    }

    fn here(&self) -> Result<u8, String> {
        self.bytes.get(self.at).copied().ok_or_else(|| "unexpected end of JSON input".to_owned())
    }

    fn wrong(&self, place: &str) -> Scanned {
        let shown = match self.here()? {
            b'\'' => r"'\''".to_owned(),
            b'"' => "'\"'".to_owned(),
            byte => format!("'{}'", char::from(byte).escape_debug()),
        };
        Err(format!("invalid character {shown} {place}"))
    }

    fn value(&mut self, depth: usize) -> Scanned {
        if depth > MAX_DEPTH {
            return Err("exceeded max depth".to_owned());
        }
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => self.wrong("looking for beginning of value"),
        }
    }

    fn object(&mut self, depth: usize) -> Scanned {
        self.at += 1;
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek()? != b'"' {
                return self.wrong("looking for beginning of object key string");
            }
            self.string()?;
            if self.peek()? != b':' {
                return self.wrong("after object key");
            }
            self.at += 1;
            self.value(depth + 1)?;
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => break,
                _ => return self.wrong("after object key:value pair"),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Scanned {
        self.at += 1;
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            match self.peek()? {
                b',' => self.at += 1,
                b']' => break,
                _ => return self.wrong("after array element"),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Scanned {
        self.at += 1;
        loop {
            match self.here()? {
                b'"' => break,
                b'\\' => {
                    self.at += 1;
                    match self.here()? {
                        b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                        b'u' => {
                            for _ in 0..4 {
                                self.at += 1;
                                if !self.here()?.is_ascii_hexdigit() {
                                    return self.wrong(r"in \u hexadecimal character escape");
                                }
                            }
                        }
                        _ => return self.wrong("in string escape code"),
                    }
                }
                0..0x20 => return self.wrong("in string literal"),
                _ => {}
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(())
    }

    fn digits(&mut self, place: &str) -> Scanned {
        if !self.here()?.is_ascii_digit() {
            return self.wrong(place);
        }
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Scanned {
        if self.here()? == b'-' {
            self.at += 1;
        }
        match self.here()? {
            b'0' => self.at += 1,
            _ => self.digits("in numeric literal")?,
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.here()?, b'+' | b'-') {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Scanned {
        for expected in word.chars() {
            if char::from(self.here()?) != expected {
                return self.wrong(&format!("in literal {word} (expecting '{expected}')"));
            }
            self.at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_in_gos_words() {
        let shape = Shape { whole: "map[string]*string", element: "string" };
        for (text, expected) in [
            ("{", "unexpected end of JSON input"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("{x", "invalid character 'x' looking for beginning of object key string"),
            ("{'a':1}", r"invalid character '\'' looking for beginning of object key string"),
            (r#"{"a" 1}"#, "invalid character '1' after object key"),
            (r#"{"a":"b" "c"}"#, "invalid character '\"' after object key:value pair"),
            (r#"{"a":[1 2]}"#, "invalid character '2' after array element"),
            (r#"{"a":"b"}}"#, "invalid character '}' after top-level value"),
            (r#"{"a":"\q"}"#, "invalid character 'q' in string escape code"),
            ("{\"a\":\"\n\"}", "invalid character '\\n' in string literal"),
            ("trve", "invalid character 'v' in literal true (expecting 'u')"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("[]", "json: cannot unmarshal array into Go value of type map[string]*string"),
            (r#"{"a":1}"#, "json: cannot unmarshal number into Go value of type string"),
            (r#"{"a":{"b":"c"}}"#, "json: cannot unmarshal object into Go value of type string"),
        ] {
            assert_eq!(reason(text, shape).as_deref(), Some(expected), "{text}");
        }
        for text in ["null", "{}", r#"{"a":null,"b":"c"}"#, " {\"a\" : \"\\u00e9\"}\n"] {
            assert_eq!(reason(text, shape), None, "{text}");
        }
        let list = Shape { whole: "[]string", element: "string" };
        assert_eq!(reason(r#"["a"]"#, list), None);
        assert_eq!(reason("{}", list).unwrap(), "json: cannot unmarshal object into Go value of type []string");
    }
}
