//! `system prune`

use ferry_api::filters::Filters;
use ferry_client::{Client, Error};

use crate::commands::lists;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::format::human;

/// Runs `system prune`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let (all, volumes) = (parsed.on("all"), parsed.on("volumes"));
    let filters = lists::filters(parsed);
    if volumes && filters.contains("until") {
        return Err(Failure::new("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    if !parsed.on("force") && !lists::confirmed(context, &warning(all, volumes, &filters))? {
        return Ok(0);
    }
    let client = context.client().await?;
    let mut reclaimed = 0;
    let kinds: &[Kind] = match volumes {
        true => &[Kind::Containers, Kind::Networks, Kind::Volumes, Kind::Images, Kind::BuildCache],
        false => &[Kind::Containers, Kind::Networks, Kind::Images, Kind::BuildCache],
    };
    for kind in kinds {
        match prune(client, *kind, all, &filters).await {
            Ok((space, text)) => {
                reclaimed += space;
                if !text.is_empty() {
                    context.printer.line(&text)?;
                }
            }
            // What the daemon does not have, it has nothing of.
            Err(Error::Api { status: 501, .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let space = human::size(i64::try_from(reclaimed).unwrap_or(i64::MAX));
    context.printer.line(&format!("Total reclaimed space: {space}"))?;
    Ok(0)
}

/// What is pruned, in the order in which one thing holds another.
#[derive(Clone, Copy)]
enum Kind {
    Containers,
    Networks,
    Volumes,
    Images,
    BuildCache,
}

async fn prune(client: &Client, kind: Kind, all: bool, filters: &Filters) -> Result<(u64, String), Error> {
    let listed = |title: &str, names: Vec<String>| match names[..] {
        [] => String::new(),
        _ => format!("Deleted {title}:\n{}\n", names.join("\n")),
    };
    match kind {
        Kind::Containers => {
            let report = client.container_prune(filters).await?;
            Ok((report.space_reclaimed, listed("Containers", report.containers_deleted.unwrap_or_default())))
        }
        Kind::Networks => {
            let report = client.network_prune(filters).await?;
            Ok((0, listed("Networks", report.networks_deleted.unwrap_or_default())))
        }
        Kind::Volumes => {
            let report = client.volume_prune(filters).await?;
            Ok((report.space_reclaimed, listed("Volumes", report.volumes_deleted.unwrap_or_default())))
        }
        Kind::BuildCache => {
            // Labels are nothing that a cache has.
            let mut of_cache = Filters::default();
            filters.get("until").for_each(|value| of_cache.add("until", value));
            if filters.contains("label") || filters.contains("label!") {
                return Ok((0, String::new()));
            }
            let report = client.build_prune(all, &of_cache, [0; 3]).await?;
            Ok((report.space_reclaimed, listed("build cache objects", report.caches_deleted.unwrap_or_default())))
        }
        Kind::Images => {
            let mut filters = filters.clone();
            filters.add("dangling", if all { "false" } else { "true" });
            let report = client.image_prune(&filters).await?;
            let lines =
                report.images_deleted.unwrap_or_default().into_iter().map(|item| match item.untagged.as_str() {
                    "" => format!("deleted: {}", item.deleted),
                    name => format!("untagged: {name}"),
                });
            Ok((report.space_reclaimed, listed("Images", lines.collect())))
        }
    }
}

fn warning(all: bool, volumes: bool, filters: &Filters) -> String {
    let mut lines = vec!["all stopped containers", "all networks not used by at least one container"];
    if volumes {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.push(if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    lines.push(if all { "all build cache" } else { "unused build cache" });
    let mut text = "WARNING! This will remove:\n".to_owned();
    lines.iter().for_each(|line| text.push_str(&format!("  - {line}\n")));
    let mut chosen: Vec<String> = ["label", "label!", "until"]
        .iter()
        .flat_map(|name| filters.get(name).map(move |value| format!("{name}={value}")))
        .collect();
    chosen.sort();
    if chosen.is_empty() {
        text.push('\n');
    } else {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        chosen.iter().for_each(|filter| text.push_str(&format!("  - {filter}\n")));
        text.push('\n');
    }
    text + "Are you sure you want to continue? [y/N] "
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_will_go_is_told_before() {
        let mut filters = Filters::default();
        assert_eq!(
            warning(false, false, &filters),
            "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n  - all dangling \
             images\n  - unused build cache\n\nAre you sure you want to continue? [y/N] "
        );
        filters.add("label", "a");
        assert!(
            warning(true, true, &filters).contains("\n\n  Items to be pruned will be filtered with:\n  - label=a\n\n")
        );
    }
}
