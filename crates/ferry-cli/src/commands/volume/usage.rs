//! `volume du` and `volume used-by`, which Docker does not have.

use ferry_api::filters::Filters;
use ferry_api::volume::VolumeUse;

use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::human;
use crate::format::tabwriter::{LISTS, align};

/// Runs `volume du`.
pub(crate) async fn disk_usage(parsed: &Parsed, context: &Context) -> Result<u8> {
    let client = context.client().await?;
    let mut names = parsed.args.clone();
    if names.is_empty() {
        let all = client.volume_list(&Filters::default()).await?.volumes;
        names = all.into_iter().map(|volume| volume.name).collect();
        names.sort();
    }
    let mut lines = vec!["VOLUME NAME\tSIZE\tFILES\tLIMIT\tCONTAINERS".to_owned()];
    for name in names {
        lines.push(line(&client.volume_use(&name).await?));
    }
    context.printer.data(align(&(lines.join("\n") + "\n"), &LISTS))?;
    Ok(0)
}

fn line(volume: &VolumeUse) -> String {
    let size = |bytes: u64| human::size(i64::try_from(bytes).unwrap_or(i64::MAX));
    let limit = if volume.limit == 0 { "none".to_owned() } else { size(volume.limit) };
    format!("{}\t{}\t{}\t{limit}\t{}", volume.name, size(volume.size), volume.files, volume.used_by.len())
}

/// Runs `volume used-by`.
pub(crate) async fn used_by(parsed: &Parsed, context: &Context) -> Result<u8> {
    let volume = context.client().await?.volume_use(&parsed.args[0]).await?;
    let mut lines = vec!["CONTAINER ID\tNAME\tSTATE\tMOUNTED AT\tACCESS".to_owned()];
    for user in &volume.used_by {
        let access = if user.rw { "read-write" } else { "read-only" };
        let id = human::short_id(&user.id);
        lines.push(format!("{id}\t{}\t{}\t{}\t{access}", user.name, user.state, user.destination));
    }
    context.printer.data(align(&(lines.join("\n") + "\n"), &LISTS))?;
    Ok(0)
}
