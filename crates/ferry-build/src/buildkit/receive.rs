//! Files that come from a client: those that a build asks for, into a folder of its own.
//!
//! The client tells all entries in order, the folder is made of them with empty files, and the content of files is asked for, a few at a
//! time. What a client sends is hostile: names lead nowhere but into the folder. A file that looks as it did in the transfer before is taken
//! from there.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use ferry_buildkit_proto::grpc::{Metadata, Sender};
use ferry_buildkit_proto::messages::transfer::{Packet, PacketType, Stat, mode};
use ferry_engine::workshop::Workshop;
use ferry_sys::tree::{Looks, Maker, Owner, Rules, clean};
use rustix::fs::{FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use tokio::sync::mpsc;

use super::files::header;
use super::sessions::ClientSession;
use crate::clock::now_ns;
use crate::content::is_kept;
use crate::failure::{Doing, Failure, Result, blocking};
use crate::graph::LocalSource;
use crate::progress::Begun;
use crate::tree::Folder;

const DIFF_COPY: &str = "/moby.filesync.v1.FileSync/DiffCopy";

/// Files that are asked for at a time.
const AT_ONCE: usize = 32;
/// Packets that wait to be written to the disk.
const QUEUE: usize = 64;
/// Bytes after which it is told how far it has come.
const TELL_EVERY: u64 = 4 << 20;

/// Brings files of one of the client's directories into a new folder.
pub(super) async fn folder(
    session: &ClientSession,
    source: &LocalSource,
    workshop: &Workshop,
    before: Option<Arc<Folder>>,
    begun: &Begun,
) -> Result<Folder> {
    if !session.offers(DIFF_COPY) {
        return Err(Failure::invalid("no local sources enabled"));
    }
    let making = workshop.clone();
    let owner = blocking(move || Ok(making.context_folder()?)).await?;
    let (sender, mut replies) = session.channel.stream(DIFF_COPY, metadata(source));
    let (packets, arriving) = mpsc::channel::<Packet>(QUEUE);
    let writing = tokio::task::spawn_blocking(move || {
        let folder = Folder::open(owner)?;
        Receiver::new(folder.as_fd(), sender, before).run(arriving)?;
        Ok(folder)
    });
    let (label, started) = (format!("transferring {}:", source.name), now_ns());
    let (mut total, mut told) = (0_u64, 0_u64);
    let tell = |total: u64, done: bool| {
        begun.status(&label, i64::try_from(total).unwrap_or(i64::MAX), 0, started, done);
    };
    tell(0, false);
    let carried = loop {
        match replies.next::<Packet>().await {
            Ok(Some(packet)) => {
                total += prost::Message::encoded_len(&packet) as u64;
                if total - told > TELL_EVERY {
                    told = total;
                    tell(total, false);
                }
                if packets.send(packet).await.is_err() {
                    // The thread says why.
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(status) => break Err(status),
        }
    };
    drop(packets);
    let written = writing.await.unwrap_or_else(|error| Err(Failure::internal(format!("a transfer panicked: {error}"))));
    tell(total, true);
    carried?;
    written
}

fn metadata(source: &LocalSource) -> Metadata {
    let mut metadata = Metadata::new();
    header(&mut metadata, "dir-name", [source.name.as_str()]);
    let all = [
        ("include-patterns", &source.include_patterns),
        ("exclude-patterns", &source.exclude_patterns),
        ("followpaths", &source.follow_paths),
    ];
    for (name, values) in all {
        header(&mut metadata, name, values.iter().map(String::as_str));
    }
    metadata
}

/// A file whose content is to be asked for.
struct Wanted {
    id: u32,
    path: Vec<u8>,
    looks: Looks,
}

/// A file whose content comes.
struct Open {
    file: File,
    looks: Looks,
}

/// The end that writes. Runs on a thread of its own.
struct Receiver<'a> {
    root: BorrowedFd<'a>,
    maker: Maker<'a>,
    sender: Sender,
    next_id: u32,
    wanted: VecDeque<Wanted>,
    open: HashMap<u32, Open>,
    told_all: bool,
    /// The directory as it came before.
    before: Option<Arc<Folder>>,
}

impl<'a> Receiver<'a> {
    fn new(root: BorrowedFd<'a>, sender: Sender, before: Option<Arc<Folder>>) -> Self {
        let rules = Rules { owner: Owner::AsGiven, replaces_kinds: true, label: "/".to_owned() };
        Self {
            root,
            maker: Maker::new(root, rules),
            sender,
            next_id: 0,
            wanted: VecDeque::new(),
            open: HashMap::new(),
            told_all: false,
            before,
        }
    }

    fn run(mut self, mut packets: mpsc::Receiver<Packet>) -> Result<()> {
        while let Some(packet) = packets.blocking_recv() {
            match self.take(packet) {
                Ok(false) => {}
                Ok(true) => return Ok(self.maker.finish()?),
                Err(failure) => {
                    let data = failure.message.clone().into_bytes().into();
                    // A client that has left does not miss it.
                    let _ = self.sender.send_blocking(&Packet { data, ..Packet::of(PacketType::Err) });
                    return Err(failure);
                }
            }
        }
        Err(Failure::internal("the client ended the transfer of files early"))
    }

    /// Takes a packet; tells whether it is the last one.
    fn take(&mut self, packet: Packet) -> Result<bool> {
        match PacketType::try_from(packet.kind) {
            Ok(PacketType::Stat) => match packet.stat {
                Some(stat) => self.entry(stat)?,
                None => self.told_all = true,
            },
            Ok(PacketType::Data) => self.content(packet.id, &packet.data)?,
            Ok(PacketType::Fin) => return Ok(true),
            Ok(PacketType::Err) => {
                let text = String::from_utf8_lossy(&packet.data).into_owned();
                return Err(Failure::invalid(format!("error from sender: {text}")));
            }
            Ok(PacketType::Req) | Err(_) => return Err(Failure::invalid("unexpected packet in a transfer of files")),
        }
        self.ask()?;
        if self.told_all && self.open.is_empty() && self.wanted.is_empty() {
            self.sender.send_blocking(&Packet::of(PacketType::Fin))?;
            // Once is enough.
            self.told_all = false;
        }
        Ok(false)
    }

    fn entry(&mut self, stat: Stat) -> Result<()> {
        let id = self.next_id;
        self.next_id += 1;
        let outside = || Failure::invalid(format!("invalid entry name {:?}", stat.path));
        let path = clean(stat.path.as_bytes()).ok_or_else(outside)?;
        if path.is_empty() {
            return Ok(());
        }
        let looks = Looks {
            mode: mode::permissions(stat.mode),
            uid: stat.uid,
            gid: stat.gid,
            mtime: (
                stat.mod_time.div_euclid(1_000_000_000),
                u32::try_from(stat.mod_time.rem_euclid(1_000_000_000)).unwrap_or_default(),
            ),
            xattrs: stat
                .xattrs
                .into_iter()
                .map(|(name, value)| (name.into_bytes(), value))
                .filter(|(name, _)| is_kept(name))
                .collect(),
        };
        let number = |number: i64| u32::try_from(number).unwrap_or_default();
        let device = (number(stat.devmajor), number(stat.devminor));
        match stat.mode & mode::KIND {
            mode::DIRECTORY => self.maker.folder(&path, &looks)?,
            mode::SYMLINK => self.maker.symlink(&path, stat.linkname.as_bytes(), &looks)?,
            mode::NAMED_PIPE => self.maker.node(&path, FileType::Fifo, (0, 0), &looks)?,
            mode::DEVICE => self.maker.node(&path, FileType::BlockDevice, device, &looks)?,
            kind if kind == mode::DEVICE | mode::CHAR_DEVICE => {
                self.maker.node(&path, FileType::CharacterDevice, device, &looks)?;
            }
            0 if !stat.linkname.is_empty() => self.maker.hard_link(&path, stat.linkname.as_bytes())?,
            0 if let Some(mut file) = self.unchanged(&path, &looks, stat.size) => {
                let copied = |new: &mut File| std::io::copy(&mut file, new).map(drop).doing("cannot write a file");
                self.maker.file::<Failure>(&path, &looks, copied)?;
            }
            0 => {
                self.maker.file::<Failure>(&path, &looks, |_| Ok(()))?;
                if stat.size != 0 {
                    self.wanted.push_back(Wanted { id, path, looks });
                }
            }
            // Sockets and the like are nothing that a build could use.
            _ => {}
        }
        Ok(())
    }

    /// The file as it came before, if it looks the same.
    fn unchanged(&self, path: &[u8], looks: &Looks, size: i64) -> Option<File> {
        let before = self.before.as_ref().filter(|_| size > 0 && looks.xattrs.is_empty())?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = ferry_sys::path::resolve_in_root(before.as_ref().as_fd(), path, flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&opened).ok()?;
        let is_same = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_size == size
            && stat.st_mode & 0o7777 == looks.mode & 0o7777
            && (stat.st_uid, stat.st_gid) == (looks.uid, looks.gid)
            && (stat.st_mtime, i64::from(looks.mtime.1)) == (looks.mtime.0, stat.st_mtime_nsec as i64);
        is_same.then(|| File::from(opened))
    }

    /// Asks for the content of as many files as may come at a time.
    fn ask(&mut self) -> Result<()> {
        while self.open.len() < AT_ONCE
            && let Some(Wanted { id, path, looks }) = self.wanted.pop_front()
        {
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let opened = ferry_sys::path::resolve_in_root(self.root, &path[..], flags, Mode::empty());
            let file = File::from(opened.doing(format!("open {}", String::from_utf8_lossy(&path)))?);
            self.open.insert(id, Open { file, looks });
            self.sender.send_blocking(&Packet { id, ..Packet::of(PacketType::Req) })?;
        }
        Ok(())
    }

    fn content(&mut self, id: u32, data: &[u8]) -> Result<()> {
        let unasked = || Failure::invalid(format!("invalid file request {id}"));
        if !data.is_empty() {
            let open = self.open.get_mut(&id).ok_or_else(unasked)?;
            return open.file.write_all(data).doing("cannot write a file");
        }
        let Open { file, looks } = self.open.remove(&id).ok_or_else(unasked)?;
        // Writing has changed the time, and taken rights away.
        for (name, value) in &looks.xattrs {
            // As when it was made: a file system without attributes loses them.
            let _ = rustix::fs::fsetxattr(&file, &name[..], value, XattrFlags::empty());
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(looks.mode & 0o7777)).doing("cannot write a file")?;
        let time = Timespec { tv_sec: looks.mtime.0, tv_nsec: looks.mtime.1.into() };
        rustix::fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })
            .doing("cannot write a file")
    }
}
