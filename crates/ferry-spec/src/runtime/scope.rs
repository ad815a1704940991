//! The name of a scope of systemd's that is a container's cgroup, in the form that runtimes take it: `slice:prefix:name`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The slice of a scope that names none.
const SYSTEM_SLICE: &str = "system.slice";

/// systemd refuses longer names.
const LONGEST_UNIT: usize = 255;

/// Which scope, and in which slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeName {
    /// The unit above it, such as `system.slice`.
    pub slice: String,
    /// Whose it is; may be empty.
    pub prefix: String,
    /// The container's id.
    pub name: String,
}

/// Why it names no scope, in runc's words where it has some.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeNameError {
    /// Not three parts.
    #[error("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {0:?} instead")]
    Form(String),
    /// systemd takes no such unit.
    #[error("invalid name of a unit: {0:?}")]
    Unit(String),
    /// No slice has that name.
    #[error("invalid slice name: {0}")]
    Slice(String),
}

impl ScopeName {
    /// A scope; without a slice it is in `system.slice`.
    pub fn new(slice: &str, prefix: &str, name: &str) -> ScopeName {
        let slice = if slice.is_empty() { SYSTEM_SLICE } else { slice };
        ScopeName { slice: slice.into(), prefix: prefix.into(), name: name.into() }
    }

    /// Reads `slice:prefix:name`; `None` when nothing is said.
    ///
    /// # Errors
    /// Another form.
    pub fn parse(path: &str) -> Result<Option<ScopeName>, ScopeNameError> {
        let parts: Vec<&str> = path.split(':').collect();
        match parts.as_slice() {
            [""] => Ok(None),
            [slice, prefix, name] => Ok(Some(ScopeName::new(slice, prefix, name))),
            _ => Err(ScopeNameError::Form(path.into())),
        }
    }

    /// The name of the unit.
    pub fn unit(&self) -> String {
        match self.prefix.as_str() {
            "" => format!("{}.scope", self.name),
            prefix => format!("{prefix}-{}.scope", self.name),
        }
    }

    /// Where systemd puts it below the root of the hierarchy: a dash in the name of a slice leads one level down.
    ///
    /// # Errors
    /// systemd takes neither such a unit nor such a slice.
    pub fn cgroup(&self) -> Result<String, ScopeNameError> {
        let unit = self.unit();
        let allowed = |character: char| character.is_ascii_alphanumeric() || ":-_.\\@".contains(character);
        if self.name.is_empty() || unit.len() > LONGEST_UNIT || !unit.chars().all(allowed) {
            return Err(ScopeNameError::Unit(unit));
        }
        Ok(format!("{}/{unit}", self.slice_path()?))
    }

    fn slice_path(&self) -> Result<String, ScopeNameError> {
        let bad = || ScopeNameError::Slice(self.slice.clone());
        let stem = self.slice.strip_suffix(".slice").filter(|stem| !stem.contains('/')).ok_or_else(bad)?;
        let mut path = String::new();
        if stem == "-" {
            return Ok(path);
        }
        let mut prefix = String::new();
        for part in stem.split('-') {
            if part.is_empty() || part.chars().any(|character| character.is_whitespace() || character.is_control()) {
                return Err(bad());
            }
            path += &format!("/{prefix}{part}.slice");
            prefix += &format!("{part}-");
        }
        Ok(path)
    }
}

impl fmt::Display for ScopeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.slice, self.prefix, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroup(path: &str) -> Result<String, ScopeNameError> {
        ScopeName::parse(path).and_then(|name| name.expect("it says something").cgroup())
    }

    #[test]
    fn units_are_named_as_runc_names_them() {
        assert_eq!(cgroup("system.slice:docker:abc").unwrap(), "/system.slice/docker-abc.scope");
        assert_eq!(cgroup("a-b-c.slice::x").unwrap(), "/a.slice/a-b.slice/a-b-c.slice/x.scope");
        assert_eq!(cgroup("-.slice:p:x").unwrap(), "/p-x.scope");
        assert_eq!(cgroup(":p:x").unwrap(), "/system.slice/p-x.scope");
        assert_eq!(ScopeName::parse(""), Ok(None));
        assert_eq!(ScopeName::new("a.slice", "p", "x").to_string(), "a.slice:p:x");
        for path in ["/a/b", "a:b", "a.slice:p:", "a--b.slice:p:x", "x:p:y", "a/b.slice:p:x", "a.slice:p:../x"] {
            assert!(cgroup(path).is_err(), "{path}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_runcs_words() {
        assert_eq!(
            cgroup("/a/b").unwrap_err().to_string(),
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"/a/b\" instead"
        );
        assert_eq!(cgroup("/x:p:y").unwrap_err().to_string(), "invalid slice name: /x");
    }
}
