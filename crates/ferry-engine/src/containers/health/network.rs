//! Checks that need no program in the container: we connect, from a thread in its network namespace.
//!
//! Whoever answers is not trusted: little is read, all of it within the check's time, and nothing is followed.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferry_sys::netns;

use super::check::{Check, HttpTarget, Target, Test};
use crate::blocking;
use crate::containers::Container;
use crate::containers::process::process_of;
use crate::error::{Context, Error, Result};

/// Most that is read of an answer.
const ANSWER_BYTES: usize = 4096;

/// Runs the check; 0 is healthy.
pub(super) async fn probe(container: &Arc<Container>, check: &Check) -> Result<(i32, String)> {
    let Some(process) = process_of(container).await? else {
        return Err(Error::conflict(format!("container {} is not running", container.id)));
    };
    let namespace = netns::of_process(process.as_fd()).context("cannot find the container's network")?;
    let own = container.with_record(|record| record.endpoints.values().find_map(|endpoint| endpoint.address));
    let check = check.clone();
    blocking(move || {
        let deadline = Instant::now() + check.timeout;
        let ask = || match &check.test {
            Test::Http(target) => http(target, &target.target.candidates(own), deadline),
            Test::Tcp(target) => tcp(*target, &target.candidates(own), deadline),
            Test::Command(_) | Test::Shell(_) => Ok((1, "not a check over the network".to_owned())),
        };
        let answer = netns::run_inside(namespace.as_fd(), ask).context("cannot enter the container's network")?;
        Ok(answer.unwrap_or_else(|error| (1, error)))
    })
    .await
}

fn tcp(target: Target, candidates: &[SocketAddr], deadline: Instant) -> Result<(i32, String), String> {
    connect(candidates, deadline)?;
    Ok((0, format!("port {} is open", target.port)))
}

fn http(target: &HttpTarget, candidates: &[SocketAddr], deadline: Instant) -> Result<(i32, String), String> {
    let (mut stream, address) = connect(candidates, deadline)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: ferry-healthcheck\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        target.path
    );
    let failed = |error: io::Error| format!("http://{address}{}: {}", target.path, reason(&error));
    stream.set_write_timeout(Some(left(deadline)?)).map_err(failed)?;
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let answer = read_answer(&mut stream, deadline).map_err(failed)?;
    let line = answer.lines().next().unwrap_or_default().trim_end();
    let code = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)).and_then(|code| code.parse().ok());
    match code {
        Some(200..400u16) => Ok((0, line.to_owned())),
        Some(_) => Ok((1, answer.trim_end().to_owned())),
        None => Err(format!("http://{address}{}: the answer is no HTTP: {line:?}", target.path)),
    }
}

/// The beginning of an answer; a server that stops in the midst has said enough.
fn read_answer(stream: &mut TcpStream, deadline: Instant) -> io::Result<String> {
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while answer.len() < ANSWER_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if answer.windows(4).any(|window| window == b"\r\n\r\n") => break,
            Err(error) => return Err(error),
        }
    }
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    answer.truncate(ANSWER_BYTES);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn connect(candidates: &[SocketAddr], deadline: Instant) -> Result<(TcpStream, SocketAddr), String> {
    let mut failures = Vec::new();
    for address in candidates {
        match TcpStream::connect_timeout(address, left(deadline)?) {
            Ok(stream) => return Ok((stream, *address)),
            Err(error) => failures.push(format!("{address}: {}", reason(&error))),
        }
    }
    Err(failures.join("; "))
}

fn left(deadline: Instant) -> Result<Duration, String> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err("no answer in time".to_owned()) } else { Ok(left) }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::UnexpectedEof => "the connection was closed without an answer".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn ask(answer: &'static [u8], wait: Duration) -> Result<(i32, String), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
            // Held open until the client has gone.
            let _ = stream.read(&mut [0; 1]);
        });
        let target = HttpTarget { target: Target { address: None, port: address.port() }, path: "/x".into() };
        let result = http(&target, &[address], Instant::now() + wait);
        server.join().unwrap();
        result
    }

    #[test]
    fn answers_below_400_are_healthy() {
        let long = Duration::from_millis(300);
        assert_eq!(ask(b"HTTP/1.1 204 No Content\r\n\r\n", long), Ok((0, "HTTP/1.1 204 No Content".into())));
        let sick = ask(b"HTTP/1.0 503 Busy\r\n\r\nlater", long).unwrap();
        assert_eq!((sick.0, sick.1.ends_with("later")), (1, true));
        assert!(ask(b"SSH-2.0\r\n\r\n", long).unwrap_err().contains("no HTTP"));
        assert!(ask(b"", Duration::from_millis(50)).unwrap_err().contains("no answer in time"));
    }

    #[test]
    fn a_port_without_a_listener_is_refused() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let target = Target { address: None, port: free.port() };
        let result = tcp(target, &[free], Instant::now() + Duration::from_secs(5));
        assert!(result.unwrap_err().contains("connection refused"));
    }
}
