//! `context export`

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use super::{archive, find};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::output::stdout_is_terminal;

/// Runs `context export`.
pub(crate) fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let name = &parsed.args[0];
    let place = parsed.args.get(1).cloned().unwrap_or_else(|| format!("{name}.dockercontext"));
    if place == "-" {
        if stdout_is_terminal() {
            return Err(Failure::new("cowardly refusing to export to a terminal, specify a file path"));
        }
        context.printer.data(archive::pack(&find(context, name)?)?)?;
        return Ok(0);
    }
    let packed = archive::pack(&find(context, name)?)?;
    write_new(&place, &packed).map_err(Failure::new)?;
    context.printer.note(&format!("Written file \"{place}\""));
    Ok(0)
}

/// Writes a file that is not there yet; it may hold a key.
fn write_new(place: &str, bytes: &[u8]) -> std::result::Result<(), String> {
    let opened = std::fs::File::options().write(true).create_new(true).mode(0o600).open(place);
    let mut file = opened.map_err(|error| format!("open {place}: {}", crate::output_file::reason(&error)))?;
    file.write_all(bytes).map_err(|error| {
        // Half of it helps nobody.
        let _ = std::fs::remove_file(place);
        format!("write {place}: {}", crate::output_file::reason(&error))
    })
}
