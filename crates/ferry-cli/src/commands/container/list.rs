//! `ps`

use std::collections::BTreeMap;
use std::rc::Rc;

use ferry_api::container::{Port, Summary};
use ferry_gotmpl::{NilPointer, Options, Struct, Template, Value};
use ferry_spec::reference::Reference;

use crate::commands::lists;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::{Parsed, go_quote};
use crate::format::{Listing, human};

const TABLE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate:{{pad .State 1 0}}\n\
                   status:{{pad .Status 1 0}}\nnames: {{.Names}}\nlabels:{{pad .Labels 1 0}}\nports:{{pad .Ports 1 0}}\n";

pub(crate) const HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Label", ""),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
    ("HealthStatus", "HEALTH STATUS"),
];

/// Runs `ps`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let quiet = parsed.on("quiet");
    if quiet && parsed.changed("format") {
        context.printer.note("WARNING: Ignoring custom format, because both --format and --quiet are set.");
    }
    let format = match parsed.text_or_empty("format") {
        "" if !context.config.file.ps_format.is_empty() && !quiet => context.config.file.ps_format.clone(),
        given => given.to_owned(),
    };
    check_template(&format)?;
    // A template that shows sizes needs them computed.
    let shows_size = format.contains(".Size") || is_whole_json(&format);
    let size = parsed.on("size") || (shows_size && !parsed.changed("size"));
    let last = if parsed.on("latest") && !parsed.changed("last") { 1 } else { parsed.int("last").unwrap_or(-1) };
    let client = context.client().await?;
    let containers = client.container_list(parsed.on("all"), last, size, &lists::filters(parsed)).await?;
    let table = match (quiet, parsed.on("size")) {
        (true, _) => "{{.ID}}".to_owned(),
        (false, true) => format!("{TABLE}\t{{{{.Size}}}}"),
        (false, false) => TABLE.to_owned(),
    };
    let raw = if parsed.on("size") { format!("{RAW}size: {{{{.Size}}}}\n") } else { RAW.to_owned() };
    let listing = Listing { type_name: "formatter.ContainerContext", headers: HEADERS, table: &table, raw: &raw };
    let truncate = !parsed.on("no-trunc");
    let mut rows: Vec<_> = containers.iter().map(|container| row(container, truncate)).collect();
    if format.contains("json") {
        // A placeholder that the client of 28 does not have; those who read all fields by machine get those they know.
        rows.iter_mut().for_each(|row| row.retain(|(name, _)| *name != "HealthStatus"));
    }
    let format = if quiet { "{{.ID}}" } else { &format };
    context.printer.data(listing.render(format, rows)?)?;
    Ok(0)
}

/// Whether a template prints every field. The word `json` alone asks for no sizes.
fn is_whole_json(format: &str) -> bool {
    format.replace(' ', "").contains("{{json.}}")
}

/// Finds mistakes before the daemon is asked, on a container of which nothing is known.
fn check_template(format: &str) -> Result<()> {
    if matches!(format, "" | "table" | "json" | "raw") {
        return Ok(());
    }
    let template =
        Template::parse("", format).map_err(|error| Failure::new(format!("failed to parse template: {error}")))?;
    let fields = row(&Summary::default(), true).into_iter().map(|(name, value)| match value {
        Value::Text(_) => (name.to_owned(), Value::from("")),
        other => (name.to_owned(), other),
    });
    let nothing = Struct {
        type_name: "formatter.ContainerContext".to_owned(),
        fields: fields.collect(),
        json: None,
        pointer: true,
        text: None,
    };
    template
        .execute(&Value::Struct(Rc::new(nothing)), Options::default())
        .map(drop)
        .map_err(|error| Failure::new(format!("failed to execute template: {error}")))
}

pub(crate) fn row(container: &Summary, truncate: bool) -> Vec<(&'static str, Value)> {
    let id = if truncate { human::short_id(&container.id) } else { &container.id };
    let command = if truncate { human::ellipsis(&container.command, 20) } else { container.command.clone() };
    let labels: Vec<String> = container.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let networks: Vec<&str> = container.network_settings.networks.keys().map(String::as_str).collect();
    let volumes = container.mounts.iter().filter(|mount| mount.driver == "local").count();
    vec![
        ("ID", id.into()),
        ("Names", names(&container.names, truncate).into()),
        ("Image", image(container, truncate).into()),
        ("Command", go_quote(&command).into()),
        ("CreatedAt", human::go_time(container.created).into()),
        ("RunningFor", human::since(container.created).into()),
        ("Ports", ports(&container.ports).into()),
        ("State", container.state.as_str().into()),
        ("Status", container.status.as_str().into()),
        ("Size", size(container).into()),
        ("Labels", labels.join(",").into()),
        ("Label", Value::Lookup(Rc::new(container.labels.clone()))),
        ("Mounts", mounts(container, truncate).into()),
        ("LocalVolumes", volumes.to_string().into()),
        ("Networks", networks.join(",").into()),
        ("Platform", platform(container)),
        ("HealthStatus", health(container).into()),
    ]
}

