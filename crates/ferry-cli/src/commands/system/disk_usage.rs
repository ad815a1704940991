//! `system df`

use std::rc::Rc;

use ferry_api::system::{BuildCache, DiskUsage, Usage};
use ferry_api::volume::Volume;
use ferry_gotmpl::{Options, Struct, Template, Value};

use crate::commands::container::list as containers;
use crate::commands::image::list as images;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::format::{Listing, human};

const TABLE: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
const RAW: &str =
    "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n";
const HEADERS: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];
const IMAGES: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const VOLUMES: &str = "{{.Name}}\t{{.Links}}\t{{.Size}}";
const VOLUME_HEADERS: &[(&str, &str)] = &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")];
const CACHE: &str =
    "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}";
const CACHE_HEADERS: &[(&str, &str)] = &[
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
];

type Row = Vec<(&'static str, Value)>;

/// Runs `system df`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let client = context.client().await?;
    let usage = client.disk_usage(true).await?;
    let format = parsed.text_or_empty("format");
    let text = match (parsed.on("verbose"), format) {
        (false, format) => summary(&usage, format)?,
        (true, "" | "table") => details(&usage)?,
        (true, template) => by_template(&usage, template)?,
    };
    context.printer.data(text)?;
    Ok(0)
}

fn summary(usage: &DiskUsage, format: &str) -> Result<String> {
    let rows = vec![
        line("Images", usage.image_usage.as_ref(), true),
        line("Containers", usage.container_usage.as_ref(), true),
        line("Local Volumes", usage.volume_usage.as_ref(), true),
        line("Build Cache", usage.build_cache_usage.as_ref(), false),
    ];
    let listing = Listing { type_name: "formatter.diskUsageImagesContext", headers: HEADERS, table: TABLE, raw: RAW };
    listing.render(format, rows)
}

fn line<T>(name: &'static str, usage: Option<&Usage<T>>, with_percentage: bool) -> Row {
    let (total, active, size, reclaimable) = usage
        .map_or((0, 0, 0, 0), |usage| (usage.total_count, usage.active_count, usage.total_size, usage.reclaimable));
    let mut free = human::size(reclaimable);
    if with_percentage && size > 0 {
        free.push_str(&format!(" ({}%)", reclaimable.saturating_mul(100) / size));
    }
    vec![
        ("Active", active.to_string().into()),
        ("Reclaimable", free.into()),
        ("Size", human::size(size).into()),
        ("TotalCount", total.to_string().into()),
        ("Type", name.into()),
    ]
}

fn details(usage: &DiskUsage) -> Result<String> {
    let table = |type_name, headers, table, rows: Vec<Row>| {
        Listing { type_name, headers, table, raw: "" }.render("table", rows)
    };
    let built = usage.build_cache_usage.as_ref().map_or(0, |cache| cache.total_size);
    Ok([
        "Images space usage:\n\n".to_owned(),
        table("formatter.imageContext", images::HEADERS, IMAGES, image_rows(usage, true))?,
        "\nContainers space usage:\n\n".to_owned(),
        table("formatter.ContainerContext", containers::HEADERS, CONTAINERS, container_rows(usage, true))?,
        "\nLocal Volumes space usage:\n\n".to_owned(),
        table("formatter.volumeContext", VOLUME_HEADERS, VOLUMES, volume_rows(usage))?,
        format!("\nBuild cache usage: {}\n\n", human::size(built)),
        table("formatter.buildCacheContext", CACHE_HEADERS, CACHE, cache_rows(usage))?,
    ]
    .concat())
}

