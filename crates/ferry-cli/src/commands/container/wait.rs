//! `wait`

use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;

/// Runs `wait`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let client = context.client().await?;
    let mut errors = Vec::new();
    for name in &parsed.args {
        let response = match client.container_wait(name, "").await {
            Ok(wait) => wait.finish().await,
            Err(error) => Err(error),
        };
        match response {
            Ok(response) => context.printer.line(&response.status_code.to_string())?,
            Err(error) => errors.push(error.to_string()),
        }
    }
    lists::finish(errors)
}
