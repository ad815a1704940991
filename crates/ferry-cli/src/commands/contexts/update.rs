//! `context update`

use super::{check_name, endpoint, find, told};
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;

/// Runs `context update`.
pub(crate) fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let name = &parsed.args[0];
    check_name(name)?;
    let mut whole = find(context, name)?;
    if let Some(description) = parsed.text("description").filter(|description| !description.is_empty()) {
        whole.metadata["Metadata"]["Description"] = description.into();
    }
    if parsed.changed("docker") {
        let (endpoint, tls) = endpoint::read(context, parsed.all("docker"))?;
        whole.metadata["Endpoints"]["docker"] = endpoint;
        // An endpoint is replaced whole: files of the old one would be shown to the new.
        whole.tls.retain(|(endpoint, _, _)| endpoint != "docker");
        whole.tls.extend(tls);
    }
    whole.save(&context.config.folder, name)?;
    told(context, name, "updated")
}
