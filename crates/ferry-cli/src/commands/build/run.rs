//! `build`: packs the context, follows the build, says what came of it.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use ferry_api::build::{Event, TRACE, Warning};
use ferry_api::context::WANTED;
use ferry_api::image::AuthConfig;
use ferry_api::stream::JsonMessage;
use ferry_client::ByteStream;
use ferry_dockerfile::Lines;
use ferry_dockerfile::source::excerpt;
use ferry_spec::reference::Reference;
use serde_json::{Value, json};

use super::caches::Caches;
use super::dockerignore;
use super::options::{BuildOptions, Progress, SecretSource, Source, to_options};
use super::outputs::Dest;
use super::pack::{self, Part, Source as FileSource, Wanted};
use super::shown::Shown;
use crate::config::credentials;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::progress::Documents;

/// How often the view on a terminal is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// Runs `build`.
pub(in crate::commands) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    run_with(parsed, context, None).await
}

/// Runs `build`, with a Dockerfile that is given as text where `--file -` asks for one.
pub(in crate::commands) async fn run_with(parsed: &Parsed, context: &Context, inline: Option<&str>) -> Result<u8> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut options = to_options(parsed, &variable)?;
    for name in &options.query.names {
        Reference::parse(name)
            .map_err(|error| Failure::new(format!("ERROR: failed to build: invalid tag \"{name}\": {error}")))?;
    }
    options.query.secrets = secrets(&options.secrets)?;
    options.query.registry_config = registry_config(context);
    let parts = parts(&mut options, inline)?;
    let client = context.client().await?;
    let caches = Caches::open(&mut options.query, context)?;
    let session = caches.lend(client, &mut options.query, &options.agents, &options.outputs).await?;
    if options.query.archive.is_none() && options.query.remote.is_empty() {
        options.query.context_key = pack::key(&parts);
    }
    let (wants, wanted) = std::sync::mpsc::channel();
    let reason = Arc::new(OnceLock::new());
    let broke_off = |failure: Failure| match reason.get() {
        Some(reason) => Failure::new(format!("ERROR: failed to build: {reason}")),
        None => failure,
    };
    let directories = pack::stream(parts, wanted, Arc::clone(&reason));
    let stream = client.image_build(&options.query, directories).await.map_err(failed).map_err(broke_off)?;
    let (outcome, warnings) = follow(stream, wants, &options.progress, context).await.map_err(broke_off)?;
    caches.name(&outcome["CacheManifest"])?;
    Caches::name_layouts(&options.outputs, &options.query.names, &outcome["Descriptor"])?;
    drop(session);
    match options.query.call.as_str() {
        "" => {}
        _ if parsed.text_or_empty("call").ends_with(",format=json") => {
            context.printer.data(outcome["Json"].as_str().unwrap_or_default())?;
            return Ok(u8::from(outcome["Warnings"].as_u64().unwrap_or_default() > 0));
        }
        "check" => return report_check(context, &outcome),
        _ => {
            context.printer.data(outcome["Text"].as_str().unwrap_or_default())?;
            return Ok(0);
        }
    }
    let is_long = parsed.on("debug") || context.global.debug;
    context.printer.error_bytes(warned(&warnings, &options.progress, is_long).as_bytes());
    report(parsed, context, &outcome, &options)
}

fn failed(error: ferry_client::Error) -> Failure {
    Failure::new(format!("ERROR: failed to build: {error}"))
}

/// What travels: the context, the Dockerfile, further directories.
fn parts(options: &mut BuildOptions, inline: Option<&str>) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for (name, path) in &options.folders {
        let path = PathBuf::from(path);
        check_folder(&path)?;
        let ignored = dockerignore::read(&path, None)?;
        parts.push(Part::Folder { name: name.clone(), path, ignored });
    }
    match options.source.clone() {
        Source::Folder(folder) => {
            options.query.called.clone_from(&folder);
            folder_parts(Path::new(&folder), options, &mut parts, inline)?;
        }
        Source::Remote(address) => {
            options.query.remote = address;
            if let Some(file) = &options.file {
                options.query.dockerfile.clone_from(file);
            }
        }
        Source::Stdin => stdin_parts(options, &mut parts)?,
    }
    Ok(parts)
}

fn check_folder(path: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Failure::new(format!(
            "ERROR: unable to prepare context: context must be a directory: {}",
            path.display()
        ))),
        Err(_) => Err(Failure::new(format!(
            "ERROR: unable to prepare context: path {:?} not found",
            path.display().to_string()
        ))),
    }
}

