//! `volume update`

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `volume update`: there are no volumes of a cluster outside of one.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    context.client().await?.volume_inspect(&parsed.args[0]).await?;
    Err(Failure::new("can only update cluster volumes"))
}
