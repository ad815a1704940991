//! `plugin ls`

use ferry_api::plugin::Plugin;
use ferry_gotmpl::Value;

use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::{Listing, human};

const HEADERS: &[(&str, &str)] = &[
    ("ID", "ID"),
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("Enabled", "ENABLED"),
    ("PluginReference", "IMAGE"),
];

/// Widest description in a table.
const DESCRIPTION: usize = 45;

/// Runs `plugin ls`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let quiet = parsed.on("quiet");
    let format = match parsed.text_or_empty("format") {
        "" if !quiet => context.config.file.plugins_format.clone(),
        given => given.to_owned(),
    };
    let client = context.client().await?;
    let mut plugins = client.plugin_list(&lists::filters(parsed)).await?;
    plugins.sort_by(|left, right| left.name.cmp(&right.name));
    let listing = Listing {
        type_name: "plugin.pluginContext",
        headers: HEADERS,
        table: "{{.ID}}\t{{.Name}}\t{{.Description}}\t{{.Enabled}}",
        raw: "plugin_id: {{.ID}}\nname: {{.Name}}\ndescription: {{.Description}}\nenabled: {{.Enabled}}\n",
    };
    let format = match (quiet, format.as_str()) {
        (true, "" | "table") => "{{.ID}}",
        (true, "raw") => "plugin_id: {{.ID}}",
        (_, format) => format,
    };
    let truncate = !parsed.on("no-trunc");
    let rows = plugins.iter().map(|plugin| row(plugin, truncate)).collect();
    context.printer.data(listing.render(format, rows)?)?;
    Ok(0)
}

fn row(plugin: &Plugin, truncate: bool) -> Vec<(&'static str, Value)> {
    let id = if truncate { human::short_id(&plugin.id) } else { &plugin.id };
    let description = plugin.config.description.replace(['\n', '\r'], "");
    let description = if truncate { human::ellipsis(&description, DESCRIPTION) } else { description };
    vec![
        ("Description", description.into()),
        ("Enabled", Value::Bool(plugin.enabled)),
        ("ID", id.into()),
        ("Name", plugin.name.as_str().into()),
        ("PluginReference", plugin.plugin_reference.as_str().into()),
    ]
}
