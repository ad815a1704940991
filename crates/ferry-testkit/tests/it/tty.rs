//! Terminals: what a person at a keyboard sees and does.

use ferry_testkit::terminal::Terminal;
use ferry_testkit::{Daemon, programs};

use crate::until;

fn ferry(daemon: &Daemon, args: &[&str]) -> Terminal {
    let mut command = daemon.client(programs::binary("ferry").unwrap());
    command.args(args);
    Terminal::start(&command).unwrap()
}

#[test]
fn an_interactive_shell_has_a_terminal_of_the_windows_size_and_follows_it() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let mut terminal = ferry(&daemon, &["run", "--rm", "-it", "--name", "box", "busybox", "sh"]);
    terminal.expect("#").unwrap();
    terminal.keys("tty; echo size $(stty size)\n").unwrap();
    terminal.expect("/dev/pts/0").unwrap();
    terminal.expect("size 24 80").unwrap();
    terminal.resize(40, 132).unwrap();
    until("the new size to arrive", || {
        daemon.run(&["exec", "box", "stty", "-F", "/dev/pts/0", "size"]).out().trim() == "40 132"
    });
    terminal.keys("exit 5\n").unwrap();
    assert_eq!(terminal.finish().unwrap(), 5);
}

#[test]
fn ctrl_c_goes_to_the_program_inside() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let mut terminal = ferry(
        &daemon,
        &["run", "--rm", "-it", "busybox", "sh", "-c", "trap 'exit 9' INT; echo up; while :; do sleep 0.1; done"],
    );
    terminal.expect("up").unwrap();
    terminal.keys("\u{3}").unwrap();
    assert_eq!(terminal.finish().unwrap(), 9);
}

#[test]
fn detach_keys_leave_the_container_running() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let mut terminal = ferry(&daemon, &["run", "-it", "--name", "box", "busybox", "sh"]);
    terminal.expect("#").unwrap();
    terminal.keys("\u{10}\u{11}").unwrap();
    assert_eq!(terminal.finish().unwrap(), 0);
    assert_eq!(daemon.inspect("box", "{{.State.Status}}"), "running");
    let mut terminal = ferry(&daemon, &["attach", "--detach-keys", "ctrl-a,x", "box"]);
    terminal.keys("echo back-$((1+1))\n").unwrap();
    terminal.expect("back-2").unwrap();
    terminal.keys("\u{1}x").unwrap();
    assert_eq!(terminal.finish().unwrap(), 1);
    assert_eq!(daemon.inspect("box", "{{.State.Status}}"), "running");
}

#[test]
fn exec_on_a_terminal() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    let mut terminal = ferry(&daemon, &["exec", "-it", "box", "sh"]);
    terminal.expect("#").unwrap();
    terminal.keys("test -t 0 && echo is-a-tt''y $(stty size); exit 4\n").unwrap();
    terminal.expect("is-a-tty 24 80").unwrap();
    assert_eq!(terminal.finish().unwrap(), 4);
}

#[test]
fn a_terminal_for_a_client_without_one_is_refused() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let outcome = daemon.run(&["run", "--rm", "-it", "busybox", "true"]);
    assert!(outcome.err().contains("the input device is not a TTY"), "{outcome}");
    assert_eq!(outcome.code, 1, "{outcome}");
}
