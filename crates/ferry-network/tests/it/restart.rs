//! What a daemon finds when it starts, and what it leaves when it goes.

use std::{
    collections::HashSet,
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
};

use ferry_network::{Live, Networking};
use rustix::net::{AddressFamily, SocketType, socket, sockopt};

use crate::host::{Container, Host, as_host, ask_tcp, ask_udp, bridge, eventually, netd_processes, nft, run};
use crate::publish::{publish, tcp, udp};

const GATEWAY: &[&str] = &["172.30.0.1/16"];

fn kill_netd(host: &Host, instance: &str) {
    let pids = netd_processes(&host.exec_root(instance));
    assert_eq!(pids.len(), 1);
    let pid = rustix::process::Pid::from_raw(pids[0]).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    eventually("the process is gone", || netd_processes(&host.exec_root(instance)).is_empty());
}

fn live(containers: &[&Container]) -> Live {
    Live {
        bridges: vec![bridge("ferry0", GATEWAY)],
        parents: Vec::new(),
        container_ids: containers.iter().map(|container| container.id.clone()).collect(),
    }
}

fn start(host: &Host, instance: &str) -> (Networking, Container) {
    let networking = host.networking(instance);
    networking.ensure_bridge(&bridge("ferry0", GATEWAY)).expect("a bridge");
    let container = Container::start(&networking, &bridge("ferry0", GATEWAY), "c1", &["172.30.0.2/16"]);
    container.serve("c1", 80);
    (networking, container)
}

#[test]
fn published_ports_survive_the_daemon_and_are_taken_up() {
    as_host(|host| {
        let (networking, container) = start(host, "ffff0001");
        let requests = [tcp(None, 0, 80), udp(Some("127.0.0.1"), 5353, 80)];
        let published = publish(&networking, &container, &requests);
        let port = published[0].host_port;
        let before = netd_processes(&host.exec_root("ffff0001"));
        drop(networking);
        assert!(ask_tcp("127.0.0.1", port).is_some() && ask_tcp("::1", port).is_some());
        assert!(TcpListener::bind(("0.0.0.0", port)).is_err(), "still held");

        let networking = host.networking("ffff0001");
        networking.ensure_bridge(&bridge("ferry0", GATEWAY)).expect("a bridge");
        assert!(ask_tcp("127.0.0.1", port).is_some(), "no gap before the ports are asked for again");
        assert_eq!(publish(&networking, &container, &requests), published);
        assert_eq!(networking.sweep(&live(&[&container])).expect("swept"), ferry_network::Swept::default());
        assert!(ask_tcp("127.0.0.1", port).is_some() && ask_udp("127.0.0.1", 5353).is_some());
        assert_eq!(netd_processes(&host.exec_root("ffff0001")), before);
        networking.unpublish(&container.id).expect("unpublished");
        eventually("the process ends", || netd_processes(&host.exec_root("ffff0001")).is_empty());
        assert_eq!(ask_tcp("127.0.0.1", port), None);
        publish(&networking, &container, &requests);
        networking.close(true).expect("closed");
        eventually("the process ends again", || netd_processes(&host.exec_root("ffff0001")).is_empty());
    });
}

#[test]
fn a_killed_netd_is_started_again_with_everything() {
    as_host(|host| {
        let (networking, container) = start(host, "ffff0002");
        let published = publish(&networking, &container, &[tcp(None, 8080, 80)]);
        kill_netd(host, "ffff0002");
        assert!(ask_tcp("127.0.0.1", 8080).is_some(), "translated without it");
        assert_eq!(ask_tcp("::1", 8080), None);
        let swept = networking.sweep(&live(&[&container])).expect("swept");
        assert_eq!(swept.rebound, published);
        assert!(ask_tcp("::1", 8080).is_some());

        kill_netd(host, "ffff0002");
        let two = Container::start(&networking, &bridge("ferry0", GATEWAY), "c2", &["172.30.0.3/16"]);
        publish(&networking, &two, &[tcp(None, 8081, 80)]);
        assert!(ask_tcp("::1", 8080).is_some(), "the other container's port is back as well");
        assert!(TcpListener::bind("0.0.0.0:8081").is_err());

        // Both the daemon and the process die: the engine asks for what its records say.
        drop(networking);
        kill_netd(host, "ffff0002");
        let networking = host.networking("ffff0002");
        networking.ensure_bridge(&bridge("ferry0", GATEWAY)).expect("a bridge");
        publish(&networking, &container, &[tcp(None, 8080, 80)]);
        assert!(ask_tcp("::1", 8080).is_some() && ask_tcp("127.0.0.1", 8080).is_some());
        networking.close(true).expect("closed");
    });
}

