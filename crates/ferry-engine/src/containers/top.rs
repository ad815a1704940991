//! `GET /containers/{id}/top`: the host's `ps`, cut to the processes of one container.
//!
//! Nothing of the image is run or read. Where the host has no `ps`, `processes` answers for the usual columns.

mod processes;

use std::process::{Output, Stdio};
use std::time::Duration;

use ferry_api::container::TopResponse;
use ferry_shim::protocol::{Reply, Request};
use tokio::process::Command;

use super::state::Status;
use super::stop::not_running;
use super::{Container, Containers};
use crate::blocking;
use crate::error::{Context, Error, Result};

const DEFAULT_ARGUMENTS: &str = "-ef";

/// `ps` reads `/proc` alone; whatever keeps it longer is broken.
const PATIENCE: Duration = Duration::from_secs(10);

impl Containers {
    /// Lists the processes of a container with the host's `ps` and its options.
    ///
    /// API: `GET /containers/{id}/top`
    ///
    /// # Errors
    /// NotFound; Conflict unless it runs; what `ps` says of its options.
    pub async fn top(&self, reference: &str, arguments: &str) -> Result<TopResponse> {
        let arguments = if arguments.is_empty() { DEFAULT_ARGUMENTS } else { arguments };
        check(arguments)?;
        let container = self.find(reference)?;
        let pids = self.pids(&container).await?;
        let words: Vec<&str> = arguments.split(' ').collect();
        let list = match ps(&words, &pids).await? {
            Some(output) => cut(&output, &pids)?,
            None => {
                let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
                blocking(move || processes::list(&words, &pids)).await?
            }
        };
        self.publish(&container.snapshot(), "top", &[]);
        Ok(list)
    }

    async fn pids(&self, container: &Container) -> Result<Vec<u32>> {
        let record = container.snapshot();
        if record.status == Status::Restarting {
            let text = format!("Container {} is restarting, wait until the container is running", record.id);
            return Err(Error::conflict(text));
        }
        let live = container.live().ok_or_else(|| not_running(&record))?;
        match live.shim.call(Request::Pids, &[]).await {
            Ok(Reply::Pids(pids)) => Ok(pids),
            Ok(_) => Err(Error::internal("the shim gave an answer that does not fit")),
            Err(error) => Err(error).context(format!("cannot list the processes of container {}", record.id)),
        }
    }
}

/// A column may be called `PID` only if it holds pids: rows are told apart by it.
fn check(arguments: &str) -> Result<()> {
    let blank = |c: char| matches!(c, '\t' | '\n' | '\x0c' | '\r' | ' ');
    for (at, _) in arguments.match_indices('=') {
        let (before, after) = (&arguments[..at], &arguments[at + 1..]);
        let column = before.rfind(blank).map(|blank| &before[blank + 1..]);
        let title = after.trim_start_matches(blank).split(blank).next().unwrap_or_default();
        if let Some(column) = column.filter(|column| *column != "pid" && title.starts_with("PID")) {
            return Err(Error::internal(format!("specifying \"{column}={title}\" is not allowed")));
        }
    }
    Ok(())
}

/// Runs `ps`; `None` where there is none.
async fn ps(words: &[&str], pids: &[u32]) -> Result<Option<String>> {
    let numbers: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let only = format!("-q{}", numbers.join(","));
    let Some(output) = run(words, Some(&only)).await? else { return Ok(None) };
    if output.status.success() {
        return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    // Some options cannot be had together with a choice of pids, and some programs called `ps` know of none.
    let Some(output) = run(words, None).await? else { return Ok(None) };
    if output.status.success() {
        return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = match said.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => line.to_owned(),
        None => format!("exit status {}", output.status.code().unwrap_or(-1)),
    };
    Err(Error::internal(format!("ps: {reason}")))
}

async fn run(words: &[&str], only: Option<&str>) -> Result<Option<Output>> {
    let mut command = Command::new("ps");
    command.args(words).args(only).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) => Ok(Some(output)),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Ok(Err(error)) => Err(error).context("ps"),
        Err(_) => Err(Error::internal(format!("ps: did not end within {} s", PATIENCE.as_secs()))),
    }
}

