//! `start`

use ferry_api::container::Inspect;
use ferry_client::{AttachOptions, Client};

use super::run::session;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::output::stdout_is_terminal;
use crate::streams::attach::Copying;
use crate::streams::resize::{Resized, follow};
use crate::streams::signals;

/// Runs `start`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    for flag in ["checkpoint", "checkpoint-dir"] {
        if parsed.changed(flag) {
            let text = format!("\"--{flag}\" is only supported on a Docker daemon with experimental features enabled");
            return Err(Failure::new(text));
        }
    }
    if parsed.on("attach") || parsed.on("interactive") {
        if parsed.args.len() > 1 {
            return Err(Failure::new("you cannot start and attach multiple containers at once"));
        }
        let client = context.client().await?;
        return attached(client, parsed, context).await;
    }
    let client = context.client().await?;
    let mut failed = Vec::new();
    for name in &parsed.args {
        match client.container_start(name, "").await {
            Ok(()) => context.printer.line(name)?,
            Err(error) => {
                context.printer.note(&error.to_string());
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(0);
    }
    Err(Failure::new(format!("Error: failed to start containers: {}", failed.join(", "))))
}

async fn attached(client: &Client, parsed: &Parsed, context: &Context) -> Result<u8> {
    let inspect: Inspect = client.container_inspect(&parsed.args[0], false).await?.typed()?;
    let id = inspect.id.as_str();
    let tty = inspect.config.tty;
    let detach_keys = context.detach_keys(parsed);
    let options = AttachOptions {
        stdin: parsed.on("interactive") && inspect.config.open_stdin,
        stdout: true,
        stderr: true,
        logs: false,
        detach_keys: detach_keys.clone(),
    };
    let mut caught = (!tty).then(signals::catch_all);
    let removes = inspect.host_config.as_ref().is_some_and(|host| host.auto_remove);
    let condition = if removes { "removed" } else { "next-exit" };
    let (connection, wait) = tokio::join!(client.container_attach(id, &options), client.container_wait(id, condition));
    let connection = connection?;
    client.container_start(id, "").await?;
    let copying = Copying { stdin: options.stdin, output: true, tty, detach_keys };
    let resized = Resized::Container(id.to_owned());
    tokio::select! {
        code = session(context, &copying, connection, wait) => code,
        () = async {
            match &mut caught {
                Some(caught) => signals::forward(client, id, caught).await,
                None => std::future::pending().await,
            }
        } => Ok(0),
        () = async {
            if tty && stdout_is_terminal() {
                follow(client, &resized, &context.printer).await;
            }
            std::future::pending().await
        } => Ok(0),
    }
}
