//! `context import`

use std::fs::File;
use std::io::{self, Read};

use super::{archive, check_new_name, told};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::output_file::reason;

/// Runs `context import`.
pub(crate) fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let (name, place) = (&parsed.args[0], &parsed.args[1]);
    check_new_name(context, name)?;
    let bytes = if place == "-" {
        read_limited(io::stdin().lock(), "-")
    } else {
        let file = File::open(place).map_err(|error| Failure::new(format!("open {place}: {}", reason(&error))))?;
        read_limited(file, place)
    };
    let whole = bytes.and_then(|bytes| archive::unpack(&bytes)).map_err(Failure::new)?;
    whole.save(&context.config.folder, name)?;
    told(context, name, "imported")
}

fn read_limited(from: impl Read, name: &str) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = from.take(archive::LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("read {name}: {}", reason(&error)))?;
    if bytes.len() as u64 > archive::LIMIT { Err(archive::TOO_LARGE.to_owned()) } else { Ok(bytes) }
}
