//! `rmi`

use crate::commands::lists;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `rmi`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let client = context.client().await?;
    let platforms = lists::platforms(parsed)?;
    lists::require(client, parsed, "platform", 50).await?;
    let force = parsed.on("force");
    let mut errors = Vec::new();
    let mut fatal = false;
    for name in &parsed.args {
        match client.image_remove(name, force, parsed.on("no-prune"), &platforms).await {
            Ok(items) => {
                for item in items {
                    if item.deleted.is_empty() {
                        context.printer.line(&format!("Untagged: {}", item.untagged))?;
                    } else {
                        context.printer.line(&format!("Deleted: {}", item.deleted))?;
                    }
                }
            }
            Err(error) => {
                fatal |= !error.is_not_found();
                errors.push(error.to_string());
            }
        }
    }
    if errors.is_empty() {
        return Ok(0);
    }
    if force && !fatal {
        // What should be gone is gone.
        context.printer.note(&errors.join("\n"));
        return Ok(0);
    }
    Err(Failure::new(errors.join("\n")))
}
