//! `builder prune`

use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::human;

const DANGLING: &str = "WARNING! This will remove all dangling build cache. Are you sure you want to continue?";
const ALL: &str = "WARNING! This will remove all build cache. Are you sure you want to continue?";

/// Runs `builder prune`.
pub(in crate::commands) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let all = parsed.on("all");
    if !parsed.on("force") && !lists::confirmed(context, if all { ALL } else { DANGLING })? {
        return Ok(0);
    }
    let filters = lists::filters(parsed);
    let reserved = parsed.bytes("reserved-space").or_else(|| parsed.bytes("keep-storage")).unwrap_or_default();
    let limits = [
        reserved,
        parsed.bytes("max-used-space").unwrap_or_default(),
        parsed.bytes("min-free-space").unwrap_or_default(),
    ];
    let client = context.client().await?;
    let report = client.build_prune(all, &filters, limits).await?;
    if let Some(caches) = report.caches_deleted.filter(|caches| !caches.is_empty()) {
        context.printer.line("Deleted build cache objects:")?;
        for id in caches {
            context.printer.line(&id)?;
        }
        context.printer.line("")?;
    }
    let space = human::size(i64::try_from(report.space_reclaimed).unwrap_or(i64::MAX));
    context.printer.line(&format!("Total reclaimed space: {space}"))?;
    Ok(0)
}
