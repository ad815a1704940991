//! `context ls`

use ferry_gotmpl::Value;

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
    let mut rows = vec![row("default", "Current DOCKER_HOST based configuration", &default_host, &current)];
    for stored in contexts::list(&context.config.folder) {
        rows.push(row(stored.name(), stored.description(), &stored.host(), &current));
    }
    let listing = Listing {
        type_name: "formatter.clientContextContext",
        headers: HEADERS,
        table: "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
        raw: "",
    };
    let format = if quiet { "{{.Name}}" } else { parsed.text_or_empty("format") };
    context.printer.data(listing.render(format, rows)?)?;
    if host.is_some() && !quiet && parsed.text_or_empty("format").is_empty() {
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
