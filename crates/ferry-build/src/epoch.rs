//! The moment that outputs get in place of when they were made: `SOURCE_DATE_EPOCH`.

use std::collections::BTreeMap;

use crate::failure::{Failure, Result};

/// The attribute of an output that says it.
pub(crate) const ATTRIBUTE: &str = "source-date-epoch";

/// What an output says of it: nothing, that there is none, or seconds of Unix time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Epoch(Option<Option<i64>>);

impl Epoch {
    /// Reads the attribute of an output.
    ///
    /// # Errors
    /// InvalidArgument for what is no number.
    pub(crate) fn read(attributes: &BTreeMap<String, String>) -> Result<Self> {
        let Some(text) = attributes.get(ATTRIBUTE) else { return Ok(Self(None)) };
        if text.is_empty() {
            return Ok(Self(Some(None)));
        }
        let seconds = text.parse().map_err(|_| {
            let reason = format!("strconv.ParseInt: parsing {text:?}: invalid syntax");
            Failure::invalid(format!("invalid {ATTRIBUTE}: {text}: {reason}"))
        })?;
        Ok(Self(Some(Some(seconds))))
    }

    /// The moment, or else the one of the build.
    pub(crate) fn or(self, built: Option<i64>) -> Option<i64> {
        self.0.unwrap_or(built)
    }

    /// The moment that the output itself names.
    pub(crate) fn named(self) -> Option<i64> {
        self.0.flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_goes_before_the_build() {
        let read = |text: &str| Epoch::read(&BTreeMap::from([(ATTRIBUTE.to_owned(), text.to_owned())]));
        assert_eq!(Epoch::default().or(Some(1)), Some(1));
        assert_eq!((read("5").unwrap().or(Some(1)), read("").unwrap().or(Some(1))), (Some(5), None));
        let text = "invalid source-date-epoch: x: strconv.ParseInt: parsing \"x\": invalid syntax";
        assert_eq!(read("x").unwrap_err().message, text);
    }
}
