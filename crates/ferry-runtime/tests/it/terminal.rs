//! Terminals of the container's own.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;

use ferry_spec::runtime::ConsoleSize;

use crate::bundle::{Bundle, ready, runtimes};

fn receive(listener: &UnixListener) -> std::fs::File {
    let (socket, _) = listener.accept().unwrap();
    let mut fds: Vec<OwnedFd> = Vec::new();
    ferry_sys::socket::receive(socket.as_fd(), &mut [0u8; 64], &mut fds).unwrap();
    fds.pop().unwrap().into()
}

fn read_until(console: &mut std::fs::File, wanted: &str) -> String {
    let mut said = String::new();
    let mut buffer = [0u8; 1024];
    while !said.contains(wanted) {
        let count = console.read(&mut buffer).unwrap_or(0);
        assert!(count > 0, "the terminal ended: {said}");
        said += &String::from_utf8_lossy(&buffer[..count]);
    }
    said
}

#[test]
fn terminal_is_the_containers_and_comes_over_the_socket() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(
            &runtime,
            "tty; stty size; stat -c '%t:%T' /dev/console; test -t 2 && echo err; read x; echo got $x",
        );
        bundle.process().terminal = true;
        bundle.process().console_size = Some(ConsoleSize { height: 33, width: 77 });
        let path = bundle.beside("console.sock");
        let listener = UnixListener::bind(&path).unwrap();
        bundle.succeed(&["create", "--console-socket", &path.display().to_string(), &bundle.id]);
        let mut console = receive(&listener);
        bundle.succeed(&["start", &bundle.id]);
        let said = read_until(&mut console, "err");
        // The node behind /dev/console is the terminal's own.
        for line in ["/dev/pts/0", "33 77", "88:0"] {
            assert!(said.contains(line), "{runtime:?} {line}: {said}");
        }
        console.write_all(b"word\n").unwrap();
        assert!(read_until(&mut console, "got word").contains("got word"));
    }
}

#[test]
fn exec_has_a_terminal_of_its_own() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let bundle = Bundle::new(&runtime, "sleep 1000");
        bundle.start();
        let path = bundle.beside("exec.sock");
        let listener = UnixListener::bind(&path).unwrap();
        bundle.succeed(&[
            "exec",
            "--tty",
            "--detach",
            "--console-socket",
            &path.display().to_string(),
            &bundle.id,
            "/bin/sh",
            "-c",
            "tty; read x",
        ]);
        let mut console = receive(&listener);
        assert!(read_until(&mut console, "\n").starts_with("/dev/pts/0"));
        console.write_all(b"\n").unwrap();
    }
}

#[test]
fn false_multiplexer_is_not_opened() {
    if !ready() {
        return;
    }
    let mut bundle = Bundle::new(&crate::bundle::ferry(), "sleep 1000");
    bundle.process().terminal = true;
    // Without devpts the image's own node is found there.
    bundle.spec.mounts.retain(|mount| mount.destination != "/dev/pts" && mount.destination != "/dev");
    std::fs::create_dir_all(bundle.rootfs().join("dev/pts")).unwrap();
    std::fs::write(bundle.rootfs().join("dev/pts/ptmx"), "").unwrap();
    let path = bundle.beside("console.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let output = bundle.call(&["create", "--console-socket", &path.display().to_string(), &bundle.id]);
    assert!(
        crate::bundle::text(&output.stderr).contains("not a terminal multiplexer"),
        "{}",
        crate::bundle::text(&output.stderr)
    );
}
