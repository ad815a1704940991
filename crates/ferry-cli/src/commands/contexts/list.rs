//! `context ls`

use std::cmp::Ordering;

use ferry_gotmpl::Value;

use super::DEFAULT_DESCRIPTION;
use crate::config::contexts;
use crate::context::{Context, DEFAULT_HOST, variable};
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::Listing;

const HEADERS: &[(&str, &str)] =
    &[("Name", "NAME"), ("Description", "DESCRIPTION"), ("DockerEndpoint", "DOCKER ENDPOINT"), ("Error", "ERROR")];

/// Runs `context ls`.
pub(crate) fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let current = context.target()?.context;
    let host = variable("DOCKER_HOST");
    let quiet = parsed.on("quiet");
    let default_host = host.clone().unwrap_or_else(|| DEFAULT_HOST.to_owned());
    let mut stored = contexts::list(&context.config.folder);
    stored.sort_by(|left, right| natural(left.name(), right.name()));
    let at = stored.partition_point(|other| natural(other.name(), "default").is_lt());
    let row_of = |stored: &contexts::Stored| row(stored.name(), stored.description(), &stored.host(), &current);
    let mut rows: Vec<_> = stored.iter().map(row_of).collect();
    rows.insert(at, row("default", DEFAULT_DESCRIPTION, &default_host, &current));
    let listing = Listing {
        type_name: "formatter.clientContextContext",
        headers: HEADERS,
        table: "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
        raw: "",
    };
    let format = if quiet { "{{.Name}}" } else { parsed.text_or_empty("format") };
    context.printer.data(listing.render(format, rows)?)?;
    if host.is_some() {
        context.printer.note(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the global \
             --context flag, or unset DOCKER_HOST environment variable.",
        );
    }
    Ok(0)
}

fn row(name: &str, description: &str, host: &str, current: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("Current", (name == current).into()),
        ("Description", description.into()),
        ("DockerEndpoint", host.into()),
        ("Error", "".into()),
        ("Name", name.into()),
    ]
}

/// Names in the order that people count in: `g9` before `g10`.
fn natural(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left, right);
    while let (Some(a), Some(b)) = (left.chars().next(), right.chars().next()) {
        if a.is_ascii_digit() && b.is_ascii_digit() {
            let ((number, rest), (other, other_rest)) = (digits(left), digits(right));
            let order = (number.len(), number).cmp(&(other.len(), other));
            if order.is_ne() {
                return order;
            }
            (left, right) = (rest, other_rest);
            continue;
        }
        if a != b {
            return a.cmp(&b);
        }
        (left, right) = (&left[a.len_utf8()..], &right[b.len_utf8()..]);
    }
    left.len().cmp(&right.len())
}

/// Splits off a number, without its zeros in front.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].trim_start_matches('0'), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names = ["g10", "dd2", "default", "g9", "dd", "cc", "g"];
        names.sort_by(|left, right| natural(left, right));
        assert_eq!(names, ["cc", "dd", "dd2", "default", "g", "g9", "g10"]);
    }
}
