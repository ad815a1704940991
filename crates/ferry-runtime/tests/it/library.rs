//! The library as the shim calls it: descriptors in, children out. The callers here have threads, which the shim need not have.

use std::io::Read as _;
use std::os::fd::OwnedFd;

use ferry_runtime::{CreateOptions, ErrorKind, ExecTarget, Rootfs, Stdio};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::bundle::{Bundle, ferry, ready};

fn options(bundle: &Bundle) -> (CreateOptions, std::fs::File) {
    let (stdio, output) = stdio();
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let rootfs = open_tree(rustix::fs::CWD, bundle.rootfs(), flags).unwrap();
    (CreateOptions::new(&bundle.id, bundle.spec.clone(), Rootfs::Mount(rootfs), stdio), output)
}

fn stdio() -> (Stdio, std::fs::File) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    (Stdio::Fds { stdin: null, stdout: writer.try_clone().unwrap(), stderr: writer }, reader.into())
}

fn end_of(pid: u32) -> i32 {
    libc::WEXITSTATUS(ferry_sys::process::wait(pid).unwrap())
}

#[test]
fn run_is_one_call() {
    if !ready() {
        return;
    }
    let bundle = Bundle::new(&ferry(), "echo ran; ls -a / | grep dockerenv; readlink /etc/mtab; exit 4");
    let (mut options, mut output) = options(&bundle);
    let cache = bundle.beside("filters");
    std::fs::create_dir(&cache).unwrap();
    options.seccomp_cache_dir = Some(cache.clone());
    let container = ferry_runtime::run(options).unwrap();
    assert_eq!(end_of(container.pid()), 4);
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!(said, "ran\n.dockerenv\n/proc/mounts\n");
    assert_eq!(std::fs::read_dir(cache).unwrap().count(), 1);
    assert!(container.warnings().is_empty());
    container.cgroup().remove().unwrap();
}

#[test]
fn created_container_waits_and_takes_execs() {
    if !ready() {
        return;
    }
    let bundle = Bundle::new(&ferry(), "echo started; exec sleep 1000");
    let (options, mut output) = options(&bundle);
    let mut container = ferry_runtime::create(options).unwrap();
    assert_eq!(container.cgroup().pids().unwrap(), [container.pid()]);
    container.start().unwrap();
    assert_eq!(container.start().unwrap_err().kind(), ErrorKind::Invalid);
    let mut line = [0u8; 8];
    output.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"started\n");

    let path = container.cgroup().path();
    for target in [
        ExecTarget::from_container(&container, &bundle.spec).unwrap(),
        ExecTarget::open(container.pid(), &bundle.spec, &path).unwrap(),
    ] {
        let mut process = bundle.spec.process.clone().unwrap();
        process.args = vec!["/bin/sh".into(), "-c".into(), "echo from exec; exit 6".into()];
        let (stdio, mut output) = stdio();
        let made = ferry_runtime::exec(&target, &process, stdio).unwrap();
        assert_eq!(end_of(made.pid), 6);
        let mut said = String::new();
        output.read_to_string(&mut said).unwrap();
        assert_eq!(said, "from exec\n");
        process.args = vec!["nothing".into()];
        let error = ferry_runtime::exec(&target, &process, self::stdio().0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CommandNotFound);
        process.user.username = Some("stranger".into());
        let error = ferry_runtime::exec(&target, &process, self::stdio().0).unwrap_err();
        assert_eq!(error.to_string(), "unable to find user stranger: no matching entries in passwd file");
    }
    let target = ExecTarget::from_container(&container, &bundle.spec).unwrap();
    let mut process = bundle.spec.process.clone().unwrap();
    process.args = vec!["/bin/tty".into()];
    let made = ferry_runtime::exec(&target, &process, Stdio::Terminal).unwrap();
    let mut console: std::fs::File = made.console.unwrap().into();
    let mut said = [0u8; 10];
    console.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"/dev/pts/0");
    assert_eq!(end_of(made.pid), 0);

    container.cgroup().signal_all(libc::SIGKILL).unwrap();
    ferry_sys::process::wait(container.pid()).unwrap();
    let error = ferry_runtime::exec(&target, &process, Stdio::Terminal).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
    container.cgroup().remove().unwrap();
}

#[test]
fn failures_have_kinds_and_leave_nothing() {
    if !ready() {
        return;
    }
    for (program, kind) in [
        ("nothing", ErrorKind::CommandNotFound),
        ("/nope", ErrorKind::CommandNotFound),
        ("/etc/data", ErrorKind::CommandNotExecutable),
        ("/etc", ErrorKind::CommandNotExecutable),
    ] {
        let mut bundle = Bundle::new(&ferry(), "");
        bundle.process().args = vec![program.into()];
        let error = ferry_runtime::run(options(&bundle).0).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(
            error.to_string().starts_with("unable to start container process: error during container init: exec: ")
        );
        assert!(!bundle.leaves_something());
    }
}

#[test]
fn given_network_namespace_is_joined() {
    if !ready() {
        return;
    }
    let bundle = Bundle::new(&ferry(), "readlink /proc/self/ns/net");
    let (namespace, name) =
        ferry_sys::netns::create(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
    let (mut options, mut output) = options(&bundle);
    options.network_namespace = Some(namespace);
    let container = ferry_runtime::run(options).unwrap();
    assert_eq!(end_of(container.pid()), 0);
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!(said.trim(), name.to_str().unwrap());
    container.cgroup().remove().unwrap();
}

#[test]
fn terminal_is_returned_by_run() {
    if !ready() {
        return;
    }
    let bundle = Bundle::new(&ferry(), "tty");
    let (mut options, _) = options(&bundle);
    options.stdio = Stdio::Terminal;
    let mut container = ferry_runtime::run(options).unwrap();
    let mut console: std::fs::File = container.take_console().unwrap().into();
    let mut said = [0u8; 10];
    console.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"/dev/pts/0");
    assert_eq!(end_of(container.pid()), 0);
    container.cgroup().remove().unwrap();
}
