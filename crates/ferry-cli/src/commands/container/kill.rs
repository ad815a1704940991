//! `kill`

use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;

/// Runs `kill`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let signal = parsed.text_or_empty("signal");
    let client = context.client().await?;
    lists::each(context, &parsed.args, |name| client.container_kill(name, signal)).await
}
