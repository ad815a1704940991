//! `rename`

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `rename`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let (old, new) = (parsed.args[0].trim(), parsed.args[1].trim());
    if old.is_empty() || new.is_empty() {
        return Err(Failure::new("Error: Neither old nor new names may be empty"));
    }
    let client = context.client().await?;
    if let Err(error) = client.container_rename(old, new).await {
        context.printer.note(&error.to_string());
        return Err(Failure::new(format!("Error: failed to rename container named {old}")));
    }
    Ok(0)
}
