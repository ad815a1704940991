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
        // A listener whose own input ends would have the other side give up.
        let counted = "f=$(mktemp); busybox nc -l -p 7070 -e sh -c \"wc -c >$f\"; cat $f; rm $f";
        let listener = scope.spawn(|| daemon.sandbox().sh(counted).ok());
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

/// In networks without a bridge limits are in the container's own namespace, and for containers that cannot go around them there.
#[test]
fn bandwidth_is_limited_where_there_is_no_bridge() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let plugin = ferry_testkit::plugin::Plugin::of_networks(daemon.sandbox(), "wires").unwrap();
    let watch = Watch::daemon(&daemon);
    let _ = daemon.run(&["network", "create", "-d", "macvlan", "--subnet", "10.78.0.0/24", "lan"]).ok();
    let _ = daemon.run(&["network", "create", "-d", "wires", "--subnet", "10.77.0.0/24", "far"]).ok();
    let run = |options: &[&str]| daemon.run(&[&["run", "-d"], options, &["busybox", "sleep", "1000"]].concat());
    let inside = |what: &str| {
        let pid = daemon.inspect("slow", "{{.State.Pid}}");
        daemon.sandbox().sh(&format!("nsenter -n -t {pid} {what}")).ok()
    };
    let rates = |rate: &str| inside("tc qdisc").matches(rate).count();

    for (rights, named) in
        [(&[][..], "CAP_NET_RAW"), (&["--cap-drop", "NET_RAW", "--cap-add", "NET_ADMIN"], "CAP_NET_ADMIN")]
    {
        let said = run(&[&["--rm", "--net-in", "1mbit", "--network", "lan"], rights].concat()).fails_with(125);
        let told = format!(
            "limits of network traffic cannot be kept in network lan: the driver is macvlan, with which they are in the container's own namespace, and with {named} the container could go around them"
        );
        assert!(said.contains(&told), "{said}");
    }
    let options =
        ["--name", "slow", "--network", "lan", "--cap-drop", "NET_RAW", "--net-in", "3mbit", "--net-out", "1mbit"];
    let _ = run(&options).ok();
    assert_eq!((rates("rate 3Mbit"), rates("rate 1Mbit")), (1, 1), "{}", inside("tc qdisc"));
    assert_eq!(limits(&daemon), "", "nothing on the host");
    assert_eq!(daemon.run(&["update", "--net-in", "none", "--net-out", "2mbit", "slow"]).ok(), "slow");
    assert_eq!((rates("tbf"), rates("rate 2Mbit")), (1, 1), "{}", inside("tc qdisc"));
    let _ = daemon.run(&["network", "connect", "far", "slow"]).ok();
    assert_eq!(rates("rate 2Mbit"), 2, "that of a plugin, too");
    daemon.kill().unwrap();
    daemon.start().unwrap();
    assert_eq!(rates("rate 2Mbit"), 2);
    assert_eq!(daemon.run(&["update", "--net-in", "5mbit", "slow"]).ok(), "slow");
    assert_eq!(rates("rate 5Mbit"), 2);
    for (network, left) in [("far", 1), ("lan", 0)] {
        let _ = daemon.run(&["network", "disconnect", network, "slow"]).ok();
        assert_eq!((rates("rate 5Mbit"), rates("rate 2Mbit")), (left, left), "{}", inside("tc qdisc"));
    }
    assert_eq!(inside("ip -o link").lines().count(), 1, "{}", inside("ip -o link"));
    let _ = daemon.run(&["network", "connect", "lan", "slow"]).ok();
    assert_eq!(rates("rate 5Mbit"), 1);
    // Whoever could go around them is not limited by an update either, and stays as it was.
    let _ = run(&["--name", "free", "--network", "lan"]).ok();
    let said = daemon.run(&["update", "--net-out", "1mbit", "free"]).fails_with(1);
    assert!(said.contains("with CAP_NET_RAW the container could go around them"), "{said}");
    assert_eq!(daemon.inspect("free", "{{json .HostConfig}}").matches("NetOut").count(), 0);
    let _ = daemon.run(&["rm", "-f", "slow", "free"]).ok();
    let _ = daemon.run(&["network", "rm", "lan", "far"]).ok();
    watch.end().unwrap();
    drop(plugin);
}

