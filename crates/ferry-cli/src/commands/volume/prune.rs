//! `volume prune`

use crate::commands::lists;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::format::human;

/// Runs `volume prune`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let all = parsed.on("all");
    let mut filters = lists::filters(parsed);
    if all {
        if filters.contains("all") {
            return Err(Failure::new("conflicting options: cannot specify both --all and --filter all=1"));
        }
        filters.add("all", "true");
    }
    let which = if all { "all local volumes" } else { "anonymous local volumes" };
    let warning = format!(
        "WARNING! This will remove {which} not used by at least one container.\nAre you sure you want to continue? [y/N] "
    );
    if !parsed.on("force") && !lists::confirmed(context, &warning)? {
        return Ok(0);
    }
    let client = context.client().await?;
    let report = client.volume_prune(&filters).await?;
    let deleted = report.volumes_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        context.printer.data(format!("Deleted Volumes:\n{}\n\n", deleted.join("\n")))?;
    }
    let space = human::size(i64::try_from(report.space_reclaimed).unwrap_or(i64::MAX));
    context.printer.line(&format!("Total reclaimed space: {space}"))?;
    Ok(0)
}
