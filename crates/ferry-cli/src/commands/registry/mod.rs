//! Commands that speak about registries.

pub(super) mod login;
pub(super) mod logout;
pub(super) mod search;

use crate::config::credentials::VARIABLE;
use crate::context::{Context, variable};

/// Tells that stored credentials are not what counts.
fn warn_of_variable(context: &Context) {
    if variable(VARIABLE).is_some() {
        context.printer.note(&format!(
            "\nWARNING: {VARIABLE} is set and takes precedence.\n         Unset {VARIABLE} to restore the CLI auth behaviour.\n         "
        ));
    }
}
