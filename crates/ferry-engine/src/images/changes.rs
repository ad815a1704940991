//! The Dockerfile instructions that `import --change` and `commit --change` take, applied to an image configuration.

mod health;
mod words;

use std::collections::BTreeMap;

use ferry_spec::image::{ContainerConfig, Empty};

use crate::error::{Error, Result};
use words::{Words, expand, split};

/// The shell of shell-form commands where the configuration names none.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Reads instructions into an empty configuration.
pub(super) fn apply(changes: &[String]) -> Result<ContainerConfig> {
    apply_to(ContainerConfig::default(), changes)
}

/// Applies instructions to a configuration.
///
/// # Errors
/// InvalidArgument in Docker's words.
pub(crate) fn apply_to(config: ContainerConfig, changes: &[String]) -> Result<ContainerConfig> {
    let mut state = State { config, cmd_set: false };
    for line in logical_lines(changes) {
        state.apply(&line)?;
    }
    Ok(state.config)
}

/// Lines without comments, those that end in a backslash joined with the next.
fn logical_lines(changes: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in changes.iter().flat_map(|change| change.lines()) {
        if line.trim_start().starts_with('#') || (open.is_empty() && line.trim().is_empty()) {
            continue;
        }
        match line.trim_end().strip_suffix('\\') {
            Some(begun) => open.push_str(begun),
            None => {
                open.push_str(line);
                lines.push(std::mem::take(&mut open).trim().to_owned());
            }
        }
    }
    if !open.trim().is_empty() {
        lines.push(open.trim().to_owned());
    }
    lines
}

struct State {
    config: ContainerConfig,
    /// A `CMD` of these instructions is there to stay.
    cmd_set: bool,
}

impl State {
    fn apply(&mut self, line: &str) -> Result<()> {
        let (typed, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let (name, rest) = (typed.to_ascii_uppercase(), rest.trim());
        let known = [
            "CMD",
            "ENTRYPOINT",
            "ENV",
            "LABEL",
            "EXPOSE",
            "VOLUME",
            "USER",
            "WORKDIR",
            "STOPSIGNAL",
            "ONBUILD",
            "HEALTHCHECK",
            "SHELL",
        ];
        // Docker's commit takes no SHELL, and its builder would; neither harms the other.
        if !known.contains(&name.as_str()) {
            return Err(Error::invalid(format!("{typed} is not a valid change command")));
        }
        if rest.is_empty() {
            return Err(Error::invalid(format!("{name} requires at least one argument")));
        }
        match name.as_str() {
            "CMD" => {
                self.config.cmd = Some(self.command(rest));
                self.cmd_set = true;
            }
            "ENTRYPOINT" => {
                self.config.entrypoint = Some(self.command(rest));
                if !self.cmd_set {
                    self.config.cmd = None;
                }
            }
            "ENV" => {
                for (key, value) in self.pairs(&name, rest)? {
                    self.config.env.retain(|entry| entry.split('=').next() != Some(&key));
                    self.config.env.push(format!("{key}={value}"));
                }
            }
            "LABEL" => {
                let labels = self.pairs(&name, rest)?;
                self.config.labels.extend(labels);
            }
            "EXPOSE" => self.expose(rest)?,
            "VOLUME" => self.volume(rest)?,
            "USER" => self.config.user = self.only_word(&name, rest)?,
            "WORKDIR" => self.config.working_dir = workdir(&self.config.working_dir, &self.only_word(&name, rest)?),
            "STOPSIGNAL" => self.config.stop_signal = self.stop_signal(rest)?,
            "ONBUILD" => self.on_build(rest)?,
            "HEALTHCHECK" => self.config.healthcheck = Some(health::check(rest)?),
            _ => self.config.shell = Some(shell(line, rest)?),
        }
        Ok(())
    }

    /// The list form as it is, anything else for the shell.
    fn command(&self, text: &str) -> Vec<String> {
        json_words(text).unwrap_or_else(|| {
            let shell = self.config.shell.clone().unwrap_or_else(|| SHELL.map(str::to_owned).to_vec());
            shell.into_iter().chain([text.to_owned()]).collect()
        })
    }

    fn expand(&self, text: &str) -> Result<String> {
        expand(text, &self.config.env)
    }

    fn only_word(&self, name: &str, text: &str) -> Result<String> {
        if matches!(name, "USER") && split(text, Words::Raw).len() != 1 {
            return Err(Error::invalid(format!("{name} requires exactly one argument")));
        }
        self.expand(text)
    }

    fn stop_signal(&self, text: &str) -> Result<String> {
        let signal = self.expand(text)?;
        match ferry_spec::signal::parse(&signal) {
            Some(_) => Ok(signal),
            None => Err(Error::invalid(format!("Invalid signal: {signal}"))),
        }
    }

    fn expose(&mut self, text: &str) -> Result<()> {
        for word in split(text, Words::Raw) {
            for port in self.expand(&word)?.split_whitespace() {
                let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
                // A host's port in front means nothing here.
                let number = number.rsplit(':').next().unwrap_or(number);
                let protocol = protocol.to_ascii_lowercase();
                if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
                    return Err(Error::invalid(format!("invalid proto: {protocol}")));
                }
                let invalid = || Error::invalid(format!("invalid containerPort: {number}"));
                let (first, last) = number.split_once('-').unwrap_or((number, number));
                let first: u16 = first.parse().map_err(|_| invalid())?;
                let last: u16 = last.parse().map_err(|_| invalid())?;
                if last < first {
                    return Err(invalid());
                }
                for port in first..=last {
                    self.config.exposed_ports.insert(format!("{port}/{protocol}"), Empty {});
                }
            }
        }
        Ok(())
    }

