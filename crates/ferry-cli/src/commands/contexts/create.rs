//! `context create`

use serde_json::json;

use super::{check_new_name, copied, endpoint, told};
use crate::config::contexts::Whole;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `context create`.
pub(crate) fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let name = &parsed.args[0];
    check_new_name(context, name)?;
    let from = parsed.text("from").filter(|from| !from.is_empty());
    let mut whole = match (from, parsed.changed("docker")) {
        (Some(_), true) => return Err(Failure::new("cannot use --docker flag when --from is set")),
        (Some(from), false) => copied(context, from)?,
        // Nothing said is a copy of what is in force.
        (None, false) => copied(context, &context.target()?.context)?,
        (None, true) => {
            let (endpoint, tls) = endpoint::read(context, parsed.all("docker"))?;
            let metadata = json!({ "Name": name, "Metadata": {}, "Endpoints": { "docker": endpoint } });
            Whole { metadata, tls }
        }
    };
    if let Some(description) = parsed.text("description").filter(|description| !description.is_empty()) {
        whole.metadata["Metadata"]["Description"] = description.into();
    }
    whole.save(&context.config.folder, name)?;
    told(context, name, "created")
}
