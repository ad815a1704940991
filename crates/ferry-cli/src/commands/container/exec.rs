//! `exec`

use ferry_api::exec::{CreateRequest, StartRequest};

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::options::environment::environment;
use crate::output::{stdin_is_terminal, stdout_is_terminal, stdout_size};
use crate::streams::attach::{Copying, End, copy};
use crate::streams::resize::{Resized, follow};
use crate::streams::terminal;

/// Runs `exec`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let (container, _) = parsed.args.split_first().ok_or_else(|| Failure::new("a container is required"))?;
    let mut request = to_request(parsed, context.detach_keys(parsed)).map_err(Failure::new)?;
    let client = context.client().await?;
    let detach = parsed.on("detach");
    if !detach && let Err(failure) = terminal::check_tty(request.attach_stdin, request.tty) {
        // An unknown container is the more telling error.
        client.container_inspect(container, false).await?;
        return Err(failure);
    }
    let console_size = if request.tty && stdout_is_terminal() { stdout_size() } else { None };
    request.console_size = console_size.map(|(height, width)| [height.into(), width.into()]);
    let id = client.exec_create(container, &request).await?.id;
    if id.is_empty() {
        return Err(Failure::new("exec ID empty"));
    }
    let start = StartRequest { detach, tty: request.tty, console_size: request.console_size };
    if detach {
        client.exec_start(&id, &start).await?;
        return Ok(0);
    }
    let connection = client.exec_attach(&id, &start).await?;
    let copying = Copying {
        stdin: request.attach_stdin,
        output: true,
        tty: request.tty,
        detach_keys: request.detach_keys.clone(),
    };
    let resized = Resized::Exec(id.clone());
    let end = tokio::select! {
        end = copy(connection, &copying, &context.printer) => end?,
        () = async {
            if request.tty && stdin_is_terminal() {
                follow(client, &resized, &context.printer).await;
            }
            std::future::pending().await
        } => End::Output,
    };
    if end == End::Detached {
        return Err(Failure::new("read escape sequence"));
    }
    let inspect = match client.exec_inspect(&id).await {
        Ok(inspect) => inspect,
        // The daemon probably died.
        Err(error) if error.is_connect() => return Ok(255),
        Err(error) => return Err(error.into()),
    };
    Ok(u8::try_from(inspect.exit_code.unwrap_or(0) & 0xff).unwrap_or(255))
}

fn to_request(parsed: &Parsed, detach_keys: String) -> Result<CreateRequest, String> {
    let attach = !parsed.on("detach");
    Ok(CreateRequest {
        user: parsed.text_or_empty("user").to_owned(),
        privileged: parsed.on("privileged"),
        tty: parsed.on("tty"),
        console_size: None,
        attach_stdin: attach && parsed.on("interactive"),
        attach_stderr: attach,
        attach_stdout: attach,
        detach_keys,
        env: Some(environment(parsed.all("env-file"), parsed.all("env"))?).filter(|variables| !variables.is_empty()),
        working_dir: parsed.text_or_empty("workdir").to_owned(),
        cmd: Some(parsed.args[1..].to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::CONTAINER_EXEC;
    use crate::{flags, options};

    #[test]
    fn flags_become_the_request() {
        let words: Vec<String> = "-it -e A=1 -u 0:0 -w /w --privileged c ls -l".split(' ').map(str::to_owned).collect();
        let parsed = flags::parse(CONTAINER_EXEC.flags, true, &words, options::checks::check).unwrap();
        let request = to_request(&parsed, String::new()).unwrap();
        assert_eq!(request.cmd.unwrap(), ["ls", "-l"]);
        assert!(request.tty && request.attach_stdin && request.attach_stdout && request.privileged);
        assert_eq!((request.user.as_str(), request.working_dir.as_str()), ("0:0", "/w"));
        assert_eq!(request.env.unwrap(), ["A=1"]);
    }
}
