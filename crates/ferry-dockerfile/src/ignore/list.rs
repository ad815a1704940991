//! Lists of patterns, the last that fits wins.

use super::glob::{PatternError, Token, parse, tokens_match};
use ferry_spec::path::clean;

/// A list of patterns.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    exception: bool,
    matcher: Matcher,
}

/// How a pattern is held against a path; most are simple.
#[derive(Debug, Clone)]
enum Matcher {
    Exact,
    Prefix(String),
    Suffix(String),
    Tokens(Vec<Token>),
}

/// Which patterns matched a directory, for the look at what is in it.
#[derive(Debug, Clone, Default)]
pub struct ParentMatches(Vec<bool>);

impl Patterns {
    /// Reads patterns; a leading `!` makes an exception.
    ///
    /// # Errors
    /// [`PatternError`] of the first that is malformed.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let mut list = Vec::new();
        for pattern in patterns {
            let pattern = pattern.trim();
            if !pattern.is_empty() {
                list.push(Pattern::parse(&clean(pattern))?);
            }
        }
        Ok(Self { patterns: list })
    }

    /// Tells whether there are no patterns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Tells whether any pattern is an exception.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.exception)
    }

    /// Tells whether a pattern takes everything at the root away.
    #[must_use]
    pub fn covers_root(&self) -> bool {
        let everything = |pattern: &Pattern| matches!(pattern.text.as_str(), "*" | "**" | "**/*");
        self.patterns.iter().any(|pattern| !pattern.exception && everything(pattern))
    }

    /// Tells whether a path, or a directory above it, is matched.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let mut matched = false;
        for pattern in &self.patterns {
            // A pattern that could change nothing is not looked at.
            if pattern.exception == matched && (pattern.fits(path) || parents(path).any(|parent| pattern.fits(parent)))
            {
                matched = !pattern.exception;
            }
        }
        matched
    }

    /// Tells whether a path is matched, given what matched the directory it is in; for walks from the root down.
    #[must_use]
    pub fn matches_below(&self, path: &str, parent: &ParentMatches) -> (bool, ParentMatches) {
        let mut matched = false;
        let mut here = vec![false; self.patterns.len()];
        for (index, pattern) in self.patterns.iter().enumerate() {
            let mut fits = parent.0.get(index).copied().unwrap_or(false);
            if !fits {
                if pattern.exception != matched {
                    continue;
                }
                fits = pattern.fits(path) || (parent.0.is_empty() && parents(path).any(|parent| pattern.fits(parent)));
            }
            here[index] = fits;
            if fits {
                matched = !pattern.exception;
            }
        }
        (matched, ParentMatches(here))
    }

    /// Tells whether an exception may bring back something in a directory that is matched: only then need it be walked.
    #[must_use]
    pub fn may_reenter(&self, directory: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.exception && pattern.may_fit_below(directory))
    }
}

/// The directories above a path, from the root down.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(end, _)| &path[..end])
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, PatternError> {
        let (exception, text) = match text.strip_prefix('!') {
            Some("") => return Err(PatternError::EmptyException),
            Some(text) => (true, text),
            None => (false, text),
        };
        parse(text, false)?;
        let plain = |part: &str| !part.contains(['*', '?', '[', ']', '\\']);
        let matcher = if plain(text) {
            Matcher::Exact
        } else if text == "**" {
            Matcher::Prefix(String::new())
        } else if let Some(suffix) = text.strip_prefix("**").filter(|suffix| plain(suffix)) {
            Matcher::Suffix(suffix.to_owned())
        } else if let Some(prefix) = text.strip_suffix("**").filter(|prefix| plain(prefix)) {
            Matcher::Prefix(prefix.to_owned())
        } else {
            Matcher::Tokens(parse(text, true)?)
        };
        Ok(Self { text: text.to_owned(), exception, matcher })
    }

    fn fits(&self, path: &str) -> bool {
        match &self.matcher {
            Matcher::Exact => path == self.text,
            Matcher::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Matcher::Suffix(suffix) => {
                path.ends_with(suffix.as_str()) || suffix.strip_prefix('/').is_some_and(|name| path == name)
            }
            Matcher::Tokens(tokens) => tokens_match(tokens, &path.chars().collect::<Vec<_>>()),
        }
    }

    /// Tells whether something below a directory may fit; says yes where it is hard to tell.
    fn may_fit_below(&self, directory: &str) -> bool {
        if self.text.contains("**") || self.text.contains('\\') || self.text.contains('[') {
            let fixed = self.text.split(['*', '[', '\\', '?']).next().unwrap_or_default();
            let fixed = fixed.rsplit_once('/').map_or("", |(parent, _)| parent);
            return fixed.is_empty() || is_below_or_same(directory, fixed) || is_below_or_same(fixed, directory);
        }
        let mut elements = self.text.split('/');
        for name in directory.split('/') {
            let Some(element) = elements.next() else { return false };
            if !super::glob::matches(element, name).unwrap_or(true) {
                return false;
            }
        }
        elements.next().is_some()
    }
}

fn is_below_or_same(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
