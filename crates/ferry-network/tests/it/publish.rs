//! Published ports, seen from everywhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use ferry_network::{Networking, PortRequest, Protocol, PublishedPort};

use crate::host::{Container, Neighbour, as_host, ask_tcp, ask_udp, ask_udp_from, bridge, eventually, run};

const V4: &[&str] = &["172.30.0.1/16"];
const BOTH: &[&str] = &["172.30.0.1/16", "fd30::1/64"];

pub(crate) fn tcp(host_ip: Option<&str>, host_port: u16, container_port: u16) -> PortRequest {
    PortRequest {
        host_ip: host_ip.map(|ip| ip.parse().expect("an address")),
        host_ports: host_port..=host_port,
        container_port,
        protocol: Protocol::Tcp,
        from: Vec::new(),
    }
}

pub(crate) fn udp(host_ip: Option<&str>, host_port: u16, container_port: u16) -> PortRequest {
    PortRequest { protocol: Protocol::Udp, ..tcp(host_ip, host_port, container_port) }
}

pub(crate) fn publish(networking: &Networking, container: &Container, ports: &[PortRequest]) -> Vec<PublishedPort> {
    networking.publish(&container.id, &container.target(), ports).expect("published")
}

fn refused(networking: &Networking, container: &Container, ports: &[PortRequest]) -> String {
    networking.publish(&container.id, &container.target(), ports).expect_err("refused").to_string()
}

/// A network with one container that serves on port 80.
fn one_container(networking: &Networking, gateways: &[&str], addresses: &[&str]) -> Container {
    let spec = bridge("ferry0", gateways);
    networking.ensure_bridge(&spec).expect("a bridge");
    let container = Container::start(networking, &spec, "c1", addresses);
    container.serve("c1", 80);
    container
}

#[test]
fn a_port_is_reached_from_everywhere() {
    as_host(|host| {
        let networking = host.networking("cccc0001");
        let neighbour = Neighbour::connect("wire0", "10.9.0");
        let container = one_container(&networking, V4, &["172.30.0.2/16"]);
        let published = publish(&networking, &container, &[tcp(None, 8080, 80), udp(None, 8080, 80)]);
        assert_eq!(published.len(), 4);
        for ask in [ask_tcp, ask_udp] {
            assert_eq!(ask("127.0.0.1", 8080).as_deref(), Some("c1 to 172.30.0.1"), "loopback");
            assert_eq!(ask("10.9.0.1", 8080).as_deref(), Some("c1 to 10.9.0.1"), "own address");
            assert_eq!(ask("172.30.0.1", 8080).as_deref(), Some("c1 to 172.30.0.1"), "gateway");
            assert_eq!(ask("::1", 8080).as_deref(), Some("c1 to 172.30.0.1"), "relayed loopback");
            assert_eq!(ask("fd77::1", 8080).as_deref(), Some("c1 to 172.30.0.1"), "relayed address");
            neighbour.inside(|| {
                assert_eq!(ask("10.9.0.1", 8080).as_deref(), Some("c1 to 10.9.0.2"), "source is kept");
                assert_eq!(ask("fd77::1", 8080).as_deref(), Some("c1 to 172.30.0.1"), "relayed from outside");
            });
            container.inside(|| {
                assert_eq!(ask("10.9.0.1", 8080).as_deref(), Some("c1 to 172.30.0.1"), "hairpin");
                assert_eq!(ask("172.30.0.1", 8080).as_deref(), Some("c1 to 172.30.0.1"), "hairpin by the gateway");
            });
        }
        networking.unpublish(&container.id).expect("unpublished");
        for ask in [ask_tcp, ask_udp] {
            for address in ["127.0.0.1", "10.9.0.1", "::1"] {
                assert_eq!(ask(address, 8080), None, "{address}");
            }
        }
        networking.unpublish(&container.id).expect("nothing to do");
    });
}