/// Renders a template over the four lists at once.
fn by_template(usage: &DiskUsage, template: &str) -> Result<String> {
    // As it stands there: only JSON gets a line of its own.
    let end = if template == "json" { "\n" } else { "" };
    let template = if template == "json" { "{{json .}}" } else { template };
    let parsed = Template::parse("", template)
        .map_err(|error| Failure::with_code(64, format!("failed to parse template: {error}")))?;
    let list = |type_name: &str, rows: Vec<Row>| {
        Value::list(rows.into_iter().map(|row| Value::Struct(Rc::new(structure(type_name, row)))).collect())
    };
    let whole = structure(
        "formatter.diskUsageContext",
        vec![
            ("Images", list("formatter.imageContext", image_rows(usage, false))),
            ("Containers", list("formatter.ContainerContext", container_rows(usage, false))),
            ("Volumes", list("formatter.volumeContext", volume_rows(usage))),
            ("BuildCache", list("formatter.buildCacheContext", cache_rows(usage))),
        ],
    );
    let text = parsed
        .execute(&Value::Struct(Rc::new(whole)), Options::default())
        .map_err(|error| Failure::new(format!("template parsing error: {error}")))?;
    Ok(text + end)
}

fn structure(type_name: &str, row: Row) -> Struct {
    let fields = row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Struct { type_name: type_name.to_owned(), fields, json: None, pointer: true, text: None }
}

fn image_rows(usage: &DiskUsage, truncate: bool) -> Vec<Row> {
    let items = usage.image_usage.as_ref().map(|usage| usage.items.as_slice()).unwrap_or_default();
    items.iter().map(|image| images::usage_row(image, truncate)).collect()
}

fn container_rows(usage: &DiskUsage, truncate: bool) -> Vec<Row> {
    let items = usage.container_usage.as_ref().map(|usage| usage.items.as_slice()).unwrap_or_default();
    items
        .iter()
        .map(|one| {
            // The size with everything below is not shown here.
            let one = ferry_api::container::Summary { size_root_fs: 0, ..one.clone() };
            containers::row(&one, truncate)
        })
        .collect()
}

fn volume_rows(usage: &DiskUsage) -> Vec<Row> {
    let items = usage.volume_usage.as_ref().map(|usage| usage.items.as_slice()).unwrap_or_default();
    items.iter().map(volume_row).collect()
}

fn volume_row(volume: &Volume) -> Row {
    let data = volume.usage_data.clone().unwrap_or_default();
    let labels: Vec<String> = volume.labels.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    vec![
        ("Availability", "N/A".into()),
        ("Driver", volume.driver.as_str().into()),
        ("Group", "N/A".into()),
        ("Labels", labels.join(",").into()),
        ("Links", data.ref_count.to_string().into()),
        ("Mountpoint", volume.mountpoint.as_str().into()),
        ("Name", volume.name.as_str().into()),
        ("Scope", volume.scope.as_str().into()),
        ("Size", human::size(data.size).into()),
        ("Status", "N/A".into()),
    ]
}

fn cache_rows(usage: &DiskUsage) -> Vec<Row> {
    let items = usage.build_cache_usage.as_ref().map(|usage| usage.items.as_slice()).unwrap_or_default();
    items.iter().map(cache_row).collect()
}

fn cache_row(record: &BuildCache) -> Row {
    vec![
        ("CacheType", record.kind.as_str().into()),
        ("Description", record.description.as_str().into()),
        ("ID", record.id.as_str().into()),
        ("InUse", record.in_use.to_string().into()),
        ("Shared", record.shared.to_string().into()),
        ("Size", human::size(record.size).into()),
        ("UsageCount", record.usage_count.to_string().into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_whole_percents() {
        let usage = DiskUsage {
            image_usage: Some(Usage {
                total_count: 2,
                active_count: 1,
                total_size: 300,
                reclaimable: 100,
                items: vec![],
            }),
            ..DiskUsage::default()
        };
        assert_eq!(
            summary(&usage, "").unwrap(),
            "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n\
             Images          2         1         300B      100B (33%)\n\
             Containers      0         0         0B        0B\n\
             Local Volumes   0         0         0B        0B\n\
             Build Cache     0         0         0B        0B\n"
        );
    }
}
