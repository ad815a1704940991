//! `diff`: of one container what Docker's tells, and of two images or containers what is different between them.

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `diff`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    if parsed.args.len() == 2 {
        return super::compare::run(parsed, context).await;
    }
    if parsed.args[0].is_empty() {
        return Err(Failure::new("Container name cannot be empty"));
    }
    let changes = context.client().await?.container_changes(&parsed.args[0]).await?;
    match parsed.text_or_empty("format") {
        "" => {}
        "json" => {
            let json = serde_json::to_string(&changes).map_err(|error| Failure::new(error.to_string()))?;
            context.printer.line(&json)?;
            return Ok(0);
        }
        other => return Err(Failure::new(format!("unknown format {other:?}: must be `json`"))),
    }
    let mut text = String::new();
    for change in changes {
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
