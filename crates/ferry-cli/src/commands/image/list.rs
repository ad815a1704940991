//! `images`

use std::collections::BTreeMap;

use ferry_api::image::Summary;
use ferry_gotmpl::Value;
use ferry_spec::reference::Reference;

use crate::commands::lists;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::format::{Listing, human};
use crate::output::{stdout_is_terminal, stdout_size};

const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const DIGEST_TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const RAW: &str = "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n";

pub(crate) const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

/// Words that belong behind `image`, and are easily put behind `images`.
const VERBS: &[&str] =
    &["build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm", "save", "tag"];

/// Runs `images`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let tree = parsed.on("tree");
    if let Some(flag) = beside_tree(parsed).filter(|_| tree) {
        return Err(Failure::new(format!("{flag} is not yet supported with --tree")));
    }
    let mut filters = lists::filters(parsed);
    if let Some(name) = parsed.args.first() {
        filters.add("reference", name.as_str());
    }
    let quiet = parsed.on("quiet");
    let format = match parsed.text_or_empty("format") {
        "" if !quiet => context.config.file.images_format.clone(),
        given => given.to_owned(),
    };
    let client = context.client().await?;
    if tree {
        lists::require(client, parsed, "tree", 47).await?;
        let images = client.image_list_with_manifests(parsed.on("all"), &filters).await?;
        let width = stdout_is_terminal().then(|| stdout_size().map_or(0, |(_, columns)| usize::from(columns)));
        context.printer.data(super::tree::render(&images, parsed.on("all"), width))?;
        return Ok(0);
    }
    let images = client.image_list(parsed.on("all"), &filters).await?;
    let digests = parsed.on("digests");
    let needs_digest = digests || (!quiet && format.contains("{{.Digest}}"));
    let table = match (quiet, digests) {
        (true, _) => "{{.ID}}",
        (false, true) => DIGEST_TABLE,
        (false, false) => TABLE,
    };
    let listing = Listing { type_name: "formatter.imageContext", headers: HEADERS, table, raw: RAW };
    let truncate = !parsed.on("no-trunc");
    let rows = images.iter().flat_map(|image| rows(image, truncate, digests, needs_digest)).collect();
    let format = match (quiet, format.as_str()) {
        (true, "" | "table" | "raw") => "{{.ID}}",
        (_, format) => format,
    };
    context.printer.data(listing.render(format, rows)?)?;
    if images.is_empty()
        && parsed.path == "images"
        && let Some(name) = parsed.args.first().filter(|name| VERBS.contains(&name.as_str()))
    {
        // Not what was looked for, most likely.
        context.printer.note(&format!("\nNo images found matching \"{name}\": did you mean \"docker image {name}\"?"));
    }
    Ok(0)
}

/// The first flag that a tree cannot be shown with.
fn beside_tree(parsed: &Parsed) -> Option<&'static str> {
    let format = !parsed.text_or_empty("format").is_empty();
    [
        (parsed.on("quiet"), "--quiet"),
        (parsed.on("no-trunc"), "--no-trunc"),
        (parsed.on("digests"), "--show-digest"),
        (format, "--format"),
    ]
    .into_iter()
    .find_map(|(given, flag)| given.then_some(flag))
}

/// One row per name, or one without a name.
fn rows(image: &Summary, truncate: bool, digests: bool, needs_digest: bool) -> Vec<Vec<(&'static str, Value)>> {
    names(image, digests, needs_digest)
        .into_iter()
        .map(|(repository, tag, digest)| row(image, truncate, &repository, &tag, &digest))
        .collect()
}

fn names(image: &Summary, digests: bool, needs_digest: bool) -> Vec<(String, String, String)> {
    const NONE: &str = "<none>";
    let none = || NONE.to_owned();
    let dangling = |names: &[String], text: &str| names.is_empty() || names == [text];
    if dangling(&image.repo_tags, "<none>:<none>") && dangling(&image.repo_digests, "<none>@<none>") {
        return vec![(none(), none(), none())];
    }
    let mut tags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for reference in image.repo_tags.iter().filter_map(|name| Reference::parse(name).ok()) {
        tags.entry(reference.familiar_name()).or_default().extend(reference.tag().map(str::to_owned));
    }
    let mut by_digest: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for reference in image.repo_digests.iter().filter_map(|name| Reference::parse(name).ok()) {
        by_digest.entry(reference.familiar_name()).or_default().extend(reference.digest().map(ToString::to_string));
    }
    let mut found = Vec::new();
    for (repository, tags) in tags {
        let known = by_digest.remove(&repository).unwrap_or_default();
        for tag in tags {
            if known.is_empty() || !needs_digest {
                found.push((repository.clone(), tag, none()));
                continue;
            }
            for digest in &known {
                found.push((repository.clone(), tag.clone(), digest.clone()));
            }
        }
    }
    for (repository, known) in by_digest {
        if digests {
            found.extend(known.into_iter().map(|digest| (repository.clone(), none(), digest)));
        } else {
            found.push((repository, none(), String::new()));
        }
    }
    found
}

/// The row of an image in `system df`: one, with the first of its names.
pub(crate) fn usage_row(image: &Summary, truncate: bool) -> Vec<(&'static str, Value)> {
    const NONE: &str = "<none>";
    let first = image.repo_tags.first().filter(|name| *name != "<none>:<none>");
    match first.and_then(|name| Reference::parse(name).ok()) {
        Some(name) => row(image, truncate, &name.familiar_name(), name.tag().unwrap_or(NONE), NONE),
        None => row(image, truncate, NONE, NONE, NONE),
    }
}

fn row(image: &Summary, truncate: bool, repository: &str, tag: &str, digest: &str) -> Vec<(&'static str, Value)> {
    let id = if truncate { human::short_id(&image.id) } else { &image.id };
    let computed = |bytes: i64| if bytes == -1 { "N/A".to_owned() } else { human::size(bytes) };
    let unique = if image.size == -1 || image.shared_size == -1 {
        "N/A".to_owned()
    } else {
        human::size(image.size - image.shared_size)
    };
    let containers = if image.containers == -1 { "N/A".to_owned() } else { image.containers.to_string() };
    vec![
        ("ID", id.into()),
        ("Repository", repository.into()),
        ("Tag", tag.into()),
        ("Digest", digest.into()),
        ("CreatedSince", human::since(image.created).into()),
        ("CreatedAt", human::go_time(image.created).into()),
        ("Size", human::size_short(image.size).into()),
        ("Containers", containers.into()),
        ("VirtualSize", human::size(image.size).into()),
        ("SharedSize", computed(image.shared_size).into()),
        ("UniqueSize", unique.into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_per_tag_and_none_for_digests_of_tagged_names() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let image = Summary {
            repo_tags: vec!["alpine:3".into(), "alpine:latest".into()],
            repo_digests: vec![format!("alpine@{digest}"), format!("other@{digest}")],
            ..Summary::default()
        };
        let shown: Vec<_> =
            names(&image, false, false).into_iter().map(|(name, tag, _)| format!("{name}:{tag}")).collect();
        assert_eq!(shown, ["alpine:3", "alpine:latest", "other:<none>"]);
        assert_eq!(names(&Summary::default(), false, false)[0].0, "<none>");
    }
}
