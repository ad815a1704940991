//! `context use`

use super::check_name;
use crate::config::contexts;
use crate::context::{Context, variable};
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `context use`.
pub(crate) fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let [name] = parsed.args.as_slice() else {
        return Err(Failure::new(format!("accepts 1 arg(s), received {}", parsed.args.len())));
    };
    let folder = &context.config.folder;
    if name != "default" {
        check_name(name)?;
        contexts::load(folder, name).map_err(|error| Failure::new(error.to_string()))?;
    }
    contexts::make_current(folder, name)?;
    context.printer.line(name)?;
    context.printer.note(&format!("Current context is now \"{name}\""));
    if name != "default"
        && let Some(host) = variable("DOCKER_HOST")
    {
        context.printer.note(&format!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use \"{name}\", either set the global --context \
             flag, or unset DOCKER_HOST environment variable ({host})."
        ));
    }
    Ok(0)
}
