//! `run`: create, attach, wait, start, copy, and end as the container ended.

use ferry_api::container::Config;
use ferry_client::{AttachOptions, Client, Hijacked, Wait};

use super::create::{BARE, build_request, create, dry_run};
use super::{start_exit_code, with_help};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::output::stdout_is_terminal;
use crate::streams::attach::{Copying, End, copy};
use crate::streams::resize::{Resized, follow};
use crate::streams::{signals, terminal};

/// Runs `run`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let mut request = build_request(parsed, context).map_err(|failure| match failure.code {
        BARE => Failure::new(failure.message),
        _ => with_help(context.program, "run", 125, &failure.message),
    })?;
    if parsed.on("detach") {
        if !parsed.all("attach").is_empty() {
            return Err(Failure::new("conflicting options: cannot specify both --attach and --detach"));
        }
        let config = &mut request.config;
        (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (false, false, false);
        config.stdin_once = false;
    } else {
        terminal::check_tty(request.config.attach_stdin, request.config.tty)?;
    }
    let wrapped = |failure: Failure| match failure.code {
        1 => with_help(context.program, "run", start_exit_code(&failure.message), &failure.message),
        _ => failure,
    };
    let config = request.config.clone();
    let client = context.client().await.map_err(wrapped)?;
    if parsed.on("dry-run") {
        return dry_run(client, parsed, context, &request).await.map_err(wrapped);
    }
    let id = create(client, parsed, context, request).await.map_err(wrapped)?;
    if !(config.attach_stdin || config.attach_stdout || config.attach_stderr) {
        // The id is of use even where the start fails.
        context.printer.line(&id)?;
        client.container_start(&id, "").await.map_err(|error| wrapped(error.into()))?;
        return Ok(0);
    }
    attached(client, parsed, context, &config, &id).await
}

pub(super) async fn attached(
    client: &Client,
    parsed: &Parsed,
    context: &Context,
    config: &Config,
    id: &str,
) -> Result<u8> {
    let mut caught = parsed.on_or("sig-proxy", true).then(signals::catch_all);
    let detach_keys = context.detach_keys(parsed);
    let options = AttachOptions {
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        logs: false,
        detach_keys: detach_keys.clone(),
    };
    // Both are registered before the start, so that nothing is missed; they go out together.
    let condition = if parsed.on("rm") { "removed" } else { "next-exit" };
    let (connection, wait) = tokio::join!(client.container_attach(id, &options), client.container_wait(id, condition));
    let connection = connection?;
    if let Err(error) = client.container_start(id, "").await {
        if parsed.on("rm")
            && let Ok(wait) = wait
        {
            // The daemon removes it; whoever reads our exit code may count on that.
            let _ = wait.finish().await;
        }
        let message = error.to_string();
        return Err(with_help(context.program, "run", start_exit_code(&message), &message));
    }
    let copying = Copying {
        stdin: config.attach_stdin,
        output: config.attach_stdout || config.attach_stderr,
        tty: config.tty,
        detach_keys,
    };
    let code = session(context, &copying, connection, wait);
    let forwarding = async {
        match &mut caught {
            Some(caught) => signals::forward(client, id, caught).await,
            None => std::future::pending().await,
        }
    };
    let resizing = async {
        if config.tty && stdout_is_terminal() {
            follow(client, &Resized::Container(id.to_owned()), &context.printer).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        code = code => code,
        () = forwarding => Ok(0),
        () = resizing => Ok(0),
    }
}

/// Copies streams until the container has ended and all its output is there, or the user detaches.
pub(super) async fn session(
    context: &Context,
    copying: &Copying,
    connection: Hijacked,
    wait: Result<Wait, ferry_client::Error>,
) -> Result<u8> {
    let status = exit_status(context, wait);
    let streams = copy(connection, copying, &context.printer);
    tokio::pin!(status, streams);
    tokio::select! {
        end = &mut streams => {
            match end {
                Ok(End::Detached) => Ok(0),
                Ok(End::Output) => Ok(status.await),
                // A closed pipe ends the client, not the container.
                Err(failure) => Err(failure),
            }
        }
        code = &mut status => {
            if copying.output {
                // The last output may still be on its way.
                streams.await?;
            }
            Ok(code)
        }
    }
}

/// The container's exit code; 125 when the daemon went away.
async fn exit_status(context: &Context, wait: Result<Wait, ferry_client::Error>) -> u8 {
    let response = match wait {
        Ok(wait) => wait.finish().await,
        Err(error) => Err(error),
    };
    match response {
        Ok(response) => {
            if let Some(error) = response.error.filter(|error| !error.message.is_empty()) {
                context.printer.log("error", &format!("Error waiting for container: {}", error.message));
                return 125;
            }
            // Exit codes are one byte for the shell too.
            u8::try_from(response.status_code & 0xff).unwrap_or(125)
        }
        Err(error) => {
            context.printer.log("error", &format!("error waiting for container: {error}"));
            125
        }
    }
}
