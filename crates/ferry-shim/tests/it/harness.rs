//! An engine in miniature: spawns shims, sends requests, reads events and streams, and looks for what is left behind.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ferry_shim::client::{self, ShimChild, ShimProgram};
use ferry_shim::framing::FrameDecoder;
use ferry_shim::log::{Format, ReadOptions, Reader};
use ferry_shim::protocol::{
    Event, Exec, Exit, ForeignRuntime, Hello, LogOptions, Reply, Request, RequestFrame, ShimError, ShimFrame, Start,
    Streams, Target,
};
use ferry_spec::runtime::{Capabilities, Linux, LinuxNamespace, LinuxNamespaceKind, Process, Root, Spec, defaults};
use rustix::mount::OpenTreeFlags;

/// Longer than anything here takes: a test that hangs fails.
const LIMIT: Duration = Duration::from_secs(60);

const BUSYBOX: &str = "/usr/bin/busybox";

pub(crate) const BOTH: Streams = Streams { stdin: false, stdout: true, stderr: true };
pub(crate) const ALL: Streams = Streams { stdin: true, stdout: true, stderr: true };

/// Whether the machine has what is needed. Says so where it has not, and fails where everything was promised.
pub(crate) fn ready() -> bool {
    let missing = if !rustix::process::geteuid().is_root() {
        "root"
    } else if !Path::new(BUSYBOX).exists() {
        "/usr/bin/busybox (package busybox-static)"
    } else {
        return true;
    };
    assert!(std::env::var("FERRY_TEST_REQUIRE_ALL").as_deref() != Ok("1"), "these tests need {missing}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: needs {missing}");
    false
}

/// `FERRY_TEST_RUNTIME=/usr/sbin/runc` runs all tests on that runtime: a test that fails with both is itself wrong.
pub(crate) fn foreign_runtime() -> Option<ForeignRuntime> {
    let path = std::env::var_os("FERRY_TEST_RUNTIME")?;
    Some(ForeignRuntime { path: path.into(), args: Vec::new() })
}

fn program() -> &'static ShimProgram {
    static PROGRAM: OnceLock<ShimProgram> = OnceLock::new();
    PROGRAM.get_or_init(|| ShimProgram::load(Path::new(env!("CARGO_BIN_EXE_ferry-shim"))).expect("shim program"))
}

/// The folders of one container.
pub(crate) struct Folders {
    pub(crate) base: PathBuf,
    pub(crate) id: String,
    pub(crate) cgroup: String,
}

