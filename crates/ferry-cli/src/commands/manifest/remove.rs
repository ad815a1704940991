//! `manifest rm`

use super::reference;
use super::store::{Store, missing};
use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;

/// Runs `manifest rm`: tries all, and tells of each that could not be removed.
pub(crate) fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let store = Store::of(&context.config);
    let mut errors = Vec::new();
    for given in &parsed.args {
        if let Err(error) = remove(&store, given) {
            errors.push(error);
        }
    }
    lists::finish(errors)
}

fn remove(store: &Store, given: &str) -> Result<(), String> {
    let list = reference(given)?;
    match store.list(&list) {
        Ok(Some(_)) => store.remove(&list).map_err(|error| error.to_string()),
        Ok(None) => Err(missing(&list).to_string()),
        Err(error) => Err(error.to_string()),
    }
}
