//! How fast containers may send and receive, and what they may reach: ferry's own flags.

use ferry_testkit::leak::Watch;
use ferry_testkit::{Daemon, programs};

use crate::until;

/// Queueing disciplines of the daemon's host that limit something.
fn limits(daemon: &Daemon) -> String {
    let listed = daemon.sandbox().sh("tc qdisc").ok();
    listed.lines().filter(|line| line.contains("tbf")).collect::<Vec<_>>().join("\n")
}

#[test]
fn bandwidth_is_limited_changed_while_it_runs_and_outlives_the_daemon() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let run = |options: &[&str]| daemon.run(&[&["run", "-d"], options, &["busybox", "sleep", "1000"]].concat());
    let _ = run(&["--name", "slow", "--net-in", "3mbit", "--net-out", "1mbit"]).ok();
    assert_eq!(daemon.inspect("slow", "{{.HostConfig.NetIn}} {{.HostConfig.NetOut}}"), "3000000 1000000");
    let set = limits(&daemon);
    assert!(set.contains("rate 3Mbit") && set.contains("rate 1Mbit"), "{set}");
    let copied = "dd if=/dev/zero bs=1024 count=100 2>/dev/null | nc -w 30 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p') 7070";
    let begin = std::time::Instant::now();
    let heard = std::thread::scope(|scope| {
        let listener = scope.spawn(|| daemon.sandbox().sh("busybox nc -l -p 7070 | wc -c").ok());
        until("the copy to be taken", || daemon.run(&["exec", "slow", "sh", "-c", copied]).code == 0);
        listener.join().expect("no panic")
    });
    assert_eq!(heard, "102400");
    // Beside what may go at once, half a second's worth.
    assert!(begin.elapsed() > std::time::Duration::from_millis(400), "{:?}", begin.elapsed());

    assert_eq!(daemon.run(&["update", "--net-in", "none", "--net-out", "2mbit", "slow"]).ok(), "slow");
    assert_eq!(limits(&daemon).matches("rate").count(), 1, "{}", limits(&daemon));
    daemon.kill().unwrap();
    daemon.start().unwrap();
    assert!(limits(&daemon).contains("rate 2Mbit"), "{}", limits(&daemon));
    let _ = daemon.run(&["network", "create", "second"]).ok();
    let _ = daemon.run(&["network", "connect", "second", "slow"]).ok();
    assert_eq!(limits(&daemon).matches("rate 2Mbit").count(), 2, "each network is limited");
    let _ = daemon.run(&["network", "disconnect", "second", "slow"]).ok();
    assert_eq!(limits(&daemon).matches("rate 2Mbit").count(), 1);
    let _ = daemon.run(&["restart", "-t", "0", "slow"]).ok();
    assert_eq!(limits(&daemon).matches("rate 2Mbit").count(), 1, "{}", limits(&daemon));

    for (options, told) in [
        (&["--net-in", "10"][..], "invalid argument \"10\" for \"--net-in\" flag: it should be a rate such as"),
        (&["--net-loss", "101%"], "it should be a percentage such as 0.5%"),
        (&["--net-out", "1mbit", "--network", "host"], "limits of network traffic and the network mode host"),
    ] {
        let said = run(options).fails_with(125);
        assert!(said.contains(told), "{options:?} said {said}");
    }
    let delayed = run(&["--name", "late", "--net-delay", "20ms", "--net-loss", "1%", "--net-out", "1mbit"]);
    match delayed.code {
        0 => assert!(daemon.sandbox().sh("tc qdisc").ok().contains("delay 20ms")),
        code => assert!(code == 125 && delayed.err().contains("delay and loss need `netem`"), "{}", delayed.err()),
    }
    let _ = daemon.run(&["rm", "-f", "slow", "late"]);
    let _ = daemon.run(&["network", "rm", "second"]).ok();
    assert_eq!(limits(&daemon), "");
    watch.end().unwrap();
}
