//! `attach`

use ferry_api::container::Inspect;
use ferry_client::AttachOptions;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::output::stdout_is_terminal;
use crate::streams::attach::{Copying, End, copy};
use crate::streams::resize::{Resized, follow};
use crate::streams::{signals, terminal};

/// Runs `attach`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let client = context.client().await?;
    let inspect: Inspect = client.container_inspect(&parsed.args[0], false).await?.typed()?;
    check_state(&inspect)?;
    let id = inspect.id.as_str();
    let tty = inspect.config.tty;
    let wants_input = !parsed.on("no-stdin");
    terminal::check_tty(wants_input, tty)?;
    let detach_keys = context.detach_keys(parsed);
    let options = AttachOptions {
        stdin: wants_input && inspect.config.open_stdin,
        stdout: true,
        stderr: true,
        logs: false,
        detach_keys: detach_keys.clone(),
    };
    let mut caught = (parsed.on_or("sig-proxy", true) && !tty).then(signals::catch_all);
    let wait = client.container_wait(id, "").await?;
    let connection = client.container_attach(id, &options).await?;
    let copying = Copying { stdin: options.stdin, output: true, tty, detach_keys };
    let resized = Resized::Container(id.to_owned());
    let streams = copy(connection, &copying, &context.printer);
    let end = tokio::select! {
        end = streams => end?,
        () = async {
            match &mut caught {
                Some(caught) => signals::forward(client, id, caught).await,
                None => std::future::pending().await,
            }
        } => End::Output,
        () = async {
            if tty && stdout_is_terminal() {
                follow(client, &resized, &context.printer).await;
            }
            std::future::pending().await
        } => End::Output,
    };
    if end == End::Detached {
        return Err(Failure::new("read escape sequence"));
    }
    let response = wait.finish().await?;
    match response.error.filter(|error| !error.message.is_empty()) {
        Some(error) => Err(Failure::new(error.message)),
        None => Ok(u8::try_from(response.status_code & 0xff).unwrap_or(1)),
    }
}

fn check_state(inspect: &Inspect) -> Result<()> {
    let state = &inspect.state;
    if !state.running {
        return Err(Failure::new("You cannot attach to a stopped container, start it first"));
    }
    if state.paused {
        return Err(Failure::new("You cannot attach to a paused container, unpause it first"));
    }
    if state.restarting {
        return Err(Failure::new("You cannot attach to a restarting container, wait until it is running"));
    }
    Ok(())
}
