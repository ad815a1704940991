//! `search`

use ferry_api::image::SearchResult;
use ferry_gotmpl::Value;

use crate::commands::lists;
use crate::config::credentials;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::{Listing, human};

const TABLE: &str = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";
const HEADERS: &[(&str, &str)] =
    &[("Name", "NAME"), ("Description", "DESCRIPTION"), ("StarCount", "STARS"), ("IsOfficial", "OFFICIAL")];

/// Runs `search`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let filters = lists::filters(parsed);
    if filters.contains("is-automated") {
        context.printer.note(
            "WARNING: the \"is-automated\" filter is deprecated, and searching for \"is-automated=true\" will not yield any results in future.",
        );
    }
    let term = &parsed.args[0];
    // A search without credentials is as good; when it is not, the daemon says so.
    let auth = credentials::look_up(&context.config, credentials::key_of(registry_of(term))).unwrap_or_default();
    let client = context.client().await?;
    // What is not a number of results is left to the daemon's default, as by Docker's client.
    let limit = parsed.int("limit").unwrap_or_default().max(0);
    let found = client.image_search(term, limit, &filters, &credentials::encode(&auth)).await?;
    let listing = Listing { type_name: "registry.searchContext", headers: HEADERS, table: TABLE, raw: "" };
    let format = parsed.text_or_empty("format");
    let (truncate, json) = (!parsed.on("no-trunc"), format == "json" || format.contains("json ."));
    let rows = found.iter().map(|one| row(one, truncate, json)).collect();
    context.printer.data(listing.render(format, rows)?)?;
    Ok(0)
}

/// Returns the registry that a term begins with, or Docker Hub.
fn registry_of(term: &str) -> &str {
    match term.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

fn row(one: &SearchResult, truncate: bool, json: bool) -> Vec<(&'static str, Value)> {
    let description = one.description.replace(['\n', '\r'], " ");
    let description = if truncate { human::ellipsis(&description, 45) } else { description };
    let official = match (one.is_official, json) {
        (true, true) => "true",
        (true, false) => "[OK]",
        (false, true) => "false",
        (false, false) => "",
    };
    vec![
        ("Description", description.into()),
        ("IsOfficial", official.into()),
        ("Name", one.name.as_str().into()),
        ("StarCount", one.star_count.to_string().into()),
    ]
}
