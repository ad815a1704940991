//! `manifest create`

use super::reference;
use super::remote::Registry;
use super::store::Store;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `manifest create`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let given = &parsed.args[0];
    let list = reference(given)
        .map_err(|error| Failure::new(format!("error parsing name for manifest list {given}: {error}")))?;
    let store = Store::of(&context.config);
    if store.list(&list)?.is_some() && !parsed.on("amend") {
        return Err(Failure::new("refusing to amend an existing manifest list with no --amend flag"));
    }
    let registry = Registry::new(&context.config, parsed.on("insecure"));
    for given in &parsed.args[1..] {
        let name = reference(given).map_err(Failure::new)?;
        let known = store.get(&list, &name)?.filter(|image| !image.raw.is_empty());
        let image = match known {
            Some(image) => image,
            None => registry.image(&name).await?,
        };
        store.save(&list, &name, &image)?;
    }
    context.printer.line(&format!("Created manifest list {list}"))?;
    Ok(0)
}
