//! Labels as texts: `user:role:type[:level]`. Pure.

use std::fmt;

/// A label in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecurityContext {
    pub(super) user: String,
    pub(super) role: String,
    /// The type.
    pub(super) kind: String,
    /// Sensitivity and categories, such as `s0:c1,c2`, or a range of them.
    pub(super) level: Option<String>,
}

impl SecurityContext {
    /// Takes a label apart; `None` for what is none.
    pub(super) fn parse(label: &str) -> Option<Self> {
        let mut parts = label.splitn(4, ':');
        let mut part = || parts.next().map(str::to_owned);
        let (user, role, kind) = (part()?, part()?, part()?);
        Some(Self { user, role, kind, level: part().filter(|level| !level.is_empty()) })
    }

    /// The same at another level.
    pub(super) fn at(self, level: &str) -> Self {
        Self { level: Some(level.to_owned()), ..self }
    }

    /// The options by which a container has this label; none when it is not whole.
    pub(super) fn as_options(&self) -> Vec<String> {
        if [&self.user, &self.role, &self.kind].iter().any(|part| part.is_empty()) {
            return Vec::new();
        }
        let mut options =
            vec![format!("user:{}", self.user), format!("role:{}", self.role), format!("type:{}", self.kind)];
        options.extend(self.level.iter().map(|level| format!("level:{level}")));
        options
    }
}

impl fmt::Display for SecurityContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, role, kind, level } = self;
        write!(formatter, "{user}:{role}:{kind}")?;
        level.as_ref().map_or(Ok(()), |level| write!(formatter, ":{level}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_apart_and_together() {
        for label in ["u:r:t", "u:r:t:s0", "u:r:t:s0:c1,c2", "u:r:t:s0-s15:c0.c1023"] {
            assert_eq!(SecurityContext::parse(label).unwrap().to_string(), label);
        }
        assert_eq!(SecurityContext::parse("u:r:t:s0:c1,c2").unwrap().level.as_deref(), Some("s0:c1,c2"));
        assert_eq!(SecurityContext::parse("u:r:t:s0:c1").unwrap().at("s0").to_string(), "u:r:t:s0");
        for label in ["", "u", "u:r"] {
            assert_eq!(SecurityContext::parse(label), None, "{label}");
        }
        assert!(SecurityContext::parse("u::t:s0").unwrap().as_options().is_empty());
    }
}
