//! API versions, and the one place where an answer is shaped for an older one.
//!
//! Handlers read and make the newest shape, with what it has dropped. [`adapt_create`] brings requests of older versions to it. [`shape`] applies the converters of
//! its table, newest first, down to the version of the request; nothing else looks at a version to shape a reply.

use std::fmt;
use std::str::FromStr;

mod down;
mod up;

pub use down::{Reply, drops, shape};
pub use up::{adapt_create, adapt_update};

/// An API version such as 1.44.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// Always 1 until now.
    pub major: u32,
    /// Grows with each change.
    pub minor: u32,
}

/// The oldest version that is spoken.
pub const MIN: ApiVersion = ApiVersion::new(1, 24);
/// The newest version that is spoken, and the one of requests without a version.
pub const NEWEST: ApiVersion = ApiVersion::new(1, 56);

impl ApiVersion {
    /// Returns a version.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Checks that this version is spoken.
    ///
    /// # Errors
    /// With Docker's text when it is too old or too new.
    pub fn check(self) -> Result<Self, VersionError> {
        if self < MIN {
            return Err(VersionError::TooOld(self));
        }
        if self > NEWEST {
            return Err(VersionError::TooNew(self));
        }
        Ok(self)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = VersionError;

    /// Reads `1.44`; missing parts are 0, as Docker compares them.
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let malformed = || VersionError::Malformed(text.to_owned());
        let number = |part: &str| part.parse::<u32>().map_err(|_| malformed());
        let mut parts = text.split('.');
        let major = parts.next().map_or(Ok(0), number)?;
        let minor = parts.next().map_or(Ok(0), number)?;
        if parts.next().is_some() {
            return Err(malformed());
        }
        Ok(Self { major, minor })
    }
}

/// A version that is not spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionError {
    /// Older than [`MIN`].
    TooOld(ApiVersion),
    /// Newer than [`NEWEST`].
    TooNew(ApiVersion),
    /// No version at all.
    Malformed(String),
}

impl fmt::Display for VersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooOld(version) => write!(
                f,
                "client version {version} is too old. Minimum supported API version is {MIN}, please upgrade your client to a newer \
                 version"
            ),
            Self::TooNew(version) => {
                write!(f, "client version {version} is too new. Maximum supported API version is {NEWEST}")
            }
            Self::Malformed(text) => write!(f, "invalid API version `{text}`"),
        }
    }
}

impl std::error::Error for VersionError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_by_number() {
        let version = |text: &str| text.parse::<ApiVersion>().unwrap();
        assert!(version("1.9") < version("1.24"));
        assert_eq!(version("1.44").to_string(), "1.44");
        assert!("1.a".parse::<ApiVersion>().is_err());
        assert!("".parse::<ApiVersion>().is_err());
        assert!("1.2.3".parse::<ApiVersion>().is_err());
    }

    #[test]
    fn refusals_have_docker_s_texts() {
        let text = |text: &str| text.parse::<ApiVersion>().unwrap().check().unwrap_err().to_string();
        assert_eq!(
            text("1.10"),
            "client version 1.10 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        );
        assert_eq!(text("1.99"), "client version 1.99 is too new. Maximum supported API version is 1.56");
        assert!(MIN.check().is_ok() && NEWEST.check().is_ok());
    }
}
