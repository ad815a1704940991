//! `plugin enable`, `disable`, `set`, `rm`.

use crate::commands::lists;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Seconds that a call of a plugin may take, unless `--timeout` says else.
const TIMEOUT_S: i64 = 30;

/// Runs `plugin enable`.
pub(crate) async fn enable(parsed: &Parsed, context: &Context) -> Result<u8> {
    let timeout = parsed.int("timeout").unwrap_or(TIMEOUT_S);
    if timeout < 0 {
        return Err(Failure::new(format!("negative timeout {timeout} is invalid")));
    }
    let name = &parsed.args[0];
    context.client().await?.plugin_enable(name, timeout).await?;
    context.printer.line(name)?;
    Ok(0)
}

/// Runs `plugin disable`.
pub(crate) async fn disable(parsed: &Parsed, context: &Context) -> Result<u8> {
    let name = &parsed.args[0];
    context.client().await?.plugin_disable(name, parsed.on("force")).await?;
    context.printer.line(name)?;
    Ok(0)
}

/// Runs `plugin set`.
pub(crate) async fn set(parsed: &Parsed, context: &Context) -> Result<u8> {
    context.client().await?.plugin_set(&parsed.args[0], &parsed.args[1..]).await?;
    Ok(0)
}

/// Runs `plugin rm`.
pub(crate) async fn remove(parsed: &Parsed, context: &Context) -> Result<u8> {
    let client = context.client().await?;
    let mut errors = Vec::new();
    for name in &parsed.args {
        match client.plugin_remove(name, parsed.on("force")).await {
            Ok(()) => context.printer.line(name)?,
            Err(error) => errors.push(error.to_string()),
        }
    }
    lists::finish(errors)
}
