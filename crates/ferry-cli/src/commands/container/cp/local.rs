//! The local end of a copy: a tree of files as an archive, and back. What comes out of a container is a stranger's: it is unpacked below its
//! folder and nowhere else.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::Path;

use ferry_spec::tar::{self, Entry, Kind, Piece, ReadError, Reader, Source, next_entry, skip_padding};
use ferry_sys::tree::{Found, Looks, MakeError, Maker, Owner, Rules, Walk, clean};
use rustix::fs::FileType;

use super::paths::{self, CopyInfo};

/// How the first names in an archive change.
pub(super) type Renamed = Option<(String, String)>;

/// The words of Go for a failed call on a path.
pub(super) fn failed(call: &str, path: &str, error: &io::Error) -> String {
    format!("{call} {path}: {}", cause(error))
}

fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or(&text);
    let mut characters = plain.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

/// The path from the root, with the ending that was written.
pub(super) fn absolute(path: &str) -> Result<String, String> {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        let here = std::env::current_dir().map_err(|error| failed("getwd", ".", &error))?;
        format!("{}/{path}", here.to_string_lossy())
    };
    Ok(paths::preserve_ending(&paths::clean(&whole), path))
}

/// Refuses places that cannot be written to.
pub(super) fn check_output(path: &str) -> Result<(), String> {
    let folder = paths::dir(&paths::clean(path));
    if folder != "." && matches!(fs::metadata(&folder), Err(error) if error.kind() == io::ErrorKind::NotFound) {
        return Err(format!("invalid output path: directory {folder:?} does not exist"));
    }
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("stat", path, &error)),
        Ok(metadata) => {
            use std::os::unix::fs::FileTypeExt;
            let kind = metadata.file_type();
            if kind.is_block_device() || kind.is_char_device() {
                return Err(format!(
                    "invalid output path: {path:?} must be a directory or a regular file: got a device"
                ));
            }
            Ok(())
        }
    }
}

/// A path that is to be copied, with the links in front of its end followed; with the end's too if asked for.
pub(super) fn source(path: &str, follow: bool) -> Result<CopyInfo, String> {
    let missing = |error: &io::Error, path: &str| failed("lstat", path, error);
    let (resolved, rebase) = if follow {
        let found = fs::canonicalize(path).map_err(|error| missing(&error, path))?;
        paths::rebase_name(path, &found.to_string_lossy())
    } else {
        let (folder, name) = path.rsplit_once('/').map_or((".", path), |(folder, name)| (folder, name));
        let folder = if folder.is_empty() { "/" } else { folder };
        let found = fs::canonicalize(folder).map_err(|error| missing(&error, folder))?;
        let resolved = format!("{}/{name}", found.to_string_lossy());
        let renamed = paths::has_trailing_separator(path) && paths::base(path) != paths::base(&resolved);
        (resolved, if renamed { paths::base(path).to_owned() } else { String::new() })
    };
    let metadata = fs::symlink_metadata(&resolved).map_err(|error| missing(&error, &resolved))?;
    Ok(CopyInfo { path: resolved, exists: true, is_dir: metadata.is_dir(), rebase })
}

