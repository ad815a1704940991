//! `diff A B`: what is different between two images or containers. Docker has nothing like it.

use ferry_api::compare::{Comparison, Side};
use ferry_spec::reference::Reference;

use crate::commands::lists;
use crate::config::credentials::registry_auth;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::format::human;

/// Compares.
pub(super) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let as_json = match parsed.text_or_empty("format") {
        "" => false,
        "json" => true,
        other => return Err(Failure::new(format!("unknown format {other:?}: must be `json`"))),
    };
    let platform = lists::platform(parsed)?;
    let (from, to) = (&parsed.args[0], &parsed.args[1]);
    // For one of another registry they are of no use, and go nowhere else.
    let registry = [to, from].iter().find_map(|name| Reference::parse(name).ok()).map(|name| name.domain().to_owned());
    let (auth, _) = registry_auth(&context.config, registry.as_deref().unwrap_or("docker.io"));
    let comparison = context.client().await?.compare(from, to, &platform, &auth).await?;
    if as_json {
        let json = serde_json::to_string(&comparison).map_err(|error| Failure::new(error.to_string()))?;
        context.printer.line(&json)?;
    } else {
        context.printer.data(in_words(&comparison))?;
    }
    Ok(0)
}

/// Everything, in the order from the least to the most; nothing in it can play with a terminal.
fn in_words(found: &Comparison) -> String {
    let mut text = format!("from  {}\nto    {}\n", side(&found.from), side(&found.to));
    layers(found, &mut text);
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text.push_str(&format!("\n{title}\n"));
            lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
    };
    let config = found.config.iter().map(|one| changed(&one.field, one.from.as_deref(), one.to.as_deref()));
    section("CONFIG", config.collect());
    let packages = found
        .packages
        .iter()
        .map(|one| changed(&format!("{} {}", one.kind, one.name), one.from.as_deref(), one.to.as_deref()));
    section("PACKAGES", packages.collect());
    let files = found.files.iter().map(|one| match one.change.as_str() {
        "added" => format!("A {} ({})", one.path, size(one.to_size)),
        "removed" => format!("D {} ({})", one.path, size(one.from_size)),
        _ if one.from_size != one.to_size => {
            format!("C {} ({}; {} -> {})", one.path, one.what.join(", "), size(one.from_size), size(one.to_size))
        }
        _ => format!("C {} ({})", one.path, one.what.join(", ")),
    });
    section("FILES", files.collect());
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

fn side(side: &Side) -> String {
    let fetched = if side.fetched { ", fetched for this" } else { "" };
    let id = human::short_id(&side.id);
    format!("{} ({} {id}, {}, {}{fetched})", side.name, side.kind, side.platform, size(side.size))
}

fn layers(found: &Comparison, text: &mut String) {
    let own =
        |side: &Side| side.layers.iter().skip(found.common_layers).map(|id| human::short_id(id).to_owned()).collect();
    let (from, to): (Vec<String>, Vec<String>) = (own(&found.from), own(&found.to));
    text.push_str(&format!("\nLAYERS  {} in common\n", found.common_layers));
    from.iter().for_each(|layer| text.push_str(&format!("  - {layer}\n")));
    to.iter().for_each(|layer| text.push_str(&format!("  + {layer}\n")));
}

fn changed(what: &str, from: Option<&str>, to: Option<&str>) -> String {
    match (from, to) {
        (None, Some(to)) => format!("+ {what} {to}"),
        (Some(from), None) => format!("- {what} {from}"),
        (from, to) => format!("~ {what} {} -> {}", from.unwrap_or_default(), to.unwrap_or_default()),
    }
}

fn size(bytes: u64) -> String {
    human::size(i64::try_from(bytes).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_api::compare::{ConfigChange, FileChange, PackageChange};

    #[test]
    fn differences_stand_below_their_titles() {
        let found = Comparison {
            from: Side {
                name: "a".into(),
                kind: "image".into(),
                layers: vec!["1".into(), "2".into()],
                ..Side::default()
            },
            to: Side {
                name: "b".into(),
                kind: "image".into(),
                layers: vec!["1".into(), "3".into()],
                ..Side::default()
            },
            common_layers: 1,
            config: vec![ConfigChange { field: "User".into(), from: Some("0".into()), to: Some("1".into()) }],
            packages: vec![PackageChange {
                kind: "apk".into(),
                name: "musl".into(),
                from: None,
                to: Some("1.2".into()),
            }],
            files: vec![FileChange {
                path: "/a\u{1b}[31mb".into(),
                change: "changed".into(),
                what: vec!["mode".into()],
                from_size: 3,
                to_size: 3,
            }],
        };
        let text = in_words(&found);
        let expected = "\nLAYERS  1 in common\n  - 2\n  + 3\n\nCONFIG\n  ~ User 0 -> 1\n\nPACKAGES\n  + apk musl 1.2\n\nFILES\n  C /a[31mb (mode)\n";
        assert!(text.ends_with(expected), "{text}");
    }
}
