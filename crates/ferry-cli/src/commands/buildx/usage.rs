//! `buildx du` and `buildx prune`: what the builder keeps, and how it is removed.

use std::collections::BTreeMap;

use ferry_buildkit_proto::messages::Timestamp;
use ferry_buildkit_proto::messages::control::{DiskUsageRequest, DiskUsageResponse, PruneRequest, UsageRecord};
use ferry_gotmpl::Value;

use super::control::{Control, next};
use super::failed;
use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::{Parsed, go_quote, parse_duration};
use crate::format::tabwriter::with_tabs;
use crate::format::{Listing, human};

const LISTING: Listing<'static> = Listing {
    type_name: "*commands.diskusageContext",
    headers: &[
        ("ID", "ID"),
        ("Parents", "PARENTS"),
        ("CreatedAt", "CREATED AT"),
        ("Mutable", "MUTABLE"),
        ("Reclaimable", "RECLAIMABLE"),
        ("Shared", "SHARED"),
        ("Size", "SIZE"),
        ("Description", "DESCRIPTION"),
        ("UsageCount", "USAGE COUNT"),
        ("LastUsedAt", "LAST ACCESSED"),
        ("Type", "TYPE"),
    ],
    table: "{{.ID}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastUsedAt}}",
    raw: "",
};

const DANGLING: &str = "WARNING! This will remove all dangling build cache. Are you sure you want to continue?";
const ALL: &str = "WARNING! This will remove all build cache. Are you sure you want to continue?";

/// Runs `buildx du`.
pub(in crate::commands) async fn disk_usage(parsed: &Parsed, context: &Context) -> Result<u8> {
    let given = parsed.text_or_empty("format");
    if !given.is_empty() && parsed.on("verbose") {
        return Err(failed("--format and --verbose cannot be used together"));
    }
    let format = if parsed.on("verbose") { "pretty" } else { given };
    let conditions = Conditions::read(parsed)?;
    let control = Control::open(parsed, context).await?;
    let request = DiskUsageRequest { filter: conditions.texts(), ..DiskUsageRequest::default() };
    let usage: DiskUsageResponse = control.ask("DiskUsage", &request).await?;
    let mut records = usage.record;
    records.sort_by_key(|record| std::cmp::Reverse(record.size));
    let text = match format {
        "pretty" => records.iter().map(|record| at_length(record) + "\n").collect(),
        format => {
            let is_table = format.is_empty() || format.starts_with("table");
            LISTING.render(format, records.iter().map(|record| row(record, is_table)).collect())?
        }
    };
    context.printer.data(text)?;
    if matches!(format, "" | "table" | "pretty") && parsed.all("filter").is_empty() {
        context.printer.data(totals(&records))?;
    }
    Ok(0)
}

/// Runs `buildx prune`.
pub(in crate::commands) async fn prune(parsed: &Parsed, context: &Context) -> Result<u8> {
    let conditions = Conditions::read(parsed)?;
    let all = parsed.on("all");
    if !parsed.on("force") && !lists::confirmed(context, if all { ALL } else { DANGLING })? {
        return Ok(0);
    }
    let control = Control::open(parsed, context).await?;
    let bytes = |name: &str| parsed.bytes(name).unwrap_or_default();
    let request = PruneRequest {
        filter: conditions.texts(),
        all,
        keep_duration: conditions.until_ns,
        reserved_space: parsed.bytes("reserved-space").unwrap_or_else(|| bytes("keep-storage")),
        max_used_space: bytes("max-used-space"),
        min_free_space: bytes("min-free-space"),
    };
    let mut replies = control.listen("Prune", &request).await?;
    let (mut total, mut is_first) = (0, true);
    while let Some(record) = next::<UsageRecord>(&mut replies).await? {
        total += record.size;
        if parsed.on("verbose") {
            context.printer.data(at_length(&record) + "\n")?;
            continue;
        }
        if std::mem::take(&mut is_first) {
            let head = ["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"].map(str::to_owned).to_vec();
            context.printer.data(with_tabs(&[head]))?;
        }
        let id = record.id.clone() + if record.mutable { "*" } else { "" };
        let size = human::size(record.size) + if record.shared { "*" } else { "" };
        let cells = [format!("{id:<40}"), format!("{:<5}", !record.in_use), format!("{size:<10}"), last_used(&record)];
        context.printer.data(with_tabs(&[cells.to_vec()]))?;
    }
    context.printer.data(with_tabs(&[vec!["Total:".to_owned(), human::size(total)]]))?;
    Ok(0)
}

/// What records have to be like, in containerd's words.
struct Conditions {
    words: Vec<String>,
    /// Records that were used later stay.
    until_ns: i64,
}

