//! What inspect commands print: documents as they came, or a template over each.

use std::io;

use ferry_gotmpl::{Options, Template, Value};

use super::typed::Kind;
use crate::failure::{Failure, Result};
use crate::output::Printer;

/// Collects inspected documents.
pub(crate) struct Inspection {
    template: Option<Template>,
    json_lines: bool,
    text: String,
    documents: Vec<String>,
}

impl Inspection {
    /// Prepares for a `--format` value, empty for indented JSON.
    pub(crate) fn new(format: &str) -> Result<Self> {
        let template = match format {
            "" | "json" => None,
            text => Some(
                Template::parse("", text)
                    .map_err(|error| Failure::with_code(64, format!("template parsing error: {error}")))?,
            ),
        };
        Ok(Self { template, json_lines: format == "json", text: String::new(), documents: Vec::new() })
    }

    /// Adds a document; with a template it is executed at once.
    pub(crate) fn add(&mut self, json: &str, kind: Option<Kind>) -> Result<()> {
        let Some(template) = &self.template else {
            self.documents.push(json.to_owned());
            return Ok(());
        };
        let document: serde_json::Value =
            serde_json::from_str(json).map_err(|error| Failure::new(error.to_string()))?;
        let first = match kind {
            Some(kind) => template.execute(&kind.value(&document), Options::default()),
            None => template.execute(&Value::from_json(&document), Options::default()),
        };
        let result = match first {
            // Fields that the type lacks may still be in the document.
            Err(_) if kind.is_some_and(Kind::has_raw_fallback) => {
                let strict = Options { missing_key_is_error: true, ..Options::default() };
                template.execute(&Value::from_json(&document), strict)
            }
            other => other,
        };
        self.print_one(result)
    }

    /// Adds a document that templates see as `value`.
    pub(crate) fn add_as(&mut self, json: &str, value: &Value) -> Result<()> {
        match &self.template {
            None => self.documents.push(json.to_owned()),
            Some(template) => return self.print_one(template.execute(value, Options::default())),
        }
        Ok(())
    }

    fn print_one(&mut self, result: Result<String, impl std::fmt::Display>) -> Result<()> {
        let text = result.map_err(|error| Failure::new(format!("template parsing error: {error}")))?;
        self.text.push_str(&text);
        self.text.push('\n');
        Ok(())
    }

    /// Prints everything; errors decide over the exit code.
    pub(crate) fn finish(self, printer: &Printer, errors: Vec<String>) -> Result<u8> {
        self.print(printer, !errors.is_empty())?;
        if errors.is_empty() { Ok(0) } else { Err(Failure::new(errors.join("\n"))) }
    }

    fn print(self, printer: &Printer, failed: bool) -> io::Result<()> {
        if self.template.is_some() {
            let newline = if self.text.is_empty() && failed { "\n" } else { "" };
            return printer.data(format!("{}{newline}", self.text));
        }
        if self.json_lines {
            return printer.data(format!("{}\n", compact(&format!("[{}]", self.documents.join(",")))));
        }
        printer.data(format!("{}\n", indent(&format!("[{}]", self.documents.join(",")))))
    }
}

/// JSON without blanks between its parts.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut in_text = false;
    let mut escaped = false;
    for letter in json.chars() {
        if in_text || !letter.is_ascii_whitespace() {
            out.push(letter);
        }
        match letter {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => in_text = !in_text,
            _ => {}
        }
    }
    out
}

/// Indents JSON by four blanks and changes nothing else, escapes and order included.
pub(crate) fn indent(json: &str) -> String {
    let json = compact(json);
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0usize;
    let (mut in_text, mut escaped) = (false, false);
    let mut letters = json.chars().peekable();
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("    ", depth));
    };
    while let Some(letter) = letters.next() {
        if in_text {
            out.push(letter);
            match letter {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match letter {
            '{' | '[' => {
                out.push(letter);
                if matches!(letters.peek(), Some('}' | ']')) {
                    out.extend(letters.next());
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(letter);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' => {
                in_text = true;
                out.push(letter);
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_indented_and_otherwise_untouched() {
        assert_eq!(
            indent(r#"[{"b":"x \u003c,{\"","a":[],"c":{ } , "d":[1, 2]}]"#),
            "[\n    {\n        \"b\": \"x \\u003c,{\\\"\",\n        \"a\": [],\n        \"c\": {},\n        \"d\": [\n            1,\n            \
             2\n        ]\n    }\n]"
        );
    }
}
