//! Definitions from elsewhere: of a repository, or at an address. They are brought here by a build of their own, so that the daemon's
//! credentials, proxies and caches count for them as for any context.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::run::{DEFAULT_FILES, decoded};
use super::target::Target;
use crate::commands::build::Order;
use crate::commands::build::display::Display;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags;
use crate::grammar::IMAGE_BUILD;
use crate::options;

/// The longest definition that is taken from an address, in bytes.
const LIMIT: u64 = 2 * 1024 * 1024;

/// Variables of the environment with credentials for repositories, and the secrets that they become.
const CREDENTIALS: [(&str, &str); 2] =
    [("BUILDX_BAKE_GIT_AUTH_TOKEN", "GIT_AUTH_TOKEN"), ("BUILDX_BAKE_GIT_AUTH_HEADER", "GIT_AUTH_HEADER")];

/// Definitions that were brought here.
pub(super) struct Remote {
    /// Name and text.
    pub(super) files: Vec<(String, String)>,
    origin: Origin,
    _scratch: Scratch,
}

/// What paths of these definitions are paths in.
enum Origin {
    /// A repository, by its address.
    Repository(String),
    /// An archive, which lies unpacked here.
    Archive(PathBuf),
    /// Nothing: the address was that of the definition alone.
    File,
}

/// A folder that goes with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let now = jiff::Timestamp::now().as_nanosecond();
        let path = std::env::temp_dir().join(format!("ferry-bake-{}-{now:x}", std::process::id()));
        // What comes from a repository may be for its user alone.
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        let scratch = Self(path);
        for below in ["empty", "files"] {
            std::fs::create_dir(scratch.0.join(below))?;
        }
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left to whoever cleans the temporary folder when it cannot be removed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether a word names something elsewhere.
pub(super) fn is_remote(word: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "github.com/", "git@"].iter().any(|prefix| word.starts_with(prefix))
}

/// Whether an address is that of a repository.
fn is_repository(address: &str) -> bool {
    let is_http = address.starts_with("http://") || address.starts_with("https://");
    let place = address.split(['#', '?']).next().unwrap_or(address);
    !is_http || place.ends_with(".git")
}

impl Remote {
    /// Brings definitions here; without names those that are there of the usual ones.
    pub(super) async fn fetch(address: &str, names: &[String], display: &Display<'_>) -> Result<Self> {
        let scratch = Scratch::new()?;
        let files = scratch.0.join("files");
        let is_repository = is_repository(address);
        let dockerfile = if is_repository { from_repository(names) } else { from_address(address) };
        let words = words(address, is_repository, &scratch.0);
        let parsed = flags::parse(IMAGE_BUILD.flags, false, &words, options::checks::check);
        let parsed = parsed.map_err(|error| Failure::new(format!("ERROR: {error:?}")))?;
        let order = Order::read(&parsed, Some(&dockerfile))?.unremembered();
        let fetched = order.carry_out(None, display).await;
        fetched
            .map_err(|failure| Failure { message: failure.message.replacen("failed to build: ", "", 1), ..failure })?;
        let origin = match is_repository {
            true => Origin::Repository(address.to_owned()),
            false if is_alone(&files, address) => Origin::File,
            false => Origin::Archive(files.clone()),
        };
        let files = match (&origin, names) {
            (Origin::File, _) => vec![(address.to_owned(), read_limited(&files.join(base_name(address)), address)?)],
            (_, []) => read_usual(&files)?,
            (Origin::Repository(_), names) => read_named(&files, names, |at| at.to_string())?,
            (_, names) => read_named(&files, names, |at| names[at].clone())?,
        };
        Ok(Self { files, origin, _scratch: scratch })
    }

    /// Lets a target's paths be those of where it was defined.
    pub(super) fn place(&self, target: &mut Target) {
        if let Some(Value::String(context)) = target.get_mut("context") {
            self.place_path(context);
        }
        if let Some(Value::Object(contexts)) = target.get_mut("contexts") {
            for context in contexts.values_mut() {
                if let Value::String(context) = context {
                    self.place_path(context);
                }
            }
        }
    }

    /// The folder that an archive was unpacked into.
    pub(super) fn folder(&self) -> Option<&Path> {
        match &self.origin {
            Origin::Archive(folder) => Some(folder),
            Origin::Repository(_) | Origin::File => None,
        }
    }

