//! The writing side: entries gathered, appended in one write, rotated by size, and never an error for who writes them.
//!
//! A disk that is full costs lines, not the container: they are counted, the file is cut back to its last whole line, and once
//! there is space again a line of our own says how many are missing.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::{Format, Line, Stream, slots};

/// Entries are written when this much is gathered, at the latest at [`Writer::flush`].
const GATHER_BYTES: usize = 32 * 1024;

/// How to write a log.
#[derive(Debug, Clone, Default)]
pub struct WriterOptions {
    /// Name of the live file in the folder.
    pub file_name: String,
    /// How entries are written down.
    pub format: Format,
    /// Rotate before a file passes this; `None` never rotates.
    pub max_size_bytes: Option<u64>,
    /// Files kept, the live one included; 0 counts as 1.
    pub max_files: u32,
    /// Rotated files are to be compressed, see [`Writer::next_compression`].
    pub compress: bool,
    /// Constant attributes of every line.
    pub attrs: Vec<(String, String)>,
}

/// Appends to a log.
#[derive(Debug)]
pub struct Writer {
    dir: OwnedFd,
    options: WriterOptions,
    attrs: Vec<u8>,
    live: File,
    size: u64,
    gathered: Vec<u8>,
    lost_lines: u64,
    lost_because: String,
    compressing: Option<u64>,
    /// There may be a plain rotated file.
    to_compress: bool,
}

/// A rotated file that wants to be compressed: run [`super::compress`] over the two, then [`Writer::finish_compression`].
#[derive(Debug)]
pub struct CompressionJob {
    /// The plain file.
    pub source: File,
    /// An empty file to write to.
    pub target: File,
}

impl Writer {
    /// Opens or makes the live file, mode 0640, and repairs its end.
    ///
    /// # Errors
    /// When the live file cannot be made.
    pub fn open(dir: OwnedFd, options: WriterOptions) -> io::Result<Self> {
        let live = open_live(&dir, &options.file_name)?;
        let size = options.format.repair_end(&live, live.metadata()?.len())?;
        let attrs = options.format.encode_attrs(&options.attrs);
        let to_compress = options.compress;
        let (gathered, lost_because) = (Vec::new(), String::new());
        Ok(Self {
            dir,
            options,
            attrs,
            live,
            size,
            gathered,
            lost_lines: 0,
            lost_because,
            compressing: None,
            to_compress,
        })
    }

    /// Adds a line or a part of one. It is written at the latest at the next [`Writer::flush`].
    pub fn push_line(&mut self, line: &Line<'_>) {
        let before = self.gathered.len();
        self.options.format.push(&mut self.gathered, line, &self.attrs);
        let would_be = self.size + self.gathered.len() as u64;
        if self.options.max_size_bytes.is_some_and(|max| would_be > max) && self.size + before as u64 > 0 {
            let entry = self.gathered.split_off(before);
            self.flush();
            self.rotate();
            self.gathered = entry;
        }
        if self.gathered.len() >= GATHER_BYTES {
            self.flush();
        }
    }

    /// Writes what was gathered.
    pub fn flush(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        if self.lost_lines > 0 {
            self.tell_losses();
        }
        let gathered = std::mem::take(&mut self.gathered);
        if self.lost_lines > 0 {
            self.lost_lines += self.count(&gathered);
        } else if let Err((written, error)) = self.append(&gathered) {
            self.lost_lines = self.count(&gathered[written..]);
            self.lost_because = error.to_string();
        }
        self.gathered = gathered;
        self.gathered.clear();
        self.gathered.shrink_to(2 * GATHER_BYTES);
    }

    /// Writes what is left, the note about lost lines included, and gives the buffer back to the allocator. For the end of a container
    /// and for quiet times.
    pub fn settle(&mut self) {
        self.flush();
        if self.lost_lines > 0 {
            self.tell_losses();
        }
        self.gathered = Vec::new();
    }

    /// Lines that could not be written and are not yet told of in the log.
    #[must_use]
    pub fn lost_lines(&self) -> u64 {
        self.lost_lines
    }

    /// The oldest rotated file that wants compression, while none is being compressed.
    ///
    /// # Errors
    /// When the file for the result cannot be made; the plain one stays.
    pub fn next_compression(&mut self) -> io::Result<Option<CompressionJob>> {
        if !self.to_compress || self.compressing.is_some() {
            return Ok(None);
        }
        for slot in (1..self.first_free_slot()?).rev() {
            let Some(open) = slots::open(self.dir.as_fd(), &self.options.file_name, slot)? else {
                continue;
            };
            if !open.compressed {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let target = openat(&self.dir, self.unfinished_name(), flags, Mode::from_raw_mode(0o640))?;
                self.compressing = Some(open.inode);
                return Ok(Some(CompressionJob { source: open.file, target: File::from(target) }));
            }
        }
        self.to_compress = false;
        Ok(None)
    }

