//! How lists are filtered; the words of each list are its service's own.

use std::collections::BTreeMap;

use ferry_api::filters::{FilterError, Filters};

use crate::error::{Error, Result};

impl From<FilterError> for Error {
    fn from(error: FilterError) -> Self {
        Error::invalid(error.to_string())
    }
}

/// The value of a boolean filter: `1`, `true`, `0`, `false`; `None` when absent.
pub(crate) fn boolean(filters: &Filters, name: &str) -> Result<Option<bool>> {
    if filters.get(name).next().is_none() {
        return Ok(None);
    }
    Ok(Some(filters.bool_or(name, false)?))
}

/// Whether the filter is absent or one of its values fits.
pub(crate) fn any_of(filters: &Filters, name: &str, fits: impl Fn(&str) -> bool) -> bool {
    let mut values = filters.get(name).peekable();
    values.peek().is_none() || values.any(fits)
}

/// Whether no `key` or `key=value` of the filter is among the labels.
pub(crate) fn no_labels(filters: &Filters, name: &str, labels: &BTreeMap<String, String>) -> bool {
    !filters.get(name).any(|unwanted| match unwanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(unwanted),
    })
}
