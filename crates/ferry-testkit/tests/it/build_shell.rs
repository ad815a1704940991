//! `build --on-error shell`: a shell in the step that failed, and nothing left when it is over.

use ferry_testkit::programs;
use ferry_testkit::terminal::Terminal;

use crate::place::Place;
use crate::until;

/// What is told before the shell begins.
const TOLD: &str = "leave it to end the build";

fn build(place: &Place, flags: &[&str]) -> Terminal {
    let mut command = place.daemon.client(programs::binary("ferry").unwrap());
    command.args(["build", "--on-error", "shell"]).args(flags).arg(place.path("context"));
    Terminal::start(&command).unwrap()
}

/// Containers, trees and files of builds.
fn left(place: &Place) -> usize {
    let folder = |name: &str| std::fs::read_dir(place.daemon.data_root().join(name)).map_or(0, Iterator::count);
    folder("containers") + folder("build/trees")
}

#[test]
fn a_failed_step_can_be_looked_at_from_inside() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    place.write("token", "t0k3n");
    let dockerfile = "FROM busybox\n\
        RUN mkdir -p /srv/work && chown 1000:1000 /srv/work\n\
        ENV GREETING=hello\n\
        WORKDIR /srv/work\n\
        USER 1000:1000\n\
        RUN --mount=type=secret,id=token,uid=1000 --mount=type=cache,target=/cache,uid=1000,gid=1000 \
        echo made >made; echo cached >/cache/f; echo near the end; exit 7\n\
        RUN echo never\n";
    place.write("context/Dockerfile", dockerfile);
    let secret = format!("id=token,src={}", place.path("token"));
    let mut terminal = build(&place, &["-t", "never", "--secret", &secret]);
    terminal.expect(TOLD).unwrap();
    terminal.expect("/srv/work $").unwrap();
    assert!(terminal.shown().contains("did not complete successfully: exit code: 7"), "{}", terminal.shown());
    terminal.keys("echo $(cat made)-$GREETING-$(id -u)-$(cat /run/secrets/token)-$(cat /cache/f) at $(tty)\n").unwrap();
    terminal.expect("made-hello-1000-t0k3n-cached at /dev/pts/0").unwrap();
    terminal.resize(40, 132).unwrap();
    terminal.keys("until [ \"$(stty size)\" = '40 132' ]; do sleep 0.1; done; echo size $(stty size)\n").unwrap();
    terminal.expect("size 40 132").unwrap();
    assert_eq!(place.daemon.run(&["ps", "-a", "-q"]).ok(), "", "steps are nobody's containers");
    terminal.keys("exit 3\n").unwrap();
    let (code, shown) = terminal.finish_showing().unwrap();
    assert_eq!(code, 1, "{shown}");
    let (_, after) = shown.rsplit_once("exit 3").unwrap();
    assert!(after.contains("ERROR: failed to build: failed to solve: process "), "{shown}");
    assert!(after.contains("did not complete successfully: exit code: 7"), "{shown}");
    assert!(!shown.contains("RUN echo never\r\n => =>"), "{shown}");
    until("nothing is left", || left(&place) == 0);
    assert!(!place.daemon.run(&["images"]).ok().contains("never"));

    // Only a step that ran can be looked at, and only by somebody.
    let context = place.path("context");
    let alone = place.daemon.run(&["build", "--on-error", "shell", &context]);
    assert!(alone.fails_with(1).contains("needs a terminal"), "{alone}");
    let wrong = place.daemon.run(&["build", "--on-error", "nothing", &context]);
    assert!(wrong.fails_with(1).contains("invalid value \"nothing\" for --on-error"), "{wrong}");
    place.write("context/Dockerfile", "FROM busybox\nCOPY none /\n");
    let (code, shown) = build(&place, &[]).finish_showing().unwrap();
    assert!(code == 1 && shown.contains("\"/none\": not found") && !shown.contains(TOLD), "{shown}");

    // A step without a shell of its own, in an image that has none where it is looked for.
    let without = "FROM busybox\nRUN mkdir /only && cp /bin/busybox /only/false\n\
        FROM scratch\nCOPY --from=0 /only /\nRUN [\"/false\"]\n";
    place.write("context/Dockerfile", without);
    let (code, shown) = build(&place, &[]).finish_showing().unwrap();
    assert!(code == 1 && shown.contains("cannot run /bin/sh in the failed step"), "{shown}");
    assert!(shown.contains("ERROR: failed to build: failed to solve: process \"/false\""), "{shown}");
    until("nothing is left", || left(&place) == 0);
}

#[test]
fn a_client_that_is_killed_takes_its_shell_along() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    place.write("context/Dockerfile", "FROM busybox\nWORKDIR /w\nRUN exit 7\n");
    let mut terminal = build(&place, &[]);
    terminal.expect("/w #").unwrap();
    terminal.keys("sleep 1234\n").unwrap();
    let sleeps = || place.sandbox.sh("pgrep -fx 'sleep 1234' || true").ok();
    until("the shell runs something", || !sleeps().is_empty());
    drop(terminal);
    until("nothing is left", || sleeps().is_empty() && left(&place) == 0);
    // Whoever comes next is not troubled.
    place.write("context/Dockerfile", "FROM busybox\nRUN echo fine >/f\n");
    assert_eq!(place.read(&place.build(&[]), "/f"), "fine");
}
