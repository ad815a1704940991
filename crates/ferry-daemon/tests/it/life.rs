//! Start and stop.

use rustix::process::Signal;

use crate::daemon::{Daemon, can_start};

#[test]
fn a_stop_is_clean_and_the_next_start_finds_everything() {
    if !can_start() {
        return;
    }
    let daemon = Daemon::start(&[]);
    assert_eq!(std::fs::read_to_string(daemon.path("pid")).unwrap(), daemon.pid().to_string());
    assert_eq!(daemon.call("POST", "/volumes/create", r#"{"Name":"kept"}"#).status, 201);
    daemon.signal(Signal::TERM);
    let (code, folder) = daemon.ended();
    assert_eq!(code, Some(0));
    assert!(!folder.path().join("sock").exists() && !folder.path().join("pid").exists());
    let again = Daemon::start_in(folder, &[]);
    assert_eq!(again.get("/volumes/kept").status, 200);
}

#[test]
fn a_killed_daemon_leaves_a_socket_that_is_replaced() {
    if !can_start() {
        return;
    }
    let daemon = Daemon::start(&[]);
    daemon.signal(Signal::KILL);
    let (_, folder) = daemon.ended();
    assert!(folder.path().join("sock").exists());
    let again = Daemon::start_in(folder, &[]);
    assert_eq!(again.get("/_ping").status, 200);
}

#[test]
fn a_second_daemon_is_refused_and_disturbs_nothing() {
    if !can_start() {
        return;
    }
    let daemon = Daemon::start(&[]);
    let path = |name: &str| daemon.path(name).display().to_string();
    let (code, said) = daemon.rival(&[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("ensure ferryd is not running or delete"), "{said}");
    // The last of two flags counts.
    let (code, said) = daemon.rival(&["--pidfile", &path("other-pid"), "--data-root", &path("other")]);
    assert_eq!(code, Some(1));
    assert!(said.contains("another daemon already listens on it"), "{said}");
    assert!(!daemon.path("other").exists());
    assert_eq!(daemon.get("/_ping").status, 200);
}

#[test]
fn a_hangup_does_not_end_it() {
    if !can_start() {
        return;
    }
    let daemon = Daemon::start(&[]);
    daemon.signal(Signal::HUP);
    daemon.until("the signal is seen", || {
        std::fs::read_to_string(daemon.path("log")).unwrap_or_default().contains("reloaded configuration")
    });
    assert_eq!(daemon.get("/_ping").status, 200);
}

#[test]
fn the_service_manager_is_told() {
    if !can_start() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let notify = format!("NOTIFY_SOCKET={}", path.display());
    let _daemon = Daemon::start_with_env(&notify);
    let mut buffer = [0; 64];
    let read = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..read], b"READY=1");
}

#[test]
fn sockets_of_the_service_manager_are_taken_over() {
    if !can_start() {
        return;
    }
    let daemon = Daemon::start_activated();
    assert_eq!(daemon.get("/_ping").status, 200);
    daemon.signal(Signal::TERM);
    let (code, folder) = daemon.ended();
    assert_eq!(code, Some(0));
    assert!(folder.path().join("sock").exists(), "the file is not ours to remove");
}
