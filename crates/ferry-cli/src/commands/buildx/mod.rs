//! `buildx` besides building: the one builder that there is, records of builds, images in registries.

pub(in crate::commands) mod builders;
mod control;
pub(in crate::commands) mod history;
pub(in crate::commands) mod imagetools;
pub(in crate::commands) mod usage;

use crate::failure::{Failure, Result};
use crate::flags::{Parsed, go_quote};

/// The name of the only builder.
const BUILDER: &str = "default";

/// There is no other builder than ferry's own.
fn check_builder(parsed: &Parsed) -> Result<()> {
    check_name(parsed.text_or_empty("builder"))
}

fn check_name(name: &str) -> Result<()> {
    match name {
        "" | BUILDER => Ok(()),
        other => Err(failed(format!("no builder {} found", go_quote(other)))),
    }
}

fn failed(text: impl std::fmt::Display) -> Failure {
    Failure::new(format!("ERROR: {text}"))
}