impl Conditions {
    fn read(parsed: &Parsed) -> Result<Self> {
        let mut given: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for text in parsed.all("filter") {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            given.entry(key.trim().to_lowercase()).or_default().push(value.trim());
        }
        let too_many = || failed("filters expect only one value");
        if given.contains_key("until") && given.contains_key("unused-for") {
            return Err(failed("conflicting filters \"until\" and \"unused-for\""));
        }
        let mut conditions = Self { words: Vec::new(), until_ns: 0 };
        for (key, values) in given {
            let [value] = values.as_slice() else { return Err(too_many()) };
            match key.as_str() {
                "until" | "unused-for" => {
                    let read = parse_duration(value).map_err(|error| {
                        failed(format!("{} filter expects a duration (e.g., '24h'): {error}", go_quote(&key)))
                    });
                    conditions.until_ns = read?;
                }
                _ if value.is_empty() => conditions.words.push(key),
                "id" => conditions.words.push(format!("id~={value}")),
                _ if key.ends_with(['!', '~']) => conditions.words.push(format!("{key}={value}")),
                _ => conditions.words.push(format!("{key}=={value}")),
            }
        }
        Ok(conditions)
    }

    fn texts(&self) -> Vec<String> {
        if self.words.is_empty() { Vec::new() } else { vec![self.words.join(",")] }
    }
}

fn last_used(record: &UsageRecord) -> String {
    record.last_used_at.map(|time| human::since(time.seconds)).unwrap_or_default()
}

fn created(record: &UsageRecord) -> String {
    let Timestamp { seconds, nanos } = record.created_at.unwrap_or_default();
    let time = jiff::Timestamp::new(seconds, nanos).unwrap_or_default();
    let fraction = format!("{nanos:09}");
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}{point}{fraction} +0000 UTC", time.strftime("%Y-%m-%d %H:%M:%S"))
}

fn row(record: &UsageRecord, is_table: bool) -> Vec<(&'static str, Value)> {
    let mark = |is_marked: bool| if is_table && is_marked { "*" } else { "" };
    vec![
        ("CreatedAt", created(record).into()),
        ("Description", record.description.as_str().into()),
        ("ID", format!("{}{}", record.id, mark(record.mutable)).into()),
        ("LastUsedAt", last_used(record).into()),
        ("Mutable", Value::Bool(record.mutable)),
        ("Parents", Value::list(record.parents.iter().map(|parent| parent.as_str().into()).collect())),
        ("Reclaimable", Value::Bool(!record.in_use)),
        ("Shared", Value::Bool(record.shared)),
        ("Size", format!("{}{}", human::size(record.size), mark(record.shared)).into()),
        ("Type", record.record_type.as_str().into()),
        ("UsageCount", Value::Int(record.usage_count)),
    ]
}

fn at_length(record: &UsageRecord) -> String {
    let mut text = format!("{:<14}{}\n", "ID:", record.id);
    if !record.parents.is_empty() {
        text.push_str("Parents:\n");
        record.parents.iter().for_each(|parent| text.push_str(&format!(" - {parent}\n")));
    }
    let lines = [
        ("Created at", created(record)),
        ("Mutable", record.mutable.to_string()),
        ("Reclaimable", (!record.in_use).to_string()),
        ("Shared", record.shared.to_string()),
        ("Size", human::size(record.size)),
        ("Description", record.description.clone()),
        ("Usage count", record.usage_count.to_string()),
        ("Last used", last_used(record)),
        ("Type", record.record_type.clone()),
    ];
    for (name, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{:<14}{value}\n", format!("{name}:")));
    }
    text
}

fn totals(records: &[UsageRecord]) -> String {
    let sum = |takes: &dyn Fn(&&UsageRecord) -> bool| records.iter().filter(takes).map(|one| one.size).sum::<i64>();
    let (shared, reclaimable, all) = (sum(&|one| one.shared), sum(&|one| !one.in_use), sum(&|_| true));
    let mut rows = Vec::new();
    if shared > 0 {
        rows.extend([("Shared:", shared), ("Private:", all - shared)]);
    }
    rows.extend([("Reclaimable:", reclaimable), ("Total:", all)]);
    let rows: Vec<_> = rows.into_iter().map(|(name, bytes)| vec![name.to_owned(), human::size(bytes)]).collect();
    with_tabs(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> UsageRecord {
        UsageRecord {
            id: "abc".to_owned(),
            mutable: true,
            size: 1500,
            created_at: Some(Timestamp { seconds: 1_700_000_000, nanos: 500_000_000 }),
            record_type: "exec.cachemount".to_owned(),
            parents: vec!["one".to_owned()],
            ..UsageRecord::default()
        }
    }

    #[test]
    fn records_are_listed_with_their_sum() {
        let text = LISTING.render("", vec![row(&record(), true)]).unwrap();
        assert_eq!(text, "ID        RECLAIMABLE   SIZE      LAST ACCESSED\nabc*      true          1.5kB     \n");
        assert_eq!(totals(&[record()]), "Reclaimable:\t1.5kB\nTotal:\t\t1.5kB\n");
        let text = at_length(&record());
        assert!(
            text.starts_with("ID:           abc\nParents:\n - one\nCreated at:   2023-11-14 22:13:20.5 +0000 UTC\n"),
            "{text}"
        );
        assert!(text.ends_with("Usage count:  0\nType:         exec.cachemount\n"), "{text}");
    }
}