#[test]
fn a_container_with_ipv6_is_reached_without_the_relay() {
    as_host(|host| {
        let networking = host.networking("cccc0002");
        let neighbour = Neighbour::connect("wire0", "10.9.0");
        let container = one_container(&networking, BOTH, &["172.30.0.2/16", "fd30::2/64"]);
        publish(&networking, &container, &[tcp(None, 8080, 80), udp(None, 8080, 80)]);
        for ask in [ask_tcp, ask_udp] {
            neighbour.inside(|| {
                assert_eq!(ask("fd77::1", 8080).as_deref(), Some("c1 to fd77::2"), "source is kept");
            });
            assert_eq!(ask("::1", 8080).as_deref(), Some("c1 to fd30::1"));
            assert_eq!(ask("127.0.0.1", 8080).as_deref(), Some("c1 to 172.30.0.1"));
            container.inside(|| {
                assert_eq!(ask("fd30::1", 8080).as_deref(), Some("c1 to fd30::1"), "hairpin");
            });
        }
    });
}

#[test]
fn a_port_on_one_address_is_not_on_others() {
    as_host(|host| {
        let networking = host.networking("cccc0003");
        let neighbour = Neighbour::connect("wire0", "10.9.0");
        let container = one_container(&networking, V4, &["172.30.0.2/16"]);
        publish(&networking, &container, &[tcp(Some("127.0.0.1"), 8080, 80), tcp(Some("10.9.0.1"), 8081, 80)]);
        assert!(ask_tcp("127.0.0.1", 8080).is_some() && ask_tcp("10.9.0.1", 8081).is_some());
        assert_eq!(ask_tcp("10.9.0.1", 8080), None);
        assert_eq!(ask_tcp("127.0.0.1", 8081), None);
        neighbour.inside(|| {
            assert_eq!(ask_tcp("10.9.0.1", 8080), None);
            assert_eq!(ask_tcp("10.9.0.1", 8081).as_deref(), Some("c1 to 10.9.0.2"));
        });
    });
}

#[test]
fn what_is_not_published_is_unreachable_from_the_wire() {
    as_host(|host| {
        let networking = host.networking("cccc0004");
        let neighbour = Neighbour::connect("wire0", "10.9.0");
        let container = one_container(&networking, V4, &["172.30.0.2/16"]);
        container.serve("closed", 81);
        publish(&networking, &container, &[tcp(Some("127.0.0.1"), 8080, 80), tcp(None, 8081, 80)]);
        crate::host::serve("local", 9000);
        neighbour.inside(|| {
            run("ip", "route add 172.30.0.0/16 via 10.9.0.1");
            for port in [80, 81] {
                assert_eq!(ask_tcp("172.30.0.2", port), None, "direct routing to {port}");
                assert_eq!(ask_udp("172.30.0.2", port), None, "direct routing to {port}/udp");
            }
            // The control: the same way works where it is allowed.
            assert!(ask_tcp("10.9.0.1", 8081).is_some());
            // 127.0.0.1 of the host, from outside.
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").expect("a sysctl");
            run("ip", "addr del 127.0.0.1/8 dev lo");
            run("ip", "route add 127.0.0.1 via 10.9.0.1 src 10.9.0.2");
            for port in [8080, 8081, 9000] {
                assert_eq!(ask_tcp("127.0.0.1", port), None, "loopback of the host, port {port}");
            }
        });
        // The same with a host that lets such packets in for reasons of its own.
        std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").expect("a sysctl");
        neighbour.inside(|| {
            for port in [8080, 9000] {
                assert_eq!(ask_tcp("127.0.0.1", port), None, "loopback of the host, port {port}");
            }
        });
    });
}

#[test]
fn containers_reach_the_outside_by_the_hosts_address() {
    as_host(|host| {
        let networking = host.networking("cccc0005");
        let neighbour = Neighbour::connect("wire0", "10.9.0");
        let container = one_container(&networking, BOTH, &["172.30.0.2/16", "fd30::2/64"]);
        neighbour.inside(|| crate::host::serve("outside", 99));
        container.inside(|| {
            assert_eq!(ask_tcp("10.9.0.2", 99).as_deref(), Some("outside to 10.9.0.1"));
            assert_eq!(ask_udp("10.9.0.2", 99).as_deref(), Some("outside to 10.9.0.1"));
            assert_eq!(ask_tcp("fd77::2", 99).as_deref(), Some("outside to fd77::1"));
            run("ping", "-c1 -W5 10.9.0.2");
        });
    });
}

