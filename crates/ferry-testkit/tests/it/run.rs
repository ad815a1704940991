//! `run`: what comes out, what is left, and the first minute of a new user.

use ferry_testkit::command::{LIMIT, Running};
use ferry_testkit::leak::Watch;
use ferry_testkit::{Daemon, Sandbox, command, programs};

use crate::until;

#[test]
fn run_gives_output_and_exit_code_and_leaves_nothing() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    assert_eq!(daemon.run(&["run", "--rm", "busybox", "echo", "hello"]).ok(), "hello");
    let outcome = daemon.run(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((outcome.code, outcome.out(), outcome.err()), (3, "out\n".to_owned(), "err\n".to_owned()));
    assert_eq!(daemon.run(&["run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]).code, 137);
    for flags in [
        &["--network", "none"][..],
        &["--network", "host"],
        &["-m", "32m", "--cpus", "0.5", "--pids-limit", "50"],
        &["-v", "/anonymous", "--tmpfs", "/t", "--read-only"],
        &["-p", "127.0.0.1:8123:80", "-p", "53/udp"],
        &["--init", "--privileged"],
        &["-e", "A=b", "-w", "/tmp", "-u", "1000:1000", "-h", "host", "-l", "a=b"],
    ] {
        let _ = daemon.run(&[&["run", "--rm"], flags, &["busybox", "true"]].concat()).ok();
    }
    watch.end().unwrap();
}

#[test]
fn ten_at_a_time_run_and_leave_nothing() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let running: Vec<Running> =
        (0..10).map(|_| daemon.spawn(&["run", "--rm", "busybox", "sh", "-c", "echo $HOSTNAME"])).collect();
    let mut names: Vec<String> = running.into_iter().map(|one| one.finish(command::LIMIT).unwrap().ok()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 10, "each is its own: {names:?}");
    watch.end().unwrap();
}

#[test]
fn containers_that_are_made_at_once_get_names_of_their_own() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let request = serde_json::json!({ "Image": "busybox", "HostConfig": { "NetworkMode": "none" } });
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..12 {
                    let made = daemon.api("POST", "/containers/create", Some(&request));
                    assert_eq!(made.status, 201, "{}", made.text());
                }
            });
        }
    });
    let names = daemon.run(&["ps", "-a", "--format", "{{.Names}}"]).ok();
    assert_eq!(names.lines().collect::<std::collections::BTreeSet<_>>().len(), 16 * 12);
}

#[test]
fn default_containers_are_confined() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let status = daemon.run(&["run", "--rm", "busybox", "cat", "/proc/self/status"]).ok();
    assert!(status.contains("Seccomp:\t2"), "{status}");
    assert!(status.contains("CapEff:\t00000000a80425fb"), "{status}");
    let groups = daemon.run(&["run", "--rm", "busybox", "cat", "/proc/self/mountinfo"]).ok();
    assert!(groups.contains(" overlay "), "{groups}");
    let denied =
        daemon.run(&["run", "--rm", "busybox", "sh", "-c", "mount -t tmpfs t /mnt || unshare -U true || reboot -f"]);
    assert_ne!(denied.code, 0);
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"] {
        let read = daemon.run(&[
            "run",
            "--rm",
            "busybox",
            "sh",
            "-c",
            &format!("cat {path} 2>/dev/null | wc -c; ls {path} | wc -l"),
        ]);
        assert!(read.out().starts_with('0'), "{path}: {read}");
    }
    let mknod =
        daemon.run(&["run", "--rm", "busybox", "sh", "-c", "mknod /d b 254 0 && dd if=/d of=/dev/null count=1"]);
    assert!(mknod.code != 0 && mknod.err().contains("not permitted"), "{mknod}");
}

#[test]
fn a_memory_limit_ends_in_oom_killed() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let run =
        daemon.run(&["run", "--name", "big", "-m", "20m", "--memory-swap", "20m", "busybox", "tail", "/dev/zero"]);
    assert_eq!(run.code, 137, "{run}");
    assert_eq!(daemon.inspect("big", "{{.State.OOMKilled}} {{.State.ExitCode}}"), "true 137");
}

