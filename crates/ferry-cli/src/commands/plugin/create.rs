//! `plugin create`

use std::fs;
use std::path::Path;

use ferry_spec::plugin::PluginConfig;

use super::install::parse;
use crate::commands::container::cp;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `plugin create`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let (name, folder) = (&parsed.args[0], &parsed.args[1]);
    parse(name)?;
    let folder = std::path::absolute(folder)?;
    check(&folder).map_err(Failure::new)?;
    let archive = cp::archive_of(&folder.display().to_string(), parsed.on("compress"));
    context.client().await?.plugin_create(name, archive).await?;
    context.printer.line(name)?;
    Ok(0)
}

/// The folder must be one and hold a configuration.
fn check(folder: &Path) -> Result<(), String> {
    let metadata = fs::symlink_metadata(folder).map_err(|error| failed("lstat", folder, &error))?;
    if !metadata.is_dir() {
        return Err("context must be a directory".to_owned());
    }
    let config = folder.join("config.json");
    let text = fs::read(&config).map_err(|error| failed("open", &config, &error))?;
    serde_json::from_slice::<PluginConfig>(&text).map(drop).map_err(|error| error.to_string())
}

fn failed(call: &str, path: &Path, error: &std::io::Error) -> String {
    let text = match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        _ => error.to_string(),
    };
    format!("{call} {}: {text}", path.display())
}
