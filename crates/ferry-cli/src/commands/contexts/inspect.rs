//! `context inspect`

use serde_json::Value;

use crate::config::contexts;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::inspect::Inspection;

/// Runs `context inspect`.
pub(crate) fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let names = if parsed.args.is_empty() { vec![context.target()?.context] } else { parsed.args.clone() };
    let mut inspection = Inspection::new(parsed.text_or_empty("format"))?;
    let mut errors = Vec::new();
    for name in names {
        match describe(context, &name) {
            Ok(document) => {
                inspection.add(&Value::to_string(&document).replace('<', "\\u003c").replace('>', "\\u003e"), None)?
            }
            Err(error) => errors.push(error),
        }
    }
    inspection.finish(&context.printer, errors)
}

fn describe(context: &Context, name: &str) -> Result<Value, String> {
    if name == "default" {
        let host = context.target().map(|target| target.host).map_err(|failure| failure.message)?;
        return Ok(contexts::inspect_default(&host));
    }
    contexts::load(&context.config.folder, name).map(|stored| stored.inspect()).map_err(|error| error.to_string())
}