    fn place_path(&self, path: &mut String) {
        let is_elsewhere =
            ["cwd://", "target:", "docker-image:", "oci-layout:"].iter().any(|kind| path.starts_with(kind));
        if is_elsewhere || is_remote(path) {
            return;
        }
        match &self.origin {
            Origin::Repository(address) => *path = below(address, path),
            Origin::Archive(folder) => *path = folder.join(path.trim_start_matches('/')).display().to_string(),
            Origin::File => {}
        }
    }
}

/// A build that takes definitions out of a repository: named ones under numbers, so that each has a place of its own.
fn from_repository(names: &[String]) -> String {
    let copy = |from: &str, to: &str| format!("COPY --from=definition {}\n", serde_json::json!([dollars(from), to]));
    let mut text = "FROM scratch\n".to_owned();
    if names.is_empty() {
        for name in DEFAULT_FILES {
            // A pattern may match nothing.
            let (start, last) = name.split_at(name.len() - 1);
            text.push_str(&copy(&format!("/{start}[{last}]"), "/"));
        }
    }
    for (at, name) in names.iter().enumerate() {
        text.push_str(&copy(&format!("/{}", without_pattern(name)), &format!("/{at}")));
    }
    text
}

/// A build that takes what lies at an address, unpacked where it is an archive.
fn from_address(address: &str) -> String {
    format!("FROM scratch\nADD --unpack=true {}\n", serde_json::json!([dollars(address), "/"]))
}

/// A word in which nothing stands for a variable of that build.
fn dollars(word: &str) -> String {
    word.replace('$', "\\$")
}

/// A path that is itself alone, whatever is in it.
fn without_pattern(path: &str) -> String {
    let each = path.chars().map(|letter| match letter {
        '*' | '?' | '[' => format!("[{letter}]"),
        letter => letter.to_string(),
    });
    each.collect()
}

/// The words of that build.
fn words(address: &str, is_repository: bool, scratch: &Path) -> Vec<String> {
    let mut words =
        vec!["--file=-".to_owned(), format!("--output=type=local,dest={}", scratch.join("files").display())];
    if is_repository {
        words.push(format!("--build-context=definition={address}"));
        words.extend(credentials().into_iter().map(|secret| format!("--secret={secret}")));
        if let Some(agent) = agent(address) {
            words.push(agent);
        }
    }
    words.push(scratch.join("empty").display().to_string());
    words
}

/// Credentials for repositories that the environment has, as secrets.
pub(super) fn credentials() -> Vec<String> {
    let given = CREDENTIALS.iter().filter(|(variable, _)| std::env::var_os(variable).is_some());
    given.map(|(variable, id)| format!("id={id},env={variable}")).collect()
}

/// Whether an address is that of a repository which is reached by SSH.
pub(super) fn is_by_ssh(address: &str) -> bool {
    address.starts_with("git@") || address.starts_with("ssh://")
}

/// The agent for a repository that is reached by SSH.
fn agent(address: &str) -> Option<String> {
    let needs_one = is_by_ssh(address);
    let socket = std::env::var("BUILDX_BAKE_GIT_SSH").ok().filter(|socket| !socket.is_empty());
    match socket {
        Some(socket) => Some(format!("--ssh=default={socket}")),
        None => (needs_one && std::env::var_os("SSH_AUTH_SOCK").is_some()).then(|| "--ssh=default".to_owned()),
    }
}

fn base_name(address: &str) -> &str {
    let place = address.split(['#', '?']).next().unwrap_or(address);
    place.rsplit('/').next().unwrap_or(place)
}

/// Whether there is nothing but the file of the address, so that it was no archive.
fn is_alone(files: &Path, address: &str) -> bool {
    let mut names = std::fs::read_dir(files).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let (first, second) = (names.next(), names.next());
    first.is_some_and(|name| name.to_str() == Some(base_name(address))) && second.is_none()
}

fn read_limited(path: &Path, address: &str) -> Result<String> {
    if std::fs::metadata(path)?.len() > LIMIT {
        return Err(Failure::new("ERROR: non-archive definition URL bigger than maximum allowed size (2.097MB)"));
    }
    let bytes = read(path).map_err(|error| Failure::new(format!("ERROR: open {}: {error}", path.display())))?;
    decoded(address, bytes)
}

