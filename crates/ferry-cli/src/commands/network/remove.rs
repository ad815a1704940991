//! `network rm`

use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;

/// Runs `network rm`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let client = context.client().await?;
    let mut errors = Vec::new();
    for name in &parsed.args {
        match client.network_remove(name).await {
            Ok(()) => context.printer.line(name)?,
            Err(error) if parsed.on("force") && error.is_not_found() => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    if !errors.is_empty() {
        // As Docker's client ends such a list.
        errors.push("exit status 1".to_owned());
    }
    lists::finish(errors)
}
