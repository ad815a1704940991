//! Platforms: the specifier syntax, normal forms and the order in which an index is searched.
//!
//! Behaves as containerd's platform matching, which Docker uses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::null::null_default;

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture in Go's words, such as `amd64`.
    #[serde(default, deserialize_with = "null_default")]
    pub architecture: String,
    /// Operating system in Go's words.
    #[serde(default, deserialize_with = "null_default")]
    pub os: String,
    /// Version of the operating system (Windows).
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features that the operating system must have.
    #[serde(rename = "os.features", default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the CPU, such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a platform specifier is not understood; texts as in containerd.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// A `*` in the specifier.
    #[error("{0:?}: wildcards not yet supported: invalid argument")]
    Wildcard(String),
    /// The operating system has characters that none has.
    #[error(
        "{component:?} is an invalid OS component of {specifier:?}: OSAndVersion specifier component must match \"^([A-Za-z0-9_-]+)(?:\\\\(([A-Za-z0-9_.-]*)\\\\))?$\": invalid argument"
    )]
    OsComponent {
        /// The part before the first `/`.
        component: String,
        /// The whole text.
        specifier: String,
    },
    /// Architecture or variant has characters that none has.
    #[error(
        "{component:?} is an invalid component of {specifier:?}: platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument"
    )]
    Component {
        /// The part.
        component: String,
        /// The whole text.
        specifier: String,
    },
    /// One word that is neither an operating system nor an architecture.
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
    /// Too many parts.
    #[error("{0:?}: cannot parse platform specifier: invalid argument")]
    Parts(String),
}

