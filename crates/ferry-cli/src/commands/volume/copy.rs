//! `volume cp`, `volume snapshot` and `volume mv`, which Docker does not have.

use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;

/// Runs `volume cp`.
pub(crate) async fn copy(parsed: &Parsed, context: &Context) -> Result<u8> {
    let made = context.client().await?.volume_copy(&parsed.args[0], &parsed.args[1], false).await?;
    context.printer.line(&made.name)?;
    Ok(0)
}

/// Runs `volume snapshot`.
pub(crate) async fn snapshot(parsed: &Parsed, context: &Context) -> Result<u8> {
    let to = parsed.args.get(1).map_or("", String::as_str);
    let made = context.client().await?.volume_copy(&parsed.args[0], to, true).await?;
    context.printer.line(&made.name)?;
    Ok(0)
}

/// Runs `volume mv`.
pub(crate) async fn rename(parsed: &Parsed, context: &Context) -> Result<u8> {
    context.client().await?.volume_rename(&parsed.args[0], &parsed.args[1]).await?;
    context.printer.line(&parsed.args[1])?;
    Ok(0)
}
