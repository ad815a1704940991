//! From facts to a cause, a sentence and the next step. Pure.

use ferry_spec::platform::Platform;
use ferry_spec::signal;

use super::program::Program;
use crate::containers::ending::{EndVerb, EndedBy};
use crate::containers::health::HealthStatus;
use crate::containers::record::Record;
use crate::containers::state::Status;
use crate::containers::supervisor::UNKNOWN_EXIT_CODE;

/// Exit code of a program that the kernel refused after the container was told to have started.
const REFUSED: i32 = 255;
/// An end so long after a signal has nothing to do with it.
const CONSEQUENCE_NS: i64 = 10_000_000_000;

/// What is known.
pub(super) struct Facts<'a> {
    pub(super) record: &'a Record,
    pub(super) log: &'a [String],
    pub(super) host: Platform,
    /// The program that the kernel refused.
    pub(super) program: Option<Program>,
}

/// What it comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Explanation {
    pub(super) cause: &'static str,
    pub(super) reason: String,
    pub(super) details: Vec<String>,
    pub(super) next: Vec<String>,
}

fn because(cause: &'static str, reason: impl Into<String>) -> Explanation {
    Explanation { cause, reason: reason.into(), details: Vec::new(), next: Vec::new() }
}

impl Explanation {
    fn detail(mut self, text: impl Into<String>) -> Self {
        self.details.push(text.into());
        self
    }

    fn next(mut self, text: impl Into<String>) -> Self {
        self.next.push(text.into());
        self
    }
}

/// Makes sense of a container.
pub(super) fn explain(facts: &Facts<'_>) -> Explanation {
    let record = facts.record;
    let explanation = match record.status {
        Status::Running | Status::Paused => alive(record),
        Status::Created if record.error.is_empty() => {
            because("never-started", "it was created and never started").next(format!("`ferry start {}`", record.name))
        }
        Status::Created => failed_start(facts),
        Status::Exited | Status::Restarting if !record.error.is_empty() => failed_start(facts),
        Status::Exited | Status::Restarting => ended(facts),
    };
    with_policy(record, explanation)
}

fn alive(record: &Record) -> Explanation {
    let mut explanation = match &record.life.health {
        Some(health) if health.status == HealthStatus::Unhealthy && record.status == Status::Running => {
            let times = health.failing_streak;
            let said = health.log.last().map(|result| result.output.trim().to_owned()).unwrap_or_default();
            because("unhealthy", format!("it runs, but its health check has failed {times} times in a row"))
                .detail(if said.is_empty() {
                    "the check said nothing".to_owned()
                } else {
                    format!("the check said: {said}")
                })
                .next(format!("`ferry inspect -f '{{{{json .State.Health}}}}' {}` shows the last checks", record.name))
        }
        _ if record.status == Status::Paused => {
            because("paused", "it is paused: its processes are frozen").next(format!("`ferry unpause {}`", record.name))
        }
        _ => because("running", "it runs"),
    };
    if record.oom_killed {
        explanation = explanation.detail(format!("{}; its first process lives on", out_of_memory(record)));
    }
    explanation
}

fn failed_start(facts: &Facts<'_>) -> Explanation {
    let record = facts.record;
    let error = record.error.as_str();
    let argv = record.argv();
    let program = argv.first().map_or("", String::as_str);
    let has = |part: &str| error.contains(part);
    if record.exit_code == UNKNOWN_EXIT_CODE && has("how it ended is not known") {
        return because("lost", error.to_owned())
            .next("look into the host's log for a restart or a kill of `ferry-shim`");
    }
    let at_start = |cause, reason: String| because(cause, reason).detail(format!("the start failed: {error}"));
    if has("executable file not found in $PATH") {
        at_start(
            "missing-command",
            format!("there is no program `{program}` in the image: no folder of its PATH has one"),
        )
        .next("give the program's whole path, or choose an image that has it")
    } else if has("no such file or directory") && has("exec: ") {
        at_start("missing-command", format!("there is no `{program}` in the image"))
            .next(format!("look what the image has: `ferry run --rm -it --entrypoint sh {}`", record.image_reference))
    } else if has("permission denied") && has("exec: ") {
        at_start(
            "not-executable",
            format!("`{program}` may not be executed: it is a folder, or its mode has no `x` for its user"),
        )
        .next("in the image's Dockerfile: `RUN chmod +x …`, or `COPY --chmod=755 …`")
    } else if has("port is already allocated") || has("address already in use") {
        at_start("port", "a port that it publishes is taken".to_owned())
            .next("choose another host port with `-p`, or stop who has it: `ferry ps --filter publish=PORT`")
    } else if has("unable to find user") || has("unable to find group") {
        at_start("missing-user", error.to_owned()).next("give a number with `-u`, or a user that the image has")
    } else {
        at_start("start-failed", "it could not be started".to_owned())
    }
}

