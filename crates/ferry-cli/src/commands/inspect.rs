//! `inspect` and its forms for one kind of object.

use ferry_client::{Client, Error, Raw};

use crate::commands::lists;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::{Parsed, go_quote};
use crate::format::inspect::Inspection;
use crate::format::typed::Kind;
use crate::recreate::{self, Origin};

/// Kinds that can be looked up, in the order in which a bare name is tried.
const BUILT: &[&str] = &["container", "image", "network", "volume", "plugin"];

/// Kinds that Docker's client knows besides.
const NOT_BUILT: &[&str] = &["config", "node", "secret", "service", "task"];

/// Runs `inspect`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let kind = parsed.text_or_empty("type");
    if NOT_BUILT.contains(&kind) {
        return Err(Failure::not_implemented(&format!("`inspect --type {kind}`")));
    }
    if parsed.changed("type") && !BUILT.contains(&kind) {
        let known = "\"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\"";
        if kind.is_empty() {
            return Err(Failure::new(format!("type is empty: must be one of {known}")));
        }
        return Err(Failure::new(format!("unknown type: {}: must be one of {known}", go_quote(kind))));
    }
    let kinds = if kind.is_empty() { BUILT.to_vec() } else { vec![kind] };
    inspect(&kinds, parsed, context).await
}

/// Runs `container inspect` and the like.
pub(crate) async fn run_kind(kind: &'static str, parsed: &Parsed, context: &Context) -> Result<u8> {
    inspect(&[kind], parsed, context).await
}

async fn inspect(kinds: &[&str], parsed: &Parsed, context: &Context) -> Result<u8> {
    if parsed.changed("as") {
        return again(kinds, parsed, context).await;
    }
    let mut inspection = Inspection::new(parsed.text_or_empty("format"))?;
    let platform = lists::platform(parsed).map_err(|failure| {
        // This command says it without the word before it.
        Failure { message: failure.message.replacen("invalid platform: ", "", 1), ..failure }
    })?;
    let client = context.client().await?;
    if kinds == ["image"] {
        lists::require(client, parsed, "platform", 49).await?;
    }
    let mut errors = Vec::new();
    for name in &parsed.args {
        match find(client, kinds, name, parsed, &platform).await {
            Ok((raw, kind)) => {
                let json = String::from_utf8_lossy(raw.bytes());
                if let Err(failure) = inspection.add(json.trim_end(), Some(kind)) {
                    errors.push(failure.message);
                    break;
                }
            }
            Err(text) => errors.push(text),
        }
    }
    inspection.finish(&context.printer, errors)
}

/// `--as run` and `--as compose`: what would make the containers again.
async fn again(kinds: &[&str], parsed: &Parsed, context: &Context) -> Result<u8> {
    let form = parsed.text_or_empty("as");
    if !matches!(form, "run" | "compose") {
        return Err(Failure::new(format!("invalid value {} for --as: must be run or compose", go_quote(form))));
    }
    if !kinds.contains(&"container") || parsed.changed("format") {
        return Err(Failure::new("--as is for containers, and instead of --format"));
    }
    let client = context.client().await?;
    for name in &parsed.args {
        let container: ferry_api::container::Inspect = client.container_inspect(name, false).await?.typed()?;
        let origin = Origin::new(container.clone(), image_config(client, &container.image).await);
        let written = match form {
            "run" => recreate::command_line(context.program, &origin),
            _ => recreate::compose_file(&origin),
        };
        for what in &written.left_out {
            context.printer.log("warning", &format!("not said: {what}"));
        }
        context.printer.line(written.text.trim_end())?;
    }
    Ok(0)
}

/// The image's part of a container's configuration; `None` when the image is gone.
async fn image_config(client: &Client, image: &str) -> Option<ferry_api::container::Config> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Document {
        config: Option<ferry_api::container::Config>,
    }
    client.image_inspect(image, "").await.ok()?.typed::<Document>().ok()?.config
}

async fn find(
    client: &Client,
    kinds: &[&str],
    name: &str,
    parsed: &Parsed,
    platform: &str,
) -> Result<(Raw, Kind), String> {
    for kind in kinds {
        match look_up(client, kind, name, parsed, platform).await {
            Err(error) if error.is_not_found() && kinds.len() > 1 => {}
            // A bare name need not fit every kind.
            Err(Error::Api { status: 400, .. }) if kinds.len() > 1 => {}
            Err(error) => return Err(error.to_string()),
            Ok(found) => return Ok(found),
        }
    }
    Err(format!("Error: No such object: {name}"))
}

async fn look_up(
    client: &Client,
    kind: &str,
    name: &str,
    parsed: &Parsed,
    platform: &str,
) -> Result<(Raw, Kind), Error> {
    match kind {
        "container" => Ok((client.container_inspect(name, parsed.on("size")).await?, Kind::Container)),
        "image" => Ok((client.image_inspect(name, platform).await?, Kind::Image)),
        "network" => Ok((
            client.network_inspect(name, parsed.text_or_empty("scope"), parsed.on("verbose")).await?,
            Kind::Network,
        )),
        "plugin" => Ok((client.plugin_inspect(name).await?, Kind::Plugin)),
        _ => Ok((client.volume_inspect(name).await?, Kind::Volume)),
    }
}