fn folder_parts(folder: &Path, options: &mut BuildOptions, parts: &mut Vec<Part>, inline: Option<&str>) -> Result<()> {
    check_folder(folder)?;
    let mut files = Vec::new();
    let file = match options.file.as_deref() {
        Some("-") => {
            let mut bytes = Vec::new();
            match inline {
                Some(text) => bytes.extend_from_slice(text.as_bytes()),
                None => drop(std::io::stdin().lock().read_to_end(&mut bytes)?),
            }
            files.push(("Dockerfile".to_owned(), FileSource::Bytes(bytes)));
            None
        }
        Some(file) => Some(PathBuf::from(file)),
        None => Some(folder.join("Dockerfile")),
    };
    if let Some(file) = &file {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !file.is_file() {
            let reason = if file.is_dir() { "is a directory" } else { "no such file or directory" };
            return Err(Failure::new(format!(
                "ERROR: failed to build: failed to solve: failed to read dockerfile: open {name}: {reason}"
            )));
        }
        files.push((name.clone(), FileSource::File(file.clone())));
        let mut beside = file.as_os_str().to_owned();
        beside.push(".dockerignore");
        let beside = PathBuf::from(beside);
        if beside.is_file() {
            files.push((format!("{name}.dockerignore"), FileSource::File(beside)));
        }
        options.query.dockerfile = name;
    }
    parts.push(Part::Files { name: "dockerfile".to_owned(), files });
    let ignored = dockerignore::read(folder, file.as_deref())?;
    parts.push(Part::Folder { name: "context".to_owned(), path: folder.to_owned(), ignored });
    Ok(())
}

/// An archive is a context that travels as it is; anything else is a Dockerfile without one.
fn stdin_parts(options: &mut BuildOptions, parts: &mut Vec<Part>) -> Result<()> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    if is_archive(&bytes) {
        options.query.archive = Some(bytes);
        if let Some(file) = &options.file {
            options.query.dockerfile.clone_from(file);
        }
        return Ok(());
    }
    let files = vec![("Dockerfile".to_owned(), FileSource::Bytes(bytes))];
    parts.push(Part::Files { name: "dockerfile".to_owned(), files });
    parts.push(Part::Empty("context".to_owned()));
    Ok(())
}

