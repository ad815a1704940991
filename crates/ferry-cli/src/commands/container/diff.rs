//! `diff`

use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;

/// Runs `diff`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let mut text = String::new();
    for change in context.client().await?.container_changes(&parsed.args[0]).await? {
        let kind = match change.kind {
            0 => "C",
            1 => "A",
            2 => "D",
            _ => "",
        };
        text.push_str(&format!("{kind} {}\n", change.path));
    }
    context.printer.data(text)?;
    Ok(0)
}
