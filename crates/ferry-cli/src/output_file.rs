//! Files that a command writes for its user: whole, or not at all.

use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ferry_client::ByteStream;

use crate::output::Printer;

/// A file on its way: written under a temporary name beside its place, which a failure leaves as it was.
#[derive(Debug)]
pub(crate) struct OutputFile {
    file: File,
    temporary: PathBuf,
    place: PathBuf,
    done: bool,
}

impl OutputFile {
    /// Begins a file, readable by its owner alone. The text of an error is Docker's.
    pub(crate) fn create(path: &str) -> Result<Self, String> {
        check_place(Path::new(path))?;
        let place = PathBuf::from(path);
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let temporary = place.with_file_name(format!(".tmp-{name}{}", std::process::id()));
        let file = File::options().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = file.map_err(|error| format!("open {}: {}", temporary.display(), reason(&error)))?;
        Ok(Self { file, temporary, place, done: false })
    }

    /// Begins one for an output that names a file; an empty one means standard output.
    pub(crate) fn create_if_named(output: &str) -> Result<Option<Self>, String> {
        if output.is_empty() { Ok(None) } else { Self::create(output).map(Some) }
    }

    /// Adds bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Puts the file in its place.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.place)?;
        self.done = true;
        Ok(())
    }
}

/// Writes all of a stream to a file, or to standard output.
pub(crate) async fn write(
    mut stream: ByteStream,
    mut file: Option<OutputFile>,
    printer: &Printer,
) -> crate::failure::Result<()> {
    while let Some(bytes) = stream.next().await? {
        match &mut file {
            Some(file) => file.write(&bytes)?,
            None => printer.data(&bytes)?,
        }
    }
    file.map_or(Ok(()), |file| Ok(file.finish()?))
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.done {
            // The command has failed already, and says why.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Refuses places that a rename could not, or should not, replace.
fn check_place(path: &Path) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new(""));
    if !matches!(folder.to_str(), Some("" | "." | "..")) {
        match fs::metadata(folder) {
            Err(error) => return Err(format!("invalid output path: stat {}: {}", folder.display(), reason(&error))),
            Ok(metadata) if !metadata.is_dir() => {
                return Err(format!("invalid output path: stat {}: not a directory", folder.display()));
            }
            Ok(_) => {}
        }
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("failed to stat output path: lstat {}: {}", path.display(), reason(&error))),
        Ok(metadata) => irregular(&metadata).map_or(Ok(()), |what| Err(format!("cannot write to {what}"))),
    }
}

fn irregular(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_symlink() {
        Some("a symbolic link directly")
    } else if kind.is_fifo() {
        Some("a named pipe (FIFO)")
    } else if kind.is_socket() {
        Some("a socket")
    } else if kind.is_char_device() {
        Some("a character device file directly")
    } else {
        Some("a block device file directly")
    }
}

/// Go's text for the usual causes.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AlreadyExists => "file exists".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::NotADirectory => "not a directory".to_owned(),
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_appear_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let text = path.to_str().unwrap();
        let mut file = OutputFile::create(text).unwrap();
        file.write(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut file = OutputFile::create(text).unwrap();
        file.write(b"whole").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn places_that_cannot_be_replaced_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let shown = folder.path().display();
        std::os::unix::fs::symlink("x", folder.path().join("link")).unwrap();
        for (name, expected) in [
            ("none/out", format!("invalid output path: stat {shown}/none: no such file or directory")),
            ("link", "cannot write to a symbolic link directly".to_owned()),
            (".", "cannot write to a directory".to_owned()),
        ] {
            let path = folder.path().join(name);
            assert_eq!(OutputFile::create(path.to_str().unwrap()).unwrap_err(), expected, "{name}");
        }
    }
}
