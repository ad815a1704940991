//! Passes the client's signals on to the container.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Signals that go to the container, by the names that the daemon takes. Not those that tell the client of its own
/// children, pipes and sockets (CHLD, PIPE, URG), nor those that cannot be caught.
const FORWARDED: &[(i32, &str)] = &[
    (libc::SIGHUP, "HUP"),
    (libc::SIGINT, "INT"),
    (libc::SIGQUIT, "QUIT"),
    (libc::SIGTRAP, "TRAP"),
    (libc::SIGABRT, "ABRT"),
    (libc::SIGBUS, "BUS"),
    (libc::SIGUSR1, "USR1"),
    (libc::SIGUSR2, "USR2"),
    (libc::SIGALRM, "ALRM"),
    (libc::SIGTERM, "TERM"),
    (libc::SIGSTKFLT, "STKFLT"),
    (libc::SIGCONT, "CONT"),
    (libc::SIGTSTP, "TSTP"),
    (libc::SIGTTIN, "TTIN"),
    (libc::SIGTTOU, "TTOU"),
    (libc::SIGXCPU, "XCPU"),
    (libc::SIGXFSZ, "XFSZ"),
    (libc::SIGVTALRM, "VTALRM"),
    (libc::SIGPROF, "PROF"),
    (libc::SIGWINCH, "WINCH"),
    (libc::SIGIO, "IO"),
    (libc::SIGPWR, "PWR"),
    (libc::SIGSYS, "SYS"),
];

/// Starts to catch signals; their names arrive on the channel.
pub(crate) fn catch_all() -> mpsc::UnboundedReceiver<&'static str> {
    let (sender, receiver) = mpsc::unbounded_channel();
    for &(number, name) in FORWARDED {
        // A signal that cannot be caught keeps its own effect.
        let Ok(mut stream) = signal(SignalKind::from_raw(number)) else { continue };
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if sender.send(name).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// Waits for a signal that asks the program to end; returns the exit code that a shell shows for it.
pub(crate) async fn asked_to_end() -> u8 {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // What cannot be caught keeps its own effect.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
    }
}

/// Sends every caught signal to a container, until dropped.
pub(crate) async fn forward(
    client: &ferry_client::Client,
    container: &str,
    signals: &mut mpsc::UnboundedReceiver<&'static str>,
) {
    while let Some(name) = signals.recv().await {
        // The container may just have ended.
        let _ = client.container_kill(container, name).await;
    }
    std::future::pending().await
}
