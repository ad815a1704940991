//! Reading flags the way Docker's client does (POSIX clusters, `--name=value`, last one wins).
//!
//! Owns the split of a command line into flags and positional arguments and the checks of single values;
//! what flags mean together is `commands`' business. Error texts are those that scripts match on.

mod value;

use std::collections::HashMap;

use crate::grammar::{Args, Command, Flag, Kind, nearest};
pub(crate) use value::{check_env, parse_bool, parse_bytes, parse_duration, parse_int, parse_nano_cpus};

/// Why a command line was not understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FlagError {
    /// No such flag.
    #[error("unknown flag: --{name}")]
    UnknownFlag {
        /// As typed.
        name: String,
        /// A known flag that looks like it.
        near: Option<&'static str>,
    },
    /// No such letter.
    #[error("unknown shorthand flag: '{letter}' in -{cluster}")]
    UnknownShort {
        /// The letter.
        letter: char,
        /// The cluster it stands in.
        cluster: String,
    },
    /// The line ended where a value was due.
    #[error("flag needs an argument: {0}")]
    NeedsArgument(String),
    /// Not a flag at all.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// The value does not fit.
    #[error("invalid argument {value} for \"{flag}\" flag: {reason}")]
    Invalid {
        /// The value in Go quotes.
        value: String,
        /// The flag's names.
        flag: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A command line taken apart.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    values: HashMap<&'static str, Vec<String>>,
    /// The words that the command was named by.
    pub(crate) path: &'static str,
    /// Positional arguments.
    pub(crate) args: Vec<String>,
    /// `--help` was asked for.
    pub(crate) help: bool,
    /// Notes on deprecated spellings, for stderr.
    pub(crate) notes: Vec<String>,
}

/// Checks one value of one flag.
pub(crate) type Check = fn(&Flag, &str) -> Result<(), String>;

impl Parsed {
    /// Whether the flag was given at all.
    pub(crate) fn changed(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Whether any flag was given.
    pub(crate) fn has_flags(&self) -> bool {
        !self.values.is_empty()
    }

    /// A boolean flag, false when absent.
    pub(crate) fn on(&self, name: &str) -> bool {
        self.on_or(name, false)
    }

    /// A boolean flag with another default.
    pub(crate) fn on_or(&self, name: &str, default: bool) -> bool {
        self.text(name).map_or(default, |text| parse_bool(text).unwrap_or(default))
    }

    /// The last value given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).and_then(|values| values.last()).map(String::as_str)
    }

    /// The last value given, empty when absent.
    pub(crate) fn text_or_empty(&self, name: &str) -> &str {
        self.text(name).unwrap_or("")
    }

    /// Every value given, in order.
    pub(crate) fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// A number.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|text| parse_int(text).ok())
    }

    /// A size in bytes.
    pub(crate) fn bytes(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|text| parse_bytes(text).ok())
    }

    /// A duration in nanoseconds.
    pub(crate) fn duration_ns(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|text| parse_duration(text).ok())
    }
}

/// Reads the arguments of a command.
///
/// # Errors
/// The first word that does not fit.
pub(crate) fn parse(
    flags: &'static [Flag],
    options_first: bool,
    words: &[String],
    check: Check,
) -> Result<Parsed, FlagError> {
    let mut reader = Reader { flags, check, parsed: Parsed::default(), rest: words.iter() };
    while let Some(word) = reader.rest.next() {
        if word == "--" {
            reader.parsed.args.extend(reader.rest.cloned());
            return Ok(reader.parsed);
        }
        if let Some(long) = word.strip_prefix("--") {
            reader.long(long)?;
        } else if let Some(cluster) = word.strip_prefix('-').filter(|cluster| !cluster.is_empty()) {
            reader.cluster(cluster)?;
        } else {
            reader.parsed.args.push(word.clone());
            if options_first {
                reader.parsed.args.extend(reader.rest.cloned());
                return Ok(reader.parsed);
            }
        }
    }
    Ok(reader.parsed)
}

struct Reader<'a> {
    flags: &'static [Flag],
    check: Check,
    parsed: Parsed,
    rest: std::slice::Iter<'a, String>,
}