#[test]
fn half_closed_stdin_ends_the_input_alone() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let outcome = daemon.run_with_input(&["run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo after"], b"x\n");
    assert_eq!(outcome.ok(), "x\nafter");
}

#[test]
fn a_mebibyte_of_binary_passes_both_ways() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let bytes: Vec<u8> = (0..1_048_576_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let outcome = daemon.run_with_input(&["run", "--rm", "-i", "busybox", "cat"], &bytes);
    assert_eq!(outcome.code, 0, "{}", outcome.err());
    assert!(outcome.stdout == bytes, "{} bytes came back, not the same", outcome.stdout.len());
}

#[test]
fn signals_are_passed_on() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let script = "trap 'echo got; exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let running = daemon.spawn(&["run", "--rm", "--name", "sig", "busybox", "sh", "-c", script]);
    until("the container to be ready", || daemon.run(&["logs", "sig"]).out().contains("ready"));
    running.signal(rustix::process::Signal::INT).unwrap();
    let outcome = running.finish(LIMIT).unwrap();
    assert_eq!((outcome.code, outcome.out().as_str()), (9, "ready\ngot\n"), "{outcome}");
}

#[test]
fn the_first_command_of_a_new_user_needs_no_daemon() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let mut ferry = sandbox.command(programs::binary("ferry").unwrap());
    ferry.args(["run", "hello-world"]);
    let outcome = command::run(ferry).unwrap();
    assert_eq!(outcome.code, 0, "{outcome}");
    assert!(outcome.err().contains("Unable to find image 'hello-world:latest' locally"), "{outcome}");
    assert!(outcome.out().to_lowercase().contains("hello"), "{outcome}");
    let said = outcome.err().lines().chain(outcome.out().lines()).filter(|line| line.contains("bundled")).count();
    assert!(said >= 1, "it says that the bundled copy was used: {outcome}");
    let info = sandbox.sh("ferry info").ok();
    let log = info
        .lines()
        .find_map(|line| line.trim().strip_prefix("Log File: ").or(line.trim().strip_prefix("Daemon Log: ")));
    assert!(log.is_some(), "`ferry info` names the daemon's log:\n{info}");
    let _ = sandbox.sh("kill $(cat /run/ferry/ferryd.pid)").ok();
}

#[test]
fn where_no_daemon_is_started_the_client_says_dockers_sentence() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let sentence =
        |socket: &str| format!("Cannot connect to the Docker daemon at {socket}. Is the docker daemon running?");
    let outcome = sandbox.sh("FERRY_AUTOSTART=0 ferry ps");
    assert!(outcome.fails_with(1).contains(&sentence("unix:///run/ferry.sock")), "{outcome}");
    let outcome = sandbox.sh("DOCKER_HOST=unix:///run/other.sock ferry ps");
    assert!(outcome.fails_with(1).contains(&sentence("unix:///run/other.sock")), "{outcome}");
    let outcome = sandbox.sh("ferry -H unix:///run/third.sock run busybox");
    assert!(outcome.fails_with(125).contains(&sentence("unix:///run/third.sock")), "{outcome}");
    assert_eq!(sandbox.sh("ls /run/ferry.sock").code, 2, "no daemon was started");
}

#[test]
fn without_rights_the_client_says_dockers_sentence_and_what_to_do() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let daemon = Daemon::ferry(&sandbox, "a").args(&["-H", "unix:///run/ferry.sock"]);
    daemon.start().unwrap();
    // Binaries may lie where another user cannot reach them.
    let line = "cp $(command -v ferry) /run/ferry-copy && chmod 755 /run/ferry-copy && setpriv --reuid 65534 --regid 65534 --clear-groups \
                env -u DOCKER_HOST HOME=/ /run/ferry-copy ps";
    let outcome = daemon.sh(line);
    assert_eq!(outcome.code, 1, "{outcome}");
    assert!(outcome.err().contains("permission denied while trying to connect to the "), "{outcome}");
    // Which of the two causes it names depends on the default daemon.
    assert!(outcome.err().contains("hint: "), "{outcome}");
}
