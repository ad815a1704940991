//! What goes wrong, goes wrong clearly: the right code, a clear text, and nothing left.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use ferry_testkit::image::{Blob, Compression, Dialect, Image, Layer, digest};
use ferry_testkit::leak::Watch;
use ferry_testkit::material::Material;
use ferry_testkit::{Daemon, programs};

use crate::Mirrored;

/// Runs bad command lines, each with its exit code and a part of its message, and finds nothing left.
fn refused(lines: &[(&[&str], i32, &str)]) {
    let daemon = Daemon::ready();
    daemon.load(&Material::get().full());
    let watch = Watch::daemon(&daemon);
    for (args, code, part) in lines {
        let outcome = daemon.run(args);
        assert_eq!(outcome.code, *code, "{args:?}: {outcome}");
        assert!(outcome.err().contains(part), "{args:?} does not say {part:?}: {outcome}");
    }
    watch.end().unwrap();
}

#[test]
fn commands_that_cannot_start() {
    if !programs::need_root() {
        return;
    }
    refused(&[
        (&["run", "--rm", "busybox", "no-such-command"], 127, "executable file not found in $PATH"),
        (&["run", "--rm", "busybox", "/no/such/path"], 127, "no such file or directory"),
        (&["run", "--rm", "busybox", "/etc/passwd"], 126, "permission denied"),
        (&["run", "--rm", "busybox", "/etc"], 126, "is a directory"),
        (&["run", "--rm", "--entrypoint", "/not-executable", "full"], 126, "permission denied"),
        (&["run", "--rm", "-u", "nobody-knows", "busybox", "true"], 125, "unable to find user nobody-knows"),
        (&["run", "--rm", "-w", "relative", "busybox", "true"], 125, "needs to be an absolute path"),
    ]);
}

#[test]
fn bad_words_on_the_command_line() {
    if !programs::need_root() {
        return;
    }
    refused(&[
        (&["run", "--no-such-flag", "busybox"], 125, "unknown flag: --no-such-flag"),
        (&["run", "-Z", "busybox"], 125, "unknown shorthand flag: 'Z' in -Z"),
        (&["ps", "--no-such-flag"], 125, "unknown flag: --no-such-flag"),
        (&["no-such-command"], 1, "unknown command"),
        (&["run", "--rm", "UPPER", "true"], 125, "must be lowercase"),
        (&["run", "--rm", "bad//ref", "true"], 125, "invalid reference format"),
        (&["run", "--rm", "--name", "bad/name", "busybox"], 125, "Invalid container name (bad/name)"),
        (&["run", "--rm", "-m", "1k", "busybox"], 125, "Minimum memory limit allowed is 6MB"),
        (&["run", "--rm", "-p", "99999:80", "busybox"], 125, "99999"),
        (&["run", "--rm", "--network", "no-such-net", "busybox"], 125, "network no-such-net not found"),
        (&["run", "--rm", "--network", "container:no-such", "busybox"], 125, "No such container: no-such"),
        (&["run", "--rm", "--cap-add", "NO_SUCH", "busybox"], 125, "NO_SUCH"),
        (&["run", "--rm", "--ulimit", "no-such=1", "busybox"], 125, "no-such"),
    ]);
}

#[test]
fn bad_mounts() {
    if !programs::need_root() {
        return;
    }
    refused(&[
        (
            &["run", "--rm", "-v", "relative/path:/x", "busybox"],
            125,
            "includes invalid characters for a local volume name",
        ),
        (&["run", "--rm", "-v", "/a:relative", "busybox"], 125, "mount path must be absolute"),
        (&["run", "--rm", "-v", "/tmp:/x:no-such-mode", "busybox"], 125, "invalid mode: no-such-mode"),
        (&["run", "--rm", "-v", "/tmp:/", "busybox"], 125, "destination can't be '/'"),
        (
            &["run", "--rm", "--mount", "type=bind,source=/no/such,target=/x", "busybox"],
            125,
            "bind source path does not exist: /no/such",
        ),
        (&["run", "--rm", "--mount", "type=no-such,target=/x", "busybox"], 125, "mount type unknown"),
        (
            &["run", "--rm", "-v", "/etc/hostname:/etc", "busybox"],
            125,
            "error mounting \"/etc/hostname\" to rootfs at \"/etc\"",
        ),
    ]);
}

