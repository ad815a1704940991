//! `pause` and `unpause`

use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;

/// Runs `pause` or `unpause`.
pub(crate) async fn run(pause: bool, parsed: &Parsed, context: &Context) -> Result<u8> {
    let client = context.client().await?;
    lists::each(context, &parsed.args, |name| client.container_set_paused(name, pause)).await
}