/// The path of a program that the kernel refused after the start had been told.
pub(super) fn refused_by_kernel<'a>(record: &Record, log: &'a [String]) -> Option<&'a str> {
    if record.exit_code != REFUSED || record.life.exit_signal.is_some() {
        return None;
    }
    let rest = log.last()?.strip_prefix("exec ")?;
    let (path, why) = rest.rsplit_once(": ")?;
    matches!(why, "no such file or directory" | "exec format error").then_some(path)
}

fn ended(facts: &Facts<'_>) -> Explanation {
    let record = facts.record;
    if record.oom_killed && (record.exit_code == 137 || record.life.exit_signal == Some(9)) {
        return memory(record);
    }
    let asked = record.life.ended_by.as_ref().filter(|asked| is_consequence(record, asked));
    let explanation = match asked {
        Some(asked) => by_request(record, asked),
        None => by_itself(facts),
    };
    if record.oom_killed {
        return explanation.detail(out_of_memory(record));
    }
    explanation
}

fn is_consequence(record: &Record, asked: &EndedBy) -> bool {
    match asked.verb {
        EndVerb::Kill => {
            let late = record.finished_ns.saturating_sub(asked.time_ns) >= CONSEQUENCE_NS;
            record.life.exit_signal == Some(asked.signal) || !late
        }
        _ => true,
    }
}

fn memory(record: &Record) -> Explanation {
    because("memory", out_of_memory(record))
        .detail("the kernel ends a process with SIGKILL then, which is exit code 137")
        .next(format!(
            "give it more: `ferry update --memory SIZE --memory-swap SIZE {}`, and start it again",
            record.name
        ))
        .next("or have its program use less")
}

fn out_of_memory(record: &Record) -> String {
    let limit = match record.host_config.memory {
        0 => "a memory limit (of a parent cgroup, or the host's own memory)".to_owned(),
        bytes => format!("the memory limit of {}", size(bytes)),
    };
    let victims: Vec<String> =
        record.life.oom_kills.iter().map(|kill| format!("process {} ({})", kill.pid, kill.name)).collect();
    match victims.is_empty() {
        true => format!("{limit} killed a process of it"),
        false => format!("{limit} killed {}", victims.join(", ")),
    }
}