    /// Puts the compressed file in the place of the plain one, wherever rotation has moved that meanwhile; or forgets it.
    ///
    /// # Errors
    /// When renaming fails; the plain file stays.
    pub fn finish_compression(&mut self, succeeded: bool) -> io::Result<()> {
        let inode = self.compressing.take();
        let slot = if succeeded { self.slot_of(inode)? } else { None };
        let name = &self.options.file_name;
        if let Some(slot) = slot {
            renameat(&self.dir, self.unfinished_name(), &self.dir, slots::compressed(name, slot))?;
            unlinkat(&self.dir, slots::plain(name, slot), AtFlags::empty())?;
        } else {
            remove(&self.dir, &self.unfinished_name())?;
        }
        Ok(())
    }

    /// Appends whole lines, or as many of them as there is space for; says then how many bytes these are.
    fn append(&mut self, lines: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while written < lines.len() {
            match (&self.live).write(&lines[written..]) {
                Ok(0) => return Err((self.cut_back(&lines[..written]), Errno::NOSPC.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((self.cut_back(&lines[..written]), error)),
            }
        }
        self.size += written as u64;
        Ok(())
    }

    fn cut_back(&mut self, written: &[u8]) -> usize {
        let (whole, _) = self.options.format.whole(written);
        self.size += whole as u64;
        if whole < written.len() {
            // Should even this fail, then a half line stays, and readers skip it.
            let _ = self.live.set_len(self.size);
        }
        whole
    }

    fn tell_losses(&mut self) {
        let text = format!("ferry: {} log lines were lost: {}", self.lost_lines, self.lost_because);
        let mut entry = Vec::with_capacity(text.len() + 96);
        let line = Line { stream: Stream::Stderr, text: text.as_bytes(), whole: true, time_ns: now_ns(), part: None };
        self.options.format.push(&mut entry, &line, &self.attrs);
        if self.append(&entry).is_ok() {
            self.lost_lines = 0;
        }
    }

    /// Moves the live file to slot 1 and all before it one further; the last one goes. When that fails, the live file grows on.
    fn rotate(&mut self) {
        // A full disk is the usual reason; the next line tries again.
        if let Ok(live) = self.try_rotate() {
            self.live = live;
            self.size = 0;
            self.to_compress = self.options.compress;
        }
    }

    fn try_rotate(&self) -> io::Result<File> {
        let name = &self.options.file_name;
        let keep = self.options.max_files.max(1);
        if keep == 1 {
            // A new inode, not a truncation: who reads the old one sees it to its end.
            unlinkat(&self.dir, name, AtFlags::empty())?;
            return open_live(&self.dir, name);
        }
        for slot in (1..self.first_free_slot()?).rev() {
            for form in [slots::plain, slots::compressed] {
                if slot + 1 < keep {
                    rename_existing(&self.dir, &form(name, slot), &form(name, slot + 1))?;
                } else {
                    remove(&self.dir, &form(name, slot))?;
                }
            }
        }
        renameat(&self.dir, name, &self.dir, slots::plain(name, 1))?;
        open_live(&self.dir, name)
    }

    /// Slots from 1 up to this one are taken. A crash in the middle of a rotation may leave taken ones after it.
    fn first_free_slot(&self) -> io::Result<u32> {
        let mut slot = 1;
        while slots::is_taken(self.dir.as_fd(), &self.options.file_name, slot)? {
            slot += 1;
        }
        Ok(slot)
    }

    fn slot_of(&self, inode: Option<u64>) -> io::Result<Option<u32>> {
        for slot in 1..self.first_free_slot()? {
            match rustix::fs::statat(&self.dir, slots::plain(&self.options.file_name, slot), AtFlags::SYMLINK_NOFOLLOW)
            {
                Ok(stat) if Some(stat.st_ino) == inode => return Ok(Some(slot)),
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(None)
    }

    fn count(&self, entries: &[u8]) -> u64 {
        self.options.format.whole(entries).1
    }

    fn unfinished_name(&self) -> String {
        // Of this process: the one that wrote for the last run may not be done yet.
        format!("{}.gz-unfinished-{}", self.options.file_name, std::process::id())
    }
}

fn open_live(dir: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = File::from(openat(dir, name, flags, Mode::from_raw_mode(0o640))?);
    if file.metadata()?.mode() & 0o777 != 0o640 {
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o640))?;
    }
    Ok(file)
}

fn rename_existing(dir: &OwnedFd, from: &str, to: &str) -> io::Result<()> {
    match renameat(dir, from, dir, to) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn remove(dir: &OwnedFd, name: &str) -> io::Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

#[cfg(test)]
impl Writer {
    /// A line or part without a place in a longer one.
    pub(super) fn push(&mut self, stream: Stream, text: &[u8], whole: bool, time_ns: i64) {
        self.push_line(&Line { stream, text, whole, time_ns, part: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::Folder;

    #[test]
    fn lines_are_appended_and_the_file_is_not_world_readable() {
        let folder = Folder::new("append");
        for text in ["one", "two"] {
            let mut writer = folder.writer(WriterOptions { file_name: "l".into(), ..Default::default() });
            writer.push(Stream::Stdout, text.as_bytes(), true, 0);
            writer.flush();
        }
        let line =
            |text| format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00Z\"}}\n");
        assert_eq!(folder.read("l"), line("one") + &line("two"));
        assert_eq!(std::fs::metadata(folder.path.join("l")).expect("stat").mode() & 0o777, 0o640);
    }

    #[test]
    fn a_line_cut_by_a_crash_does_not_cost_the_next_one() {
        let folder = Folder::new("crash");
        std::fs::write(folder.path.join("l"), "{\"log\":\"ha").expect("write");
        let mut writer = folder.writer(WriterOptions { file_name: "l".into(), ..Default::default() });
        writer.push(Stream::Stdout, b"next", true, 0);
        writer.flush();
        assert!(folder.read("l").starts_with("{\"log\":\"ha\n{\"log\":\"next"));
    }

    #[test]
    fn no_file_passes_the_limit_and_only_so_many_are_kept() {
        let folder = Folder::new("rotate");
        let options =
            WriterOptions { file_name: "l".into(), max_size_bytes: Some(1000), max_files: 3, ..Default::default() };
        let mut writer = folder.writer(options);
        for number in 0..200 {
            writer.push(Stream::Stdout, format!("line {number}").as_bytes(), true, number);
        }
        writer.flush();
        assert_eq!(folder.names(), ["l", "l.1", "l.2"]);
        for name in folder.names() {
            assert!(folder.read(&name).len() <= 1000, "{name}");
        }
        assert!(folder.read("l").contains("line 199"));
        let (newer, older) = (folder.read("l.1"), folder.read("l.2"));
        assert!(newer.len() > 900 && older.len() > 900);
        assert!(!older.contains("line 199") && !newer.contains("line 199"));
    }

    #[test]
    fn one_file_is_replaced() {
        let folder = Folder::new("single");
        let options =
            WriterOptions { file_name: "l".into(), max_size_bytes: Some(300), max_files: 1, ..Default::default() };
        let mut writer = folder.writer(options);
        for number in 0..50 {
            writer.push(Stream::Stdout, format!("line {number}").as_bytes(), true, number);
            writer.flush();
        }
        assert_eq!(folder.names(), ["l"]);
        assert!(folder.read("l").contains("line 49"));
        assert!(!folder.read("l").contains("line 0\\n"));
    }

    #[test]
    fn a_compressed_file_takes_the_place_of_the_plain_one_after_more_rotations() {
        let folder = Folder::new("compress");
        let options = WriterOptions {
            file_name: "l".into(),
            max_size_bytes: Some(200),
            max_files: 9,
            compress: true,
            ..Default::default()
        };
        let mut writer = folder.writer(options);
        let fill = |writer: &mut Writer, from: i64| {
            for number in from..from + 3 {
                writer.push(Stream::Stdout, format!("line {number}").as_bytes(), true, number);
            }
            writer.flush();
        };
        fill(&mut writer, 0);
        let mut job = writer.next_compression().expect("job").expect("one was rotated");
        assert!(writer.next_compression().expect("job").is_none(), "one at a time");
        fill(&mut writer, 3);
        crate::log::compress(&mut job.source, &mut job.target).expect("compress");
        writer.finish_compression(true).expect("finish");
        let names = folder.names();
        assert_eq!(names.iter().filter(|name| name.ends_with(".gz")).count(), 1, "{names:?}");
        let last = names
            .iter()
            .filter_map(|name| name[1..].trim_start_matches('.').split('.').next()?.parse::<u32>().ok())
            .max();
        assert_eq!(names.iter().find(|name| name.ends_with(".gz")), Some(&format!("l.{}.gz", last.expect("slots"))));
    }
}
