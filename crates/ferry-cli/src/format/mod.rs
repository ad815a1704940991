//! Tables and templates of list commands.
//!
//! A list is a row of [`Value::Struct`] per object and a map from field to column header. The format is `table`,
//! `table TEMPLATE`, `json`, `raw` where a command has it, or a bare template.

pub(crate) mod human;
pub(crate) mod inspect;
pub(crate) mod tabwriter;
pub(crate) mod typed;

use std::collections::BTreeMap;
use std::rc::Rc;

use ferry_gotmpl::{Functions, Options, Struct, Template, Value};

use crate::failure::{Failure, Result};

/// One kind of list.
pub(crate) struct Listing<'a> {
    /// The Go type that error texts name.
    pub(crate) type_name: &'static str,
    /// Column headers by field.
    pub(crate) headers: &'a [(&'static str, &'static str)],
    /// The template of plain `table`.
    pub(crate) table: &'a str,
    /// The template of `raw`, empty where there is none.
    pub(crate) raw: &'a str,
}

impl Listing<'_> {
    /// Renders all rows.
    pub(crate) fn render(&self, format: &str, rows: Vec<Vec<(&'static str, Value)>>) -> Result<String> {
        let (template, is_table) = self.template_text(format);
        let parsed =
            Template::parse("", &template).map_err(|error| Failure::new(format!("template parsing error: {error}")))?;
        let failed = |error: ferry_gotmpl::ExecError| Failure::new(format!("template parsing error: {error}"));
        let mut body = String::new();
        for row in rows {
            let fields = row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let row = Struct { type_name: self.type_name.to_owned(), fields, json: None, pointer: true, text: None };
            body.push_str(&parsed.execute(&Value::Struct(Rc::new(row)), Options::default()).map_err(failed)?);
            body.push('\n');
        }
        if !is_table {
            return Ok(body);
        }
        let headers: BTreeMap<String, Value> =
            self.headers.iter().map(|(field, header)| ((*field).to_owned(), header_value(field, header))).collect();
        let options = Options { functions: Functions::Header, ..Options::default() };
        let header = parsed.execute(&Value::map(headers), options).map_err(failed)?;
        // A template of the user's own may colour what it prints; what strangers wrote may not.
        let body =
            if matches!(format, "" | "table") && crate::output::stdout_is_terminal() { printable(&body) } else { body };
        Ok(tabwriter::align(&format!("{header}\n{body}"), &tabwriter::LISTS))
    }

    fn template_text(&self, format: &str) -> (String, bool) {
        let (text, is_table) = match format {
            "" | "table" => (self.table.to_owned(), true),
            "json" => ("{{json .}}".to_owned(), false),
            "raw" if !self.raw.is_empty() => (self.raw.to_owned(), false),
            other => match other.strip_prefix("table") {
                Some(rest) => (rest.to_owned(), true),
                None => (other.to_owned(), false),
            },
        };
        (text.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n"), is_table)
    }
}

/// Shows what would steer a terminal, as Go quotes it; what parts rows and columns stays.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\t' => shown.push(letter),
            letter if letter.is_ascii_control() => shown.push_str(&format!("\\x{:02x}", u32::from(letter))),
            letter if letter.is_control() => shown.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => shown.push(letter),
        }
    }
    shown
}

/// The column of one label is headed by the label.
fn header_value(field: &str, header: &str) -> Value {
    if field == "Label" { Value::KeyTitle } else { Value::from(header) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown() {
        assert_eq!(printable("a\u{1b}[31m\tb\u{9b}2J\r\né\n"), "a\\x1b[31m\tb\\u009b2J\\x0d\né\n");
    }
}
