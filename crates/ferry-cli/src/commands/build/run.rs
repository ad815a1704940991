//! `build`: packs the context, follows the build, says what came of it.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use ferry_api::build::{Event, FAILED_STEP, FailedStep, TRACE};
use ferry_api::context::WANTED;
use ferry_api::image::AuthConfig;
use ferry_api::stream::JsonMessage;
use ferry_client::{ByteStream, Client};
use ferry_spec::reference::Reference;
use serde_json::{Map, Value, json};

use super::caches::Caches;
use super::display::Display;
use super::options::{BuildOptions, SecretSource, Source, to_options};
use super::outputs::Dest;
use super::pack::{self, Part, Source as FileSource, Wanted};
use super::{dockerignore, policy, shell};
use crate::config::credentials;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::progress::Documents;

/// Runs `build`.
pub(in crate::commands) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let order = Order::read(parsed, None)?;
    let display = Display::new(order.options.progress.clone(), context);
    let built = display.around(order.carry_out(None, &display)).await?;
    match built.answer(context)? {
        Some(code) => Ok(code),
        None => {
            display.warn(parsed.on("debug") || context.global.debug);
            report(parsed, context, &built)
        }
    }
}

/// A build that was asked for.
pub(in crate::commands) struct Order {
    options: BuildOptions,
    /// The Dockerfile's text, in place of standard input.
    inline: Option<String>,
    /// The answer is wanted as JSON.
    wants_json: bool,
}

/// What came of a build.
pub(in crate::commands) struct Built {
    outcome: Value,
    /// What was asked in place of a build.
    call: String,
    wants_json: bool,
    /// The outcome itself went to standard output.
    is_taken: bool,
}

impl Order {
    /// Reads the flags. `inline` is the Dockerfile where `--file -` asks for one.
    pub(in crate::commands) fn read(parsed: &Parsed, inline: Option<&str>) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut options = to_options(parsed, &variable)?;
        for name in &options.query.names {
            Reference::parse(name)
                .map_err(|error| Failure::new(format!("ERROR: failed to build: invalid tag \"{name}\": {error}")))?;
        }
        options.query.keeps_failed_step = shell::is_asked(parsed)?;
        let wants_json = parsed.text_or_empty("call").ends_with(",format=json");
        Ok(Self { options, inline: inline.map(str::to_owned), wants_json })
    }

    /// It is a part of something else: no build that is remembered.
    pub(in crate::commands) fn unremembered(mut self) -> Self {
        self.options.query.internal = true;
        self
    }

    /// Carries it out, and lets `display` see how that goes; `target` is its name among others.
    pub(in crate::commands) async fn carry_out(self, target: Option<&str>, display: &Display<'_>) -> Result<Built> {
        let Self { mut options, inline, wants_json } = self;
        let context = display.context;
        options.query.secrets = secrets(&options.secrets)?;
        options.query.registry_config = registry_config(context);
        let parts = parts(&mut options, inline.as_deref())?;
        if let Some(warning) = policy_beside(&options) {
            context.printer.log("warning", &warning);
        }
        let client = context.client().await?;
        let caches = Caches::open(&mut options.query, context)?;
        let session = caches.lend(client, &mut options.query, &options.agents, &options.outputs).await?;
        if options.query.archive.is_none() && !parts.is_empty() {
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
        let follower = Follower { client, wants, target, display };
        let outcome = follower.follow(stream).await.map_err(broke_off)?;
        caches.name(&outcome["CacheManifest"])?;
        Caches::name_layouts(&options.outputs, &options.query.names, &outcome["Descriptor"])?;
        drop(session);
        let is_taken = options.outputs.iter().any(|output| output.dest == Dest::File("-".to_owned()));
        Ok(Built { outcome, call: options.query.call, wants_json, is_taken })
    }
}

impl Built {
    /// Shows what was asked in place of a build; `None` when it was a build.
    pub(in crate::commands) fn answer(&self, context: &Context) -> Result<Option<u8>> {
        let text = |name: &str| self.outcome[name].as_str().unwrap_or_default();
        match self.call.as_str() {
            "" => return Ok(None),
            _ if self.wants_json => context.printer.data(text("Json"))?,
            "check" => return report_check(context, &self.outcome).map(Some),
            _ => context.printer.data(text("Text"))?,
        }
        Ok(Some(self.code()))
    }

    /// What was asked in place of a build; empty for a build.
    pub(in crate::commands) fn call(&self) -> &str {
        &self.call
    }

    /// The answer to that as JSON.
    pub(in crate::commands) fn json(&self) -> Value {
        serde_json::from_str(self.outcome["Json"].as_str().unwrap_or_default()).unwrap_or_default()
    }

    /// The exit code that belongs to the answer.
    pub(in crate::commands) fn code(&self) -> u8 {
        u8::from(self.outcome["Warnings"].as_u64().unwrap_or_default() > 0)
    }

    /// What a file of metadata says.
    pub(in crate::commands) fn metadata(&self) -> Value {
        metadata(&self.outcome)
    }
}