/// Keeps the rows of some processes, and those of their threads that follow them.
fn cut(output: &str, pids: &[u32]) -> Result<TopResponse> {
    let mut lines = output.split('\n');
    let titles: Vec<String> = fields(lines.next().unwrap_or_default()).map(str::to_owned).collect();
    let Some(pid_at) = titles.iter().position(|title| title == "PID") else {
        return Err(Error::internal("Couldn't find PID field in ps output"));
    };
    let mut processes = Vec::new();
    let mut belongs = false;
    for line in lines.filter(|line| !line.is_empty()) {
        let words: Vec<&str> = fields(line).collect();
        let pid = words.get(pid_at).copied().unwrap_or_default();
        if pid != "-" {
            let number: u32 = pid.parse().map_err(|_| {
                Error::internal(format!("Unexpected pid '{pid}': strconv.Atoi: parsing {pid:?}: invalid syntax"))
            })?;
            belongs = pids.contains(&number);
        }
        if belongs {
            processes.push(row(&words, titles.len()));
        }
    }
    Ok(TopResponse { processes: (!processes.is_empty()).then_some(processes), titles: Some(titles) })
}

/// The last column holds what is left of the line.
fn row(words: &[&str], columns: usize) -> Vec<String> {
    let own = columns.saturating_sub(1).min(words.len());
    let mut row: Vec<String> = words[..own].iter().map(|word| (*word).to_owned()).collect();
    row.push(words[own..].join(" "));
    row
}

/// Words between ASCII blanks; others are part of a command.
fn fields(line: &str) -> impl Iterator<Item = &str> {
    line.split(['\t', '\n', '\x0c', '\r', ' ']).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pids_may_be_called_pid() {
        for good in ["", "-ef", "ae -o uid=PID", "ae -o pid=PID", "-o pid= PID", "ae -o pid=PID -o user=X", "a=PID"] {
            let refused = check(good).is_err();
            assert_eq!(refused, good.contains("uid"), "{good}");
        }
        let text = |arguments: &str| check(arguments).unwrap_err().text();
        assert_eq!(text("ae -o uid=PID"), "specifying \"uid=PID\" is not allowed");
        assert_eq!(text("-o user=X -o uid= PIDX"), "specifying \"uid=PIDX\" is not allowed");
    }

    #[test]
    fn rows_of_other_processes_go() {
        let output = "  PID TTY CMD\n    1 ?  init\n   42 ?  sleep  10  20\n   42 pts/0 a\u{2003}b\n";
        let list = cut(output, &[42]).unwrap();
        assert_eq!(list.titles.unwrap(), ["PID", "TTY", "CMD"]);
        assert_eq!(list.processes.unwrap(), [["42", "?", "sleep 10 20"], ["42", "pts/0", "a\u{2003}b"]]);
        assert_eq!(cut(output, &[7]).unwrap().processes, None);
    }

    #[test]
    fn threads_follow_their_process() {
        let output = "PID LWP CMD\n1 - init\n- 1 -\n42 - sleep\n- 42 -\n- 43 -\n50 - other\n- 50 -\n";
        let rows = cut(output, &[42]).unwrap().processes.unwrap();
        assert_eq!(rows, [["42", "-", "sleep"], ["-", "42", "-"], ["-", "43", "-"]]);
    }

    #[test]
    fn output_that_cannot_be_told_apart_is_refused() {
        assert_eq!(cut("UID CMD\n1 x\n", &[1]).unwrap_err().text(), "Couldn't find PID field in ps output");
        assert!(cut("PID CMD\nx y\n", &[1]).unwrap_err().text().starts_with("Unexpected pid 'x': "));
        assert_eq!(cut("A B PID\n1\n", &[1]).unwrap_err().text().split(':').next(), Some("Unexpected pid ''"));
    }
}