/// Links lead nowhere: who wrote the definition does not choose what of this side is read.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if std::fs::symlink_metadata(path)?.file_type().is_file() {
        std::fs::read(path)
    } else {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

/// As [`read`], of a path in a folder: no folder on the way is a link out of it either.
fn read_within(folder: &Path, inside: &str) -> std::io::Result<Vec<u8>> {
    let path = folder.join(inside);
    let above = path.parent().unwrap_or(folder).canonicalize()?;
    if above.starts_with(folder.canonicalize()?) { read(&path) } else { Err(std::io::ErrorKind::NotFound.into()) }
}

fn read_usual(files: &Path) -> Result<Vec<(String, String)>> {
    let all = DEFAULT_FILES.iter().filter_map(|name| Some((*name, read(&files.join(name)).ok()?)));
    all.map(|(name, bytes)| Ok((name.to_owned(), decoded(name, bytes)?))).collect()
}

fn read_named(files: &Path, names: &[String], place: impl Fn(usize) -> String) -> Result<Vec<(String, String)>> {
    let one = |(at, name): (usize, &String)| {
        let inside = ferry_spec::path::clean_rooted(&place(at));
        let bytes = read_within(files, inside.trim_start_matches('/'));
        let bytes = bytes.map_err(|_| Failure::new(format!("ERROR: open {name}: no such file or directory")))?;
        Ok((name.clone(), decoded(name, bytes)?))
    };
    names.iter().enumerate().map(one).collect()
}

/// The address of a folder in a repository.
fn below(address: &str, path: &str) -> String {
    let clean = |path: &str| ferry_spec::path::clean_rooted(path).trim_start_matches('/').to_owned();
    if ferry_spec::path::clean(path) == "." {
        return address.to_owned();
    }
    let (base, fragment) = address.split_once('#').unwrap_or((address, ""));
    let (reference, within) = fragment.split_once(':').unwrap_or((fragment, ""));
    format!("{base}#{reference}:{}", clean(&format!("{within}/{path}")))
}

/// What comes before the targets on the command line: an address of definitions, and the context of the command.
pub(super) fn split(words: &[String]) -> (Option<&str>, Option<&str>, &[String]) {
    match words {
        [address, context, targets @ ..] if is_remote(address) && is_remote(context) => {
            (Some(address), Some(context), targets)
        }
        [address, targets @ ..] if is_remote(address) => (Some(address), None, targets),
        targets => (None, None, targets),
    }
}

/// Reads what is named for a definition elsewhere: files of it, and files of this side (`cwd://`).
pub(super) fn sorted(names: &[String]) -> (Vec<String>, Vec<String>) {
    let (here, there): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| name.starts_with("cwd://"));
    let here = here.into_iter().filter_map(|name| name.strip_prefix("cwd://")).map(str::to_owned).collect();
    (there.into_iter().cloned().collect(), here)
}

/// One display for the fetching alone, as its builds are not the user's.
pub(super) fn display<'a>(progress: &str, context: &'a Context) -> Result<Display<'a>> {
    Ok(Display::new(crate::commands::build::Progress::named(progress)?, context))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart_and_led_into_folders() {
        for (address, expected) in [
            ("https://x/y.git", true),
            ("https://x/y.git#main:sub", true),
            ("https://x/y.git?ref=1", true),
            ("git@x:y", true),
            ("github.com/a/b", true),
            ("https://x/docker-bake.hcl", false),
            ("http://x/y.tar.gz#z.git", false),
        ] {
            assert_eq!(is_repository(address), expected, "{address}");
        }
        for (address, path, expected) in [
            ("u.git", ".", "u.git"),
            ("u.git", "sub", "u.git#:sub"),
            ("u.git#v1", "./a/../b", "u.git#v1:b"),
            ("u.git#v1:top", "sub", "u.git#v1:top/sub"),
            ("u.git#v1:top", "../../sub", "u.git#v1:sub"),
        ] {
            assert_eq!(below(address, path), expected);
        }
        let words = |all: &[&str]| all.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let line = words(&["https://x/y.git", "https://x/z.git", "app"]);
        assert_eq!(split(&line), (Some("https://x/y.git"), Some("https://x/z.git"), &line[2..]));
        let line = words(&["app", "https://x/z.git"]);
        assert_eq!(split(&line), (None, None, &line[..]));
        assert_eq!(sorted(&words(&["a.hcl", "cwd://b.hcl"])), (words(&["a.hcl"]), words(&["b.hcl"])));
    }
}