fn platform(container: &Summary) -> Value {
    let descriptor = container.image_manifest_descriptor.as_ref();
    match descriptor.and_then(|descriptor| descriptor.platform.as_ref()) {
        Some(platform) => Value::Struct(Rc::new(Struct {
            type_name: "v1.Platform".to_owned(),
            fields: vec![
                ("Architecture".to_owned(), platform.architecture.as_str().into()),
                ("OS".to_owned(), platform.os.as_str().into()),
                ("Variant".to_owned(), platform.variant.as_deref().unwrap_or_default().into()),
            ],
            json: serde_json::to_value(platform).ok(),
            pointer: true,
            text: Some(platform.to_string()),
        })),
        None => Value::NilPointer(Rc::new(NilPointer { type_name: "v1.Platform".to_owned(), fields: Vec::new() })),
    }
}

/// Older daemons tell of health in the words of the status alone.
fn health(container: &Summary) -> &str {
    if let Some(health) = container.health.as_ref().filter(|health| !health.status.is_empty()) {
        return &health.status;
    }
    let in_brackets = container.status.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    let word = in_brackets.map_or("", |word| word.strip_prefix("health: ").unwrap_or(word));
    if matches!(word, "healthy" | "unhealthy" | "starting") { word } else { "" }
}

/// The container's own name; names that links gave it have a further slash.
fn names(names: &[String], truncate: bool) -> String {
    let names: Vec<&str> = names.iter().map(|name| name.strip_prefix('/').unwrap_or(name)).collect();
    if truncate && let Some(own) = names.iter().find(|name| !name.contains('/')) {
        return (*own).to_owned();
    }
    names.join(",")
}

fn image(container: &Summary, truncate: bool) -> String {
    let image = &container.image;
    if image.is_empty() {
        return "<no image>".to_owned();
    }
    if !truncate {
        return image.clone();
    }
    let short = human::short_id(&container.image_id);
    if short == human::short_id(image) {
        return short.to_owned();
    }
    let Ok(reference) = Reference::parse(image) else { return image.clone() };
    match reference.tag() {
        Some(tag) => format!("{}:{tag}", reference.familiar_name()),
        None => reference.familiar_name(),
    }
}

fn size(container: &Summary) -> String {
    let own = human::size_short(container.size_rw);
    match container.size_root_fs {
        0 => own,
        all => format!("{own} (virtual {})", human::size_short(all)),
    }
}

fn mounts(container: &Summary, truncate: bool) -> String {
    let names = container.mounts.iter().map(|mount| {
        let name = if mount.name.is_empty() { &mount.source } else { &mount.name };
        if truncate { human::ellipsis(name, 15) } else { name.clone() }
    });
    names.collect::<Vec<_>>().join(",")
}

/// Ports in short: neighbours as ranges, published ones with their host side.
pub(super) fn ports(ports: &[Port]) -> String {
    let mut sorted: Vec<&Port> = ports.iter().collect();
    sorted.sort_by(|left, right| {
        let key = |port: &Port| (port.private_port, port.ip.clone(), port.public_port, port.protocol.clone());
        key(left).cmp(&key(right))
    });
    let mut open: BTreeMap<String, (u16, u16)> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let (mut shown, mut moved) = (Vec::new(), Vec::new());
    for port in sorted {
        let current = port.private_port;
        if !port.ip.is_empty() && port.public_port != current {
            moved.push(format!("{}->{current}/{}", joined(&port.ip, &port.public_port.to_string()), port.protocol));
            continue;
        }
        let key = if port.ip.is_empty() { port.protocol.clone() } else { format!("{}/{}", port.ip, port.protocol) };
        match open.get_mut(&key) {
            None => {
                open.insert(key.clone(), (current, current));
                order.push(key);
            }
            Some((_, last)) if current == last.saturating_add(1) => *last = current,
            Some(range) => {
                shown.push(group(&key, *range));
                *range = (current, current);
            }
        }
    }
    shown.extend(order.iter().map(|key| group(key, open[key])));
    shown.extend(moved);
    shown.join(", ")
}

fn group(key: &str, (first, last): (u16, u16)) -> String {
    let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
    match key.split_once('/') {
        Some((ip, protocol)) => format!("{}->{range}/{protocol}", joined(ip, &range)),
        None => format!("{range}/{key}"),
    }
}

fn joined(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, private_port: u16, public_port: u16) -> Port {
        Port { ip: ip.to_owned(), private_port, public_port, protocol: "tcp".to_owned() }
    }

    #[test]
    fn ports_are_grouped() {
        for (list, text) in [
            (vec![], ""),
            (vec![port("", 80, 0)], "80/tcp"),
            (vec![port("", 80, 0), port("", 81, 0), port("", 90, 0)], "80-81/tcp, 90/tcp"),
            (vec![port("0.0.0.0", 80, 8080), port("::", 80, 8080)], "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
            (vec![port("0.0.0.0", 80, 80), port("0.0.0.0", 81, 81)], "0.0.0.0:80-81->80-81/tcp"),
        ] {
            assert_eq!(ports(&list), text);
        }
    }

    #[test]
    fn images_lose_their_digest() {
        let digest = "a".repeat(64);
        for (given, shown) in [
            ("alpine".to_owned(), "alpine"),
            (format!("alpine:3@sha256:{digest}"), "alpine:3"),
            (format!("alpine@sha256:{digest}"), "alpine"),
            ("b".repeat(64), "bbbbbbbbbbbb"),
        ] {
            let container =
                Summary { image: given, image_id: format!("sha256:{}", "b".repeat(64)), ..Summary::default() };
            assert_eq!(image(&container, true), shown);
        }
    }
}
