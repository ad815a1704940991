//! `plugin upgrade`

use ferry_api::plugin::Plugin;

use super::install::{Wanted, parse};
use crate::commands::{image, lists};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `plugin upgrade`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let client = context.client().await?;
    let raw = client.plugin_inspect(&parsed.args[0]).await;
    let raw = raw.map_err(|error| Failure::new(format!("error reading plugin data: {error}")))?;
    let plugin: Plugin = raw.typed()?;
    if plugin.enabled {
        return Err(Failure::new("the plugin must be disabled before upgrading"));
    }
    let remote = parsed.args.get(1).unwrap_or(&plugin.plugin_reference).clone();
    let failed = |what: &str, failure: Failure| {
        Failure::new(format!("error parsing {what} image reference: {}", failure.message))
    };
    let new = parse(&remote).map_err(|failure| failed("remote upgrade", failure))?.with_default_tag();
    let old = parse(&plugin.plugin_reference).map_err(|failure| failed("current", failure))?.with_default_tag();
    let (new_name, old_name) = (new.familiar(), old.familiar());
    context.printer.line(&format!("Upgrading plugin {} from {old_name} to {new_name}", plugin.name))?;
    if !parsed.on("skip-remote-check")
        && new.to_string() != old.to_string()
        && !lists::confirmed(context, "Plugin images do not match, are you sure? [y/N] ")?
    {
        return Err(Failure::new("plugin upgrade has been cancelled"));
    }
    let wanted = Wanted::new(&remote, context)?;
    let privileges = wanted.granted(client, parsed.on("grant-all-permissions"), context).await?;
    image::show(client.plugin_upgrade(&plugin.name, &wanted.reference, &privileges, &wanted.auth).await?).await?;
    context.printer.line(&format!("Upgraded plugin {} to {remote}", plugin.name))?;
    Ok(0)
}