fn size(bytes: i64) -> String {
    const UNITS: [(i64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit && bytes % unit == 0) {
        Some((unit, name)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}

fn by_request(record: &Record, asked: &EndedBy) -> Explanation {
    let name = signal::name(asked.signal);
    let who = asked.by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
    let verb = match asked.verb {
        EndVerb::Stop => format!("it was stopped{who}"),
        EndVerb::Restart => format!("it was stopped for a restart{who}"),
        EndVerb::Kill => {
            return because("signal", format!("{name} was sent{who}, and it ended with {}", how(record)));
        }
        EndVerb::Remove => format!("it is being removed{who}"),
        EndVerb::Shutdown => "the daemon or the host went down".to_owned(),
        EndVerb::Health => return unhealthy(record, asked),
    };
    if let Some(seconds) = asked.timed_out_s {
        return because("stop-timeout", format!("{verb}, did not end within {seconds} s of {name}, and was killed"))
            .next(format!("have its program end on {name}, or name another signal with `--stop-signal`"))
            .next("or wait longer with `--stop-timeout`");
    }
    if asked.deaf {
        return because(
            "stop-deaf",
            format!("{verb}; its first process neither handles nor blocks {name}, so it was killed at once"),
        )
        .next(format!("run it with `--init`, which passes {name} on, or have its program handle {name}"));
    }
    because("stop", format!("{verb} with {name}, and ended with {}", how(record)))
}

fn unhealthy(record: &Record, asked: &EndedBy) -> Explanation {
    let action = asked.by.as_deref().unwrap_or("--health-action");
    let said = record.life.health.as_ref().and_then(|health| health.log.last());
    let said = said.map(|result| result.output.trim().to_owned()).filter(|said| !said.is_empty());
    let explanation = because("health", format!("its health check failed too often, and `{action}` was asked for"));
    let explanation = match said {
        Some(said) => explanation.detail(format!("the last check said: {said}")),
        None => explanation,
    };
    explanation.next(format!("`ferry inspect -f '{{{{json .State.Health}}}}' {}` shows the last checks", record.name))
}

/// What its end looked like from outside.
fn how(record: &Record) -> String {
    match record.life.exit_signal {
        Some(number) => format!("{} (exit code {})", signal::name(number), record.exit_code),
        None => format!("exit code {}", record.exit_code),
    }
}

fn by_itself(facts: &Facts<'_>) -> Explanation {
    let record = facts.record;
    if let Some(number) = record.life.exit_signal {
        return by_signal(number);
    }
    if let Some(path) = refused_by_kernel(record, facts.log) {
        return refused(facts, path);
    }
    if let Some(library) = facts.log.iter().rev().find_map(|line| missing_library(line)) {
        return because("missing-library", format!("its program needs the library `{library}`, which the image lacks"))
            .next("install it in the image, or link the program statically");
    }
    match record.exit_code {
        0 => finished(record),
        126 => because("not-executable", "its command found a program that may not be executed (exit code 126)"),
        127 => because("missing-command", "its command called a program that is not there (exit code 127)")
            .next("the last lines of its log should name it"),
        code @ 129..=192 => because(
            "signal",
            format!(
                "its command ended with {code}: a program below it was ended by {}, as shells tell",
                signal::name(code - 128)
            ),
        ),
        code => because("exit", format!("its command ended by itself with exit code {code}"))
            .next(format!("`ferry logs {}` has the rest of what it said", record.name)),
    }
}

fn by_signal(number: i32) -> Explanation {
    let name = signal::name(number);
    match number {
        4 | 5 | 6 | 7 | 8 | 11 | 31 => because("crash", format!("its first process crashed: {name}"))
            .next("this is a fault of the program, or a system call that its seccomp profile forbids (`--security-opt seccomp=unconfined` tells)"),
        9 => because("signal", "SIGKILL ended it, and ferry did not send it: a process of the host or of the container did")
            .next("look into the host's log: an out-of-memory killer of the host, or an administrator"),
        _ => because("signal", format!("{name} ended it, and ferry did not send it: a process of the host or of the container did")),
    }
}

fn refused(facts: &Facts<'_>, path: &str) -> Explanation {
    let (record, host) = (facts.record, &facts.host);
    let program = facts.program.as_ref();
    let foreign = program.and_then(|program| program.machine).filter(|machine| *machine != host.architecture);
    if let Some(machine) = foreign {
        return because(
            "wrong-architecture",
            format!("`{path}` is a program for {machine}, and this host is {}", host.architecture),
        )
        .next(format!("`--platform {}/{}`, if the image has one for it", host.os, host.architecture));
    }
    if !record.platform.is_same(host) && program.is_none() {
        return because("wrong-architecture", format!("its image is for {}, and this host is {host}", record.platform))
            .next(format!("`--platform {}/{}`, if the image has one for it", host.os, host.architecture));
    }
    match program {
        Some(Program { interpreter: Some(interpreter), has_interpreter: false, .. }) if interpreter.ends_with('\r') => {
            because("missing-interpreter", format!("the first line of `{path}` ends in a carriage return, as Windows writes it"))
                .next("save it with Unix line ends")
        }
        Some(Program { interpreter: Some(interpreter), has_interpreter: false, .. }) => {
            because("missing-interpreter", format!("`{path}` needs `{interpreter}`, which the image lacks"))
                .next("a program linked against another C library, or a script for a shell that is not there: rebuild it for this image, or choose another base image")
        }
        Some(Program { is_unknown: true, .. }) => {
            because("not-a-program", format!("`{path}` is neither a program nor a script: its first line does not begin with `#!`"))
                .next("put `#!/bin/sh` into its first line, or run it by `sh`")
        }
        _ => because("refused", format!("the kernel refused to execute `{path}`")),
    }
}

/// The dynamic loaders' way to say it.
fn missing_library(line: &str) -> Option<&str> {
    if let Some((_, rest)) = line.split_once("error while loading shared libraries: ") {
        return rest.split(':').next();
    }
    let (_, rest) = line.split_once("Error loading shared library ")?;
    rest.split(':').next()
}

fn finished(record: &Record) -> Explanation {
    let explanation = because("finished", "its command came to its end (exit code 0)");
    let argv = record.argv();
    let is_shell =
        argv.len() == 1 && ["sh", "bash", "ash", "dash"].iter().any(|shell| argv[0].rsplit('/').next() == Some(shell));
    if is_shell && !record.config.open_stdin {
        return explanation.next("a shell without input ends at once: use `-it`, or give it a command");
    }
    explanation
}

fn with_policy(record: &Record, explanation: Explanation) -> Explanation {
    let policy = &record.host_config.restart_policy;
    let count = record.restart_count;
    match (record.status, policy.name.as_str()) {
        (Status::Restarting, name) => {
            explanation.detail(format!("its policy `{name}` starts it again (restart {count})"))
        }
        (Status::Exited, "on-failure")
            if policy.maximum_retry_count > 0 && i64::from(count) >= policy.maximum_retry_count =>
        {
            explanation.detail(format!("its policy gave up after {count} restarts"))
        }
        _ if count > 0 => explanation.detail(format!("its policy has started it again {count} times")),
        _ => explanation,
    }
}
