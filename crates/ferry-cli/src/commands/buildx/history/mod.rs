//! `buildx history`: builds that there were, as the daemon remembers them.

pub(in crate::commands) mod attachment;
pub(in crate::commands) mod export;
pub(in crate::commands) mod import;
pub(in crate::commands) mod inspect;
pub(in crate::commands) mod list;
mod records;

use ferry_buildkit_proto::messages::control::{
    StatusRequest, StatusResponse, UpdateBuildHistoryRequest, UpdateBuildHistoryResponse,
};

use super::control::{Control, next};
use super::failed;
use crate::commands::build::shown::Shown;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use records::{is_over, query, the_record};

/// Runs `buildx history rm`.
pub(in crate::commands) async fn remove(parsed: &Parsed, context: &Context) -> Result<u8> {
    let all = parsed.on("all");
    match (parsed.args.is_empty(), all) {
        (true, false) => return Err(failed("rm requires at least one argument")),
        (false, true) => return Err(failed("rm requires either --all or at least one argument")),
        _ => {}
    }
    let control = Control::open(parsed, context).await?;
    let mut references = parsed.args.clone();
    if all {
        let known = query(&control, "", &[]).await?;
        references = known.into_iter().filter(is_over).map(|record| record.reference).collect();
    }
    let mut errors = Vec::new();
    for reference in references {
        let request = UpdateBuildHistoryRequest { reference, delete: true, ..UpdateBuildHistoryRequest::default() };
        let removed: Result<UpdateBuildHistoryResponse> = control.ask("UpdateBuildHistory", &request).await;
        errors.extend(removed.err().map(|failure| failure.message));
    }
    if errors.is_empty() { Ok(0) } else { Err(Failure::new(errors.join("\n"))) }
}

/// Runs `buildx history logs`.
pub(in crate::commands) async fn logs(parsed: &Parsed, context: &Context) -> Result<u8> {
    let mut shown = match parsed.text_or_empty("progress") {
        "" | "auto" | "plain" => Shown::plain(),
        "rawjson" => Shown::Raw,
        "tty" => Shown::terminal(),
        "quiet" | "none" => Shown::Nothing,
        other => return Err(failed(format!("invalid progress mode {other}"))),
    };
    let control = Control::open(parsed, context).await?;
    let record = the_record(&control, parsed.args.first().map_or("", String::as_str)).await?;
    let mut replies = control.listen("Status", &StatusRequest { reference: record.reference }).await?;
    while let Some(status) = next::<StatusResponse>(&mut replies).await? {
        for event in records::events(status) {
            shown.take(&event, context);
        }
    }
    shown.draw(context, true);
    Ok(0)
}

/// Runs `buildx history open`: there is no Docker Desktop to open anything in.
pub(in crate::commands) async fn open(parsed: &Parsed, context: &Context) -> Result<u8> {
    let control = Control::open(parsed, context).await?;
    let record = the_record(&control, parsed.args.first().map_or("", String::as_str)).await?;
    Err(failed(format!(
        "the record {0} cannot be opened: records are shown by Docker Desktop, which is not here\n\
         hint: `{1} buildx history inspect {0}` and `{1} buildx history logs {0}` tell what it holds",
        record.reference, context.program
    )))
}

/// Runs `buildx history trace`: the daemon keeps no traces.
pub(in crate::commands) async fn trace(parsed: &Parsed, context: &Context) -> Result<u8> {
    let control = Control::open(parsed, context).await?;
    let record = the_record(&control, parsed.args.first().map_or("", String::as_str)).await?;
    if !is_over(&record) {
        return Err(failed(format!(
            "build \"{}\" is not completed, only completed builds can be traced",
            record.reference
        )));
    }
    Err(failed(format!("build record \"{}\" is missing a trace", record.reference)))
}