#[test]
fn sweep_removes_own_orphans_and_nothing_else() {
    as_host(|host| {
        let (networking, kept) = start(host, "ffff0003");
        let spec = bridge("ferry0", GATEWAY);
        let orphan = Container::start(&networking, &spec, "orphan", &["172.30.0.3/16"]);
        orphan.serve("orphan", 80);
        publish(&networking, &kept, &[tcp(None, 8080, 80)]);
        publish(&networking, &orphan, &[tcp(None, 8081, 80)]);
        networking.ensure_bridge(&bridge("fbold", &["172.27.0.1/16"])).expect("a bridge");

        let other = host.networking("ffff1003");
        let other_spec = bridge("fbother", &["172.26.0.1/16"]);
        other.ensure_bridge(&other_spec).expect("a bridge");
        let foreign = Container::start(&other, &other_spec, "c1", &["172.26.0.2/16"]);
        foreign.serve("foreign", 80);
        publish(&other, &foreign, &[tcp(None, 8082, 80)]);
        nft("add table inet site");
        run("ip", "link add own type bridge");

        drop(networking);
        let networking = host.networking("ffff0003");
        let swept = networking.sweep(&live(&[&kept])).expect("swept");
        let links: HashSet<_> = swept.links.iter().map(String::as_str).collect();
        assert_eq!(links, HashSet::from(["fvfffforphan-c0", "fbold"]));
        assert_eq!(swept.released, std::slice::from_ref(&orphan.id));
        assert!(!swept.firewall_restored && swept.rebound.is_empty());
        assert!(ask_tcp("127.0.0.1", 8080).is_some() && ask_tcp("127.0.0.1", 8082).is_some());
        assert_eq!(ask_tcp("127.0.0.1", 8081), None);
        TcpListener::bind("0.0.0.0:8081").expect("free");
        let ruleset = run("nft", "list ruleset");
        assert!(ruleset.contains("table inet site") && ruleset.contains("ferry_ffff1003"));
        assert!(!ruleset.contains("fbold") && !ruleset.contains("8081"), "{ruleset}");
        assert!(run("ip", "link").contains("own:"));

        networking.close(true).expect("closed");
        let (links, ruleset) = (run("ip", "link"), run("nft", "list ruleset"));
        assert!(!links.contains("ferry:ffff0003:") && !ruleset.contains("ferry_ffff0003"), "{links} {ruleset}");
        other.close(true).expect("closed");
        assert!(!run("nft", "list ruleset").contains("ferry"));
    });
}

#[test]
fn rules_that_somebody_removes_come_back_by_themselves() {
    as_host(|host| {
        nft(
            "add table ip filter\nadd chain ip filter FORWARD { type filter hook forward priority filter; policy drop; }",
        );
        let (networking, container) = start(host, "ffff0007");
        publish(&networking, &container, &[tcp(None, 8080, 80)]);
        let before = run("nft", "list ruleset");
        run("nft", "delete table inet ferry_ffff0007");
        eventually("the table is back", || run("nft", "list ruleset").contains("172.30.0.2 . 80"));
        run("nft", "flush chain ip filter FORWARD");
        eventually("the accepts are back", || run("nft", "list ruleset").matches("ferry:ffff0007").count() == 2);
        run("nft", "flush ruleset");
        eventually("the table is back", || run("nft", "list ruleset").contains("172.30.0.2 . 80"));
        nft(
            "add table ip filter\nadd chain ip filter FORWARD { type filter hook forward priority filter; policy drop; }",
        );
        let sorted = |text: String| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        eventually("all is as before", || sorted(run("nft", "list ruleset")) == sorted(before.clone()));
        assert!(ask_tcp("127.0.0.1", 8080).is_some());
        networking.close(true).expect("closed");
        drop(networking);
        assert!(!run("nft", "list ruleset").contains("ferry"));
    });
}

