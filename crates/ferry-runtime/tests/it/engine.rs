//! The options that engines pass, as conmon and containerd pass them.

use std::os::fd::AsRawFd as _;
use std::process::Stdio;

use serde_json::Value;

use crate::bundle::{Bundle, ferry, has_controller, ready, runtimes, text};
use crate::exec::wait_for;

#[test]
fn a_root_that_is_not_pivoted_and_the_callers_keyring_are_accepted() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let bundle = Bundle::new(&runtime, "pwd; ls -d /proc/1");
        assert_eq!(text(&bundle.call(&["run", "--no-new-keyring", &bundle.id]).stdout), "/\n/proc/1\n", "{runtime:?}");
    }
    // runc lets the old root stay below; here it goes wherever it can.
    let bundle = Bundle::new(&ferry(), "pwd; ls -d /proc/1");
    assert_eq!(text(&bundle.call(&["run", "--no-pivot", &bundle.id]).stdout), "/\n/proc/1\n");
}

#[test]
fn descriptors_are_handed_on_to_containers_and_execs() {
    if !ready() {
        return;
    }
    // A shell puts the files in place as an engine does; the runtime under test has them as 3 and 4.
    let run = |bundle: &Bundle, words: &str| {
        let command = bundle.command(&[]);
        let runtime = command.get_program().to_string_lossy().into_owned();
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect();
        let line = format!("exec {runtime} {} {words} 3<given 4<given", arguments.join(" "));
        let output =
            std::process::Command::new("/bin/sh").args(["-c", &line]).current_dir(bundle.beside("")).output().unwrap();
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    for runtime in runtimes() {
        let bundle = Bundle::new(&runtime, "cat <&4; test -e /proc/self/fd/5 && echo more; sleep 1000");
        std::fs::write(bundle.beside("given"), "handed on\n").unwrap();
        let id = &bundle.id;
        let out = bundle.beside("out").display().to_string();
        let _ = run(&bundle, &format!("create --preserve-fds 2 {id} >{out} 2>&1"));
        bundle.succeed(&["start", id]);
        wait_for(&bundle.beside("out"), "handed on\n");
        let said = run(&bundle, &format!("exec --preserve-fds 2 {id} /bin/sh -c 'cat <&3'"));
        assert_eq!(said, "handed on\n", "{runtime:?}");
    }
}

#[test]
fn pidfds_are_sent_to_whoever_listens() {
    if !ready() {
        return;
    }
    let bundle = Bundle::new(&ferry(), "exit 5");
    let listener = std::os::unix::net::UnixListener::bind(bundle.beside("pidfd.sock")).unwrap();
    // The container holds the streams until it is started, so they are no pipes of ours.
    let mut command = bundle.command(&["create", "--pidfd-socket", "pidfd.sock", "--pid-file", "pid", &bundle.id]);
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let (socket, _) = listener.accept().unwrap();
    let mut fds = Vec::new();
    ferry_sys::socket::receive(&socket, &mut [0u8; 16], &mut fds).unwrap();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fds[0].as_raw_fd())).unwrap();
    let pid = std::fs::read_to_string(bundle.beside("pid")).unwrap();
    assert!(info.lines().any(|line| line == format!("Pid:\t{pid}")), "{info}");
}

#[test]
fn limits_change_by_options_and_are_remembered() {
    if !ready() || !has_controller("pids") || !has_controller("memory") {
        return;
    }
    for runtime in runtimes() {
        let bundle = Bundle::new(&runtime, "sleep 1000");
        bundle.start();
        bundle.succeed(&["update", "--pids-limit", "44", "--memory", "96m", "--cpu-share", "512", &bundle.id]);
        let show = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes \
             /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory.max 2>/dev/null; true";
        assert_eq!(bundle.succeed(&["exec", &bundle.id, "/bin/sh", "-c", show]), "44\n100663296\n", "{runtime:?}");
        // A second change leaves the first alone.
        bundle.succeed(&["update", "--pids-limit", "45", &bundle.id]);
        assert_eq!(bundle.succeed(&["exec", &bundle.id, "/bin/sh", "-c", show]), "45\n100663296\n", "{runtime:?}");
        assert!(!bundle.call(&["update", "--memory", "much", &bundle.id]).status.success());
        if bundle.is_ferry() {
            let state = std::fs::read(bundle.beside("states").join(&bundle.id).join("state.json")).unwrap();
            let state: Value = serde_json::from_slice(&state).unwrap();
            let resources = &state["spec"]["linux"]["resources"];
            assert_eq!((&resources["pids"]["limit"], &resources["memory"]["limit"]), (&45.into(), &100_663_296.into()));
        }
    }
}

#[test]
fn statistics_and_processes_are_told() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let bundle = Bundle::new(&runtime, "sleep 1000");
        bundle.start();
        let event: Value = serde_json::from_str(&bundle.succeed(&["events", "--stats", &bundle.id])).unwrap();
        assert_eq!((event["type"].as_str(), event["id"].as_str()), (Some("stats"), Some(bundle.id.as_str())));
        assert!(event["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{runtime:?}: {event}");
        let pids: Vec<u32> = serde_json::from_str(&bundle.succeed(&["ps", "-f", "json", &bundle.id])).unwrap();
        let table = bundle.succeed(&["ps", &bundle.id]);
        let mut lines = table.lines();
        assert!(lines.next().unwrap().contains("PID"), "{runtime:?}: {table}");
        assert_eq!(lines.count(), pids.len(), "{runtime:?}: {table}");
        let table = bundle.succeed(&["ps", &bundle.id, "-o", "pid,comm", "-e"]);
        assert!(table.contains("sleep"), "{runtime:?}: {table}");
    }
}

#[test]
fn a_stream_of_statistics_ends_with_the_container() {
    if !ready() {
        return;
    }
    let bundle = Bundle::new(&ferry(), "sleep 1000");
    bundle.start();
    let mut stream =
        bundle.command(&["events", "--interval", "50ms", &bundle.id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stream.stdout.take().unwrap()));
    for _ in 0..2 {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(event["type"], "stats");
    }
    bundle.succeed(&["kill", &bundle.id, "KILL"]);
    assert!(stream.wait().unwrap().success());
    assert!(!bundle.call(&["events", "--stats", &bundle.id]).status.success());
    assert!(!bundle.call(&["events", "--interval", "0s", &bundle.id]).status.success());
}

#[test]
fn cgroups_of_systemd_need_systemd() {
    if !ready() || std::path::Path::new("/run/systemd/system").exists() {
        return;
    }
    let mut bundle = Bundle::new(&ferry(), "true");
    let run = |bundle: &Bundle| {
        let output = bundle.command(&[]).args(["--systemd-cgroup", "run", &bundle.id]).output().unwrap();
        assert!(!output.status.success());
        assert!(!bundle.leaves_something());
        text(&output.stderr)
    };
    let said = run(&bundle);
    assert!(said.contains("expected cgroupsPath to be of format \"slice:prefix:name\""), "{said}");
    bundle.linux().cgroups_path = Some(format!("system.slice:ferry:{}", bundle.id));
    let said = run(&bundle);
    assert!(said.contains("systemd not running on this host, cannot use systemd cgroups manager"), "{said}");
}
