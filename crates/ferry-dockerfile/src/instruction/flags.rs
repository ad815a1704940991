//! The flags after an instruction's name.

use std::collections::BTreeMap;

use crate::suggest::with_suggestion;

/// Why flags are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// No instruction of this name takes it; the text has a suggestion.
    #[error("{0}")]
    Unknown(String),
    /// Twice, and it takes one value.
    #[error("duplicate flag specified: --{0}")]
    Duplicate(String),
    /// Without its value.
    #[error("missing a value on flag: --{0}")]
    NoValue(String),
    /// Neither true nor false.
    #[error("expecting boolean value for flag --{name}, not: {value}")]
    NoBoolean {
        /// The flag.
        name: String,
        /// What it got.
        value: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Switch,
    Text,
    List,
}

#[derive(Debug)]
struct Flag {
    kind: Kind,
    values: Vec<String>,
}

/// The flags that an instruction takes, and after [`Flags::parse`] what they were given.
#[derive(Debug, Default)]
pub(super) struct Flags {
    flags: BTreeMap<&'static str, Flag>,
}

impl Flags {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Takes a flag that is true or false.
    pub(super) fn switch(&mut self, name: &'static str) -> &mut Self {
        self.add(name, Kind::Switch)
    }

    /// Takes a flag with one value.
    pub(super) fn text(&mut self, name: &'static str) -> &mut Self {
        self.add(name, Kind::Text)
    }

    /// Takes a flag that may come several times.
    pub(super) fn list(&mut self, name: &'static str) -> &mut Self {
        self.add(name, Kind::List)
    }

    fn add(&mut self, name: &'static str, kind: Kind) -> &mut Self {
        self.flags.insert(name, Flag { kind, values: Vec::new() });
        self
    }

    /// Reads words such as `--name=value`.
    pub(super) fn parse(&mut self, words: &[String]) -> Result<(), FlagError> {
        for word in words {
            if word == "--" {
                break;
            }
            self.parse_one(word)?;
        }
        Ok(())
    }

    fn parse_one(&mut self, word: &str) -> Result<(), FlagError> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let name = name.strip_prefix("--").unwrap_or(name);
        let known: Vec<&str> = self.flags.keys().copied().collect();
        let Some(flag) = self.flags.get_mut(name) else {
            return Err(FlagError::Unknown(with_suggestion(format!("unknown flag: --{name}"), name, known, true)));
        };
        if flag.kind != Kind::List && !flag.values.is_empty() {
            return Err(FlagError::Duplicate(name.to_owned()));
        }
        let value = match (flag.kind, value) {
            (Kind::Switch, None) => "true".to_owned(),
            (Kind::Switch, Some(value)) => boolean(name, value)?,
            (Kind::Text | Kind::List, Some(value)) => value.to_owned(),
            (Kind::Text | Kind::List, None) => return Err(FlagError::NoValue(name.to_owned())),
        };
        flag.values.push(value);
        Ok(())
    }

    /// Tells whether a switch is on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.value(name) == "true"
    }

    /// Tells whether a switch is on or off; `None` when it was not given.
    pub(super) fn choice(&self, name: &str) -> Option<bool> {
        self.values(name).first().map(|value| value == "true")
    }

    /// Returns the value of a flag; empty when it was not given.
    pub(super) fn value(&self, name: &str) -> &str {
        self.values(name).first().map_or("", String::as_str)
    }

    /// Returns all values of a flag.
    pub(super) fn values(&self, name: &str) -> &[String] {
        self.flags.get(name).map_or(&[], |flag| &flag.values)
    }

    /// Returns the names of the flags that were given.
    pub(super) fn used(&self) -> Vec<String> {
        let given = self.flags.iter().filter(|(_, flag)| !flag.values.is_empty());
        given.map(|(name, _)| (*name).to_owned()).collect()
    }
}

fn boolean(name: &str, value: &str) -> Result<String, FlagError> {
    match value.to_lowercase().as_str() {
        "" => Err(FlagError::NoValue(name.to_owned())),
        known @ ("true" | "false") => Ok(known.to_owned()),
        _ => Err(FlagError::NoBoolean { name: name.to_owned(), value: value.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Flags, FlagError> {
        let mut flags = Flags::new();
        flags.switch("link").text("chown").list("exclude");
        flags.parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).map(|()| flags)
    }

    #[test]
    fn values_are_kept_by_name() {
        let flags = parse(&["--link", "--chown=a:b", "--exclude=x", "--exclude=y"]).unwrap();
        assert!(flags.is_on("link"));
        assert_eq!(flags.value("chown"), "a:b");
        assert_eq!(flags.values("exclude"), ["x", "y"]);
        assert_eq!(flags.used(), ["chown", "exclude", "link"]);
        assert_eq!(parse(&["--link=FALSE"]).unwrap().choice("link"), Some(false));
        assert_eq!(parse(&[]).unwrap().choice("link"), None);
    }

    #[test]
    fn errors_name_the_flag() {
        for (words, text) in [
            (&["--chwn=a"][..], "unknown flag: --chwn (did you mean chown?)"),
            (&["--zzzzzzzzz"], "unknown flag: --zzzzzzzzz"),
            (&["--chown=a", "--chown=b"], "duplicate flag specified: --chown"),
            (&["--chown"], "missing a value on flag: --chown"),
            (&["--exclude"], "missing a value on flag: --exclude"),
            (&["--link="], "missing a value on flag: --link"),
            (&["--link=yes"], "expecting boolean value for flag --link, not: yes"),
        ] {
            assert_eq!(parse(words).unwrap_err().to_string(), text);
        }
    }
}