#[test]
fn a_flushed_ruleset_is_made_again() {
    as_host(|host| {
        let (networking, container) = start(host, "ffff0004");
        publish(&networking, &container, &[tcp(None, 8080, 80)]);
        // What endpoints own is known to the daemon and the kernel alone: without either it is lost.
        let table = || run("nft", "list table inet ferry_ffff0004");
        let before = table();
        drop(networking);
        run("nft", "flush ruleset");
        let networking = host.networking("ffff0004");
        assert!(networking.sweep(&live(&[&container])).expect("swept").firewall_restored);
        assert_eq!(table(), before);
        assert_eq!(ask_tcp("127.0.0.1", 8080).as_deref(), Some("c1 to 172.30.0.1"));

        // Also by the next thing that needs it.
        run("nft", "flush ruleset");
        let two = Container::start(&networking, &bridge("ferry0", GATEWAY), "c2", &["172.30.0.3/16"]);
        publish(&networking, &two, &[tcp(None, 8081, 80)]);
        assert!(run("nft", "list ruleset").contains("8080") && ask_tcp("127.0.0.1", 8080).is_some());
        run("nft", "flush ruleset");
        networking.unpublish(&container.id).expect("unpublished");
        let after = run("nft", "list ruleset");
        assert!(after.contains("8081") && !after.contains("8080"), "{after}");
        networking.close(true).expect("closed");
    });
}

#[test]
fn a_port_left_by_a_dead_container_is_given_to_the_next() {
    as_host(|host| {
        let (networking, container) = start(host, "ffff0005");
        publish(&networking, &container, &[tcp(None, 8080, 80)]);
        drop(networking);
        kill_netd(host, "ffff0005");
        // Neither process is left, only the kernel's rule to an address that nobody has.
        drop(container);
        let networking = host.networking("ffff0005");
        networking.ensure_bridge(&bridge("ferry0", GATEWAY)).expect("a bridge");
        let two = Container::start(&networking, &bridge("ferry0", GATEWAY), "c2", &["172.30.0.3/16"]);
        two.serve("c2", 80);
        publish(&networking, &two, &[tcp(None, 8080, 80)]);
        assert_eq!(ask_tcp("127.0.0.1", 8080).as_deref(), Some("c2 to 172.30.0.1"));
        networking.close(true).expect("closed");
    });
}

#[test]
fn relayed_connections_end_with_their_container() {
    as_host(|host| {
        use std::io::{Read, Write};
        let (networking, container) = start(host, "ffff0006");
        container.inside(|| {
            let listener = TcpListener::bind("0.0.0.0:90").expect("listen");
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (mut reader, mut writer) = (stream.try_clone().expect("a copy"), stream);
                    std::thread::spawn(move || std::io::copy(&mut reader, &mut writer));
                }
            });
        });
        publish(&networking, &container, &[tcp(None, 8090, 90)]);
        // One for IPv6 alone cannot be connected to the container itself.
        let socket = socket(AddressFamily::INET6, SocketType::STREAM, None).expect("a socket");
        sockopt::set_ipv6_v6only(&socket, true).expect("for IPv6 alone");
        rustix::net::connect(&socket, &SocketAddr::from((Ipv6Addr::LOCALHOST, 8090))).expect("connect");
        let mut stream = TcpStream::from(socket);
        stream.write_all(b"echo").expect("sent");
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).expect("echoed");
        networking.unpublish(&container.id).expect("unpublished");
        assert_eq!(stream.read(&mut bytes).unwrap_or(0), 0, "ended");
        networking.close(true).expect("closed");
    });
}
