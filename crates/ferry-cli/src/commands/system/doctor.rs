//! `doctor`, which Docker does not have.

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `doctor storage`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    match parsed.args.first().map(String::as_str) {
        None | Some("storage") => storage(context).await,
        Some(other) => Err(Failure::new(format!("unknown topic {other}: there is storage"))),
    }
}

async fn storage(context: &Context) -> Result<u8> {
    let facts = context.client().await?.storage().await?;
    let yes = |can: bool| if can { "yes" } else { "no" };
    let limits = match facts.volume_limits.as_str() {
        "project quota" => "project quota of the file system",
        "loop image" => {
            "an image that is mounted while the volume is used (the file system has no project quotas switched on)"
        }
        _ => "none: the file system has no project quotas, and an image needs /dev/loop-control, mkfs.ext4 and losetup",
    };
    let lines = [
        format!("Data root:            {}", facts.data_root),
        format!("File system:          {}", facts.file_system),
        format!("Image driver:         {}", facts.image_driver),
        format!("Volume limits:        {limits}"),
        format!("Copies share extents: {}", yes(facts.shared_extents)),
        format!("Idmapped mounts:      {}", yes(facts.idmapped_mounts)),
    ];
    context.printer.line(&lines.join("\n"))?;
    Ok(0)
}