#[test]
fn taken_ports_are_refused_in_dockers_words() {
    as_host(|host| {
        let networking = host.networking("cccc0006");
        let one = one_container(&networking, V4, &["172.30.0.2/16"]);
        let two = Container::start(&networking, &bridge("ferry0", V4), "c2", &["172.30.0.3/16"]);
        publish(&networking, &one, &[tcp(None, 8080, 80)]);
        assert_eq!(
            refused(&networking, &two, &[tcp(None, 8080, 80)]),
            "Bind for 0.0.0.0:8080 failed: port is already allocated"
        );
        assert_eq!(
            refused(&networking, &two, &[tcp(Some("127.0.0.1"), 8080, 80)]),
            "Bind for 127.0.0.1:8080 failed: port is already allocated"
        );
        let foreign = TcpListener::bind("0.0.0.0:9090").expect("listen");
        assert_eq!(
            refused(&networking, &two, &[tcp(None, 9090, 80)]),
            "failed to bind host port 0.0.0.0:9090/tcp: address already in use"
        );
        let _foreign_udp = UdpSocket::bind("[::]:9091").expect("bind");
        assert_eq!(
            refused(&networking, &two, &[udp(Some("::"), 9091, 80)]),
            "failed to bind host port [::]:9091/udp: address already in use"
        );
        assert_eq!(
            refused(&networking, &two, &[tcp(Some("203.0.113.7"), 9092, 80)]),
            "failed to bind host port 203.0.113.7:9092/tcp: cannot assign requested address"
        );
        // All or nothing: the first of two is free again.
        refused(&networking, &two, &[tcp(None, 8181, 80), tcp(None, 8080, 80)]);
        TcpListener::bind("0.0.0.0:8181").expect("free");
        // Twice in one request.
        assert_eq!(
            refused(&networking, &two, &[tcp(None, 8181, 80), tcp(None, 8181, 81)]),
            "Bind for 0.0.0.0:8181 failed: port is already allocated"
        );
        // Other programs cannot take ours, whatever they allow.
        for address in ["0.0.0.0:8080", "127.0.0.1:8080", "[::]:8080"] {
            assert!(TcpListener::bind(address).is_err(), "{address}");
        }
        drop(foreign);
        // A program that another test starts holds it as well until it is executed.
        eventually("the port is free", || networking.publish(&two.id, &two.target(), &[tcp(None, 9090, 80)]).is_ok());
        assert!(ask_tcp("127.0.0.1", 8080).is_some());
    });
}

#[test]
fn ranges_and_ephemeral_ports_take_what_is_free() {
    as_host(|host| {
        let networking = host.networking("cccc0007");
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40010").expect("a sysctl");
        let one = one_container(&networking, V4, &["172.30.0.2/16"]);
        let two = Container::start(&networking, &bridge("ferry0", V4), "c2", &["172.30.0.3/16"]);
        let range = PortRequest { host_ports: 7000..=7003, ..tcp(None, 7000, 80) };
        let _foreign = TcpListener::bind("127.0.0.1:7000").expect("listen");
        let numbers = |ports: &[PublishedPort]| ports.iter().map(|port| port.host_port).collect::<Vec<_>>();
        let published = publish(&networking, &one, &[range.clone(), tcp(None, 0, 80), tcp(None, 0, 80)]);
        assert_eq!(numbers(&published), [7001, 7001, 40000, 40000, 40001, 40001]);
        let second = publish(&networking, &two, &[range, tcp(None, 0, 80)]);
        assert_eq!(numbers(&second), [7002, 7002, 40002, 40002]);
        assert!(ask_tcp("127.0.0.1", 40001).is_some());
        networking.unpublish(&one.id).expect("unpublished");
        let many: Vec<_> = (0..12).map(|_| tcp(Some("127.0.0.1"), 0, 80)).collect();
        assert_eq!(refused(&networking, &one, &many), "all ports are allocated");
    });
}

#[test]
fn publishing_again_is_idempotent_and_other_ports_replace() {
    as_host(|host| {
        let networking = host.networking("cccc0008");
        let container = one_container(&networking, V4, &["172.30.0.2/16"]);
        let requests = [tcp(None, 0, 80), udp(Some("127.0.0.1"), 5353, 80)];
        let first = publish(&networking, &container, &requests);
        assert_eq!(publish(&networking, &container, &requests), first);
        let replaced = publish(&networking, &container, &[tcp(None, 8081, 80)]);
        assert_eq!(replaced[0].host_port, 8081);
        assert_eq!(ask_udp("127.0.0.1", 5353), None);
        assert!(ask_tcp("127.0.0.1", 8081).is_some());
        assert_eq!(publish(&networking, &container, &[]), []);
        assert_eq!(ask_tcp("127.0.0.1", 8081), None);
    });
}

