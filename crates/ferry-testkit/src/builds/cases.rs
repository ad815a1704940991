//! The form of cases: a Dockerfile behind a few lines that say what stands around it.
//!
//! ```text
//! ==== name
//! ---- KEY=VALUE          an option of BuildKit's Dockerfile frontend
//! ---- file PATH=TEXT     a file of the context
//! ---- run LINE           a shell line in the context, before the build
//! ---- secret ID=TEXT     a secret
//! ---- allow NAME         an entitlement
//! ---- agent              an SSH agent without keys is lent
//! ---- stdin WHAT         the Dockerfile, or the context as an archive (`tar`, `gz`, `bz2`, `xz`), comes by standard input
//! ---- then KEY=VALUE     a second build has this option too; which steps it does not find in the cache is part of the answer
//! ---- then-run LINE      a shell line in the context before the second build
//! the Dockerfile
//! ```
//! Values are JSON strings without their quotes. Without `source-text` the Dockerfile is what follows. Every context has the files `a`,
//! `b` and `dir/c`, each with a line that names it and the case.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// 2023-11-14, from when on the times of files are.
const MTIME: u64 = 1_700_000_000;

/// One case.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Options of the frontend.
    pub options: Vec<(String, String)>,
    /// Files of the context.
    pub files: Vec<(String, String)>,
    /// Shell lines that prepare the context.
    pub lines: Vec<String>,
    /// Secrets by id.
    pub secrets: Vec<(String, String)>,
    /// Entitlements.
    pub allowed: Vec<String>,
    /// An SSH agent is lent.
    pub has_agent: bool,
    /// What comes by standard input.
    pub stdin: Option<String>,
    /// Options of a second build.
    pub then_options: Vec<(String, String)>,
    /// Shell lines before a second build.
    pub then_lines: Vec<String>,
    /// The Dockerfile.
    pub source: String,
}

/// Reads the cases of a file.
///
/// # Errors
/// For a line that cannot be read.
pub fn parse(text: &str) -> Result<Vec<Case>> {
    let text = format!("\n{text}");
    text.split("\n==== ").skip(1).map(case).collect()
}

fn case(block: &str) -> Result<Case> {
    let (name, mut rest) = block.split_once('\n').unwrap_or((block, ""));
    let mut case = Case { name: name.to_owned(), ..Case::default() };
    let mut source = None;
    while let Some(option) = rest.strip_prefix("---- ") {
        let (line, after) = option.split_once('\n').unwrap_or((option, ""));
        rest = after;
        let pair = |text: &str| -> Result<(String, String)> {
            let (key, value) = text.split_once('=').with_context(|| format!("{name}: {line:?} has no ="))?;
            let value = serde_json::from_str(&format!("\"{value}\"")).with_context(|| format!("{name}: {line:?}"))?;
            Ok((key.to_owned(), value))
        };
        match line.split_once(' ').unwrap_or((line, "")) {
            ("file", text) => case.files.push(pair(text)?),
            ("run", text) => case.lines.push(text.to_owned()),
            ("secret", text) => case.secrets.push(pair(text)?),
            ("allow", text) => case.allowed.push(text.to_owned()),
            ("agent", "") => case.has_agent = true,
            ("stdin", text) => case.stdin = Some(text.to_owned()),
            ("then", text) => case.then_options.push(pair(text)?),
            ("then-run", text) => case.then_lines.push(text.to_owned()),
            _ => match pair(line)? {
                (key, value) if key == "source-text" => source = Some(value),
                option => case.options.push(option),
            },
        }
    }
    case.source =
        source.unwrap_or_else(|| if rest.is_empty() { String::new() } else { format!("{}\n", rest.trim_end()) });
    Ok(case)
}

impl Case {
    /// Returns an option.
    #[must_use]
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Returns whether there is a second build.
    #[must_use]
    pub fn is_built_twice(&self) -> bool {
        !self.then_options.is_empty() || !self.then_lines.is_empty()
    }

    /// Returns the Dockerfile's path in the context.
    #[must_use]
    pub fn dockerfile(&self) -> &str {
        self.option("filename").unwrap_or("Dockerfile")
    }

    /// Writes the context into a folder.
    ///
    /// # Errors
    /// When the disk does not take it or a line fails.
    pub fn lay_out(&self, folder: &Path) -> Result<()> {
        for (path, name) in [("a", "a"), ("b", "b"), ("dir/c", "c")] {
            // No case finds in the cache what another copied, with its times.
            write(folder, path, &format!("{name} of {}\n", self.name))?;
        }
        write(folder, self.dockerfile(), &self.source)?;
        for (path, text) in &self.files {
            write(folder, path, text)?;
        }
        // Each case has a time of its own: BuildKit does not ask again for a file whose name, length and time it knows.
        let time = self.name.bytes().fold(0, |time, byte| (time * 31 + u64::from(byte)) % 10_000_019) + MTIME;
        shell(folder, &format!("find . -exec touch -h -d @{time} {{}} +"))?;
        self.lines.iter().try_for_each(|line| shell(folder, line))
    }

    /// Changes the context for the second build.
    ///
    /// # Errors
    /// When a line fails.
    pub fn change(&self, folder: &Path) -> Result<()> {
        self.then_lines.iter().try_for_each(|line| shell(folder, line))
    }
}

fn write(folder: &Path, path: &str, text: &str) -> Result<()> {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().context("a file lies in a folder")?)
        .context("make a folder of the context")?;
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

fn shell(folder: &Path, line: &str) -> Result<()> {
    let done = Command::new("sh").args(["-ec", &format!("umask 022; {line}")]).current_dir(folder).output();
    let done = done.context("start a shell")?;
    ensure!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_read() {
        let text = "==== a/b c\n---- build-arg:X=1\\n2\n---- file d/e=text=\n---- run ln -s x y\n---- then build-arg:X=3\nFROM x\nRUN <<A\n\n==x\nA\n==== next\n---- source-text=FROM y\\r\\n\n";
        let cases = parse(text).unwrap();
        assert_eq!(cases[0].name, "a/b c");
        assert_eq!(cases[0].option("build-arg:X"), Some("1\n2"));
        assert_eq!(cases[0].files, [("d/e".to_owned(), "text=".to_owned())]);
        assert_eq!(cases[0].source, "FROM x\nRUN <<A\n\n==x\nA\n");
        assert!(cases[0].is_built_twice() && !cases[1].is_built_twice());
        assert_eq!(cases[1].source, "FROM y\r\n");
    }
}
