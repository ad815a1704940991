//! `restart`

use super::stop::{tell_killed, to_options};
use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;

/// Runs `restart`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let options = to_options(parsed, context)?;
    let client = context.client().await?;
    lists::each(context, &parsed.args, |name| {
        let options = &options;
        async move {
            tell_killed(context, name, client.container_restart(name, options).await?);
            Ok(())
        }
    })
    .await
}