/// A path that is copied to, with every link followed; it need not exist, its folder must.
pub(super) fn target(path: &str) -> Result<CopyInfo, String> {
    let original = path;
    let mut path = path.to_owned();
    for _ in 0..=10 {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => {
                let link = fs::read_link(&path).map_err(|error| failed("readlink", &path, &error))?;
                let link = link.to_string_lossy().into_owned();
                path = if link.starts_with('/') { link } else { paths::join(&paths::split_entry(&path).0, &link) };
            }
            Ok(metadata) => {
                return Ok(CopyInfo { path, exists: true, is_dir: metadata.is_dir(), rebase: String::new() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (folder, _) = paths::split_entry(&path);
                let above = fs::metadata(&folder).map_err(|error| failed("stat", &folder, &error))?;
                if !above.is_dir() {
                    return Err("not a directory".to_owned());
                }
                return Ok(CopyInfo { path, ..CopyInfo::default() });
            }
            Err(error) => return Err(failed("lstat", &path, &error)),
        }
    }
    Err(format!("too many symlinks in {original}"))
}

/// Bytes of regular files at a path.
pub(super) fn content_size(path: &str) -> Option<u64> {
    let metadata = fs::symlink_metadata(path).ok()?;
    if !metadata.is_dir() {
        return Some(if metadata.is_file() { metadata.len() } else { 0 });
    }
    let mut total = 0;
    for entry in fs::read_dir(path).ok()? {
        total += content_size(&entry.ok()?.path().to_string_lossy())?;
    }
    Some(total)
}

/// Writes an archive of a local path; its first name is the source's own, or what it is changed to.
pub(super) fn pack(source: &CopyInfo, renamed: &Renamed, out: &mut impl Write) -> io::Result<()> {
    let (folder, own_name) = paths::split_entry(&source.path);
    let folder = File::open(&folder)?;
    let first = if source.rebase.is_empty() { &own_name } else { &source.rebase };
    let first = match renamed {
        Some((from, to)) => paths::rebase(first.as_bytes(), from, to),
        None => first.as_bytes().to_vec(),
    };
    let first = if first == b"/" { Vec::new() } else { first };
    let name = if own_name == "/" { "." } else { &own_name };
    let mut visit = |found: Found| write_entry(found, out);
    Walk::new(|name| name == b"security.capability", &mut visit).tree(folder.as_fd(), name.as_bytes(), &first)?;
    out.write_all(&tar::END)?;
    out.flush()
}

fn write_entry(mut found: Found, out: &mut impl Write) -> io::Result<()> {
    let file = found.file.take();
    let kind = match found.kind {
        _ if found.same_as.is_some() => Kind::HardLink,
        FileType::Directory => Kind::Folder,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        _ => return Ok(()),
    };
    let mut path = found.path;
    if kind == Kind::Folder && !path.ends_with(b"/") {
        path.push(b'/');
    }
    let size = if kind == Kind::File { found.size } else { 0 };
    let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    let entry = Entry {
        link: found.same_as.unwrap_or(found.link),
        uid: found.looks.uid,
        gid: found.looks.gid,
        mtime: (found.looks.mtime.0, 0),
        device: if is_device { found.device } else { (0, 0) },
        xattrs: found.looks.xattrs,
        size,
        stored_bytes: size,
        ..Entry::new(kind, path, found.looks.mode)
    };
    out.write_all(&tar::header(&entry))?;
    let Some(file) = file.filter(|_| size > 0) else { return Ok(()) };
    let copied = io::copy(&mut File::from(file).take(size), out)?;
    // One that shrinks meanwhile is as long as it was said to be.
    io::copy(&mut io::repeat(0).take(size - copied + tar::padding(size)), out).map(drop)
}

/// Unpacks an archive from a container below a folder.
pub(super) fn unpack(archive: impl Read, folder: &str, renamed: &Renamed) -> Result<(), Failed> {
    let root = File::open(Path::new(folder)).map_err(|error| Failed(failed("open", folder, &error)))?;
    let rules = Rules { owner: Owner::Caller, replaces_kinds: false, label: folder.to_owned() };
    rustix::process::umask(rustix::fs::Mode::empty());
    let mut maker = Maker::new(root.as_fd(), rules);
    let mut reader = Reader(archive);
    while let Some(entry) = next_entry(&mut reader)? {
        unpack_entry(&mut maker, &mut reader, entry, renamed)?;
    }
    Ok(maker.finish()?)
}

fn unpack_entry<R: Read>(
    maker: &mut Maker<'_>,
    reader: &mut Reader<R>,
    entry: Entry,
    renamed: &Renamed,
) -> Result<(), Failed> {
    let rename = |name: &[u8]| match renamed {
        Some((from, to)) => paths::rebase(name, from, to),
        None => name.to_vec(),
    };
    let escapes = || MakeError::Escapes(String::from_utf8_lossy(&entry.path).into_owned());
    let name = clean(&rename(&entry.path)).ok_or_else(escapes)?;
    let looks = Looks {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: entry.xattrs.iter().filter(|(name, _)| name == b"security.capability").cloned().collect(),
    };
    if name.is_empty() {
        reader.skip(entry.stored_bytes)?;
        return Ok(skip_padding(reader, entry.stored_bytes)?);
    }
    match entry.kind {
        Kind::Folder => maker.folder(&name, &looks)?,
        Kind::File => maker.file::<Failed>(&name, &looks, |file| fill(file, reader, &entry))?,
        Kind::Symlink => maker.symlink(&name, &entry.link, &looks)?,
        Kind::HardLink => maker.hard_link(&name, &rename(&entry.link))?,
        Kind::CharDevice => maker.node(&name, FileType::CharacterDevice, entry.device, &looks)?,
        Kind::BlockDevice => maker.node(&name, FileType::BlockDevice, entry.device, &looks)?,
        Kind::Fifo => maker.node(&name, FileType::Fifo, (0, 0), &looks)?,
    }
    Ok(skip_padding(reader, entry.stored_bytes)?)
}

fn fill<R: Read>(file: &mut File, reader: &mut Reader<R>, entry: &Entry) -> Result<(), Failed> {
    let whole = [Piece { offset: 0, length: entry.stored_bytes }];
    for piece in entry.sparse.as_deref().unwrap_or(&whole) {
        if entry.sparse.is_some() {
            file.seek(SeekFrom::Start(piece.offset))?;
        }
        reader.pieces(piece.length, |bytes| file.write_all(bytes).map_err(Failed::from))?;
    }
    if entry.sparse.is_some() {
        file.set_len(entry.size)?;
    }
    Ok(())
}

/// Carries an archive over with its first names changed.
pub(super) fn carry(archive: impl Read, renamed: &Renamed, out: &mut impl Write) -> Result<(), Failed> {
    let mut archive = archive;
    let Some((from, to)) = renamed else {
        io::copy(&mut archive, out)?;
        return Ok(out.flush()?);
    };
    let mut reader = Reader(archive);
    while let Some(mut entry) = next_entry(&mut reader)? {
        entry.path = paths::rebase(&entry.path, from, to);
        if entry.kind == Kind::HardLink {
            entry.link = paths::rebase(&entry.link, from, to);
        }
        let sparse = entry.sparse.take();
        let stored = entry.stored_bytes;
        entry.stored_bytes = entry.size;
        out.write_all(&tar::header(&entry))?;
        let mut at = 0;
        for piece in sparse.unwrap_or_else(|| vec![Piece { offset: 0, length: stored }]) {
            io::copy(&mut io::repeat(0).take(piece.offset - at), out)?;
            reader.pieces(piece.length, |bytes| out.write_all(bytes).map_err(Failed::from))?;
            at = piece.offset + piece.length;
        }
        io::copy(&mut io::repeat(0).take(entry.size - at + tar::padding(entry.size)), out)?;
        skip_padding(&mut reader, stored)?;
    }
    out.write_all(&tar::END)?;
    Ok(out.flush()?)
}

/// Why a copy failed, in words for the user.
#[derive(Debug)]
pub(super) struct Failed(pub(super) String);

impl From<MakeError> for Failed {
    fn from(error: MakeError) -> Self {
        Self(error.to_string())
    }
}

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Self {
        Self(match error {
            ReadError::Truncated => "unexpected EOF".to_owned(),
            ReadError::Io(source) => cause(&source),
            other => other.to_string(),
        })
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self(cause(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_out_and_comes_back_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let source_path = folder.path().join("src");
        fs::create_dir_all(source_path.join("sub")).unwrap();
        fs::write(source_path.join("sub/file"), "content").unwrap();
        fs::hard_link(source_path.join("sub/file"), source_path.join("twin")).unwrap();
        std::os::unix::fs::symlink("sub/file", source_path.join("link")).unwrap();
        let info = source(source_path.to_str().unwrap(), false).unwrap();
        let mut archive = Vec::new();
        pack(&info, &Some(("src".into(), "dst".into())), &mut archive).unwrap();
        let mut again = Vec::new();
        carry(&archive[..], &Some(("dst".into(), "new".into())), &mut again).unwrap();
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        unpack(&again[..], out.to_str().unwrap(), &None).unwrap();
        assert_eq!(fs::read_to_string(out.join("new/link")).unwrap(), "content");
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs::metadata(out.join("new/twin")).unwrap().nlink(), 2);
    }

    #[test]
    fn an_archive_stays_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let mut archive = Vec::new();
        let link = Entry { link: outside.to_str().unwrap().into(), ..Entry::new(Kind::Symlink, *b"l", 0o777) };
        archive.extend(tar::header(&link));
        archive.extend(tar::header(&Entry::new(Kind::File, *b"l/f", 0o600)));
        archive.extend(tar::END);
        unpack(&archive[..], out.to_str().unwrap(), &None).unwrap();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        let mut archive = tar::header(&Entry::new(Kind::File, *b"../x", 0o600));
        archive.extend(tar::END);
        let Failed(message) = unpack(&archive[..], out.to_str().unwrap(), &None).unwrap_err();
        assert_eq!(message, "invalid entry name \"../x\"");
    }
}
