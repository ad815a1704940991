//! `pull`, and the pull that `run` and `create` make.

use ferry_api::image::RegistryAccess;
use ferry_client::{ByteStream, Client};
use ferry_spec::reference::Reference;

use crate::config::credentials::registry_auth;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `pull`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let name = &parsed.args[0];
    let quiet = parsed.on("quiet");
    let all = parsed.on("all-tags");
    if !parsed.on_or("disable-content-trust", true) {
        return Err(Failure::not_implemented("content trust (`--disable-content-trust=false`)"));
    }
    let given = Reference::parse(name).map_err(|error| Failure::new(error.to_string()))?;
    let has_tag = given.tag().is_some() || given.digest().is_some();
    if all && has_tag {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    if !all && !has_tag && !quiet {
        context.printer.line("Using default tag: latest")?;
    }
    let reference = if all { given } else { given.with_default_tag() };
    let client = context.client().await?;
    let stream = begin(client, context, &reference, &platform(parsed), &super::registry_access(parsed)?).await?;
    if quiet {
        super::show_nothing(stream).await?;
    } else {
        super::show(stream).await?;
    }
    context.printer.line(&reference.to_string())?;
    Ok(0)
}

/// Pulls for a container that is to be created; everything is told on standard error.
pub(crate) async fn pull_for_run(
    client: &Client,
    context: &Context,
    image: &str,
    platform: &str,
    quiet: bool,
) -> Result<()> {
    let reference = Reference::parse(image).map_err(|error| Failure::new(error.to_string()))?.with_default_tag();
    let stream = begin(client, context, &reference, platform, &RegistryAccess::default()).await?;
    if quiet { super::show_nothing(stream).await } else { super::show_on_stderr(stream).await }
}

async fn begin(
    client: &Client,
    context: &Context,
    reference: &Reference,
    platform: &str,
    access: &RegistryAccess,
) -> Result<ByteStream> {
    let (auth, warning) = registry_auth(&context.config, reference.domain());
    if let Some(warning) = warning {
        context.printer.note(&warning);
    }
    let tag = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.to_owned(),
        (None, None) => String::new(),
    };
    Ok(client.image_pull(&reference.name(), &tag, platform, &auth, access).await?)
}

fn platform(parsed: &Parsed) -> String {
    match parsed.text("platform") {
        Some(platform) => platform.to_owned(),
        None => crate::context::variable("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
    }
}
