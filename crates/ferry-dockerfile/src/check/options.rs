//! What is checked: the value of `# check=` and of `BUILDKIT_DOCKERFILE_CHECK`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::Rule;
use crate::directive::DirectiveReader;
use crate::quote::quoted;

/// What is checked, and how much it matters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckOptions {
    /// No rule but experimental ones that are asked for.
    pub skip_all: bool,
    /// Rules left out.
    pub skip: BTreeSet<String>,
    /// All experimental rules.
    pub experimental_all: bool,
    /// Experimental rules that are checked.
    pub experimental: BTreeSet<String>,
    /// Warnings end the build.
    pub error: bool,
}

/// Why options are malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckOptionsError {
    /// Not one of `skip`, `experimental` and `error`.
    #[error("invalid check option {}", quoted(.0))]
    Option(String),
    /// Neither true nor false.
    #[error("failed to parse check option {}: strconv.ParseBool: parsing {}: invalid syntax", quoted(.option), quoted(.value))]
    Boolean {
        /// The option.
        option: String,
        /// Its value.
        value: String,
    },
}

impl CheckOptions {
    /// Reads options such as `skip=A,B;error=true;experimental=all`.
    ///
    /// # Errors
    /// [`CheckOptionsError`] when they are malformed.
    pub fn parse(text: &str) -> Result<Self, CheckOptionsError> {
        let mut options = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(options);
        }
        for part in text.splitn(3, ';') {
            let (key, value) = part.split_once('=').ok_or_else(|| CheckOptionsError::Option(part.to_owned()))?;
            let value = value.trim();
            match key.trim() {
                "skip" => {
                    options.skip_all = value == "all";
                    options.skip = names(value);
                }
                "experimental" => {
                    options.experimental_all = value == "all";
                    options.experimental = names(value);
                }
                "error" => options.error = boolean(part, value)?,
                key => return Err(CheckOptionsError::Option(key.to_owned())),
            }
        }
        Ok(options)
    }

    /// Returns these options with those that a comment above an instruction adds.
    pub(super) fn with_comments(&self, comments: &[String]) -> Cow<'_, Self> {
        let added = comments.iter().find_map(|comment| {
            let directive = DirectiveReader::new("").read(comment).ok().flatten()?;
            (directive.name == "check").then_some(directive.value)
        });
        let Some(added) = added else { return Cow::Borrowed(self) };
        let Ok(added) = Self::parse(added.split(' ').next().unwrap_or_default()) else { return Cow::Borrowed(self) };
        let mut merged = self.clone();
        merged.skip_all |= added.skip_all;
        merged.skip.extend(added.skip);
        merged.experimental_all |= added.experimental_all;
        merged.experimental.extend(added.experimental);
        Cow::Owned(merged)
    }

    pub(super) fn wants(&self, rule: &Rule) -> bool {
        if rule.experimental {
            return self.experimental_all || self.experimental.contains(rule.name);
        }
        !self.skip_all && !self.skip.contains(rule.name)
    }
}

fn names(value: &str) -> BTreeSet<String> {
    if value == "all" {
        return BTreeSet::new();
    }
    value.split(',').map(|name| name.trim().to_owned()).collect()
}

fn boolean(part: &str, value: &str) -> Result<bool, CheckOptionsError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(CheckOptionsError::Boolean { option: part.to_owned(), value: value.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let options = CheckOptions::parse(" skip=A, B ; error=true;experimental=all").unwrap();
        assert_eq!(options.skip, ["A".to_owned(), "B".to_owned()].into());
        assert!(options.error && options.experimental_all && !options.skip_all);
        assert!(CheckOptions::parse("skip=all").unwrap().skip_all);
        for (text, error) in [
            ("skip", "invalid check option \"skip\""),
            ("foo=bar", "invalid check option \"foo\""),
            (
                "error=maybe",
                "failed to parse check option \"error=maybe\": strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
        ] {
            assert_eq!(CheckOptions::parse(text).unwrap_err().to_string(), error);
        }
    }
}
