//! `buildx history import`: bundles of records are given to Docker Desktop, which shows them. The daemon has no part in it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::super::failed;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::{self, Parsed};
use crate::output_file::reason;

/// Where Docker Desktop listens, below the home directory; in WSL it is a place of its own.
const SOCKET: &str = ".docker/desktop/docker-desktop-build.sock";
const WSL_SOCKET: &str = "/mnt/wsl/docker-desktop/shared-sockets/host-services/docker-desktop-build.sock";
/// What a record is opened by.
const ADDRESS: &str = "docker-desktop://dashboard/build/.imported/_/";

pub(in crate::commands) fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    if let Some(word) = parsed.args.first() {
        let (word, program) = (flags::go_quote(word), context.program);
        return Err(failed(format!("unknown command {word} for \"{program} buildx history import\"")));
    }
    let socket = socket(|name| std::env::var_os(name).filter(|value| !value.is_empty()))?;
    let mut records = Vec::new();
    if parsed.all("file").is_empty() {
        records = import(&socket, &mut io::stdin().lock())?;
    }
    for name in parsed.all("file") {
        records.extend(match name.as_str() {
            "-" => import(&socket, &mut io::stdin().lock())?,
            path => {
                let file = File::open(path)
                    .map_err(|error| failed(format!("failed to open file {path}: open {path}: {}", reason(&error))));
                import(&socket, &mut file?)?
            }
        });
    }
    if records.is_empty() {
        return Err(failed("no build records found in the bundle"));
    }
    for record in records {
        context.printer.note(&format!("{ADDRESS}{record}"));
    }
    Ok(0)
}

fn socket(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    if variable("WSL_DISTRO_NAME").is_some() {
        let socket = PathBuf::from(WSL_SOCKET);
        return if socket.exists() {
            Ok(socket)
        } else {
            Err(failed(
                "Docker Desktop Build backend is not yet supported on WSL. Please run this command on Windows host instead.",
            ))
        };
    }
    let home = variable("HOME").ok_or_else(|| failed("failed to get user home directory: $HOME is not defined"))?;
    Ok(Path::new(&home).join(SOCKET))
}

/// Sends a bundle, and returns the references of the records in it.
fn import(socket: &Path, bundle: &mut impl Read) -> Result<Vec<String>> {
    let unsent = |what: &str, error: &io::Error| {
        let reason = reason(error);
        failed(format!(
            "failed to send request, check if Docker Desktop is running: Post \"http://docker-desktop/upload\": {what}: {reason}"
        ))
    };
    let dialled = format!("dial unix {}: connect", socket.display());
    let mut stream = UnixStream::connect(socket).map_err(|error| unsent(&dialled, &error))?;
    let mut bytes = Vec::new();
    bundle.read_to_end(&mut bytes)?;
    let (status, body) = exchange(&mut stream, &bytes).map_err(|error| unsent("exchange", &error))?;
    if status != 200 {
        return Err(failed(format!("failed to import build: {}", String::from_utf8_lossy(&body))));
    }
    let records: Option<Vec<String>> =
        serde_json::from_slice(&body).map_err(|error| failed(format!("failed to decode response: {error}")))?;
    Ok(records.unwrap_or_default())
}

/// One request of HTTP/1.0, whose answer ends with the connection; its status and body.
fn exchange(stream: &mut UnixStream, bundle: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let head = format!("POST /upload HTTP/1.0\r\nHost: docker-desktop\r\nContent-Length: {}\r\n\r\n", bundle.len());
    stream.write_all(head.as_bytes())?;
    // One that refuses may not wait for all of it, but says why.
    let sent = stream.write_all(bundle);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    match parsed(&answer) {
        Some((status, body)) => Ok((status, body.to_vec())),
        None => sent.and(Err(io::Error::new(io::ErrorKind::InvalidData, "malformed HTTP response"))),
    }
}

fn parsed(answer: &[u8]) -> Option<(u16, &[u8])> {
    const BREAK: &[u8] = b"\r\n\r\n";
    let end = answer.windows(BREAK.len()).position(|window| window == BREAK)?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, &answer[end + BREAK.len()..]))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn bundles_are_given_to_docker_desktop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let missing = import(&path, &mut &b"x"[..]).unwrap_err();
        assert_eq!(
            missing.message,
            format!(
                "ERROR: failed to send request, check if Docker Desktop is running: Post \"http://docker-desktop/upload\": dial unix {}: connect: no such file or directory",
                path.display()
            )
        );
        let desktop = UnixListener::bind(&path).unwrap();
        let long = vec![b'b'; 300_000];
        for (answer, expected) in [
            (
                "HTTP/1.0 200 OK\r\nContent-Type: a\r\n\r\n[\"one\",\"two\"]\n",
                Ok(vec!["one".to_owned(), "two".to_owned()]),
            ),
            ("HTTP/1.1 200 OK\r\n\r\nnull", Ok(Vec::new())),
            ("HTTP/1.0 400 Bad Request\r\n\r\nno bundle", Err("ERROR: failed to import build: no bundle")),
        ] {
            let imported = std::thread::scope(|scope| {
                let import = scope.spawn(|| import(&path, &mut &long[..]).map_err(|failure| failure.message));
                let (mut client, _) = desktop.accept().unwrap();
                let head =
                    format!("POST /upload HTTP/1.0\r\nHost: docker-desktop\r\nContent-Length: {}\r\n\r\n", long.len());
                let mut request = vec![0; head.len() + long.len()];
                client.read_exact(&mut request).unwrap();
                assert!(request.starts_with(head.as_bytes()) && request.ends_with(&long));
                client.write_all(answer.as_bytes()).unwrap();
                drop(client);
                import.join().unwrap()
            });
            assert_eq!(imported, expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn docker_desktop_listens_where_buildx_looks() {
        let at = |name: &'static str| socket(move |known| (known == name).then(|| "/home/me".into()));
        assert_eq!(at("HOME").unwrap(), Path::new("/home/me/.docker/desktop/docker-desktop-build.sock"));
        assert!(at("WSL_DISTRO_NAME").unwrap_err().message.contains("not yet supported on WSL"));
        assert_eq!(at("").unwrap_err().message, "ERROR: failed to get user home directory: $HOME is not defined");
    }
}