/// Tells of a policy that buildx would ask, unless it is said that there is to be none.
fn policy_beside(options: &BuildOptions) -> Option<String> {
    let Source::Folder(folder) = &options.source else { return None };
    let file = options.file.as_ref().map_or_else(|| Path::new(folder).join("Dockerfile"), PathBuf::from);
    if options.is_without_policy { None } else { policy::found_beside(&file) }
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
            match options.file.clone() {
                // Not one of the context's, as in buildx.
                Some(file) if file == "-" || file.starts_with('/') => {
                    options.query.own_dockerfile = true;
                    parts.push(dockerfile_part(PathBuf::from(file), options, inline)?);
                }
                Some(file) => options.query.dockerfile = file,
                None => {}
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
    let file = options.file.as_ref().map_or_else(|| folder.join("Dockerfile"), PathBuf::from);
    parts.push(dockerfile_part(file.clone(), options, inline)?);
    let file = Some(file).filter(|file| file.as_os_str() != "-");
    let ignored = dockerignore::read(folder, file.as_deref())?;
    parts.push(Part::Folder { name: "context".to_owned(), path: folder.to_owned(), ignored });
    Ok(())
}

/// The Dockerfile with the ignore file of its own; `-` is standard input.
fn dockerfile_part(file: PathBuf, options: &mut BuildOptions, inline: Option<&str>) -> Result<Part> {
    let part = |files| Part::Files { name: "dockerfile".to_owned(), files };
    if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        match inline {
            Some(text) => bytes.extend_from_slice(text.as_bytes()),
            None => drop(std::io::stdin().lock().read_to_end(&mut bytes)?),
        }
        return Ok(part(vec![("Dockerfile".to_owned(), FileSource::Bytes(bytes))]));
    }
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !file.is_file() {
        let reason = if file.is_dir() { "is a directory" } else { "no such file or directory" };
        return Err(Failure::new(format!(
            "ERROR: failed to build: failed to solve: failed to read dockerfile: open {name}: {reason}"
        )));
    }
    let mut files = vec![(name.clone(), FileSource::File(file.clone()))];
    let mut beside = file.into_os_string();
    beside.push(".dockerignore");
    let beside = PathBuf::from(beside);
    if beside.is_file() {
        files.push((format!("{name}.dockerignore"), FileSource::File(beside)));
    }
    options.query.dockerfile = name;
    Ok(part(files))
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

/// Listens to what the daemon tells of a build.
struct Follower<'a> {
    client: &'a Client,
    /// What the daemon wants of our directories.
    wants: std::sync::mpsc::Sender<Wanted>,
    target: Option<&'a str>,
    display: &'a Display<'a>,
}

impl Follower<'_> {
    /// Returns what the daemon says of its outcome.
    async fn follow(self, mut stream: ByteStream) -> Result<Value> {
        let mut documents = Documents::default();
        let mut outcome = Value::Null;
        while let Some(bytes) = stream.next().await? {
            for message in documents.feed::<JsonMessage>(&bytes)? {
                if let Some(detail) = message.error_detail {
                    return Err(self.failed(&detail.message));
                }
                match (message.id.as_str(), message.aux) {
                    (TRACE, Some(aux)) => {
                        if let Ok(event) = ferry_api::json::from_value::<Event>(aux) {
                            self.display.take(self.target, event);
                        }
                    }
                    // Whoever sends has left when it was told that nothing more is wanted, or the connection is gone.
                    (WANTED, Some(aux)) => drop(self.wants.send(serde_json::from_value(aux).unwrap_or_default())),
                    (FAILED_STEP, Some(aux)) => {
                        if let Ok(step) = ferry_api::json::from_value::<FailedStep>(aux) {
                            shell::open(self.client, &step, self.target, self.display).await;
                        }
                    }
                    (_, Some(aux)) => outcome = aux,
                    (_, None) => {}
                }
            }
        }
        Ok(outcome)
    }

    fn failed(&self, message: &str) -> Failure {
        let (excerpt, text) = match message.split_once("failed to solve: ") {
            Some((excerpt, text)) => (excerpt, format!("failed to solve: {text}")),
            None => ("", message.to_owned()),
        };
        self.display.blame(excerpt);
        Failure::new(format!("ERROR: failed to build: {text}"))
    }
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

fn report(parsed: &Parsed, context: &Context, built: &Built) -> Result<u8> {
    let id = built.outcome["ID"].as_str().unwrap_or_default();
    if let Some(path) = parsed.text("iidfile") {
        std::fs::write(path, id)?;
    }
    if let Some(path) = parsed.text("metadata-file") {
        let text = serde_json::to_string_pretty(&built.metadata()).map_err(|error| Failure::new(error.to_string()))?;
        std::fs::write(path, text)?;
    }
    if parsed.on("quiet") && !built.is_taken {
        context.printer.line(id)?;
    }
    Ok(0)
}

fn metadata(outcome: &Value) -> Value {
    let mut metadata = Map::new();
    for (key, told) in [
        ("containerimage.config.digest", &outcome["Config"]),
        ("containerimage.descriptor", &outcome["Descriptor"]),
        ("containerimage.digest", &outcome["ID"]),
    ] {
        metadata.extend((!told.is_null()).then(|| (key.to_owned(), told.clone())));
    }
    if let Some(provenance) = outcome["Provenance"].as_object() {
        let is_single = provenance.len() == 1;
        for (platform, told) in provenance {
            let key = "buildx.build.provenance";
            let key = if is_single { key.to_owned() } else { format!("{key}/{platform}") };
            metadata.insert(key, told.clone());
        }
    }
    if let Some(names) = outcome["Names"].as_array().filter(|names| !names.is_empty()) {
        let names: Vec<String> = names
            .iter()
            .filter_map(|name| Reference::parse_with_default_tag(name.as_str()?).ok())
            .map(|name| name.to_string())
            .collect();
        metadata.insert("image.name".to_owned(), json!(names.join(",")));
    }
    Value::Object(metadata)
}
