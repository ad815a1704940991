//! `volume ls`

use std::rc::Rc;

use ferry_api::volume::Volume;
use ferry_gotmpl::Value;

use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::{Listing, human};

const HEADERS: &[(&str, &str)] = &[
    ("Name", "VOLUME NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("Availability", "AVAILABILITY"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Label", ""),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Group", "GROUP"),
    ("Status", "STATUS"),
];

/// What `--cluster` shows.
const CLUSTER: &str = "table {{.Name}}\t{{.Group}}\t{{.Driver}}\t{{.Availability}}\t{{.Status}}";

/// Runs `volume ls`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let (quiet, cluster) = (parsed.on("quiet"), parsed.on("cluster"));
    let format = match parsed.text_or_empty("format") {
        _ if cluster && !quiet => CLUSTER.to_owned(),
        _ if cluster => String::new(),
        "" if !quiet => context.config.file.volumes_format.clone(),
        given => given.to_owned(),
    };
    let client = context.client().await?;
    let mut volumes = client.volume_list(&lists::filters(parsed)).await?.volumes;
    if cluster {
        // Outside of a swarm there is none of a cluster.
        volumes.clear();
    }
    volumes.sort_by(|left, right| left.name.cmp(&right.name));
    let listing = Listing {
        type_name: "formatter.volumeContext",
        headers: HEADERS,
        table: "{{.Driver}}\t{{.Name}}",
        raw: "name: {{.Name}}\ndriver: {{.Driver}}\n",
    };
    let format = match (quiet, format.as_str()) {
        (true, "" | "table" | "raw") => "{{.Name}}",
        (_, format) => format,
    };
    context.printer.data(listing.render(format, volumes.iter().map(row).collect())?)?;
    Ok(0)
}

fn row(volume: &Volume) -> Vec<(&'static str, Value)> {
    let labels = volume.labels.clone().unwrap_or_default();
    let joined: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let not_known = || "N/A".to_owned();
    let usage = volume.usage_data.as_ref();
    vec![
        ("Availability", "N/A".into()),
        ("Driver", volume.driver.as_str().into()),
        ("Group", "N/A".into()),
        ("Label", Value::Lookup(Rc::new(labels))),
        ("Labels", joined.join(",").into()),
        ("Links", usage.map_or_else(not_known, |usage| usage.ref_count.to_string()).into()),
        ("Mountpoint", volume.mountpoint.as_str().into()),
        ("Name", volume.name.as_str().into()),
        ("Scope", volume.scope.as_str().into()),
        ("Size", usage.map_or_else(not_known, |usage| human::size(usage.size)).into()),
        ("Status", "N/A".into()),
    ]
}
