//! `logs`

use ferry_api::container::Inspect;
use ferry_client::LogsOptions;

use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::streams::frames::{Demultiplexer, write};

/// Runs `logs`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let client = context.client().await?;
    let inspect: Inspect = client.container_inspect(&parsed.args[0], false).await?.typed()?;
    let mut stream = client.container_logs(&inspect.id, &to_options(parsed)?).await?;
    let mut demultiplexer = Demultiplexer::default();
    while let Some(bytes) = stream.next().await? {
        if inspect.config.tty {
            context.printer.data(&bytes)?;
        } else {
            write(&mut demultiplexer, &context.printer, &bytes)?;
        }
    }
    Ok(0)
}

fn to_options(parsed: &Parsed) -> Result<LogsOptions> {
    let time = |name: &str| crate::format::human::api_time(parsed.text_or_empty(name));
    Ok(LogsOptions {
        follow: parsed.on("follow"),
        since: time("since").map_err(|error| invalid("since", &error))?,
        until: time("until").map_err(|error| invalid("until", &error))?,
        timestamps: parsed.on("timestamps"),
        details: parsed.on("details"),
        tail: parsed.text("tail").unwrap_or("all").to_owned(),
    })
}

fn invalid(name: &str, error: &str) -> crate::failure::Failure {
    crate::failure::Failure::new(format!("invalid value for \"{name}\": {error}"))
}
