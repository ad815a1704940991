//! `network ls`

use std::rc::Rc;

use ferry_api::network::Summary;
use ferry_gotmpl::Value;

use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::{Listing, human};

const HEADERS: &[(&str, &str)] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("Label", ""),
    ("CreatedAt", "CREATED AT"),
];

/// Runs `network ls`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let quiet = parsed.on("quiet");
    let format = match parsed.text_or_empty("format") {
        "" if !quiet => context.config.file.networks_format.clone(),
        given => given.to_owned(),
    };
    let client = context.client().await?;
    let mut networks = client.network_list(&lists::filters(parsed)).await?;
    networks.sort_by(|left, right| left.name.cmp(&right.name));
    let listing = Listing {
        type_name: "network.networkContext",
        headers: HEADERS,
        table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
        raw: "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
    };
    let truncate = !parsed.on("no-trunc");
    let format = match (quiet, format.as_str()) {
        (true, "" | "table" | "raw") => "{{.ID}}",
        (_, format) => format,
    };
    let rows = networks.iter().map(|network| row(network, truncate)).collect();
    context.printer.data(listing.render(format, rows)?)?;
    Ok(0)
}

fn row(network: &Summary, truncate: bool) -> Vec<(&'static str, Value)> {
    let labels = network.labels.clone().unwrap_or_default();
    let joined: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let id = if truncate { human::short_id(&network.id) } else { &network.id };
    vec![
        ("CreatedAt", human::go_time_of(&network.created).into()),
        ("Driver", network.driver.as_str().into()),
        ("ID", id.into()),
        ("IPv4", network.enable_ipv4.to_string().into()),
        ("IPv6", network.enable_ipv6.to_string().into()),
        ("Internal", network.internal.to_string().into()),
        ("Label", Value::Lookup(Rc::new(labels))),
        ("Labels", joined.join(",").into()),
        ("Name", network.name.as_str().into()),
        ("Scope", network.scope.as_str().into()),
    ]
}
