//! `context rm`

use crate::config::contexts;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `context rm`.
pub(crate) fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let current = context.current_name();
    let mut errors = Vec::new();
    for name in &parsed.args {
        match remove(context, name, *name == current, parsed.on("force")) {
            Ok(()) => context.printer.line(name)?,
            Err(failure) => errors.push(failure.message),
        }
    }
    if errors.is_empty() { Ok(0) } else { Err(Failure::new(errors.join("\n"))) }
}

fn remove(context: &Context, name: &str, is_current: bool, force: bool) -> Result<()> {
    let folder = &context.config.folder;
    if name == "default" {
        return Err(Failure::new("context \"default\" cannot be removed"));
    }
    if is_current {
        if !force {
            return Err(Failure::new(format!("context \"{name}\" is in use, set -f flag to force remove")));
        }
        contexts::make_current(folder, "default")?;
    }
    if !contexts::exists(folder, name) && !force {
        return Err(Failure::new(format!("context \"{name}\" does not exist")));
    }
    contexts::remove(folder, name)?;
    Ok(())
}
