//! `volume cp`, `volume snapshot` and `volume mv`, which Docker does not have.

use ferry_client::VolumeCopy;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `volume cp`.
pub(crate) async fn copy(parsed: &Parsed, context: &Context) -> Result<u8> {
    copied(parsed, context, VolumeCopy { to: &parsed.args[1], ..VolumeCopy::default() }).await
}

/// Runs `volume snapshot`.
pub(crate) async fn snapshot(parsed: &Parsed, context: &Context) -> Result<u8> {
    let to = parsed.args.get(1).map_or("", String::as_str);
    copied(parsed, context, VolumeCopy { to, snapshot: true, ..VolumeCopy::default() }).await
}

async fn copied(parsed: &Parsed, context: &Context, copy: VolumeCopy<'_>) -> Result<u8> {
    let (pause, live) = (parsed.on("pause"), parsed.on("live"));
    if pause && live {
        return Err(Failure::new("conflicting options: --pause and --live"));
    }
    let made = context.client().await?.volume_copy(&parsed.args[0], &VolumeCopy { pause, live, ..copy }).await?;
    context.printer.line(&made.name)?;
    Ok(0)
}

/// Runs `volume mv`.
pub(crate) async fn rename(parsed: &Parsed, context: &Context) -> Result<u8> {
    context.client().await?.volume_rename(&parsed.args[0], &parsed.args[1]).await?;
    context.printer.line(&parsed.args[1])?;
    Ok(0)
}