impl Reader<'_> {
    fn long(&mut self, word: &str) -> Result<(), FlagError> {
        let (name, inline) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        if name.is_empty() || name.starts_with('-') {
            return Err(FlagError::Syntax(format!("--{word}")));
        }
        // Some commands list it, all have it.
        if name == "help" {
            return self.help(inline.as_deref());
        }
        let Some(flag) = self.flags.iter().find(|flag| flag.name == name) else {
            let near = nearest(name, self.flags.iter().filter(|flag| !flag.hidden).map(|flag| flag.name));
            return Err(FlagError::UnknownFlag { name: name.to_owned(), near });
        };
        let value = match inline {
            Some(value) => value,
            None if flag.kind == Kind::Bool => "true".to_owned(),
            None => self.rest.next().cloned().ok_or_else(|| FlagError::NeedsArgument(format!("--{name}")))?,
        };
        self.set(flag, value)
    }

    fn cluster(&mut self, cluster: &str) -> Result<(), FlagError> {
        let mut left = cluster;
        while let Some(letter) = left.chars().next() {
            let after = &left[letter.len_utf8()..];
            let Some(flag) = self.flags.iter().find(|flag| flag.short == letter) else {
                if letter == 'h' {
                    self.parsed.notes.push("Flag shorthand -h has been deprecated, use --help".to_owned());
                    return self.help(None);
                }
                return Err(FlagError::UnknownShort { letter, cluster: left.to_owned() });
            };
            if let Some(value) = after.strip_prefix('=').filter(|_| after.len() > 1) {
                return self.set(flag, value.to_owned());
            }
            if flag.kind != Kind::Bool {
                let value = if after.is_empty() {
                    let missing = || FlagError::NeedsArgument(format!("'{letter}' in -{left}"));
                    self.rest.next().cloned().ok_or_else(missing)?
                } else {
                    after.to_owned()
                };
                return self.set(flag, value);
            }
            self.set(flag, "true".to_owned())?;
            left = after;
        }
        Ok(())
    }

    fn help(&mut self, value: Option<&str>) -> Result<(), FlagError> {
        let value = value.unwrap_or("true");
        self.parsed.help = parse_bool(value).map_err(|reason| FlagError::Invalid {
            value: go_quote(value),
            flag: "--help".to_owned(),
            reason,
        })?;
        Ok(())
    }

    fn set(&mut self, flag: &'static Flag, value: String) -> Result<(), FlagError> {
        let invalid = |reason| FlagError::Invalid { value: go_quote(&value), flag: display_name(flag), reason };
        value::check_kind(flag.kind, &value).map_err(invalid)?;
        (self.check)(flag, &value).map_err(invalid)?;
        if flag.name == "time" && flag.hidden {
            self.parsed.notes.push("Flag --time has been deprecated, use --timeout instead".to_owned());
        }
        self.parsed.values.entry(flag.name).or_default().push(value);
        Ok(())
    }
}

fn display_name(flag: &Flag) -> String {
    match flag.short {
        '\0' => format!("--{}", flag.name),
        short => format!("-{short}, --{}", flag.name),
    }
}

/// Quotes text as Go's `%q` does.
pub(crate) fn go_quote(text: &str) -> String {
    ferry_gotmpl::quote(text)
}

/// Checks the number of positional arguments.
///
/// # Errors
/// Docker's sentence without the program's name, and the word that starts the last line (Docker's slip at "at most" included).
pub(crate) fn check_args(command: &Command, count: usize) -> Result<(), (String, &'static str)> {
    let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
    let (fits, text, word) = match command.args {
        Args::Any => return Ok(()),
        Args::None => (count == 0, "accepts no arguments".to_owned(), "Run"),
        Args::Exactly(n) => (count == n, format!("requires {n} {}", plural(n)), "Run"),
        Args::AtLeast(n) => (count >= n, format!("requires at least {n} {}", plural(n)), "See"),
        Args::AtMost(n) => (count <= n, format!("requires at most {n} {}", plural(n)), "SRun"),
        Args::Between(low, high) => (
            (low..=high).contains(&count),
            format!("requires at least {low} and at most {high} {}", plural(high)),
            "Run",
        ),
    };
    if fits { Ok(()) } else { Err((text, word)) }
}
