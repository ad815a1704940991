//! `plugin push`

use super::install::{Wanted, parse};
use crate::commands::image;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `plugin push`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let name = &parsed.args[0];
    let reference = parse(name)?;
    if reference.digest().is_some() {
        return Err(Failure::new(format!("invalid name: {name}")));
    }
    let wanted = Wanted::new(name, context)?;
    let name = reference.with_default_tag().familiar();
    image::show(context.client().await?.plugin_push(&name, &wanted.auth).await?).await?;
    Ok(0)
}