/// By its first bytes: gzip, bzip2, xz, zstd, or a tar's own mark.
fn is_archive(bytes: &[u8]) -> bool {
    let marks: [&[u8]; 4] = [&[0x1f, 0x8b, 8], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
    marks.iter().any(|mark| bytes.starts_with(mark)) || bytes.get(257..262) == Some(b"ustar")
}

fn secrets(sources: &[(String, SecretSource)]) -> Result<HashMap<String, Vec<u8>>> {
    let mut secrets = HashMap::new();
    for (id, source) in sources {
        let (id, value) = match source {
            SecretSource::Variable(name) => {
                let id = if id.is_empty() { name } else { id };
                (id, std::env::var(name).unwrap_or_default().into_bytes())
            }
            SecretSource::File(path) => {
                let value = std::fs::read(path).map_err(|error| {
                    let reason = match error.kind() {
                        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                        _ => error.to_string(),
                    };
                    Failure::new(format!("ERROR: failed to build: failed to stat {path}: stat {path}: {reason}"))
                })?;
                (if id.is_empty() { path } else { id }, value)
            }
        };
        secrets.insert(id.clone(), value);
    }
    Ok(secrets)
}

/// Every registry's credentials, since the daemon finds out which are needed.
fn registry_config(context: &Context) -> String {
    let stored = credentials::all(&context.config).unwrap_or_default();
    stored.warnings.iter().for_each(|warning| context.printer.note(&format!("WARNING: {warning}")));
    let configs: HashMap<String, AuthConfig> = stored
        .auths
        .keys()
        .filter_map(|registry| {
            let key = credentials::key_of(registry);
            Some((registry.clone(), credentials::look_up(&context.config, key).ok()?))
        })
        .collect();
    if configs.is_empty() {
        return String::new();
    }
    serde_json::to_vec(&configs).map(|bytes| URL_SAFE.encode(bytes)).unwrap_or_default()
}

/// Shows how the build goes; returns what the daemon says of its outcome.
async fn follow(
    mut stream: ByteStream,
    wants: std::sync::mpsc::Sender<Wanted>,
    progress: &Progress,
    context: &Context,
) -> Result<(Value, Vec<Warning>)> {
    let mut warnings = Vec::new();
    let mut shown = Shown::of(progress);
    let mut documents = Documents::default();
    let mut outcome = Value::Null;
    let mut frames = tokio::time::interval(FRAME);
    loop {
        let bytes = tokio::select! {
            bytes = stream.next() => bytes?,
            _ = frames.tick() => {
                shown.draw(context, false);
                continue;
            }
        };
        let Some(bytes) = bytes else { break };
        for message in documents.feed::<JsonMessage>(&bytes)? {
            if let Some(detail) = message.error_detail {
                shown.draw(context, true);
                context.printer.error_bytes(shown.failure().as_bytes());
                let (excerpt, text) = match detail.message.split_once("failed to solve: ") {
                    Some((excerpt, text)) => (excerpt, format!("failed to solve: {text}")),
                    None => ("", detail.message.clone()),
                };
                context.printer.error_bytes(excerpt.as_bytes());
                return Err(Failure::new(format!("ERROR: failed to build: {text}")));
            }
            match message.aux {
                Some(aux) if message.id == TRACE => {
                    if let Ok(event) = ferry_api::json::from_value::<Event>(aux) {
                        if let Event::Warning(warning) = &event {
                            warnings.push(warning.clone());
                        }
                        shown.take(&event, context);
                    }
                }
                Some(aux) if message.id == WANTED => {
                    // Whoever sends has left when it was told that nothing more is wanted, or the connection is gone.
                    let _ = wants.send(serde_json::from_value(aux).unwrap_or_default());
                }
                Some(aux) => outcome = aux,
                None => {}
            }
        }
    }
    shown.draw(context, true);
    Ok((outcome, warnings))
}

/// Warnings of the checks, as they are told after a build; at length with all that is known of each.
fn warned(warnings: &[Warning], progress: &Progress, is_long: bool) -> String {
    if warnings.is_empty() || matches!(progress, Progress::Quiet | Progress::Raw) {
        return String::new();
    }
    let plural = if warnings.len() == 1 { "" } else { "s" };
    let hint = if is_long { "" } else { " (use docker --debug to expand)" };
    let mut text = format!("\n {} warning{plural} found{hint}:\n", warnings.len());
    for warning in warnings {
        text.push_str(&format!(" - {}\n", warning.short));
        if !is_long {
            continue;
        }
        warning.detail.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        if !warning.url.is_empty() {
            text.push_str(&format!("More info: {}\n", warning.url));
        }
        let lines: Vec<_> = warning.lines.iter().map(|(first, last)| Lines::new(*first, *last)).collect();
        let source = String::from_utf8_lossy(&warning.source);
        text.push_str(&excerpt(&warning.file, &source, &lines).unwrap_or_default());
        text.push('\n');
    }
    text
}

fn report_check(context: &Context, outcome: &Value) -> Result<u8> {
    let count = outcome["Warnings"].as_u64().unwrap_or_default();
    let head = match count {
        0 => "Check complete, no warnings found.".to_owned(),
        1 => "Check complete, 1 warning has been found!".to_owned(),
        count => format!("Check complete, {count} warnings have been found!"),
    };
    context.printer.line(&head)?;
    context.printer.data(outcome["Text"].as_str().unwrap_or_default())?;
    Ok(u8::from(count > 0))
}

fn report(parsed: &Parsed, context: &Context, outcome: &Value, options: &BuildOptions) -> Result<u8> {
    let id = outcome["ID"].as_str().unwrap_or_default();
    if let Some(path) = parsed.text("iidfile") {
        std::fs::write(path, id)?;
    }
    if let Some(path) = parsed.text("metadata-file") {
        let mut metadata = json!({
            "containerimage.config.digest": outcome["Config"],
            "containerimage.descriptor": outcome["Descriptor"],
            "containerimage.digest": id,
        });
        if let Some(provenance) = outcome["Provenance"].as_object() {
            let is_single = provenance.len() == 1;
            for (platform, told) in provenance {
                let key = "buildx.build.provenance";
                let key = if is_single { key.to_owned() } else { format!("{key}/{platform}") };
                metadata[key] = told.clone();
            }
        }
        if let Some(names) = outcome["Names"].as_array().filter(|names| !names.is_empty()) {
            let names: Vec<String> = names
                .iter()
                .filter_map(|name| Reference::parse_with_default_tag(name.as_str()?).ok())
                .map(|name| name.to_string())
                .collect();
            metadata["image.name"] = json!(names.join(","));
        }
        let text = serde_json::to_string_pretty(&metadata).map_err(|error| Failure::new(error.to_string()))?;
        std::fs::write(path, text)?;
    }
    let is_taken = options.outputs.iter().any(|output| output.dest == Dest::File("-".to_owned()));
    if parsed.on("quiet") && !is_taken {
        context.printer.line(id)?;
    }
    Ok(0)
}