impl Folders {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("ferry-shim-it-{}-{number}", std::process::id());
        let base = std::env::temp_dir().join(&mark);
        let id = format!("{:032x}{:032x}", std::process::id(), number);
        let folders = Self { cgroup: format!("/{mark}/{id}"), base, id };
        for dir in ["data", "run", "rootfs/bin", "rootfs/proc", "rootfs/sys", "rootfs/dev", "rootfs/etc", "rootfs/tmp"]
        {
            std::fs::create_dir_all(folders.base.join(dir)).expect("folder");
        }
        std::fs::copy(BUSYBOX, folders.base.join("rootfs/bin/busybox")).expect("busybox");
        for name in ["sh", "cat", "echo", "sleep", "true", "stty", "head", "seq", "yes", "dd", "wc", "id", "kill", "ls"]
        {
            std::os::unix::fs::symlink("busybox", folders.base.join("rootfs/bin").join(name)).expect("link");
        }
        folders
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.base.join("data")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.base.join("run")
    }

    pub(crate) fn log_name(&self) -> String {
        format!("{}-json.log", self.id)
    }

    /// The text of the log by stream, oldest first.
    pub(crate) fn log(&self) -> Vec<(&'static str, String)> {
        let mut reader =
            Reader::open(&self.data(), &self.log_name(), Format::JsonFile, ReadOptions::default()).expect("log");
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry().expect("entry") {
            entries.push((entry.stream.name(), String::from_utf8_lossy(entry.line).into_owned()));
        }
        assert_eq!(reader.damaged(), 0);
        entries
    }

    pub(crate) fn exit(&self) -> Option<Exit> {
        let bytes = std::fs::read(self.data().join("exit.json")).ok()?;
        Some(serde_json::from_slice(&bytes).expect("exit.json"))
    }

    /// A start of a program, without clients.
    pub(crate) fn start(&self, args: &[&str]) -> Start {
        Start {
            id: self.id.clone(),
            spec: self.spec(args),
            run_dir: self.run(),
            rootfs_fd: true,
            network_fd: false,
            mount_fds: Vec::new(),
            cgroup: self.cgroup.clone(),
            scope: None,
            shim_cgroup: None,
            shim_scope: None,
            open_stdin: false,
            stdin_once: false,
            log: LogOptions::JsonFile {
                file_name: self.log_name(),
                max_size_bytes: None,
                max_files: 1,
                compress: false,
                attrs: Vec::new(),
            },
            foreign_runtime: foreign_runtime(),
            attached: Vec::new(),
        }
    }

    fn spec(&self, args: &[&str]) -> Spec {
        use LinuxNamespaceKind::{Ipc, Mount, Network, Pid, Uts};
        Spec {
            oci_version: ferry_spec::runtime::OCI_VERSION.into(),
            process: Some(process(args)),
            root: Some(Root { path: "rootfs".into(), readonly: false }),
            hostname: Some("box".into()),
            mounts: defaults::mounts(),
            linux: Some(Linux {
                cgroups_path: Some(self.cgroup.clone()),
                namespaces: [Pid, Network, Mount, Ipc, Uts].map(LinuxNamespace::new).to_vec(),
                ..Linux::default()
            }),
            ..Spec::default()
        }
    }

    fn cgroup_folders(&self) -> Vec<PathBuf> {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").expect("cgroups");
        let mut roots: Vec<PathBuf> = hierarchies.map(|entry| entry.expect("entry").path()).collect();
        roots.push("/sys/fs/cgroup".into());
        roots.into_iter().map(|root| root.join(&self.cgroup[1..])).collect()
    }

    /// Nothing of the container is left but its data.
    pub(crate) fn assert_clean(&self) {
        let left: Vec<PathBuf> = self.cgroup_folders().into_iter().filter(|folder| folder.exists()).collect();
        assert!(left.is_empty(), "cgroups are left: {left:?}");
        let run: Vec<_> =
            std::fs::read_dir(self.run()).expect("run folder").map(|entry| entry.expect("entry").path()).collect();
        assert!(run.is_empty(), "files are left: {run:?}");
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        for folder in self.cgroup_folders() {
            for folder in [folder.as_path(), folder.parent().expect("below the mark")] {
                let _ = std::fs::remove_dir(folder);
            }
        }
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

/// An OCI process with Docker's rights.
pub(crate) fn process(args: &[&str]) -> Process {
    let names = defaults::capabilities();
    Process {
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        env: vec!["PATH=/bin".into()],
        cwd: "/".into(),
        capabilities: Some(Capabilities {
            bounding: names.clone(),
            effective: names.clone(),
            permitted: names,
            ..Capabilities::default()
        }),
        ..Process::default()
    }
}

/// A control connection.
pub(crate) struct Engine {
    socket: UnixStream,
    /// Of the shim.
    pub(crate) pid: u32,
    decoder: FrameDecoder,
    events: VecDeque<Event>,
    seq: u64,
    child: Option<ShimChild>,
}

impl Engine {
    /// Spawns a shim.
    pub(crate) fn spawn() -> Self {
        let spawned = program().spawn().expect("spawn");
        let mut engine = Self::over(spawned.socket);
        assert_eq!(engine.hello().pid, spawned.pid);
        engine.pid = spawned.pid;
        engine.child = Some(spawned.child);
        engine
    }

    /// Finds the shim of a container that lives.
    pub(crate) fn connect(folders: &Folders) -> Self {
        let mut engine = Self::over(client::connect(&folders.run()).expect("connect"));
        let hello = engine.hello();
        assert_eq!(hello.version, ferry_shim::protocol::PROTOCOL_VERSION);
        engine.pid = hello.pid;
        engine
    }

    fn over(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(LIMIT)).expect("timeout");
        Self { socket, pid: 0, decoder: FrameDecoder::new(), events: VecDeque::new(), seq: 0, child: None }
    }

    fn hello(&mut self) -> Hello {
        serde_json::from_slice(&self.frame().expect("hello")).expect("hello")
    }

    fn frame(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("frame") {
                return Some(frame);
            }
            match (&self.socket).read(&mut buffer).expect("the shim answers in time") {
                0 => return None,
                count => self.decoder.push(&buffer[..count]),
            }
        }
    }

    pub(crate) fn send(&mut self, request: Request, fds: &[BorrowedFd<'_>]) -> u64 {
        self.seq += 1;
        client::send(&self.socket, &RequestFrame { seq: self.seq, request }, fds).expect("send");
        self.seq
    }

    pub(crate) fn call(&mut self, request: Request, fds: &[BorrowedFd<'_>]) -> Reply {
        let wanted = self.send(request, fds);
        loop {
            match serde_json::from_slice(&self.frame().expect("reply")).expect("shim frame") {
                ShimFrame::Reply { seq, reply } => {
                    assert_eq!(seq, wanted);
                    return reply;
                }
                ShimFrame::Event(event) => self.events.push_back(event),
            }
        }
    }

    pub(crate) fn ok(&mut self, request: Request) {
        match self.call(request, &[]) {
            Reply::Ok => {}
            other => panic!("not done: {other:?}"),
        }
    }

    pub(crate) fn error(&mut self, request: Request) -> ShimError {
        match self.call(request, &[]) {
            Reply::Error(error) => error,
            other => panic!("no error: {other:?}"),
        }
    }

    pub(crate) fn event(&mut self) -> Event {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        match serde_json::from_slice(&self.frame().expect("event")).expect("shim frame") {
            ShimFrame::Event(event) => event,
            other @ ShimFrame::Reply { .. } => panic!("no event: {other:?}"),
        }
    }

    /// Whether an event can be had without waiting.
    pub(crate) fn has_event(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        !self.events.is_empty()
            || !self.decoder.is_empty()
            || poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&now)).is_ok_and(|count| count > 0)
    }

    /// Sends a start with everything that it takes; `clients` are the shim's ends of the attached sockets.
    pub(crate) fn try_start(
        &mut self,
        folders: &Folders,
        mut start: Start,
        clients: Vec<(UnixStream, Streams)>,
    ) -> Reply {
        start.attached = clients.iter().map(|(_, streams)| *streams).collect();
        let data = File::open(folders.data()).expect("data");
        let run = File::open(folders.run()).expect("run");
        let rootfs = rootfs(&folders.base.join("rootfs"));
        let mut fds = vec![data.as_fd(), run.as_fd(), rootfs.as_fd()];
        fds.extend(clients.iter().map(|(socket, _)| socket.as_fd()));
        self.call(Request::Start(Box::new(start)), &fds)
    }

    pub(crate) fn start(&mut self, folders: &Folders, start: Start, clients: Vec<(UnixStream, Streams)>) -> u32 {
        match self.try_start(folders, start, clients) {
            Reply::Started { pid } => pid,
            other => panic!("not started: {other:?}"),
        }
    }

    pub(crate) fn exec(&mut self, exec: Exec, clients: Vec<(UnixStream, Streams)>) -> Reply {
        let exec = Exec { attached: clients.iter().map(|(_, streams)| *streams).collect(), ..exec };
        let fds: Vec<BorrowedFd<'_>> = clients.iter().map(|(socket, _)| socket.as_fd()).collect();
        self.call(Request::Exec(Box::new(exec)), &fds)
    }

    pub(crate) fn attach(&mut self, target: Target, streams: Streams) -> UnixStream {
        let (ours, theirs) = pair();
        match self.call(Request::Attach { target, streams }, &[theirs.as_fd()]) {
            Reply::Ok => ours,
            other => panic!("not attached: {other:?}"),
        }
    }

    pub(crate) fn kill(&mut self, signal: i32) {
        self.ok(Request::Kill { target: Target::Init, signal, all: false });
    }

    pub(crate) fn wait_exit(&mut self) -> Exit {
        loop {
            if let Event::Exited(exit) = self.event() {
                return exit;
            }
        }
    }

    /// Ends the shim and shows that nothing is left.
    pub(crate) fn shut_down(mut self, folders: &Folders) {
        self.ok(Request::Shutdown);
        folders.assert_clean();
        self.wait_end();
    }

    pub(crate) fn wait_end(&mut self) {
        if let Some(child) = self.child.take() {
            child.wait().expect("the shim ends");
        }
    }

    /// Dies as a killed daemon does: all its descriptors close. Gives what a test needs for reaping.
    pub(crate) fn die(mut self) -> ShimChild {
        self.child.take().expect("spawned by us")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            // A failed test: end the container's tree, so that nothing outlives the test run.
            self.seq += 1;
            let kill = Request::Kill { target: Target::Init, signal: 9, all: false };
            let _ = client::send(&self.socket, &RequestFrame { seq: self.seq, request: kill }, &[]);
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
            let _ = child.wait();
        }
    }
}

