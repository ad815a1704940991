//! `buildx history ls`

use std::process::Command;

use ferry_buildkit_proto::messages::control::BuildHistoryRecord;
use ferry_gotmpl::Value;
use serde_json::json;

use super::super::control::Control;
use super::super::{BUILDER, failed};
use super::records::{began_ns, duration, duration_ns, is_over, name_of, ns, query};
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::{Listing, human};

const LISTING: Listing<'static> = Listing {
    type_name: "*history.lsContext",
    headers: &[
        ("Ref", "BUILD ID"),
        ("Name", "NAME"),
        ("Status", "STATUS"),
        ("CreatedAt", "CREATED AT"),
        ("Duration", "DURATION"),
        ("Link", ""),
    ],
    table: "{{.Ref}}\t{{.Name}}\t{{.Status}}\t{{.CreatedAt}}\t{{.Duration}}\t{{.Link}}",
    raw: "",
};

/// Letters of a name that a table shows.
const NAME: usize = 36;

/// Runs `buildx history ls`.
pub(in crate::commands) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let mut filters = parsed.all("filter").to_vec();
    if parsed.on("local") {
        filters.insert(0, format!("repository={}", repository()?));
    }
    let control = Control::open(parsed, context).await?;
    let mut records = query(&control, "", &filters).await?;
    records.sort_by_key(is_over);
    let format = parsed.text_or_empty("format");
    if format == "json" {
        let lines: Vec<String> = records.iter().map(|record| as_json(record) + "\n").collect();
        context.printer.data(lines.concat())?;
        return Ok(0);
    }
    let is_cut = !parsed.on("no-trunc") && (format.is_empty() || format.starts_with("table"));
    let rows = records.iter().map(|record| row(record, is_cut)).collect();
    context.printer.data(LISTING.render(format, rows)?)?;
    Ok(0)
}

/// The repository of the working directory.
fn repository() -> Result<String> {
    let asked = Command::new("git").args(["remote", "get-url", "origin"]).output();
    let asked = asked.map_err(|_| failed("git was not found in the system"))?;
    let address = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    if !asked.status.success() || address.is_empty() {
        return Err(failed("could not get remote URL for local filter: no remote found"));
    }
    Ok(address)
}

fn status(record: &BuildHistoryRecord) -> &'static str {
    match (is_over(record), &record.error) {
        (false, _) => "Running",
        (true, None) => "Completed",
        (true, Some(_)) => "Error",
    }
}

/// Leaves the end of a name that is too long.
fn cut(name: String) -> String {
    let count = name.chars().count();
    if count <= NAME {
        return name;
    }
    let rest: String = name.chars().skip(count - (NAME - 2)).collect();
    format!("..{rest}")
}

fn row(record: &BuildHistoryRecord, is_cut: bool) -> Vec<(&'static str, Value)> {
    let name = name_of(&record.frontend_attrs);
    let name = if is_cut { cut(name) } else { name };
    let more = if is_over(record) { "" } else { "+" };
    vec![
        ("Ref", record.reference.as_str().into()),
        ("Name", name.into()),
        ("Status", status(record).into()),
        ("CreatedAt", human::since(began_ns(record) / 1_000_000_000).into()),
        ("Duration", format!("{}{more}", duration(duration_ns(record))).into()),
        // It would lead into Docker Desktop.
        ("Link", "".into()),
    ]
}

fn as_json(record: &BuildHistoryRecord) -> String {
    let time = |nanoseconds: i64| {
        jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).map(|time| time.to_string()).unwrap_or_default()
    };
    let mut told = json!({
        "cached_steps": record.num_cached_steps,
        "completed_steps": record.num_completed_steps,
        "created_at": time(began_ns(record)),
        "name": name_of(&record.frontend_attrs),
        "ref": format!("{BUILDER}/{BUILDER}/{}", record.reference),
        "status": status(record),
        "total_steps": record.num_total_steps,
    });
    if let Some(ended) = record.completed_at {
        told["completed_at"] = json!(time(ns(ended)));
    }
    told.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_lose_their_beginning() {
        assert_eq!(cut("short".to_owned()), "short");
        let long = cut("a".repeat(30) + &"b".repeat(20));
        assert_eq!((long.len(), long.starts_with("..aa"), long.ends_with("bb")), (36, true, true));
    }
}