#[test]
fn taken_names_and_ports() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-d", "--name", "first", "-p", "127.0.0.1:8080:80", "busybox", "sleep", "1000"]).ok();
    let watch = Watch::daemon(&daemon);
    let name = daemon.run(&["run", "--rm", "--name", "first", "busybox", "true"]);
    assert!(
        name.fails_with(125).contains("Conflict. The container name \"/first\" is already in use by container"),
        "{name}"
    );
    let port = daemon.run(&["run", "--rm", "-p", "127.0.0.1:8080:80", "busybox", "true"]);
    assert!(port.fails_with(125).contains("Bind for 127.0.0.1:8080 failed: port is already allocated"), "{port}");
    let wide = daemon.run(&["run", "--rm", "-p", "8080:80", "busybox", "true"]);
    assert!(wide.fails_with(125).contains("8080"), "{wide}");
    let held = daemon.sandbox().listen("127.0.0.1:8181").unwrap();
    let foreign = daemon.run(&["run", "--rm", "-p", "127.0.0.1:8181:80", "busybox", "true"]);
    assert!(foreign.fails_with(125).contains("address already in use"), "{foreign}");
    drop(held);
    watch.end().unwrap();
}

#[test]
fn images_that_are_nowhere() {
    if !programs::need_root() {
        return;
    }
    let host = Mirrored::start();
    let daemon = &host.daemon;
    daemon.load(&Material::get().busybox());
    let watch = Watch::daemon(daemon);
    let unknown = daemon.run(&["run", "--rm", "127.0.0.1:5000/no/such:tag", "true"]);
    assert!(unknown.fails_with(125).contains("127.0.0.1:5000/no/such:tag"), "{unknown}");
    assert!(unknown.err().contains("not found") || unknown.err().contains("does not exist"), "{unknown}");
    let closed = daemon.run(&["pull", "127.0.0.1:9/nothing"]);
    assert!(closed.fails_with(1).contains("connection refused"), "{closed}");
    let never = daemon.run(&["run", "--rm", "--pull", "never", "nowhere", "true"]);
    assert!(never.fails_with(125).contains("No such image: nowhere:latest"), "{never}");
    watch.end().unwrap();
}

#[test]
fn archives_that_are_none() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let whole = std::fs::read(Material::get().full()).unwrap();
    let cut = &whole[..whole.len() / 2];
    let mut flipped = whole.clone();
    let script = flipped.windows(9).rposition(|window| window == b"#!/bin/sh").unwrap();
    flipped[script] ^= 0xff;
    for (what, bytes) in [("words", &b"nonsense\n"[..]), ("half", cut), ("a changed byte", &flipped), ("nothing", b"")]
    {
        let outcome = daemon.run_with_input(&["load"], bytes);
        assert_ne!(outcome.code, 0, "{what} was loaded: {outcome}");
        assert!(!outcome.err().trim().is_empty(), "{what} is refused in words");
    }
    watch.end().unwrap();
}

/// A registry that serves one image and may lie about one blob.
struct Liar {
    image: Image,
    /// What is served instead of the first layer.
    layer: Vec<u8>,
}

impl Liar {
    fn serve(self: Arc<Self>, listener: TcpListener) {
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let this = Arc::clone(&self);
                std::thread::spawn(move || this.answer(stream));
            }
        });
    }

    fn answer(&self, mut stream: std::net::TcpStream) {
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        while !request.windows(4).any(|window| window == b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                // A first try in TLS is answered as plain servers do.
                Ok(count) if count > 0 && buffer[0] == 0x16 => {
                    let _ = stream.write_all(
                        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.\n",
                    );
                    return;
                }
                Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
                _ => return,
            }
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        let mut words = text.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (kind, body, length) = self.content(path);
        let head = match &body {
            Some(_) => format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {}\r\n",
                digest(&self.image.manifest.bytes)
            ),
            None => "HTTP/1.1 404 Not Found\r\n".to_owned(),
        };
        let body = body.unwrap_or_default();
        let length = length.unwrap_or(body.len());
        let _ = write!(stream, "{head}Content-Length: {length}\r\nConnection: close\r\n\r\n");
        if method == "GET" {
            let _ = stream.write_all(&body);
        }
    }

    fn content(&self, path: &str) -> (&'static str, Option<Vec<u8>>, Option<usize>) {
        let layer = &self.image.layers[0];
        if path == "/v2/" {
            return ("application/json", Some(b"{}".to_vec()), None);
        }
        if path.contains("/manifests/") {
            return (self.image.manifest.media_type, Some(self.image.manifest.bytes.clone()), None);
        }
        let is = |blob: &Blob| path.ends_with(&blob.digest());
        if is(&self.image.config) {
            return ("application/octet-stream", Some(self.image.config.bytes.clone()), None);
        }
        if is(layer) {
            return ("application/octet-stream", Some(self.layer.clone()), Some(layer.bytes.len()));
        }
        ("text/plain", None, None)
    }
}

