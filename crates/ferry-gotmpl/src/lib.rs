//! Go's `text/template` language, pure: text and a value in, text out.
//!
//! Owns lexing, parsing, execution, Go's `fmt` verbs and the functions that Docker's client adds (`json`, `split`,
//! `join`, `title`, `lower`, `upper`, `pad`, `truncate`). Leaves out HTML escaping and methods with arguments. This
//! crate does no I/O. Values keep Go's distinctions that show in output: a [`Value::Struct`] is ordered and knows its
//! type, a [`Value::Map`] is sorted and answers missing keys with no value.

mod exec;
mod format;
mod funcs;
mod json;
mod lex;
mod parse;
mod value;

pub use exec::ExecError;
pub use format::quote;
pub use json::encode as encode_json;
pub use parse::ParseError;
pub use value::{Map, NilPointer, Struct, Value};

use std::collections::HashMap;

/// Which functions a template may call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Functions {
    /// Docker's functions with their meaning.
    #[default]
    Basic,
    /// The same names while column headers are rendered: most pass their text through.
    Header,
}

/// How a template is executed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A key that a map lacks is an error (`missingkey=error`).
    pub missing_key_is_error: bool,
    /// The functions in force.
    pub functions: Functions,
}

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    name: String,
    text: String,
    root: parse::List,
    defined: HashMap<String, parse::List>,
}

impl Template {
    /// Parses a template; the name appears in error texts.
    ///
    /// # Errors
    /// Go's text for the first mistake.
    pub fn parse(name: &str, text: &str) -> Result<Self, ParseError> {
        let parsed = parse::parse(name, text)?;
        Ok(Self { name: name.to_owned(), text: text.to_owned(), root: parsed.root, defined: parsed.defined })
    }

    /// Executes the template over a value.
    ///
    /// # Errors
    /// Go's text for the step that failed.
    pub fn execute(&self, data: &Value, options: Options) -> Result<String, ExecError> {
        exec::execute(self, data, options)
    }
}
