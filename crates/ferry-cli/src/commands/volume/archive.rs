//! `volume export` and `volume import`, which Docker does not have.

use ferry_api::volume::CreateRequest;

use crate::commands::image;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::output::stdout_is_terminal;
use crate::output_file::{self, OutputFile};

/// Runs `volume export`.
pub(crate) async fn export(parsed: &Parsed, context: &Context) -> Result<u8> {
    let output = parsed.text_or_empty("output");
    if output.is_empty() && stdout_is_terminal() {
        return Err(Failure::new("refusing to write an archive to a terminal: use --output FILE or redirect"));
    }
    let stream = context.client().await?.volume_export(&parsed.args[0]).await?;
    let file = OutputFile::create_if_named(output).map_err(Failure::new)?;
    output_file::write(stream, file, &context.printer).await?;
    Ok(0)
}

/// Runs `volume import`: into a volume that is made when it is not there, and goes again when the archive fails.
pub(crate) async fn import(parsed: &Parsed, context: &Context) -> Result<u8> {
    let name = &parsed.args[0];
    let archive = image::open(parsed.args.get(1).map_or("-", String::as_str)).await?;
    let client = context.client().await?;
    let is_new = client.volume_inspect(name).await.is_err_and(|error| error.status() == Some(404));
    if is_new {
        client.volume_create(&CreateRequest { name: name.clone(), ..CreateRequest::default() }).await?;
    }
    if let Err(error) = client.volume_import(name, parsed.on("replace"), archive).await {
        if is_new {
            // The first error is the one to tell; a volume that somebody has begun to use stays.
            let _ = client.volume_remove(name, false).await;
        }
        return Err(error.into());
    }
    context.printer.line(name)?;
    Ok(0)
}
