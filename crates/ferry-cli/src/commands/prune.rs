//! `prune`: images that nobody used for long go, or as many as it takes to get below a size. Docker has nothing like it.

use ferry_api::image::{Collected, CollectedImage};

use crate::commands::lists;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::format::{human, tabwriter};

/// Runs `prune`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let (unused_for, keep_last) = (parsed.text_or_empty("unused-for"), parsed.text_or_empty("keep-last"));
    let budget = parsed.bytes("budget").map(|bytes| bytes.to_string()).unwrap_or_default();
    if unused_for.is_empty() && budget.is_empty() {
        return Err(Failure::new(
            "nothing is chosen\nhint: say for how long images must not have been used with `--unused-for 14d`, or a size with `--budget 20g`",
        ));
    }
    let as_json = match parsed.text_or_empty("format") {
        "" => false,
        "json" => true,
        other => return Err(Failure::new(format!("unknown format {other:?}: must be `json`"))),
    };
    let dry_run = parsed.on("dry-run");
    let client = context.client().await?;
    let mut report = client.image_collect(unused_for, keep_last, &budget, true).await?;
    if !dry_run {
        if !parsed.on("force") && !report.images.is_empty() {
            let question = format!("{}Remove these images? [y/N] ", table(&report));
            if !lists::confirmed(context, &question)? {
                return Ok(0);
            }
        }
        report = client.image_collect(unused_for, keep_last, &budget, false).await?;
    }
    if as_json {
        let json = serde_json::to_string(&report).map_err(|error| Failure::new(error.to_string()))?;
        context.printer.line(&json)?;
        return Ok(0);
    }
    if dry_run || parsed.on("force") {
        context.printer.data(table(&report))?;
    }
    let space = human::size(i64::try_from(report.space_reclaimed).unwrap_or(i64::MAX));
    let what = if dry_run { "Space that would be reclaimed" } else { "Total reclaimed space" };
    context.printer.line(&format!("{what}: {space}"))?;
    Ok(0)
}

fn table(report: &Collected) -> String {
    if report.images.is_empty() {
        return String::new();
    }
    let rows: String = report.images.iter().flat_map(rows).collect();
    tabwriter::align(&format!("IMAGE\tIMAGE ID\tLAST USED\tUNIQUE SIZE\n{rows}"), &tabwriter::LISTS)
}

/// One row per name, with the size beside the first.
fn rows(image: &CollectedImage) -> Vec<String> {
    let used =
        image.last_used.parse::<jiff::Timestamp>().map_or_else(|_| "never".to_owned(), |t| human::since(t.as_second()));
    let id = human::short_id(&image.id);
    let none = ["<none>".to_owned()];
    let names = if image.names.is_empty() { &none[..] } else { &image.names[..] };
    let size = |at: usize| if at == 0 { human::size(image.unique_size) } else { String::new() };
    names.iter().enumerate().map(|(at, name)| format!("{name}\t{id}\t{used}\t{}\n", size(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_an_image_is_told() {
        let image = CollectedImage {
            id: format!("sha256:{}", "a".repeat(64)),
            names: vec!["app:1".into(), "app:old".into()],
            unique_size: 1000,
            last_used: "0001-01-01".into(),
        };
        let report = Collected { images: vec![image], space_reclaimed: 1000, dry_run: true };
        assert_eq!(
            table(&report),
            "IMAGE     IMAGE ID       LAST USED   UNIQUE SIZE\napp:1     aaaaaaaaaaaa   never       1kB\napp:old   aaaaaaaaaaaa   never       \n"
        );
        assert_eq!(table(&Collected::default()), "");
    }
}
