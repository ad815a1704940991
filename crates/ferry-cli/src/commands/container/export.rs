//! `export`

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::output::stdout_is_terminal;

/// Runs `export`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let output = parsed.text_or_empty("output");
    if output.is_empty() && stdout_is_terminal() {
        return Err(Failure::new("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    let mut file = match output {
        "" => None,
        path => Some(WholeFile::create(Path::new(path))?),
    };
    let mut stream = context.client().await?.container_export(&parsed.args[0]).await?;
    while let Some(bytes) = stream.next().await? {
        match &mut file {
            Some(file) => file.write(&bytes)?,
            None => context.printer.data(&bytes)?,
        }
    }
    if let Some(file) = file {
        file.finish()?;
    }
    Ok(0)
}

/// A file that gets its name when all of it is there.
struct WholeFile {
    file: std::fs::File,
    temporary: PathBuf,
    path: PathBuf,
    done: bool,
}

impl WholeFile {
    fn create(path: &Path) -> Result<Self> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let failed = |reason: String| Failure::new(format!("failed to export container: {reason}"));
        if !folder.exists() {
            return Err(failed(format!("invalid output path: stat {}: no such file or directory", folder.display())));
        }
        if path.is_dir() {
            return Err(failed("cannot write to a directory".to_owned()));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = folder.join(format!(".tmp-{name}{}", std::process::id()));
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { file, temporary, path: path.to_owned(), done: false })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.file.write_all(bytes)?)
    }

    fn finish(mut self) -> Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.temporary, &self.path)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed is plainly named as temporary.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}