    fn volume(&mut self, text: &str) -> Result<()> {
        for path in json_words(text).unwrap_or_else(|| split(text, Words::Raw)) {
            let path = self.expand(&path)?;
            if path.trim().is_empty() {
                return Err(Error::invalid("VOLUME specified can not be an empty string"));
            }
            self.config.volumes.insert(path, Empty {});
        }
        Ok(())
    }

    fn on_build(&mut self, text: &str) -> Result<()> {
        let trigger = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        match trigger.as_str() {
            "ONBUILD" => Err(Error::invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
            "MAINTAINER" | "FROM" => Err(Error::invalid(format!("{trigger} isn't allowed as an ONBUILD trigger"))),
            _ => {
                self.config.on_build.push(text.to_owned());
                Ok(())
            }
        }
    }

    /// Reads `key=value …`, or the old `key value`.
    fn pairs(&self, name: &str, text: &str) -> Result<BTreeMap<String, String>> {
        let words = split(text, Words::Raw);
        if !words.first().is_some_and(|word| word.contains('=')) {
            let (key, value) = text
                .split_once(char::is_whitespace)
                .ok_or_else(|| Error::invalid(format!("{name} must have two arguments")))?;
            return Ok([(self.expand(key)?, self.expand(value.trim())?)].into());
        }
        let pair = |word: &String| match word.split_once('=') {
            Some(("", _)) => Err(Error::invalid(format!("{name} names can not be blank"))),
            Some((key, value)) => Ok((self.expand(key)?, self.expand(value)?)),
            None => {
                Err(Error::invalid(format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value")))
            }
        };
        words.iter().map(pair).collect()
    }
}

fn shell(line: &str, text: &str) -> Result<Vec<String>> {
    match json_words(text) {
        Some(words) if words.is_empty() => Err(Error::invalid("SHELL requires at least one argument")),
        Some(words) => Ok(words),
        None => Err(Error::invalid(format!("SHELL requires the arguments to be in JSON form, not {line:?}"))),
    }
}

fn json_words(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

fn workdir(before: &str, path: &str) -> String {
    match path {
        path if path.starts_with('/') => path.to_owned(),
        path => format!("{}/{path}", before.trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(changes: &[&str]) -> ContainerConfig {
        apply(&changes.iter().map(|&change| change.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn instructions_are_read() {
        let read = config(&[
            "CMD [\"/a\", \"b\"]",
            "entrypoint echo hi",
            "ENV A=1 B='x y' A=2",
            "ENV OLD some value",
            "LABEL k=\"v w\"",
            "EXPOSE 80 53/udp 90-91",
            "VOLUME /a /b",
            "WORKDIR /x",
            "WORKDIR y",
            "USER u",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN x",
        ]);
        assert_eq!(read.cmd.unwrap(), ["/a", "b"]);
        assert_eq!(read.entrypoint.unwrap(), ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(read.env, ["A=2", "B=x y", "OLD=some value"]);
        assert_eq!(read.labels["k"], "v w");
        assert_eq!(read.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp", "90/tcp", "91/tcp"]);
        assert_eq!(read.volumes.len(), 2);
        assert_eq!((read.working_dir.as_str(), read.user.as_str()), ("/x/y", "u"));
        assert_eq!((read.stop_signal.as_str(), &read.on_build[..]), ("SIGINT", &["RUN x".to_owned()][..]));
    }

    #[test]
    fn what_is_there_is_changed() {
        let base = ContainerConfig {
            env: vec!["HOME=/root".into(), "A=1".into()],
            cmd: Some(vec!["old".into()]),
            ..ContainerConfig::default()
        };
        let changes = [
            "ENV A=2 B=\"$HOME/${A}\" C='$HOME'",
            "WORKDIR $B/\\\nd",
            "SHELL [\"/bin/bash\", \"-lc\"]",
            "ENTRYPOINT go",
            "LABEL d=${NONE:-deep} e=\\$x f=${A:+set}",
        ]
        .map(str::to_owned);
        let read = apply_to(base, &changes).unwrap();
        assert_eq!(read.env, ["HOME=/root", "A=2", "B=/root/1", "C=$HOME"]);
        assert_eq!(read.working_dir, "/root/1/d");
        assert_eq!(read.entrypoint.unwrap(), ["/bin/bash", "-lc", "go"]);
        assert_eq!(read.cmd, None, "a new entrypoint has no command");
        assert_eq!((&read.labels["d"][..], &read.labels["e"][..], &read.labels["f"][..]), ("deep", "$x", "set"));
    }

    #[test]
    fn bad_instructions_are_refused() {
        for (change, message) in [
            ("FROM x", "FROM is not a valid change command"),
            ("CMD", "CMD requires at least one argument"),
            ("ENV A", "ENV must have two arguments"),
            ("EXPOSE http", "invalid containerPort: http"),
            ("EXPOSE 80/ip", "invalid proto: ip"),
            ("LABEL =x", "LABEL names can not be blank"),
            ("USER a b", "USER requires exactly one argument"),
            ("SHELL bash", "SHELL requires the arguments to be in JSON form, not \"SHELL bash\""),
            ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
            ("STOPSIGNAL NOPE", "Invalid signal: NOPE"),
            ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ] {
            assert_eq!(apply(&[change.to_owned()]).unwrap_err().text(), message, "{change}");
        }
    }
}
