//! `logout`

use super::warn_of_variable;
use crate::config::credentials::{self, HUB, host_of};
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;

/// Runs `logout`.
pub(crate) fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    warn_of_variable(context);
    let server = parsed.args.first().map_or("", String::as_str);
    let (shown, keys) = match server {
        "" => (HUB.to_owned(), vec![HUB.to_owned()]),
        server => {
            let host = host_of(server);
            // Under each of these some version of Docker has stored credentials.
            let keys = [server.to_owned(), host.to_owned(), format!("http://{host}"), format!("https://{host}")];
            (host.to_owned(), keys.into())
        }
    };
    context.printer.line(&format!("Removing login credentials for {shown}"))?;
    let failures: Vec<String> = keys
        .iter()
        .filter_map(|key| credentials::erase(&context.config, key).err().map(|error| format!("{key}: {error}")))
        .collect();
    // One that worked is enough.
    if failures.len() == keys.len() {
        context.printer.note("WARNING: could not erase credentials:");
        failures.iter().for_each(|failure| context.printer.note(failure));
    }
    Ok(0)
}