/// Pulls from a lying registry and checks that it fails, says `part`, and leaves nothing.
fn lied_to(image: &Image, layer: Vec<u8>, part: &str) {
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let listener = daemon.sandbox().listen("127.0.0.1:5555").unwrap();
    Arc::new(Liar { image: image.clone(), layer }).serve(listener);
    let port = "tcp 0100007F:15B3";
    let outcome = daemon.run(&["pull", "127.0.0.1:5555/lie:latest"]);
    assert_eq!(outcome.code, 1, "{outcome}");
    assert!(outcome.err().contains(part), "{outcome}");
    let left =
        watch.end_within(std::time::Duration::from_secs(5)).expect_err("the registry itself is there").to_string();
    // What came of a blob is kept for a while, for a pull that goes on with it.
    let is_kept = |line: &&str| line.contains("/content/ingest/") && line.ends_with(".part");
    let lines: Vec<&str> = left.lines().skip(1).filter(|line| !line.contains(port) && !is_kept(line)).collect();
    assert_eq!(lines, Vec::<&str>::new());
    assert_eq!(daemon.run(&["images", "-q"]).ok().lines().count(), 1, "only busybox is there");
}

fn small_image(tar: Vec<u8>) -> Image {
    Image::build("amd64", &serde_json::json!({"Cmd": ["sh"]}), vec![tar], Compression::Gzip, Dialect::Oci).unwrap()
}

fn plain_tar() -> Vec<u8> {
    Layer::default().dir("a/", 0o755).file("a/b", 0o644, &[b'x'; 9000]).into_tar()
}

#[test]
fn a_layer_with_a_wrong_digest_is_refused() {
    if !programs::need_root() {
        return;
    }
    let image = small_image(plain_tar());
    let mut layer = image.layers[0].bytes.clone();
    // The time in the head of the stream: everything inside stays the same.
    layer[4] ^= 1;
    lied_to(&image, layer, "digest");
}

#[test]
fn a_layer_that_ends_early_is_refused() {
    if !programs::need_root() {
        return;
    }
    let image = small_image(plain_tar());
    let layer = image.layers[0].bytes[..20].to_vec();
    lied_to(&image, layer, "");
}

#[test]
fn a_corrupt_archive_in_an_honest_layer_is_refused() {
    if !programs::need_root() {
        return;
    }
    let mut tar = plain_tar();
    tar[512..700].fill(0xff);
    let image = small_image(tar);
    let layer = image.layers[0].bytes.clone();
    lied_to(&image, layer, "");
}

#[test]
fn a_layer_cannot_write_outside_of_itself() {
    if !programs::need_root() {
        return;
    }
    // The tar writer refuses such names, so one is patched in.
    let mut tar = Layer::default().file("aa/aa/aa/tmp/ferry-escaped", 0o644, b"out").into_tar();
    tar[..9].copy_from_slice(b"../../../");
    let sum: u32 = tar[..148].iter().chain(&[b' '; 8]).chain(&tar[156..512]).map(|byte| u32::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let image = small_image(tar);
    let daemon = Daemon::ready();
    let archive = daemon.sandbox().dir().join("evil.tar");
    std::fs::write(&archive, image.archive(&["evil:latest"])).unwrap();
    let _ = daemon.run(&["load", "-i", &archive.display().to_string()]);
    let _ = daemon.run(&["create", "evil"]);
    assert!(!std::path::Path::new("/tmp/ferry-escaped").exists());
}
