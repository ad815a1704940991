//! `image prune`

use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::human;

/// Runs `image prune`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let all = parsed.on("all");
    let mut filters = lists::filters(parsed);
    filters.add("dangling", if all { "false" } else { "true" });
    let which =
        if all { "all images without at least one container associated to them" } else { "all dangling images" };
    let warning = format!("WARNING! This will remove {which}.\nAre you sure you want to continue? [y/N] ");
    if !parsed.on("force") && !lists::confirmed(context, &warning)? {
        return Ok(0);
    }
    let client = context.client().await?;
    let report = client.image_prune(&filters).await?;
    let deleted = report.images_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        let lines: String = deleted
            .iter()
            .map(|item| match item.untagged.as_str() {
                "" => format!("deleted: {}\n", item.deleted),
                name => format!("untagged: {name}\n"),
            })
            .collect();
        context.printer.data(format!("Deleted Images:\n{lines}\n"))?;
    }
    let space = human::size(i64::try_from(report.space_reclaimed).unwrap_or(i64::MAX));
    context.printer.line(&format!("Total reclaimed space: {space}"))?;
    Ok(0)
}
