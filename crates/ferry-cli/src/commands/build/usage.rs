//! `builder du`

use ferry_api::system::BuildCache;

use super::plain::bytes;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;

/// Runs `builder du`.
pub(in crate::commands) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let client = context.client().await?;
    let usage = client.disk_usage_of("build-cache").await?;
    let mut items = usage.build_cache_usage.map(|usage| usage.items).unwrap_or_default();
    items.sort_by_key(|item| std::cmp::Reverse(item.size));
    let text = if parsed.on("verbose") { verbose(&items) } else { table(&items) };
    context.printer.data(text)?;
    Ok(0)
}

fn table(items: &[BuildCache]) -> String {
    let mut rows = vec![["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"].map(str::to_owned)];
    for item in items {
        let id = if item.kind == "exec.cachemount" || item.shared { format!("{}*", item.id) } else { item.id.clone() };
        let used = item.last_used_at.clone().unwrap_or_default();
        rows.push([id, (!item.in_use).to_string(), bytes(item.size), used]);
    }
    let widths: Vec<usize> =
        (0..4).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("\t").trim_end());
        text.push('\n');
    }
    text + &totals(items)
}

fn verbose(items: &[BuildCache]) -> String {
    let mut text = String::new();
    for item in items {
        let lines = [
            ("ID", item.id.clone()),
            ("Created at", item.created_at.clone()),
            ("Mutable", (item.kind == "exec.cachemount").to_string()),
            ("Reclaimable", (!item.in_use).to_string()),
            ("Shared", item.shared.to_string()),
            ("Size", bytes(item.size)),
            ("Description", item.description.clone()),
            ("Usage count", item.usage_count.to_string()),
            ("Last used", item.last_used_at.clone().unwrap_or_default()),
            ("Type", item.kind.clone()),
        ];
        for (name, value) in lines {
            text.push_str(&format!("{:<16}{value}\n", format!("{name}:")));
        }
        text.push('\n');
    }
    text + &totals(items)
}

fn totals(items: &[BuildCache]) -> String {
    let sum = |takes: &dyn Fn(&&BuildCache) -> bool| items.iter().filter(takes).map(|item| item.size).sum::<i64>();
    let (shared, reclaimable) = (sum(&|item| item.shared), sum(&|item| !item.in_use));
    let all = sum(&|_| true);
    let mut text = String::new();
    for (name, size) in [("Shared", shared), ("Private", all - shared), ("Reclaimable", reclaimable), ("Total", all)] {
        if size > 0 || matches!(name, "Reclaimable" | "Total") {
            text.push_str(&format!("{:<16}{}\n", format!("{name}:"), bytes(size)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_listed_with_their_sum() {
        let item = BuildCache { id: "abc".to_owned(), kind: "regular".to_owned(), size: 1500, ..BuildCache::default() };
        let text = table(std::slice::from_ref(&item));
        assert!(text.starts_with("ID \tRECLAIMABLE\tSIZE  \tLAST ACCESSED\nabc\ttrue       \t1.50kB"), "{text}");
        assert!(text.ends_with("Reclaimable:    1.50kB\nTotal:          1.50kB\n"), "{text}");
        assert!(verbose(&[item]).contains("Usage count:    0\n"));
    }
}
