//! `context show`

use crate::context::Context;
use crate::failure::Result;

/// Runs `context show`.
pub(crate) fn run(context: &Context) -> Result<u8> {
    context.printer.line(&context.target()?.context)?;
    Ok(0)
}
