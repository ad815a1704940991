//! Starting, ending, and what goes wrong before a program runs.

use ferry_shim::protocol::{Event, ForeignRuntime, LogOptions, Reply, Request, ShimErrorKind, Target};
use ferry_spec::runtime::{LinuxMemory, LinuxNamespaceKind, LinuxResources};

use crate::harness::{BOTH, Engine, Folders, pair, read_frames, ready};

#[test]
fn a_container_runs_and_its_end_is_told() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let (client, theirs) = pair();
    let start = folders.start(&["sh", "-c", "echo to out; echo to err >&2; printf unfinished; exit 7"]);
    let pid = engine.start(&folders, start, vec![(theirs, BOTH)]);
    assert!(pid > 0);
    assert_eq!(read_frames(&client), (b"to out\nunfinished".to_vec(), b"to err\n".to_vec()));
    assert!(engine.has_event(), "the stream has ended before the end was told");
    let exit = engine.wait_exit();
    assert_eq!((exit.code, exit.oom_killed), (7, false));
    let mut log = folders.log();
    log.sort_unstable();
    assert_eq!(
        log,
        [("stderr", "to err\n".into()), ("stdout", "to out\n".into()), ("stdout", "unfinished".to_owned())]
    );
    let written = folders.exit().expect("exit.json");
    assert_eq!((written.code, written.time_ns), (7, exit.time_ns));
    engine.shut_down(&folders);
}

#[test]
fn codes_and_signals_are_told_apart() {
    if !ready() {
        return;
    }
    for (script, code) in [("exit 0", 0), ("exit 255", 255), ("trap 'exit 3' TERM; while :; do sleep 0.01; done", 3)] {
        let folders = Folders::new();
        let mut engine = Engine::spawn();
        engine.start(&folders, folders.start(&["sh", "-c", script]), Vec::new());
        if code == 3 {
            // The trap may not be set yet: a first process without a handler ignores the signal.
            while folders.exit().is_none() {
                let _ = engine.call(Request::Kill { target: Target::Init, signal: 15, all: false }, &[]);
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        assert_eq!(engine.wait_exit().code, code);
        engine.shut_down(&folders);
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    engine.start(&folders, folders.start(&["sleep", "1000"]), Vec::new());
    engine.kill(9);
    assert_eq!(engine.wait_exit().code, 137);
    let error = engine.error(Request::Kill { target: Target::Init, signal: 9, all: false });
    assert_eq!(error.kind, ShimErrorKind::NotRunning);
    engine.shut_down(&folders);
}

#[test]
fn a_start_that_fails_leaves_nothing_and_the_shim_can_be_used_again() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    for (args, kind) in [
        (["nosuchthing"], ShimErrorKind::CommandNotFound),
        (["/nosuchthing"], ShimErrorKind::CommandNotFound),
        (["/etc"], ShimErrorKind::CommandNotExecutable),
    ] {
        let Reply::Error(error) = engine.try_start(&folders, folders.start(&args), Vec::new()) else {
            panic!("{args:?} ran");
        };
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(error.message.contains(args[0]), "{error:?}");
        folders.assert_clean();
    }
    let mut foreign = folders.start(&["true"]);
    foreign.foreign_runtime = Some(ForeignRuntime { path: "/usr/sbin/nosuchruntime".into(), args: Vec::new() });
    let Reply::Error(_) = engine.try_start(&folders, foreign, Vec::new()) else {
        panic!("a runtime that is not there ran");
    };
    folders.assert_clean();
    engine.start(&folders, folders.start(&["true"]), Vec::new());
    assert_eq!(engine.wait_exit().code, 0);
    engine.shut_down(&folders);
}

#[test]
fn requests_that_make_no_sense_are_answered() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    assert_eq!(engine.error(Request::State).kind, ShimErrorKind::NotRunning);
    assert_eq!(engine.error(Request::Start(Box::new(folders.start(&["true"])))).kind, ShimErrorKind::Invalid);
    engine.start(&folders, folders.start(&["sleep", "1000"]), Vec::new());
    assert_eq!(engine.error(Request::Shutdown).kind, ShimErrorKind::Invalid);
    assert_eq!(engine.error(Request::Attach { target: Target::Init, streams: BOTH }).kind, ShimErrorKind::Invalid);
    let resize = Request::Resize { target: Target::Init, height: 1, width: 1 };
    assert_eq!(engine.error(resize).kind, ShimErrorKind::Invalid);
    let unknown = Request::Kill { target: Target::Exec("x".into()), signal: 9, all: false };
    assert_eq!(engine.error(unknown).kind, ShimErrorKind::NotRunning);
    let signal = Request::Kill { target: Target::Init, signal: 1000, all: false };
    assert_eq!(engine.error(signal).kind, ShimErrorKind::Invalid);
    engine.kill(9);
    assert_eq!(engine.wait_exit().code, 137);
    engine.shut_down(&folders);
}

#[test]
fn pausing_stops_every_process_and_state_tells() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let pid = engine.start(&folders, folders.start(&["sh", "-c", "sleep 1000 & sleep 1000"]), Vec::new());
    let state = |engine: &mut Engine| match engine.call(Request::State, &[]) {
        Reply::State(state) => state,
        other => panic!("{other:?}"),
    };
    engine.ok(Request::Pause);
    assert!(state(&mut engine).paused);
    engine.ok(Request::Resume);
    let now = state(&mut engine);
    assert_eq!((now.id.as_str(), now.pid, now.paused, now.exit.is_none()), (folders.id.as_str(), pid, false, true));
    match engine.call(Request::Pids, &[]) {
        Reply::Pids(pids) => assert!(pids.contains(&pid), "{pids:?}"),
        other => panic!("{other:?}"),
    }
    engine.ok(Request::Kill { target: Target::Init, signal: 9, all: true });
    engine.wait_exit();
    assert_eq!(state(&mut engine).exit.expect("ended").code, 137);
    engine.shut_down(&folders);
}

