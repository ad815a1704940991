//! `debug`: a shell beside a container, with tools of ours.
//!
//! The tools are a container of their own. Of one that runs it shares processes and network, and finds its files as `/proc/1/root`; for one that does not
//! run it gets a copy of its files. Either way nothing is put into the container itself. Everything goes by the API that all clients have.

mod toolbox;

use ferry_api::container::Inspect;
use ferry_client::Client;

use super::create::{build_request, create};
use super::run::attached;
use super::{cp, with_help};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::{self, Parsed};
use crate::grammar::CONTAINER_RUN;
use crate::options;
use crate::output::{stdin_is_terminal, stdout_is_terminal};

/// Where a copy of the files of a container that does not run is put.
const COPY: &str = "target";

/// What is done first inside: go to the files, then on to what was asked for.
const ENTER: &str = "cd \"$TARGET\" && exec \"$@\"";

/// Runs `debug`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let name = &parsed.args[0];
    let client = context.client().await?;
    let target: Inspect = client.container_inspect(name, false).await?.typed()?;
    let image = match parsed.text_or_empty("image") {
        "" => toolbox::make(client).await?,
        image => image.to_owned(),
    };
    let running = target.state.running;
    let words = words(parsed, &target, running, &image)?;
    let run = flags::parse(CONTAINER_RUN.flags, true, &words, options::checks::check)
        .map_err(|error| Failure::new(error.to_string()))?;
    let request = build_request(&run, context)?;
    let config = request.config.clone();
    let wrapped = |failure: Failure| with_help(context.program, "debug", 125, &failure.message);
    let id = create(client, &run, context, request).await.map_err(wrapped)?;
    if !running {
        let copied = copy_files(client, &target.id, &id).await;
        if let Err(failure) = copied {
            // The failure is what is told; a container without its files is of no use.
            let _ = client.container_remove(&id, true, true, false).await;
            return Err(failure);
        }
        context.printer.note(&format!(
            "{name} is not running: its files are a copy in /{COPY}, and changes are gone when you leave."
        ));
    }
    attached(client, &run, context, &config, &id).await
}

async fn copy_files(client: &Client, from: &str, to: &str) -> Result<()> {
    let archive = client.container_export(from).await?;
    let renamed = Some((String::new(), COPY.to_owned()));
    cp::carry_over(client, archive, renamed, to, "/").await
}

/// The words of the `run` that this comes to.
fn words(parsed: &Parsed, target: &Inspect, running: bool, image: &str) -> Result<Vec<String>> {
    let mut words: Vec<String> = ["--rm", "-i", "--entrypoint", "sh"].map(str::to_owned).to_vec();
    if stdin_is_terminal() && stdout_is_terminal() {
        words.push("-t".to_owned());
    }
    let files = if running {
        let root = root_of(target)?;
        let id = &target.id;
        // Looking at its files takes the right to look at its processes.
        words.extend([format!("--pid=container:{id}"), "--cap-add=SYS_PTRACE".to_owned()]);
        words.push(format!("--network=container:{id}"));
        root
    } else {
        format!("/{COPY}")
    };
    if parsed.on("privileged") {
        words.push("--privileged".to_owned());
    }
    words.extend(["-e".to_owned(), format!("TARGET={files}"), image.to_owned()]);
    words.extend(["-c", ENTER, "debug"].map(str::to_owned));
    words.extend(command(parsed)?);
    Ok(words)
}

/// What runs inside.
fn command(parsed: &Parsed) -> Result<Vec<String>> {
    let shell = match parsed.text_or_empty("shell") {
        "" | "auto" => "sh",
        shell => shell,
    };
    let given = &parsed.args[1..];
    match (parsed.text_or_empty("command"), given) {
        ("", []) => Ok(vec![shell.to_owned()]),
        ("", given) => Ok(given.to_vec()),
        (line, []) => Ok([shell, "-c", line].map(str::to_owned).to_vec()),
        _ => Err(Failure::new("conflicting options: a command and --command cannot be used together")),
    }
}

/// Its root as its pid namespace shows it.
fn root_of(target: &Inspect) -> Result<String> {
    let mode = target.host_config.as_ref().map(|host| host.pid_mode.as_str()).unwrap_or_default();
    match mode {
        "host" => Ok(format!("/proc/{}/root", target.state.pid)),
        mode if mode.starts_with("container:") => Err(Failure::new(format!(
            "container {} has the processes of another one ({mode}); debug that one",
            target.name.trim_start_matches('/')
        ))),
        _ => Ok("/proc/1/root".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::DEBUG;

    fn parse(line: &str) -> Parsed {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        flags::parse(DEBUG.flags, true, &words, options::checks::check).unwrap()
    }

    #[test]
    fn the_tools_share_what_a_running_container_has() {
        let target = Inspect { id: "abc".into(), ..Inspect::default() };
        let words = words(&parse("web ls -l"), &target, true, "tools").unwrap();
        for word in ["--pid=container:abc", "--network=container:abc", "TARGET=/proc/1/root"] {
            assert!(words.iter().any(|given| given == word), "{word} in {words:?}");
        }
        assert_eq!(words[words.len() - 2..], ["ls", "-l"]);
        let stopped = super::words(&parse("web"), &target, false, "tools").unwrap();
        assert!(!stopped.iter().any(|word| word.contains("container:")));
        assert_eq!(stopped.last().unwrap(), "sh");
    }

    #[test]
    fn commands_come_in_two_forms() {
        assert_eq!(command(&parse("-c ls web")).unwrap(), ["sh", "-c", "ls"]);
        assert_eq!(command(&parse("--shell ash web")).unwrap(), ["ash"]);
        assert!(command(&parse("-c ls web id")).is_err());
    }
}