const KNOWN_OS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];
const KNOWN_ARCH: &[&str] = &[
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

impl Platform {
    /// Returns a platform of an operating system and an architecture.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
            ..Self::default()
        }
    }

    /// Returns the platform this program was built for.
    #[must_use]
    pub fn host() -> Self {
        Self::new("linux", host_architecture(), None)
    }

    /// Parses `os`, `arch`, `os/arch` or `os/arch/variant`; an operating system may carry a version, `windows(10.0.1)`.
    ///
    /// # Errors
    /// [`PlatformError`] for anything else.
    pub fn parse(specifier: &str) -> Result<Self, PlatformError> {
        if specifier.contains('*') {
            return Err(PlatformError::Wildcard(specifier.to_owned()));
        }
        let parts: Vec<&str> = specifier.split('/').collect();
        let (os, os_version) = split_os(parts[0]).ok_or_else(|| PlatformError::OsComponent {
            component: parts[0].to_owned(),
            specifier: specifier.to_owned(),
        })?;
        if let Some(bad) = parts[1..].iter().find(|part| !is_component(part)) {
            return Err(PlatformError::Component { component: (*bad).to_owned(), specifier: specifier.to_owned() });
        }
        let mut platform = match parts[..] {
            [_] => Self::parse_word(os, specifier)?,
            [_, arch] => {
                let (arch, variant) = normal_architecture(arch, "");
                Self::new(&normal_os(os), &arch, without_default_arm(&arch, &variant))
            }
            [_, arch, variant] => {
                let (arch, variant) = normal_architecture(arch, variant);
                let variant = if arch == "arm64" && variant.is_empty() { "v8".to_owned() } else { variant };
                Self::new(&normal_os(os), &arch, non_empty(&variant))
            }
            _ => return Err(PlatformError::Parts(specifier.to_owned())),
        };
        platform.os_version = os_version.map(str::to_owned);
        Ok(platform)
    }

    fn parse_word(word: &str, specifier: &str) -> Result<Self, PlatformError> {
        let os = normal_os(word);
        if KNOWN_OS.contains(&os.as_str()) {
            return Ok(Self::new(&os, host_architecture(), None));
        }
        let (arch, variant) = normal_architecture(word, "");
        if KNOWN_ARCH.contains(&arch.as_str()) {
            return Ok(Self::new("linux", &arch, without_default_arm(&arch, &variant)));
        }
        Err(PlatformError::Unknown(specifier.to_owned()))
    }

    /// Returns the platform with other names for the same thing replaced (`aarch64` by `arm64`, `arm` by `arm/v7`).
    #[must_use]
    pub fn normalized(&self) -> Self {
        let (architecture, variant) = normal_architecture(&self.architecture, self.variant.as_deref().unwrap_or(""));
        Self {
            architecture,
            os: normal_os(&self.os),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: non_empty(&variant).map(str::to_owned),
        }
    }

    /// Tells whether both name the same operating system, architecture and variant once normalised.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let (a, b) = (self.normalized(), other.normalized());
        a.os == b.os && a.architecture == b.architecture && a.variant == b.variant
    }

    /// Returns what a host of this platform can run, best first: itself, older variants, then the 32-bit kin.
    #[must_use]
    pub fn preferences(&self) -> Vec<Self> {
        let normal = self.normalized();
        let mut list = vec![normal.clone()];
        let with =
            |arch: &str, variant: Option<String>| Self { architecture: arch.to_owned(), variant, ..normal.clone() };
        let variant = normal.variant.as_deref().unwrap_or("");
        match normal.architecture.as_str() {
            "amd64" => {
                let level = variant.trim_start_matches('v').parse::<u32>().unwrap_or(1).min(16);
                // `v1` and no variant are the same thing.
                list.extend((1..level).rev().map(|v| with("amd64", (v > 1).then(|| format!("v{v}")))));
                list.push(with("386", None));
            }
            "arm" => list.extend(older_arm(variant).map(|v| with("arm", Some(v)))),
            "arm64" => {
                list.extend(older_arm64(variant).into_iter().map(|v| with("arm64", v)));
                list.push(with("arm", Some("v8".to_owned())));
                list.extend(older_arm("v8").map(|v| with("arm", Some(v))));
            }
            _ => {}
        }
        list
    }

    /// Returns the position of `offered` in what a host of this platform can run: 0 is best, `None` does not run.
    #[must_use]
    pub fn rank(&self, offered: &Self) -> Option<usize> {
        self.preferences().iter().position(|wanted| wanted.is_same(offered))
    }

    /// Returns the best of `offered` for a host of this platform, the first of equals.
    #[must_use]
    pub fn best<'a, T>(&self, offered: impl IntoIterator<Item = (&'a Platform, T)>) -> Option<T> {
        let preferences = self.preferences();
        offered
            .into_iter()
            .filter_map(|(platform, item)| {
                let rank = preferences.iter().position(|wanted| wanted.is_same(platform))?;
                Some((rank, item))
            })
            .reduce(|best, next| if next.0 < best.0 { next } else { best })
            .map(|(_, item)| item)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os.is_empty() {
            return f.write_str("unknown");
        }
        f.write_str(&self.os)?;
        if !self.architecture.is_empty() {
            write!(f, "/{}", self.architecture)?;
        }
        match self.variant.as_deref() {
            None | Some("") => Ok(()),
            Some(variant) => write!(f, "/{variant}"),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        Self::parse(text)
    }
}

fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

fn split_os(part: &str) -> Option<(&str, Option<&str>)> {
    let (os, version) = match part.split_once('(') {
        Some((os, rest)) => (os, Some(rest.strip_suffix(')')?)),
        None => (part, None),
    };
    let os_fits = !os.is_empty() && os.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let version_fits =
        version.is_none_or(|v| v.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')));
    (os_fits && version_fits).then_some((os, version.filter(|v| !v.is_empty())))
}

fn is_component(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn without_default_arm<'a>(arch: &str, variant: &'a str) -> Option<&'a str> {
    if arch == "arm" && variant == "v7" { None } else { non_empty(variant) }
}

fn normal_os(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "" => "linux".to_owned(),
        "macos" => "darwin".to_owned(),
        other => other.to_owned(),
    }
}

