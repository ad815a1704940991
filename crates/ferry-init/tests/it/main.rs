//! The init program run for real, as the parent of a shell.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{PoisonError, RwLock};

/// A child that is begun while a program is written holds the file open until it is another program: nobody can run it meanwhile.
static BEGINNINGS: RwLock<()> = RwLock::new(());

fn begin(command: &mut Command) -> Child {
    let _shared = BEGINNINGS.read().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap()
}

fn program(name: &str, bytes: &[u8]) -> PathBuf {
    let _alone = BEGINNINGS.write().unwrap_or_else(PoisonError::into_inner);
    let path = std::env::temp_dir().join(format!("ferry-init-test-{name}-{}", std::process::id()));
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn init_ends_with_the_code_of_its_program() {
    let init = program("code", ferry_init::INIT);
    let run = |arguments: &[&str]| {
        begin(Command::new(&init).arg("--").args(arguments).stderr(Stdio::null())).wait().unwrap().code()
    };
    assert_eq!(run(&["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(run(&["sh", "-c", "kill -9 $$"]), Some(137));
    assert_eq!(run(&["no-such-program"]), Some(127));
    assert_eq!(run(&["/etc/passwd"]), Some(126));
    fs::remove_file(init).unwrap();
}

#[test]
fn init_forwards_signals() {
    let init = program("signal", ferry_init::INIT);
    let script = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = begin(Command::new(&init).args(["--", "sh", "-c", script]).stdout(Stdio::piped()));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    assert_eq!(line, "ready\n");
    begin(Command::new("kill").args(["-TERM", &child.id().to_string()])).wait().unwrap();
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(42), None));
    fs::remove_file(init).unwrap();
}

#[test]
fn hello_greets() {
    let hello = program("hello", ferry_init::HELLO);
    let output = begin(Command::new(&hello).stdout(Stdio::piped())).wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("Hello from ferry!"));
    fs::remove_file(hello).unwrap();
}
