//! The Dockerfile instructions that `import --change` takes, read into an image configuration.

use std::collections::BTreeMap;

use ferry_spec::image::{ContainerConfig, Empty};

use crate::error::{Error, Result};

/// The shell of shell-form commands.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Reads instructions, each one line.
pub(super) fn apply(changes: &[String]) -> Result<ContainerConfig> {
    let mut config = ContainerConfig::default();
    for change in changes {
        for line in change.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            apply_one(&mut config, line)?;
        }
    }
    Ok(config)
}

fn apply_one(config: &mut ContainerConfig, line: &str) -> Result<()> {
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (name, rest) = (name.to_ascii_uppercase(), rest.trim());
    if rest.is_empty() {
        return Err(Error::invalid(format!("{name} requires at least one argument")));
    }
    match name.as_str() {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "ENV" => {
            for (key, value) in pairs(&name, rest)? {
                config.env.retain(|entry| entry.split('=').next() != Some(&key));
                config.env.push(format!("{key}={value}"));
            }
        }
        "LABEL" => config.labels.extend(pairs(&name, rest)?),
        "EXPOSE" => {
            for port in words(rest) {
                let port = if port.contains('/') { port } else { format!("{port}/tcp") };
                let number = port.split('/').next().unwrap_or_default();
                if !number.split('-').all(|end| end.parse::<u16>().is_ok()) {
                    return Err(Error::invalid(format!("invalid containerPort: {number}")));
                }
                config.exposed_ports.insert(port, Empty {});
            }
        }
        "VOLUME" => {
            let paths = json_words(rest).unwrap_or_else(|| words(rest));
            config.volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
        }
        "USER" => config.user = rest.to_owned(),
        "WORKDIR" => config.working_dir = workdir(&config.working_dir, rest),
        "STOPSIGNAL" => config.stop_signal = rest.to_owned(),
        "ONBUILD" => config.on_build.push(rest.to_owned()),
        "HEALTHCHECK" | "SHELL" => return Err(Error::not_implemented(format!("{name} in a change"))),
        _ => return Err(Error::invalid(format!("{} is not a valid change command", name.to_ascii_lowercase()))),
    }
    Ok(())
}

fn command(text: &str) -> Vec<String> {
    json_words(text).unwrap_or_else(|| SHELL.into_iter().chain([text]).map(str::to_owned).collect())
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

/// Reads `key=value …`, or the old `key value`.
fn pairs(name: &str, text: &str) -> Result<BTreeMap<String, String>> {
    let words = words(text);
    if !words.first().is_some_and(|word| word.contains('=')) {
        let (key, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| Error::invalid(format!("{name} must have two arguments")))?;
        return Ok([(key.to_owned(), value.trim().to_owned())].into());
    }
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err(Error::invalid(format!("{name} names can not be blank"))),
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => {
                Err(Error::invalid(format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value")))
            }
        })
        .collect()
}

/// Splits at blanks outside of quotes; a backslash takes the next character as it is.
fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(characters.next()),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => found.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    found.extend(word);
    found
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
            "EXPOSE 80 53/udp",
            "VOLUME /a /b",
            "WORKDIR /x",
            "WORKDIR y",
            "USER u",
        ]);
        assert_eq!(read.cmd.unwrap(), ["/a", "b"]);
        assert_eq!(read.entrypoint.unwrap(), ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(read.env, ["A=2", "B=x y", "OLD=some value"]);
        assert_eq!(read.labels["k"], "v w");
        assert_eq!(read.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!(read.volumes.len(), 2);
        assert_eq!((read.working_dir.as_str(), read.user.as_str()), ("/x/y", "u"));
    }

    #[test]
    fn bad_instructions_are_refused() {
        for change in ["FROM x", "CMD", "ENV A", "EXPOSE http", "LABEL =x", "HEALTHCHECK NONE"] {
            assert!(apply(&[change.to_owned()]).is_err(), "{change}");
        }
    }
}