fn normal_architecture(arch: &str, variant: &str) -> (String, String) {
    let (arch, variant) = (arch.to_ascii_lowercase(), variant.to_ascii_lowercase());
    let (arch, variant) = match (arch.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64" | "arm64", v) => ("arm64", v),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        (a, v) => (a, v),
    };
    (arch.to_owned(), variant.to_owned())
}

fn older_arm(variant: &str) -> impl Iterator<Item = String> + use<> {
    let version = variant.trim_start_matches('v').parse::<u32>().unwrap_or(5).min(16);
    (5..version).rev().map(|v| format!("v{v}"))
}

/// `v9.x` runs what `v8.(x+5)` runs, and each runs its earlier minors; `None` is plain v8.
fn older_arm64(variant: &str) -> Vec<Option<String>> {
    let text = if variant.is_empty() { "v8" } else { variant };
    let text = text.trim_start_matches('v');
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    let (Ok(major), Ok(minor)) = (major.parse::<u32>(), minor.parse::<u32>()) else { return Vec::new() };
    let name = |major: u32, minor: u32| match (major, minor) {
        (8, 0) => None,
        (major, 0) => Some(format!("v{major}")),
        (major, minor) => Some(format!("v{major}.{minor}")),
    };
    let minor = minor.min(16);
    match major {
        8 => (0..minor).rev().map(|m| name(8, m)).collect(),
        9 => {
            let nines = (0..minor).rev().map(|m| name(9, m));
            nines.chain((0..=minor + 5).rev().map(|m| name(8, m))).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifiers_parse_as_in_containerd() {
        let cases: &[(&str, &str)] = &[
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64/v8"),
            ("linux/arm", "linux/arm"),
            ("linux/armhf", "linux/arm"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm/7", "linux/arm/v7"),
            ("arm64", "linux/arm64"),
            ("macOS/arm64", "darwin/arm64"),
            ("windows(10.0.17763)/amd64", "windows/amd64"),
            ("s390x", "linux/s390x"),
        ];
        for (text, expected) in cases {
            assert_eq!(Platform::parse(text).unwrap().to_string(), *expected, "{text}");
        }
        assert_eq!(Platform::parse("linux").unwrap(), Platform::host());
    }

    #[test]
    fn bad_specifiers_are_told_apart() {
        assert!(matches!(Platform::parse("linux/*"), Err(PlatformError::Wildcard(_))));
        assert!(matches!(Platform::parse(""), Err(PlatformError::OsComponent { .. })));
        assert!(matches!(Platform::parse("linux/"), Err(PlatformError::Component { .. })));
        assert!(matches!(Platform::parse("linux/a b"), Err(PlatformError::Component { .. })));
        assert!(matches!(Platform::parse("a/b/c/d"), Err(PlatformError::Parts(_))));
        assert_eq!(
            Platform::parse("nosuch").unwrap_err().to_string(),
            "\"nosuch\": unknown operating system or architecture: invalid argument"
        );
    }

    #[test]
    fn an_index_is_searched_best_first() {
        let offered: Vec<Platform> = ["linux/386", "linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8"]
            .iter()
            .map(|text| Platform::parse(text).unwrap())
            .collect();
        let cases: &[(&str, Option<&str>)] = &[
            ("linux/amd64", Some("linux/amd64")),
            ("linux/amd64/v3", Some("linux/amd64")),
            ("linux/arm64", Some("linux/arm64/v8")),
            ("linux/arm64/v9.1", Some("linux/arm64/v8")),
            ("linux/arm", Some("linux/arm/v7")),
            ("linux/arm/v6", Some("linux/arm/v6")),
            ("linux/arm/v5", None),
            ("linux/s390x", None),
            ("windows/amd64", None),
        ];
        for (host, expected) in cases {
            let best = Platform::parse(host).unwrap().best(offered.iter().map(|p| (p, p.to_string())));
            assert_eq!(best.as_deref(), *expected, "{host}");
        }
        let only32 = [Platform::parse("linux/386").unwrap()];
        let amd64 = Platform::parse("linux/amd64").unwrap();
        assert_eq!(amd64.rank(&only32[0]), Some(1));
    }
}
