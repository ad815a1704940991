//! Networks, endpoints and ports that come and go under a daemon that is killed at any moment.
//!
//! `FERRY_TORTURE` says how many times; a few are part of every run.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ferry_testkit::leak::Watch;
use ferry_testkit::{Daemon, Outcome, programs};

use crate::until;

const KILLS: u32 = 4;
const WORKERS: usize = 3;
/// For one command to be obeyed by a daemon that is killed in between.
const PATIENCE: Duration = Duration::from_secs(60);
const SERVER: &str = "mkdir /www; echo it works >/www/index.html; exec httpd -f -p 80 -h /www";

#[test]
fn no_kill_of_the_daemon_leaves_or_loses_anything_of_a_network() {
    if !programs::need_root() {
        return;
    }
    let kills = std::env::var("FERRY_TORTURE").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let daemon = Daemon::ready();
    // Forwarding stays on once a network has needed it, as with Docker.
    let _ = daemon.run(&["network", "create", "--ipv6", "first"]).ok();
    let _ = daemon.run(&["network", "rm", "first"]).ok();
    let watch = Watch::daemon(&daemon);
    let _ = daemon.run(&["network", "create", "--ipv6", "steady"]).ok();
    let web = ["run", "-d", "--name", "web", "--network", "steady", "-p", "8080:80", "busybox", "sh", "-c", SERVER];
    let _ = daemon.run(&web).ok();
    let _ = daemon.run(&["run", "-d", "--name", "asker", "--network", "steady", "busybox", "sleep", "10000"]).ok();
    let pid = daemon.inspect("web", "{{.State.Pid}}");
    let (is_over, wrong, asked) = (AtomicBool::new(false), Mutex::new(Vec::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (daemon, is_over, wrong, asked) = (&daemon, &is_over, &wrong, &asked);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    Churn { daemon, worker, wrong, asked }.round();
                }
            });
        }
        for number in 0..kills {
            // Any moment will do: after another number of commands each time, while the next ones are under way.
            let moment = asked.load(Ordering::Relaxed) + 1 + number as usize * 5 % 17;
            until("the workers to get on", || asked.load(Ordering::Relaxed) >= moment);
            daemon.kill().unwrap();
            daemon.start().unwrap();
            assert_eq!(daemon.inspect("web", "{{.State.Status}} {{.State.Pid}}"), format!("running {pid}"));
            until("the published port to answer", || {
                daemon.sandbox().http_get("127.0.0.1:8080", "/").is_ok_and(|answer| answer.contains("it works"))
            });
            until("the name to be known", || daemon.run(&["exec", "asker", "nslookup", "web"]).code == 0);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(wrong.into_inner().unwrap(), Vec::<String>::new());
    let _ = daemon.run(&["rm", "-f", "web", "asker"]).ok();
    let _ = daemon.run(&["network", "rm", "steady"]).ok();
    assert_eq!(daemon.run(&["ps", "-aq"]).ok(), "");
    assert_eq!(daemon.run(&["network", "ls", "-q", "--filter", "type=custom"]).ok(), "");
    watch.end().unwrap();
}

/// Somebody who makes and removes networks with containers in them.
struct Churn<'a> {
    daemon: &'a Daemon,
    worker: usize,
    /// What was acknowledged and is not true.
    wrong: &'a Mutex<Vec<String>>,
    /// How many commands all workers have begun.
    asked: &'a AtomicUsize,
}

impl Churn<'_> {
    fn run(&self, arguments: &[&str]) -> Outcome {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.daemon.run(arguments)
    }

    fn round(&self) {
        let (one, two, container) =
            (format!("one{}", self.worker), format!("two{}", self.worker), format!("box{}", self.worker));
        let made = [&one, &two].map(|network| self.run(&["network", "create", network]).code == 0);
        let options = ["run", "-d", "--name", &container, "--network", &one, "-p", "80", "busybox", "sleep", "10000"];
        let started = self.run(&options).code == 0;
        for (network, was_made) in [&one, &two].into_iter().zip(made) {
            if was_made {
                self.expect(&["network", "inspect", "-f", "{{.Name}}", network], network);
            }
        }
        if started {
            self.expect(&["inspect", "-f", "{{.State.Status}}", &container], "running");
            let connected = self.run(&["network", "connect", &two, &container]).code == 0;
            if connected {
                let template = format!("{{{{with index .NetworkSettings.Networks \"{two}\"}}}}there{{{{end}}}}");
                self.expect(&["inspect", "-f", &template, &container], "there");
                self.expect(&["exec", &container, "ls", "/sys/class/net"], "eth1");
                let _ = self.run(&["network", "disconnect", &two, &container]);
            }
        }
        self.insist(&["rm", "-f", &container], "No such container");
        self.insist(&["network", "rm", &one, &two], "not found");
    }

    /// Asks until a daemon answers; an answer that is not the wanted one is noted.
    fn expect(&self, arguments: &[&str], wanted: &str) {
        let Some(outcome) = self.answered(arguments) else { return };
        if !outcome.out().contains(wanted) {
            self.wrong.lock().unwrap().push(format!("{arguments:?} wanted {wanted}: {outcome}"));
        }
    }

    /// Repeats a removal until it is done.
    fn insist(&self, arguments: &[&str], gone: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let outcome = self.run(arguments);
            // Of several names some may have been removed the time before.
            let is_gone = |line: &str| line.contains(gone) || line.trim().is_empty() || line.starts_with("exit status");
            if outcome.code == 0 || (!is_cut_off(&outcome) && outcome.err().lines().all(is_gone)) {
                return;
            }
            if Instant::now() > end {
                self.wrong.lock().unwrap().push(format!("{arguments:?} is not obeyed: {outcome}"));
                return;
            }
        }
    }

    fn answered(&self, arguments: &[&str]) -> Option<Outcome> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let outcome = self.run(arguments);
            if !is_cut_off(&outcome) {
                return Some(outcome);
            }
        }
        None
    }
}

/// The daemon was not there, or went while it was asked.
fn is_cut_off(outcome: &Outcome) -> bool {
    let text = outcome.err();
    outcome.code != 0
        && ["Cannot connect", "cannot connect", "EOF", "connection", "Connection", "Is the docker daemon running"]
            .iter()
            .any(|word| text.contains(word))
}
