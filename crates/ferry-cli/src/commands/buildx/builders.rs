//! `buildx ls`, `inspect`, `create`, `use`, `rm`, `stop`, `version`, `dial-stdio`: ferry has one builder, which is there while the daemon is.

use ferry_buildkit_proto::messages::control::{ListWorkersRequest, ListWorkersResponse, WorkerRecord};
use ferry_buildkit_proto::messages::ops::Platform;
use ferry_gotmpl::Value;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::control::Control;
use super::{BUILDER, check_builder, check_name, failed};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::{Parsed, go_quote};
use crate::format::Listing;
use crate::format::tabwriter::{Layout, align};

/// Why there are no others.
const OTHERS: &str = "ferry has one builder, \"default\", which is a part of the daemon";

const LISTING: Listing<'static> = Listing {
    type_name: "*commands.lsContext",
    headers: &[
        ("Name", "NAME/NODE"),
        ("DriverEndpoint", "DRIVER/ENDPOINT"),
        ("LastActivity", "LAST ACTIVITY"),
        ("Status", "STATUS"),
        ("Buildkit", "BUILDKIT"),
        ("Platforms", "PLATFORMS"),
        ("Error", "ERROR"),
    ],
    table: "{{.Name}}\t{{.DriverEndpoint}}\t{{.Status}}\t{{.Buildkit}}\t{{.Platforms}}",
    raw: "",
};

/// What the builder says of itself.
struct Node {
    version: String,
    platforms: Vec<String>,
    labels: Vec<(String, String)>,
}

impl Node {
    async fn ask(parsed: &Parsed, context: &Context) -> Result<Self> {
        let control = Control::open(parsed, context).await?;
        let workers: ListWorkersResponse = control.ask("ListWorkers", &ListWorkersRequest::default()).await?;
        let worker = workers.record.into_iter().next();
        worker.map(Self::of).ok_or_else(|| failed("the daemon has no builder"))
    }

    fn of(worker: WorkerRecord) -> Self {
        Self {
            version: worker.buildkit_version.map(|version| version.version).unwrap_or_default(),
            platforms: worker.platforms.iter().map(platform).collect(),
            labels: worker.labels.into_iter().collect(),
        }
    }
}

fn platform(platform: &Platform) -> String {
    let parts = [&platform.os, &platform.architecture, &platform.variant];
    parts.into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("/")
}

/// Runs `buildx ls`.
pub(in crate::commands) async fn list(parsed: &Parsed, context: &Context) -> Result<u8> {
    let node = Node::ask(parsed, context).await;
    let (status, error) = match &node {
        Ok(_) => ("running", String::new()),
        Err(failure) => ("error", failure.message.trim_start_matches("ERROR: ").to_owned()),
    };
    let format = parsed.text_or_empty("format");
    let (version, platforms) = match &node {
        Ok(node) => (node.version.clone(), node.platforms.join(", ")),
        Err(_) => (String::new(), String::new()),
    };
    if format == "json" {
        let nodes = json!([{ "Name": BUILDER, "Endpoint": BUILDER, "Status": status, "Version": version,
            "Platforms": node.as_ref().map(|node| node.platforms.clone()).unwrap_or_default() }]);
        let builder = json!({ "Current": true, "Driver": "docker", "Dynamic": false, "Name": BUILDER, "Nodes": nodes });
        context.printer.line(&builder.to_string())?;
        return Ok(0);
    }
    let is_table = format.is_empty() || format.starts_with("table");
    let (marked, indent) = if is_table { ("default*", " \\_ ") } else { (BUILDER, "") };
    let row = |name: &str, driver: &str, status: &str, version: &str, platforms: &str| {
        vec![
            ("Name", Value::from(name)),
            ("DriverEndpoint", driver.into()),
            ("LastActivity", "".into()),
            ("Status", status.into()),
            ("Buildkit", version.into()),
            ("Platforms", platforms.into()),
            ("Error", error.as_str().into()),
        ]
    };
    let inner = format!("{indent}{BUILDER}");
    let rows = vec![row(marked, "docker", "", "", ""), row(&inner, &inner, status, &version, &platforms)];
    context.printer.data(LISTING.render(format, rows)?)?;
    if is_table && !error.is_empty() {
        context.printer.note(&format!("\nFailed to get status for {BUILDER} ({BUILDER}): {error}"));
    }
    Ok(0)
}

