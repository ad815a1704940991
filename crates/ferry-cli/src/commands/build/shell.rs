//! `--on-error shell`: a shell in the step that failed, before the build ends.
//!
//! The daemon keeps the step as it was left, ready to run a shell in the same files with the same mounts, until that has ended, is removed, or
//! this client is gone.

use ferry_api::build::FailedStep;
use ferry_client::{AttachOptions, Client};

use super::display::Display;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::flags::go_quote;
use crate::output::{stdin_is_terminal, stdout_is_terminal};
use crate::streams::attach::{Copying, copy};
use crate::streams::resize::{Resized, follow};

/// Reads `--on-error`; a shell needs somebody at a terminal.
pub(super) fn is_asked(parsed: &Parsed) -> Result<bool> {
    match parsed.text_or_empty("on-error") {
        "" => Ok(false),
        "shell" if stdin_is_terminal() && stdout_is_terminal() => Ok(true),
        "shell" => Err(Failure::new(
            "ERROR: `--on-error shell` needs a terminal: standard input or output of this command is none",
        )),
        other => Err(Failure::new(format!("ERROR: invalid value {} for --on-error: it is shell", go_quote(other)))),
    }
}

/// Opens the shell, and waits for its end; `target` is the build's name among others. What goes wrong is told, and the build ends as it would without.
pub(super) async fn open(client: &Client, failed: &FailedStep, target: Option<&str>, display: &Display<'_>) {
    let context = display.context;
    let held = display.hold().await;
    let of_target = target.map(|name| format!("target {name}: ")).unwrap_or_default();
    context.printer.note(&format!("ERROR: {of_target}{}", failed.error));
    let shell = failed.shell.join(" ");
    context.printer.note(&format!("{shell} runs in the failed step now; leave it to end the build"));
    if let Err(failure) = talk(client, &failed.container, context).await {
        context.printer.note(&format!("cannot run {shell} in the failed step: {}", failure.message));
    }
    // The build goes on when the step is gone; where the shell has ended the daemon removes it itself.
    let _ = client.container_remove(&failed.container, true, true, false).await;
    drop(held);
}

async fn talk(client: &Client, container: &str, context: &Context) -> Result<()> {
    let options = AttachOptions { stdin: true, stdout: true, stderr: true, logs: false, detach_keys: String::new() };
    let connection = client.container_attach(container, &options).await?;
    client.container_start(container, "").await?;
    let copying = Copying { stdin: true, output: true, tty: true, detach_keys: String::new() };
    let resized = Resized::Container(container.to_owned());
    tokio::select! {
        ended = copy(connection, &copying, &context.printer) => ended.map(drop),
        () = follow(client, &resized, &context.printer) => Ok(()),
    }
}
