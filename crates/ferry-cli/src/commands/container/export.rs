//! `export`

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::output::stdout_is_terminal;
use crate::output_file::{self, OutputFile};

/// Runs `export`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let output = parsed.text_or_empty("output");
    if output.is_empty() && stdout_is_terminal() {
        return Err(Failure::new("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    let file = OutputFile::create_if_named(output)
        .map_err(|text| Failure::new(format!("failed to export container: {text}")))?;
    let stream = context.client().await?.container_export(&parsed.args[0]).await?;
    output_file::write(stream, file, &context.printer).await?;
    Ok(0)
}