/// Runs `buildx inspect`.
pub(in crate::commands) async fn inspect(parsed: &Parsed, context: &Context) -> Result<u8> {
    named(parsed)?;
    let mut text = format!("Name:\t{BUILDER}\nDriver:\tdocker\n");
    match Node::ask(parsed, context).await {
        Err(failure) => {
            text.push_str(&format!("Error:\t{}\n", failure.message.trim_start_matches("ERROR: ")));
        }
        Ok(node) => {
            text.push_str(&format!("\nNodes:\nName:\t{BUILDER}\nEndpoint:\t{BUILDER}\nStatus:\trunning\n"));
            text.push_str(&format!("BuildKit version:\t{}\n", node.version));
            text.push_str(&format!("Platforms:\t{}\n", node.platforms.join(", ")));
            text.push_str("Labels:\n");
            for (name, value) in &node.labels {
                text.push_str(&format!("\t{name}:\t{value}\n"));
            }
        }
    }
    context.printer.data(align(&text, &Layout { min_width: 0, padding: 1 }))?;
    Ok(0)
}

/// The builder that the first word names, or the flag.
fn named(parsed: &Parsed) -> Result<()> {
    check_builder(parsed)?;
    check_name(parsed.args.first().map_or("", String::as_str))
}

/// Runs `buildx create`.
pub(in crate::commands) fn create(parsed: &Parsed) -> Result<u8> {
    if parsed.on("leave") {
        return Err(match parsed.text_or_empty("name") {
            "" => failed("leave requires instance name"),
            name => failed(format!("no builder {} found", go_quote(name))),
        });
    }
    match parsed.text_or_empty("driver") {
        "" | "docker" | "docker-container" | "kubernetes" | "remote" => {}
        other => return Err(failed(format!("failed to find driver {}", go_quote(other)))),
    }
    let name = match parsed.text_or_empty("name") {
        BUILDER => {
            return Err(failed(format!(
                "{BUILDER} is a reserved name and cannot be used to identify builder instance"
            )));
        }
        "" => "another builder".to_owned(),
        name => format!("the builder {}", go_quote(name)),
    };
    Err(failed(format!(
        "{name} cannot be created: {OTHERS}\nhint: build with `--builder default`, or without the flag"
    )))
}

/// Runs `buildx use`.
pub(in crate::commands) fn make_current(parsed: &Parsed) -> Result<u8> {
    let name = parsed.args.first().map_or(parsed.text_or_empty("builder"), String::as_str);
    match name {
        BUILDER => Ok(0),
        other => Err(failed(format!("failed to find instance {}: {OTHERS}", go_quote(other)))),
    }
}

/// Runs `buildx rm`.
pub(in crate::commands) fn remove(parsed: &Parsed, context: &Context) -> Result<u8> {
    if parsed.on("all-inactive") {
        return match parsed.args.as_slice() {
            // There is none.
            [] => Ok(0),
            _ => Err(failed("cannot specify builder name when --all-inactive is set")),
        };
    }
    let mut names = parsed.args.clone();
    if names.is_empty() {
        names.push(parsed.text("builder").unwrap_or(BUILDER).to_owned());
    }
    for name in &names {
        let reason = match name.as_str() {
            BUILDER => format!(
                "context builder cannot be removed, run `{} context rm {BUILDER}` to remove this context",
                context.program
            ),
            other => format!("no builder {} found", go_quote(other)),
        };
        context.printer.note(&format!("failed to remove {name}: {reason}"));
    }
    Err(failed("failed to remove one or more builders"))
}

/// Runs `buildx stop`: the builder is a part of the daemon, and nothing of its own runs.
pub(in crate::commands) fn stop(parsed: &Parsed) -> Result<u8> {
    named(parsed)?;
    Ok(0)
}

/// Runs `buildx version`.
pub(in crate::commands) fn version(context: &Context) -> Result<u8> {
    context.printer.line(
        format!("ferry v{}-ferry {}", env!("CARGO_PKG_VERSION"), option_env!("FERRY_COMMIT").unwrap_or("")).trim_end(),
    )?;
    Ok(0)
}

/// Runs `buildx dial-stdio`: BuildKit's protocol on standard input and output.
pub(in crate::commands) async fn dial(parsed: &Parsed, context: &Context) -> Result<u8> {
    check_builder(parsed)?;
    let mut taken = context.client().await?.build_control().await?;
    let sending = async {
        tokio::io::copy(&mut tokio::io::stdin(), &mut taken.input).await?;
        taken.input.shutdown().await
    };
    let receiving = async {
        let mut output = tokio::io::stdout();
        tokio::io::copy(&mut taken.output, &mut output).await?;
        output.flush().await
    };
    // Whoever ends first ends it all: the daemon closes when it is done, and standard input may stay open for ever.
    let mut receiving = std::pin::pin!(receiving);
    tokio::select! {
        ended = &mut receiving => ended?,
        sent = sending => {
            sent.map_err(Failure::from)?;
            receiving.await?;
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_named_as_usual() {
        let arm = Platform {
            os: "linux".to_owned(),
            architecture: "arm".to_owned(),
            variant: "v7".to_owned(),
            ..Platform::default()
        };
        assert_eq!(platform(&arm), "linux/arm/v7");
    }
}
