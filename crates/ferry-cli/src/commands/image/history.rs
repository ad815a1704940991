//! `history`

use ferry_api::image::HistoryItem;
use ferry_gotmpl::Value;

use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::{Listing, human};

const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// Runs `history`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let platform = lists::platform(parsed)?;
    let client = context.client().await?;
    let items = client.image_history(&parsed.args[0], &platform).await?;
    let quiet = parsed.on("quiet");
    let words = parsed.on_or("human", true);
    let created = if words { "CreatedSince" } else { "CreatedAt" };
    let table = format!("{{{{.ID}}}}\t{{{{.{created}}}}}\t{{{{.CreatedBy}}}}\t{{{{.Size}}}}\t{{{{.Comment}}}}");
    let listing = Listing { type_name: "image.historyContext", headers: HEADERS, table: &table, raw: "" };
    let format = match (quiet, parsed.text_or_empty("format")) {
        (true, "" | "table") => "{{.ID}}",
        (_, format) => format,
    };
    let truncate = !parsed.on("no-trunc");
    let rows = items.iter().map(|item| row(item, truncate, words)).collect();
    context.printer.data(listing.render(format, rows)?)?;
    Ok(0)
}

fn row(item: &HistoryItem, truncate: bool, words: bool) -> Vec<(&'static str, Value)> {
    let id = if truncate { human::short_id(&item.id) } else { &item.id };
    let created_at = human::rfc3339(item.created);
    let created_by = item.created_by.replace('\t', " ");
    let created_by = if truncate { human::ellipsis(&created_by, 45) } else { created_by };
    vec![
        ("Comment", item.comment.as_str().into()),
        ("CreatedAt", created_at.as_str().into()),
        ("CreatedBy", created_by.into()),
        ("CreatedSince", if words { human::since(item.created) } else { created_at }.into()),
        ("ID", id.into()),
        ("Size", if words { human::size_short(item.size) } else { item.size.to_string() }.into()),
    ]
}
