//! `save`

use crate::commands::lists;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::output::stdout_is_terminal;
use crate::output_file::{self, OutputFile};

/// Runs `save`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let platforms = lists::platforms(parsed)?;
    let output = parsed.text_or_empty("output");
    if output.is_empty() && stdout_is_terminal() {
        return Err(Failure::new("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    let file =
        OutputFile::create_if_named(output).map_err(|text| Failure::new(format!("failed to save image: {text}")))?;
    let client = context.client().await?;
    lists::require(client, parsed, "platform", 48).await?;
    let archive = client.image_save(&parsed.args, &platforms).await?;
    output_file::write(archive, file, &context.printer).await?;
    Ok(0)
}
