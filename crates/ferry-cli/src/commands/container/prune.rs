//! `container prune`

use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::human;

/// Runs `container prune`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    const WARNING: &str =
        "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] ";
    if !parsed.on("force") && !lists::confirmed(context, WARNING)? {
        return Ok(0);
    }
    let client = context.client().await?;
    let report = client.container_prune(&lists::filters(parsed)).await?;
    let deleted = report.containers_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        context.printer.data(format!("Deleted Containers:\n{}\n\n", deleted.join("\n")))?;
    }
    let space = human::size(i64::try_from(report.space_reclaimed).unwrap_or(i64::MAX));
    context.printer.line(&format!("Total reclaimed space: {space}"))?;
    Ok(0)
}
