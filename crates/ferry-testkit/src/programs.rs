//! Where the programs under test and the foreign ones are, and what to do when one is absent.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Set to `1` where the run promises that everything is present (CI): a missing need then fails.
pub const REQUIRE_ALL: &str = "FERRY_TEST_REQUIRE_ALL";
/// Folder of the binaries under test, when they are not beside the test's own.
pub const BIN_DIR: &str = "FERRY_TEST_BIN_DIR";
/// Folder where test material is kept between runs.
pub const MATERIAL: &str = "FERRY_TEST_MATERIAL";
/// The unmodified Docker CLI to use.
pub const DOCKER: &str = "FERRY_TEST_DOCKER";

/// Returns the folder that holds `ferry`, `ferryd` and their helpers of this profile.
///
/// # Panics
/// When the test binary has no path, which the kernel rules out.
#[must_use]
pub fn bin_dir() -> PathBuf {
    if let Some(folder) = std::env::var_os(BIN_DIR) {
        return folder.into();
    }
    let own = std::env::current_exe().expect("a running program has a path");
    // <target>/<triple>/debug/deps/it-0123456789abcdef
    let folder = own.parent().expect("an executable lies in a folder");
    if folder.ends_with("deps") { folder.parent().unwrap_or(folder).to_owned() } else { folder.to_owned() }
}

/// Returns the path of a binary of the project.
///
/// # Errors
/// When it is not built, naming the command that builds it.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = bin_dir().join(name);
    path.exists().then_some(path.clone()).with_context(|| {
        format!("{} is not built: run `make test`, or `cargo build --workspace` first", path.display())
    })
}

/// Returns the path of a foreign program on `PATH` (or in the system folders that `PATH` may lack).
#[must_use]
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Returns the unmodified Docker CLI, if there is one.
#[must_use]
pub fn docker() -> Option<PathBuf> {
    std::env::var_os(DOCKER).map(PathBuf::from).or_else(|| on_path("docker"))
}

/// Returns the folder for test material: outside the git tree, kept between runs.
#[must_use]
pub fn material_dir() -> PathBuf {
    std::env::var_os(MATERIAL).map_or_else(|| Path::new("/var/cache/ferry-test").to_owned(), PathBuf::from)
}

/// Says whether a need is met; skips loudly when not, and fails where the run promises everything.
///
/// # Panics
/// When the need is not met and [`REQUIRE_ALL`] is `1`.
#[must_use]
#[track_caller]
pub fn need(what: &str, present: bool) -> bool {
    if present {
        return true;
    }
    let promised = std::env::var_os(REQUIRE_ALL).is_some_and(|value| value == "1");
    assert!(!promised, "this run promises everything, but {what} is missing");
    // Not `eprintln!`: the test harness would keep that to itself, and a skipped test must be seen.
    let _ = writeln!(std::io::stderr(), "SKIPPED {}: needs {what}", std::panic::Location::caller());
    false
}

/// All that may be skipped where a run promises everything, since no machine can be told to have it, and why.
pub const MAY_BE_SKIPPED: [(&str, &str); 2] = [
    ("newer Docker CLI", "its texts depend on its version, and distributions have an older one than the recordings"),
    ("project quotas on ext4", "many kernels are built without them"),
];

/// Skips loudly what [`MAY_BE_SKIPPED`] has.
///
/// # Panics
/// When it is not on that list.
pub fn skip(what: &str, here: &str) {
    assert!(MAY_BE_SKIPPED.iter().any(|(known, _)| *known == what), "{what} is not on the list of what may be skipped");
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}: {here}");
}

/// Says whether this test may make namespaces and cgroups.
#[must_use]
#[track_caller]
pub fn need_root() -> bool {
    need("root", rustix::process::geteuid().is_root())
}

/// Says whether the unmodified Docker CLI is here.
#[must_use]
#[track_caller]
pub fn need_docker_cli() -> bool {
    need("the Docker CLI", docker().is_some())
}
