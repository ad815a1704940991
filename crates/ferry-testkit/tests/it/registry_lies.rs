//! A registry that stops in the middle of a layer: what becomes of transfers whose daemon or whose clients are gone.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use ferry_testkit::command::Running;
use ferry_testkit::image::{Compression, Dialect, Image, Layer};
use ferry_testkit::{Daemon, command, programs};
use rustix::process::Signal;

use crate::until;

const ADDRESS: &str = "127.0.0.1:5555";

/// Serves one image under every tag; its layer comes to a half and then waits.
struct Holding {
    image: Image,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Where each request for the layer began.
    begun: Vec<usize>,
    sent: usize,
    is_open: bool,
    /// Connections that their client closed while the layer was held.
    left: usize,
}

impl Holding {
    fn start(daemon: &Daemon) -> Arc<Self> {
        let bytes: Vec<u8> = (0..4u32 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let tar = Layer::default().dir("a/", 0o755).file("a/b", 0o644, &bytes).into_tar();
        let run = serde_json::json!({"Cmd": ["sh"]});
        let image = Image::build("amd64", &run, vec![tar], Compression::None, Dialect::Oci).unwrap();
        let holding = Arc::new(Self { image, state: Mutex::default(), changed: Condvar::new() });
        let listener = daemon.sandbox().listen(ADDRESS).unwrap();
        Arc::clone(&holding).serve(listener);
        holding
    }

    fn serve(self: Arc<Self>, listener: TcpListener) {
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let this = Arc::clone(&self);
                // A client that is gone is what this is about.
                std::thread::spawn(move || drop(this.answer(stream)));
            }
        });
    }

    fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let result = look(&mut self.state.lock().unwrap());
        self.changed.notify_all();
        result
    }

    fn layer_size(&self) -> usize {
        self.image.layers[0].bytes.len()
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        while !request.windows(4).any(|window| window == b"\r\n\r\n") {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            if buffer[0] == 0x16 {
                return stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
            }
            request.extend_from_slice(&buffer[..count]);
        }
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let mut words = text.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let image = &self.image;
        if path.ends_with(&image.layers[0].digest()) {
            return self.send_layer(&mut stream, &text);
        }
        let blob = [&image.manifest, &image.config].into_iter().find(|blob| match path.contains("/manifests/") {
            true => blob.media_type == image.manifest.media_type,
            false => path.ends_with(&blob.digest()),
        });
        let Some(blob) = blob else { return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") };
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nDocker-Content-Digest: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            blob.media_type,
            blob.digest(),
            blob.bytes.len()
        )?;
        if method == "get" { stream.write_all(&blob.bytes) } else { Ok(()) }
    }

    fn send_layer(&self, stream: &mut TcpStream, request: &str) -> std::io::Result<()> {
        let bytes = &self.image.layers[0].bytes;
        let range =
            request.lines().find_map(|line| line.strip_prefix("range: bytes=")?.split('-').next()?.parse().ok());
        let begin: usize = range.unwrap_or(0);
        let is_open = self.state(|state| {
            state.begun.push(begin);
            state.is_open
        });
        let rest = &bytes[begin..];
        let status = match range {
            Some(_) => {
                format!("206 Partial Content\r\nContent-Range: bytes {begin}-{}/{}", bytes.len() - 1, bytes.len())
            }
            None => "200 OK".to_owned(),
        };
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", rest.len())?;
        let half = if is_open { rest.len() } else { rest.len() / 2 };
        stream.write_all(&rest[..half])?;
        self.state(|state| state.sent += half);
        if !self.wait_for_the_gate(stream) {
            self.state(|state| state.left += 1);
            return Ok(());
        }
        self.state(|state| state.sent += rest.len() - half);
        stream.write_all(&rest[half..])
    }

    /// Waits until the layer may go on; false when the client closed the connection first.
    fn wait_for_the_gate(&self, stream: &TcpStream) -> bool {
        stream.set_nonblocking(true).unwrap();
        let mut state = self.state.lock().unwrap();
        while !state.is_open {
            if matches!(stream.peek(&mut [0]), Ok(0)) {
                return false;
            }
            state = self.changed.wait_timeout(state, Duration::from_millis(20)).unwrap().0;
        }
        stream.set_nonblocking(false).unwrap();
        true
    }
}

#[test]
fn a_pull_goes_on_after_the_daemon_was_killed() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let registry = Holding::start(&daemon);
    let name = format!("{ADDRESS}/held:1");
    let pull = daemon.spawn(&["pull", &name]);
    let ingest = daemon.data_root().join("content/ingest");
    let arrived = || {
        let files = std::fs::read_dir(&ingest).into_iter().flatten().flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len() as usize)).max().unwrap_or(0)
    };
    until("half of the layer to arrive", || arrived() >= registry.layer_size() / 2);
    daemon.kill().unwrap();
    let cut_off = pull.finish(command::LIMIT).unwrap();
    assert_ne!(cut_off.code, 0, "{cut_off}");
    until("the connection to be gone", || registry.state(|state| state.left == 1));
    registry.state(|state| state.is_open = true);
    daemon.start().unwrap();
    assert!(daemon.run(&["pull", &name]).ok().contains("Status: Downloaded newer image"));
    let (begun, sent) = registry.state(|state| (state.begun.clone(), state.sent));
    assert_eq!(begun, [0, registry.layer_size() / 2], "nothing comes twice");
    assert_eq!(sent, registry.layer_size());
}

#[test]
fn clients_come_and_go_while_one_transfer_runs() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let registry = Holding::start(&daemon);
    let name = |tag: &str| format!("{ADDRESS}/held:{tag}");
    // Two want the same, a third another name of it; the one who came first leaves.
    let first = daemon.spawn(&["pull", &name("1")]);
    until("the transfer to run", || registry.state(|state| !state.begun.is_empty()));
    let others = ["1", "2"].map(|tag| {
        let shown = daemon.sandbox().dir().join(format!("shown-{tag}"));
        let mut pull = daemon.client("sh");
        pull.args(["-c", &format!("exec ferry pull {} >'{}'", name(tag), shown.display())]);
        (Running::start(pull, b"").unwrap(), shown)
    });
    let shown = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    for (_, path) in &others {
        until("the others to be there before the first leaves", || shown(path).contains("Pulling from held"));
    }
    first.signal(Signal::KILL).unwrap();
    let _ = first.finish(command::LIMIT).unwrap();
    registry.state(|state| state.is_open = true);
    for (other, path) in others {
        let _ = other.finish(command::LIMIT).unwrap().ok();
        assert!(shown(&path).contains("Status: Downloaded newer image"), "{}", shown(&path));
    }
    assert_eq!(
        registry.state(|state| (state.begun.clone(), state.left)),
        (vec![0], 0),
        "fetched once, by one connection"
    );

    // When the last one leaves, so does the transfer.
    let _ = daemon.run(&["rmi", &name("1"), &name("2")]).ok();
    registry.state(|state| *state = State::default());
    let last = daemon.spawn(&["pull", &name("3")]);
    until("the transfer to run", || registry.state(|state| !state.begun.is_empty()));
    last.signal(Signal::KILL).unwrap();
    let _ = last.finish(command::LIMIT).unwrap();
    until("the connection to be closed", || registry.state(|state| state.left == 1));
    assert_eq!(daemon.run(&["images", "-q"]).ok().lines().count(), 1, "only busybox is there");
}
