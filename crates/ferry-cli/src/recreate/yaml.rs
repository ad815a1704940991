//! Writing YAML that reads back as what it was written from. Pure.

use serde_json::Value;

/// Writes a document.
pub(super) fn write(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.push_str(&format!("{indent}{}:", scalar(key)));
                nested(value, depth + 1, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                out.push_str(&format!("{indent}-"));
                match item {
                    Value::Object(map) if !map.is_empty() => {
                        let mut inner = String::new();
                        block(item, depth + 1, &mut inner);
                        // The first key stands beside the dash.
                        out.push(' ');
                        out.push_str(inner.trim_start());
                    }
                    other => nested(other, depth + 1, out),
                }
            }
        }
        other => out.push_str(&format!("{indent}{}\n", plain(other))),
    }
}

fn nested(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if map.is_empty() => out.push_str(" {}\n"),
        Value::Array(items) if items.is_empty() => out.push_str(" []\n"),
        Value::Object(_) | Value::Array(_) => {
            out.push('\n');
            block(value, depth, out);
        }
        other => out.push_str(&format!(" {}\n", plain(other))),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// Text that could be read as something else is quoted as JSON does, which is YAML too.
fn scalar(text: &str) -> String {
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n", "~"];
    let safe = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    let starts_well = text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '/');
    if starts_well && text.chars().all(safe) && !words.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_indented_and_texts_stay_texts() {
        let value = json!({"a": {"list": ["x", "1", "yes", "a: b"], "empty": [], "n": 5}, "m": [{"k": "v", "l": true}], "$$": "x"});
        let text = "a:\n  list:\n    - x\n    - \"1\"\n    - \"yes\"\n    - \"a: b\"\n  empty: []\n  \"n\": 5\nm:\n  - k: v\n    l: true\n\"$$\": x\n";
        assert_eq!(write(&value), text);
    }
}
