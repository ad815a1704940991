//! `create`, and the creation that `run` shares with it.

use std::fs;
use std::path::PathBuf;

use ferry_api::container::CreateRequest;
use ferry_client::Client;
use ferry_spec::platform::Platform;
use ferry_spec::reference::AnyReference;

use super::with_help;
use super::{api_socket, own_limits};
use crate::commands::image::pull;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::{Parsed, go_quote};
use crate::format::inspect::Inspection;
use crate::options;
use crate::output::{stdout_is_terminal, stdout_size};

/// Runs `create`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let failed = |failure: Failure| match failure.code {
        BARE => Failure::new(failure.message),
        _ => with_help(context.program, "create", 125, &failure.message),
    };
    let request = build_request(parsed, context).map_err(failed)?;
    let client = context.client().await?;
    if parsed.on("dry-run") {
        return dry_run(client, parsed, context, &request).await;
    }
    let id = create(client, parsed, context, request).await?;
    context.printer.line(&id)?;
    Ok(0)
}

/// Checks `--pull` and turns the flags into a request.
pub(super) fn build_request(parsed: &Parsed, context: &Context) -> Result<CreateRequest> {
    let pull = parsed.text("pull").unwrap_or("missing");
    if !matches!(pull, "always" | "missing" | "never" | "") {
        return Err(Failure::new(format!(
            "invalid pull option: '{pull}': must be one of \"always\", \"missing\" or \"never\""
        )));
    }
    windows_only(parsed)?;
    if parsed.all("mount").iter().any(|mount| mount.contains("bind-nonrecursive=")) {
        context.printer.log("warning", "bind-nonrecursive is deprecated, use bind-recursive=disabled instead");
    }
    let host = context.target()?.host;
    let request = options::to_request(parsed, &context.config.proxy_environment(&host)).map_err(Failure::new)?;
    if !parsed.on_or("disable-content-trust", true) {
        return Err(Failure::not_implemented("content trust (`--disable-content-trust=false`)"));
    }
    Ok(request)
}

/// Some flags are for daemons of another system.
fn windows_only(parsed: &Parsed) -> Result<()> {
    let given =
        ["cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"].into_iter().filter(|flag| parsed.changed(flag));
    let lines: Vec<String> = given
        .map(|flag| {
            format!(
                "\"--{flag}\" is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux"
            )
        })
        .collect();
    if lines.is_empty() { Ok(()) } else { Err(Failure::with_code(BARE, lines.join("\n"))) }
}

/// Marks a failure that is printed as it is and exits with 1.
pub(super) const BARE: u8 = 0;

/// Creates the container, pulling the image where that is wanted; returns its id.
pub(super) async fn create(
    client: &Client,
    parsed: &Parsed,
    context: &Context,
    mut request: CreateRequest,
) -> Result<String> {
    let id_file = IdFile::reserve(parsed.text_or_empty("cidfile"))?;
    let name = parsed.text_or_empty("name");
    let platform = platform(parsed)?;
    let policy = parsed.text("pull").unwrap_or("missing");
    let image = request.config.image.clone();
    let credentials =
        if parsed.on("use-api-socket") { api_socket::add(&mut request, context)? } else { Default::default() };
    let reference = AnyReference::parse(&image).map_err(|error| Failure::new(error.to_string()))?;
    let quiet = parsed.on("quiet");
    if policy == "always" {
        pull::pull_for_run(client, context, &image, &platform, quiet).await?;
    }
    if let (Some(host), true) = (request.host_config.as_mut(), stdout_is_terminal())
        && let Some((height, width)) = stdout_size()
    {
        host.console_size = [height.into(), width.into()];
    }
    let mut created = client.container_create(name, &platform, &request).await;
    if let Err(error) = &created
        && image_is_missing(error)
        && matches!(policy, "missing" | "")
        && let AnyReference::Named(reference) = reference
    {
        if !quiet {
            context
                .printer
                .note(&format!("Unable to find image '{}' locally", reference.with_default_tag().familiar()));
        }
        pull::pull_for_run(client, context, &image, &platform, quiet).await?;
        created = client.container_create(name, &platform, &request).await;
    }
    let created = created?;
    let limits = request.host_config.as_ref().map(ferry_api::container::HostConfig::resources).unwrap_or_default();
    if let Err(missing) = own_limits::confirm(client, &created.id, &limits).await {
        client.container_remove(&created.id, true, true, false).await?;
        return Err(Failure::with_code(125, format!("{}: {missing}", context.program)));
    }
    for warning in local_dns_warning(&request).into_iter().chain(created.warnings) {
        context.printer.note(&format!("WARNING: {warning}"));
    }
    id_file.write(&created.id)?;
    api_socket::inject(client, &created.id, &credentials).await?;
    Ok(created.id)
}

/// Shows what a container would be; nothing is pulled and nothing made.
pub(super) async fn dry_run(
    client: &Client,
    parsed: &Parsed,
    context: &Context,
    request: &CreateRequest,
) -> Result<u8> {
    let plan = client.container_dry_run(parsed.text_or_empty("name"), &platform(parsed)?, request).await?;
    for warning in plan["Warnings"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str) {
        context.printer.note(&format!("WARNING: {warning}"));
    }
    let mut inspection = Inspection::new("")?;
    inspection.add(&plan["Container"].to_string(), None)?;
    inspection.finish(&context.printer, Vec::new())
}

/// Other things than images may be missing too, such as networks, and no pull brings those.
fn image_is_missing(error: &ferry_client::Error) -> bool {
    error.is_not_found() && !error.to_string().contains("daemon: network ")
}

/// The platform in its usual form; empty for the daemon's own.
fn platform(parsed: &Parsed) -> Result<String> {
    let text = match parsed.text("platform") {
        Some(platform) => platform.to_owned(),
        None => crate::context::variable("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
    };
    if text.is_empty() {
        return Ok(text);
    }
    match Platform::parse(&text) {
        Ok(platform) => Ok(platform.to_string()),
        Err(error) => Err(Failure::new(format!("error parsing specified platform: {error}"))),
    }
}

fn local_dns_warning(request: &CreateRequest) -> Option<String> {
    let servers = request.host_config.as_ref()?.dns.as_ref()?;
    let local = servers.iter().find(|server| server.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()))?;
    Some(format!("Localhost DNS ({local}) may fail in containers."))
}

/// The file of `--cidfile`: made before anything happens, removed again when nothing was created.
struct IdFile {
    path: Option<PathBuf>,
}

impl IdFile {
    fn reserve(path: &str) -> Result<Self> {
        if path.is_empty() {
            return Ok(Self { path: None });
        }
        if fs::exists(path).unwrap_or(false) {
            return Err(Failure::new(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            )));
        }
        fs::File::create(path).map_err(|error| {
            let reason = match error.kind() {
                std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
                _ => error.to_string(),
            };
            Failure::new(format!("failed to create the container ID file: open {path}: {reason}"))
        })?;
        Ok(Self { path: Some(PathBuf::from(path)) })
    }

    fn write(mut self, id: &str) -> Result<()> {
        let Some(path) = self.path.take() else { return Ok(()) };
        fs::write(&path, id).map_err(|error| {
            let path = go_quote(&path.to_string_lossy());
            Failure::new(format!("failed to write the container ID to the file ({path}): {error}"))
        })
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // It is empty; a file that is gone already needs no removal.
            let _ = fs::remove_file(path);
        }
    }
}
