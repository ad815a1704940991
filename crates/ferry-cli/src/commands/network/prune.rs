//! `network prune`

use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;

/// Runs `network prune`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    const WARNING: &str = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue? [y/N] ";
    if !parsed.on("force") && !lists::confirmed(context, WARNING)? {
        return Ok(0);
    }
    let report = context.client().await?.network_prune(&lists::filters(parsed)).await?;
    let deleted = report.networks_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        context.printer.data(format!("Deleted Networks:\n{}\n\n", deleted.join("\n")))?;
    }
    Ok(0)
}
