//! Options as runc takes them: `--name value`, `--name=value`, `-n value`, with one dash or two.

use ferry_runtime::Error;

use super::invalid;

/// An option a command knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Option {
    name: &'static str,
    short: std::option::Option<char>,
    takes_value: bool,
}

impl Option {
    pub(crate) const fn switch(name: &'static str) -> Option {
        Option { name, short: None, takes_value: false }
    }

    pub(crate) const fn value(name: &'static str) -> Option {
        Option { name, short: None, takes_value: true }
    }

    pub(crate) const fn short(self, short: char) -> Option {
        Option { short: Some(short), ..self }
    }

    fn is(&self, name: &str) -> bool {
        let mut characters = name.chars();
        self.name == name || (characters.next() == self.short && self.short.is_some() && characters.next().is_none())
    }
}

/// What comes after the first word that is no option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Is left as it is: another command's line.
    StopsAtWord,
    /// May hold more options.
    Mixed,
}

/// Parsed options.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    given: Vec<(&'static str, String)>,
}

impl Arguments {
    /// Parses a line; returns what is no option as well.
    pub(crate) fn parse(known: &[Option], line: &[String], rest: Rest) -> Result<(Arguments, Vec<String>), Error> {
        let mut arguments = Arguments::default();
        let mut words = Vec::new();
        let mut line = line.iter();
        while let Some(word) = line.next() {
            let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|name| !name.is_empty());
            let Some(name) = name.filter(|_| word != "--") else {
                if word != "--" {
                    words.push(word.clone());
                }
                if rest == Rest::StopsAtWord || word == "--" {
                    words.extend(line.cloned());
                    break;
                }
                continue;
            };
            let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
            let option = known.iter().find(|option| option.is(name));
            let option = option.ok_or_else(|| invalid(format!("unknown option {word:?}")))?;
            let value = match (option.takes_value, value) {
                (false, None | Some("true")) => String::new(),
                (false, Some("false")) => continue,
                (false, Some(_)) => return Err(invalid(format!("option {word:?} takes no value"))),
                (true, Some(value)) => value.into(),
                (true, None) => {
                    line.next().cloned().ok_or_else(|| invalid(format!("option {word:?} needs a value")))?
                }
            };
            arguments.given.push((option.name, value));
        }
        Ok((arguments, words))
    }

    /// The last value of an option.
    pub(crate) fn get(&self, name: &str) -> std::option::Option<&str> {
        self.given.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// All values of an option.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(known, _)| *known == name)
    }

    /// A number, 0 when it was not given.
    pub(crate) fn number(&self, name: &str) -> Result<u32, Error> {
        self.get(name)
            .map_or(Ok(0), |text| text.parse().map_err(|_| invalid(format!("--{name} needs a number, not {text:?}"))))
    }
}

/// Takes the one argument that a command has.
pub(crate) fn only(words: &[String]) -> Result<&str, Error> {
    match words {
        [id] => Ok(id),
        [] => Err(invalid("a container id is needed")),
        [_, more @ ..] => Err(invalid(format!("unexpected arguments: {}", more.join(" ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Option] =
        &[Option::value("bundle").short('b'), Option::switch("detach").short('d'), Option::value("env").short('e')];

    fn parse(line: &[&str], rest: Rest) -> Result<(Arguments, Vec<String>), Error> {
        let line: Vec<String> = line.iter().map(|&word| word.into()).collect();
        Arguments::parse(KNOWN, &line, rest)
    }

    #[test]
    fn forms_of_options() {
        let (arguments, words) = parse(&["-b", "/x", "--detach", "--env=A=b", "-e", "C", "id"], Rest::Mixed).unwrap();
        assert_eq!(
            (arguments.get("bundle"), arguments.has("detach"), words),
            (Some("/x"), true, vec!["id".to_owned()])
        );
        assert_eq!(arguments.all("env").collect::<Vec<_>>(), ["A=b", "C"]);
        assert!(parse(&["id", "--detach"], Rest::Mixed).unwrap().0.has("detach"));
    }

    #[test]
    fn a_program_keeps_its_options() {
        let (arguments, words) = parse(&["-d", "id", "ls", "-d"], Rest::StopsAtWord).unwrap();
        assert!(arguments.has("detach"));
        assert_eq!(words, ["id", "ls", "-d"]);
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert!(parse(&["--bogus"], Rest::Mixed).unwrap_err().to_string().contains("--bogus"));
        assert!(parse(&["--bundle"], Rest::Mixed).is_err());
        assert!(parse(&["--detach=3"], Rest::Mixed).is_err());
    }
}
