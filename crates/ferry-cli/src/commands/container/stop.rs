//! `stop`

use ferry_client::StopOptions;

use crate::commands::lists;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `stop`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let options = to_options(parsed, context)?;
    let client = context.client().await?;
    lists::each(context, &parsed.args, |name| {
        let options = &options;
        async move {
            tell_killed(context, name, client.container_stop(name, options).await?);
            Ok(())
        }
    })
    .await
}

/// Says why the time-out was not waited for.
pub(super) fn tell_killed(context: &Context, name: &str, reason: Option<String>) {
    if let Some(reason) = reason {
        context.printer.note(&format!("{name}: {reason}; killed at once"));
    }
}

/// Reads `--signal` and `--timeout`, which has an older name. Who takes us for Docker's client gets what that one does.
pub(super) fn to_options(parsed: &Parsed, context: &Context) -> Result<StopOptions> {
    Ok(StopOptions { kill_deaf: context.program != "docker", ..read(parsed)? })
}

fn read(parsed: &Parsed) -> Result<StopOptions> {
    if parsed.changed("time") && parsed.changed("timeout") {
        return Err(Failure::new("conflicting options: cannot specify both --timeout and --time"));
    }
    Ok(StopOptions {
        signal: parsed.text_or_empty("signal").to_owned(),
        timeout_s: parsed.int("timeout").or_else(|| parsed.int("time")),
        kill_deaf: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::CONTAINER_STOP;
    use crate::{flags, options};

    #[test]
    fn the_old_name_of_the_timeout_works() {
        let words = ["--time", "3", "x"].map(str::to_owned);
        let parsed = flags::parse(CONTAINER_STOP.flags, false, &words, options::checks::check).unwrap();
        assert_eq!(read(&parsed).unwrap().timeout_s, Some(3));
        assert_eq!(parsed.notes, ["Flag --time has been deprecated, use --timeout instead"]);
    }
}
