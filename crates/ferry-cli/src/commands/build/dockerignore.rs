//! Which files of a context travel.

use std::path::Path;

use ferry_dockerfile::ignore::{self, Patterns};

use crate::failure::{Failure, Result};

/// Reads the ignore file of a build: `<Dockerfile>.dockerignore` beside the Dockerfile, or else `.dockerignore` in the context.
pub(super) fn read(context: &Path, dockerfile: Option<&Path>) -> Result<Patterns> {
    let beside = dockerfile.map(|file| {
        let mut name = file.as_os_str().to_owned();
        name.push(".dockerignore");
        std::path::PathBuf::from(name)
    });
    for path in beside.into_iter().chain([context.join(".dockerignore")]) {
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let patterns = ignore::read(&text);
                return Patterns::new(patterns.iter().map(String::as_str))
                    .map_err(|error| Failure::new(format!("ERROR: failed to build: {}: {error}", path.display())));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::new(format!("ERROR: failed to build: {}: {error}", path.display()))),
        }
    }
    Ok(Patterns::default())
}