#[test]
fn running_out_of_memory_is_told_and_written() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let mut start = folders.start(&["sh", "-c", "x=a; while :; do x=$x$x; done"]);
    let memory = LinuxMemory { limit: Some(16 << 20), swap: Some(16 << 20), ..LinuxMemory::default() };
    start.spec.linux.as_mut().expect("linux").resources =
        Some(LinuxResources { memory: Some(memory), ..LinuxResources::default() });
    engine.start(&folders, start, Vec::new());
    assert!(matches!(engine.event(), Event::Oom));
    let exit = engine.wait_exit();
    assert_eq!((exit.code, exit.oom_killed), (137, true));
    assert!(folders.exit().expect("exit.json").oom_killed);
    engine.shut_down(&folders);
}

#[test]
fn without_a_log_nothing_is_written() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let mut start = folders.start(&["seq", "100000"]);
    start.log = LogOptions::None;
    engine.start(&folders, start, Vec::new());
    assert_eq!(engine.wait_exit().code, 0);
    let names: Vec<_> =
        std::fs::read_dir(folders.data()).expect("data").map(|entry| entry.expect("entry").file_name()).collect();
    assert_eq!(names, ["exit.json"]);
    engine.shut_down(&folders);
}

#[test]
fn a_shim_without_a_container_ends_with_its_engine() {
    if !ready() {
        return;
    }
    let engine = Engine::spawn();
    engine.die().wait().expect("ends");
}

#[test]
fn what_a_container_with_the_hosts_pids_leaves_running_ends_with_it() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let mut start = folders.start(&["sh", "-c", "sleep 1000 & echo $!; exit 3"]);
    start.spec.linux.as_mut().expect("linux").namespaces.retain(|namespace| namespace.kind != LinuxNamespaceKind::Pid);
    engine.start(&folders, start, Vec::new());
    let begin = std::time::Instant::now();
    assert_eq!(engine.wait_exit().code, 3);
    assert!(begin.elapsed() < std::time::Duration::from_secs(30));
    let pid = folders.log()[0].1.trim_end().to_owned();
    // Dead it is by now; the shim, its parent since then, may still have to take its status.
    let entry = std::path::Path::new("/proc").join(&pid);
    crate::harness::eventually("what was left is gone", || !entry.exists());
    engine.shut_down(&folders);
}

#[test]
fn the_program_writes_to_its_streams_as_another_user() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    let mut start = folders.start(&["sh", "-c", "echo out > /dev/stdout; echo err > /proc/self/fd/2; id -u"]);
    let user = &mut start.spec.process.as_mut().expect("process").user;
    (user.uid, user.gid) = (1234, 1234);
    engine.start(&folders, start, Vec::new());
    assert_eq!(engine.wait_exit().code, 0);
    let mut lines: Vec<String> = folders.log().into_iter().map(|(_, line)| line).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["1234\n", "err\n", "out\n"]);
    engine.shut_down(&folders);
}

#[test]
fn a_shim_holds_nothing_of_the_container_open_and_cannot_be_looked_into() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let mut engine = Engine::spawn();
    engine.start(&folders, folders.start(&["sleep", "1000"]), Vec::new());
    let shim = engine.pid;
    let fds = std::fs::read_dir(format!("/proc/{shim}/fd")).expect("fds");
    let targets: Vec<String> = fds
        .map(|fd| std::fs::read_link(fd.expect("fd").path()).expect("link").to_string_lossy().into_owned())
        .collect();
    let rootfs = folders.base.join("rootfs").to_string_lossy().into_owned();
    assert!(!targets.iter().any(|target| target.starts_with(&rootfs) || target.starts_with("net:")), "{targets:?}");
    assert!(targets.iter().any(|target| target.starts_with("pipe:")), "{targets:?}");
    // Not dumpable: its files belong to root, whoever it runs as, and ptrace wants CAP_SYS_PTRACE.
    let environment = std::fs::read(format!("/proc/{shim}/environ")).expect("root may");
    assert!(environment.is_empty(), "{environment:?}");
    let container: u32 = match engine.call(Request::State, &[]) {
        Reply::State(state) => state.pid,
        other => panic!("{other:?}"),
    };
    let score = std::fs::read_to_string(format!("/proc/{container}/oom_score_adj")).expect("score");
    assert_eq!(score, "0\n");
    engine.kill(9);
    engine.wait_exit();
    engine.shut_down(&folders);
}
