//! `rm`

use futures_util::StreamExt;

use crate::commands::lists;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;

const PARALLEL: usize = 50;

/// Runs `rm`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let client = context.client().await?;
    let (force, volumes, link) = (parsed.on("force"), parsed.on("volumes"), parsed.on("link"));
    let mut errors = Vec::new();
    let removals = parsed.args.iter().map(|given| async move {
        let name = given.trim_start_matches('/');
        if name.is_empty() {
            return (given, Err(None));
        }
        (given, client.container_remove(name, force, volumes, link).await.map_err(Some))
    });
    let mut removals = futures_util::stream::iter(removals).buffered(PARALLEL);
    while let Some((name, result)) = removals.next().await {
        match result {
            Ok(()) => context.printer.line(name)?,
            Err(None) => errors.push("container name cannot be empty".to_owned()),
            // What should be gone is gone.
            Err(Some(error)) if force && error.is_not_found() => context.printer.note(&error.to_string()),
            Err(Some(error)) => errors.push(error.to_string()),
        }
    }
    lists::finish(errors)
}