#[test]
fn what_a_container_may_not_reach_is_refused_counted_and_changed_while_it_runs() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let run = |options: &[&str]| daemon.run(&[&["run", "-d"], options, &["busybox", "sleep", "1000"]].concat());
    let _ = run(&["--name", "held", "--egress", "none"]).ok();
    assert_eq!(daemon.inspect("held", "{{json .HostConfig.Egress}}"), "[\"none\"]");
    let resolv = daemon.run(&["exec", "held", "cat", "/etc/resolv.conf"]).ok();
    assert!(resolv.contains("nameserver 127.0.0.11"), "what it may ask is seen to by ours: {resolv}");
    let gateway = daemon.inspect("held", "{{.NetworkSettings.Networks.bridge.Gateway}}");
    let reaches = || {
        std::thread::scope(|scope| {
            let listener =
                scope.spawn(|| daemon.sandbox().sh("busybox timeout 20 busybox nc -l -p 7071 </dev/null").code);
            let listens = "grep -q ':1B9F .* 0A ' /proc/net/tcp /proc/net/tcp6";
            until("the listener", || daemon.sandbox().sh(listens).code == 0);
            let line = format!("nc -w 5 {gateway} 7071 </dev/null");
            let reached = daemon.run(&["exec", "held", "sh", "-c", &line]).code == 0;
            if !reached {
                // Lets the listener go.
                let _ = daemon.sandbox().sh("busybox nc -w 1 127.0.0.1 7071 </dev/null");
            }
            let _ = listener.join().expect("no panic");
            reached
        })
    };
    assert!(!reaches(), "nothing is reached");
    let flows = daemon.run(&["net", "flows", "--format", "{{.Rule}} {{.Verdict}} {{.Packets}}", "held"]).ok();
    let denied: u64 = flows.strip_prefix("other denied ").expect("one row").parse().expect("a number");
    assert!(denied > 0, "{flows}");

    let change = |words: &str| daemon.run(&["update", "--egress", words, "held"]);
    assert_eq!(change("lan,allow=example.org,192.0.2.0/24:443").ok(), "held");
    assert!(reaches(), "the host has a private address there");
    let flows = daemon.run(&["network", "flows", "--format", "json", "held"]).ok();
    let rows: Vec<serde_json::Value> = flows.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let rules: Vec<_> = rows.iter().map(|row| row["Rule"].as_str().expect("a rule")).collect();
    assert_eq!(rules, ["lan", "allow=example.org", "allow=192.0.2.0/24:443", "established", "other"]);
    assert_ne!(rows[0]["Packets"], "0", "{flows}");

    daemon.kill().unwrap();
    daemon.start().unwrap();
    assert!(reaches(), "a later daemon keeps the rules");
    let again = daemon.run(&["net", "flows", "--format", "{{.Rule}}", "held"]).ok();
    assert_eq!(again.lines().count(), 5, "{again}");
    let refused = change("everything").fails_with(1);
    assert!(refused.contains("invalid egress rule \"everything\": it should be `none`, `lan`"), "{refused}");
    assert_eq!(change("none").ok(), "held");
    assert!(!reaches(), "from then on");
    assert_eq!(change("any").ok(), "held");
    assert!(reaches(), "no rules any more");
    assert!(!daemon.run(&["inspect", "held"]).ok().contains("\"Egress\""));

    let host = run(&["--egress", "none", "--network", "host"]).fails_with(125);
    assert!(host.contains("limits of network traffic and the network mode host"), "{host}");
    let _ = daemon.run(&["rm", "-f", "held"]).ok();
    let rules = daemon.sandbox().sh("nft list ruleset").ok();
    assert!(!rules.contains(" e_"), "{rules}");
    watch.end().unwrap();
}
