//! `volume rm`

use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;

/// Runs `volume rm`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let client = context.client().await?;
    let mut errors = Vec::new();
    for name in &parsed.args {
        match client.volume_remove(name, parsed.on("force")).await {
            Ok(()) => context.printer.line(name)?,
            Err(error) => errors.push(error.to_string()),
        }
    }
    lists::finish(errors)
}
