//! `tag`

use ferry_spec::reference::Reference;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::{Parsed, go_quote};

/// Runs `tag`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let (source, target) = (&parsed.args[0], &parsed.args[1]);
    let reference = Reference::parse(target).map_err(|error| {
        Failure::new(format!("Error parsing reference: {} is not a valid repository/tag: {error}", go_quote(target)))
    })?;
    if reference.digest().is_some() {
        return Err(Failure::new("refusing to create a tag with a digest reference"));
    }
    let reference = reference.with_default_tag();
    let client = context.client().await?;
    client.image_tag(source, &reference.name(), reference.tag().unwrap_or_default()).await?;
    Ok(0)
}