#[test]
fn udp_flows_follow_the_container_that_has_the_port() {
    as_host(|host| {
        let networking = host.networking("cccc0009");
        let neighbour = Neighbour::connect("wire0", "10.9.0");
        let one = one_container(&networking, V4, &["172.30.0.2/16"]);
        let two = Container::start(&networking, &bridge("ferry0", V4), "c2", &["172.30.0.3/16"]);
        two.serve("c2", 80);
        // One client socket all the time, so that the kernel sees one flow.
        let client = neighbour.inside(|| UdpSocket::bind("0.0.0.0:4444").expect("bind"));
        let ask = || ask_udp_from(&client, SocketAddr::new(Ipv4Addr::new(10, 9, 0, 1).into(), 53));
        let tracked = || run("conntrack", "-L -p udp --orig-port-dst 53").matches("dport=53").count();
        assert_eq!(ask(), None);
        publish(&networking, &one, &[udp(None, 53, 80)]);
        assert_eq!(ask().as_deref(), Some("c1 to 10.9.0.2"));
        assert_eq!(tracked(), 1);
        networking.unpublish(&one.id).expect("unpublished");
        assert_eq!(tracked(), 0);
        publish(&networking, &two, &[udp(Some("10.9.0.1"), 53, 80)]);
        assert_eq!(ask().as_deref(), Some("c2 to 10.9.0.2"));
    });
}

#[test]
fn without_a_firewall_everything_is_relayed() {
    as_host(|host| {
        let mut options = host.options("cccc000a");
        options.firewall = false;
        let networking = Networking::open(options).expect("open");
        let neighbour = Neighbour::connect("wire0", "10.9.0");
        let container = one_container(&networking, V4, &["172.30.0.2/16"]);
        publish(&networking, &container, &[tcp(None, 8080, 80), udp(None, 8080, 80)]);
        assert_eq!(run("nft", "list ruleset"), "");
        for ask in [ask_tcp, ask_udp] {
            for address in ["127.0.0.1", "10.9.0.1", "::1"] {
                assert_eq!(ask(address, 8080).as_deref(), Some("c1 to 172.30.0.1"), "{address}");
            }
            neighbour.inside(|| assert_eq!(ask("10.9.0.1", 8080).as_deref(), Some("c1 to 172.30.0.1")));
        }
    });
}

#[test]
fn many_ports_are_published_at_once() {
    as_host(|host| {
        let networking = host.networking("cccc000b");
        let container = one_container(&networking, V4, &["172.30.0.2/16"]);
        let requests: Vec<_> = (20_000..23_000).map(|port| tcp(Some("0.0.0.0"), port, 80)).collect();
        let published = publish(&networking, &container, &requests);
        assert_eq!(published.len(), 3000);
        assert!(ask_tcp("127.0.0.1", 20_999).is_some() && ask_tcp("127.0.0.1", 22_999).is_some());
        networking.unpublish(&container.id).expect("unpublished");
        eventually("the ports are free", || TcpListener::bind("0.0.0.0:20999").is_ok());
    });
}

#[test]
fn an_address_of_each_family_is_bound_as_asked() {
    as_host(|host| {
        let networking = host.networking("cccc000c");
        let container = one_container(&networking, V4, &["172.30.0.2/16"]);
        let published = publish(&networking, &container, &[tcp(Some("0.0.0.0"), 8080, 80), tcp(Some("::1"), 8081, 80)]);
        let bound: Vec<_> = published.iter().map(|port| (port.host_ip, port.host_port)).collect();
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(bound, [(ip("0.0.0.0"), 8080), (ip("::1"), 8081)]);
        assert_eq!(ask_tcp("::1", 8080), None);
        assert!(ask_tcp("::1", 8081).is_some());
        TcpListener::bind("[::1]:8080").expect("IPv6 is free");
    });
}