fn rootfs(path: &Path) -> OwnedFd {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(rustix::fs::CWD, path, flags).expect("open_tree")
}

/// Our end and the shim's.
pub(crate) fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("pair");
    ours.set_read_timeout(Some(LIMIT)).expect("timeout");
    ours.set_write_timeout(Some(LIMIT)).expect("timeout");
    (ours, theirs)
}

/// Reads to the end of the stream.
pub(crate) fn read_raw(mut socket: &UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).expect("stream");
    bytes
}

/// Reads to the end of a multiplexed stream: stdout and stderr.
pub(crate) fn read_frames(socket: &UnixStream) -> (Vec<u8>, Vec<u8>) {
    let bytes = read_raw(socket);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut rest = bytes.as_slice();
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        assert_eq!(header[1..4], [0; 3]);
        let length = usize::try_from(u32::from_be_bytes([header[4], header[5], header[6], header[7]])).expect("fits");
        let (payload, after) = after.split_at(length);
        match header[0] {
            1 => out.extend_from_slice(payload),
            2 => err.extend_from_slice(payload),
            other => panic!("stream {other}"),
        }
        rest = after;
    }
    assert!(rest.is_empty());
    (out, err)
}

/// Reads until the text has appeared.
pub(crate) fn read_until(mut socket: &UnixStream, text: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let all = String::from_utf8_lossy(&seen).into_owned();
        if all.contains(text) {
            return all;
        }
        match socket.read(&mut buffer).expect("stream") {
            0 => panic!("`{text}` did not come: {all:?}"),
            count => seen.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Asks again and again until it holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LIMIT, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
