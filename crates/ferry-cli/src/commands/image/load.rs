//! `load`

use crate::commands::lists;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::output::{stdin_is_terminal, stdout_is_terminal};

/// Runs `load`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let input = parsed.text_or_empty("input");
    if input.is_empty() && stdin_is_terminal() {
        return Err(Failure::new("requested load from stdin, but stdin is empty"));
    }
    let platforms = lists::platforms(parsed)?;
    let tarball = super::open(if input.is_empty() { "-" } else { input }).await?;
    let quiet = parsed.on("quiet") || !stdout_is_terminal();
    let client = context.client().await?;
    let mut stream = client.image_load(tarball, quiet, &platforms).await?;
    if stream.content_type().starts_with("application/json") {
        super::show(stream).await?;
    } else {
        while let Some(bytes) = stream.next().await? {
            context.printer.data(&bytes)?;
        }
    }
    Ok(0)
}
