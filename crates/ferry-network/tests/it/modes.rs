//! Ways out and in beside the usual one: gateway modes, links on a parent, chains of administrators, and what a bridge can hold.

use std::time::Instant;

use ferry_network::{
    BridgeSpec, ChildKind, ChildSpec, EndpointSpec, Error, FamilySpec, GatewayMode, MacvlanMode, Networking,
    ParentSpec, PortRequest, PortTarget, Protocol, mac,
};

use crate::host::{Container, Neighbour, as_host, ask_tcp, bridge, eventually, run, serve};
use crate::publish::tcp;

const GATEWAY: &[&str] = &["172.30.0.1/16"];

fn in_mode(mode: GatewayMode) -> BridgeSpec {
    BridgeSpec { v4: FamilySpec { mode, source: None }, ..bridge("ferry0", GATEWAY) }
}

fn one(networking: &Networking, spec: &BridgeSpec) -> Container {
    networking.ensure_bridge(spec).expect("a bridge");
    let container = Container::start(networking, spec, "c1", &["172.30.0.2/16"]);
    container.serve("c1", 80);
    container.serve("closed", 81);
    container
}

#[test]
fn routed_ports_are_open_at_the_containers_address_and_no_others_are() {
    as_host(|host| {
        let networking = host.networking("eeee0001");
        let neighbour = Neighbour::connect_v4("wire0", "10.9.0");
        let container = one(&networking, &in_mode(GatewayMode::Routed));
        let target = PortTarget { routed4: true, ..container.target() };
        let ports = [tcp(Some("0.0.0.0"), 8080, 80)];
        let published = networking.publish(&container.id, &target, &ports).expect("published");
        assert_eq!((published.len(), published[0].host_port), (1, 0), "nothing is bound");
        neighbour.inside(|| {
            run("ip", "route add 172.30.0.0/16 via 10.9.0.1");
            assert_eq!(ask_tcp("172.30.0.2", 80).as_deref(), Some("c1 to 10.9.0.2"));
            assert_eq!(ask_tcp("172.30.0.2", 81), None, "not published");
            assert_eq!(ask_tcp("10.9.0.1", 8080), None, "not translated");
            serve("outside", 99);
        });
        container.inside(|| {
            assert_eq!(ask_tcp("10.9.0.2", 99).as_deref(), Some("outside to 172.30.0.2"), "its own address is seen");
        });
        networking.unpublish(&container.id).expect("unpublished");
        neighbour.inside(|| assert_eq!(ask_tcp("172.30.0.2", 80), None));
    });
}

#[test]
fn an_unprotected_network_is_reached_by_who_has_a_route_to_it() {
    as_host(|host| {
        let networking = host.networking("eeee0002");
        let neighbour = Neighbour::connect_v4("wire0", "10.9.0");
        let container = one(&networking, &in_mode(GatewayMode::NatUnprotected));
        let other =
            BridgeSpec { subnets: vec!["172.31.0.0/16".parse().expect("a net")], ..bridge("fb0", &["172.31.0.1/16"]) };
        networking.ensure_bridge(&other).expect("a bridge");
        let stranger = Container::start(&networking, &other, "c2", &["172.31.0.2/16"]);
        neighbour.inside(|| {
            run("ip", "route add 172.30.0.0/16 via 10.9.0.1");
            assert_eq!(ask_tcp("172.30.0.2", 81).as_deref(), Some("closed to 10.9.0.2"));
            serve("outside", 99);
        });
        stranger.inside(|| assert_eq!(ask_tcp("172.30.0.2", 81), None, "our networks stay apart"));
        container.inside(|| assert_eq!(ask_tcp("10.9.0.2", 99).as_deref(), Some("outside to 10.9.0.1")));
    });
}

#[test]
fn a_trusted_link_reaches_published_ports_at_the_containers_address() {
    as_host(|host| {
        let networking = host.networking("eeee0003");
        let (near, far) = (Neighbour::connect_v4("wire0", "10.9.0"), Neighbour::connect_v4("wire1", "10.8.0"));
        let source = Some("10.9.0.1".parse().expect("an address"));
        let v4 = FamilySpec { mode: GatewayMode::Nat, source };
        let spec = BridgeSpec { trusted: vec!["wire0".to_owned()], v4, ..bridge("ferry0", GATEWAY) };
        let container = one(&networking, &spec);
        let target = PortTarget { opened: true, ..container.target() };
        let _ = networking.publish(&container.id, &target, &[tcp(Some("0.0.0.0"), 8080, 80)]).expect("published");
        near.inside(|| {
            run("ip", "route add 172.30.0.0/16 via 10.9.0.1");
            assert!(ask_tcp("172.30.0.2", 80).is_some(), "trusted and published");
            assert_eq!(ask_tcp("172.30.0.2", 81), None, "not published");
        });
        far.inside(|| {
            run("ip", "route add 172.30.0.0/16 via 10.8.0.1");
            assert_eq!(ask_tcp("172.30.0.2", 80), None, "another link");
            assert!(ask_tcp("10.8.0.1", 8080).is_some(), "the usual way");
            run("ip", "route add 10.9.0.0/24 via 10.8.0.1");
            serve("far", 99);
        });
        container.inside(|| {
            assert_eq!(ask_tcp("10.8.0.2", 99).as_deref(), Some("far to 10.9.0.1"), "by the address that was chosen");
        });
    });
}

#[test]
fn a_published_port_is_for_those_it_is_meant_for() {
    as_host(|host| {
        let networking = host.networking("eeee0008");
        let (near, far) = (Neighbour::connect("wire0", "10.9.0"), Neighbour::connect_v4("wire1", "10.8.0"));
        let container = one(&networking, &bridge("ferry0", GATEWAY));
        let limited = PortRequest { from: vec!["10.9.0.0/24".parse().expect("a net")], ..tcp(None, 8080, 80) };
        let ports = [limited, tcp(None, 8081, 80)];
        let published = networking.publish(&container.id, &container.target(), &ports).expect("published");
        assert_eq!(published.len(), 4);
        near.inside(|| {
            assert!(ask_tcp("10.9.0.1", 8080).is_some(), "who is meant");
            assert_eq!(ask_tcp("fd77::1", 8080), None, "another family, which a relay would serve");
            assert!(ask_tcp("fd77::1", 8081).is_some(), "the control");
        });
        far.inside(|| {
            assert_eq!(ask_tcp("10.8.0.1", 8080), None, "who is not");
            assert!(ask_tcp("10.8.0.1", 8081).is_some(), "another port, for everybody");
        });
        assert!(ask_tcp("127.0.0.1", 8080).is_some(), "the host itself");
        networking.unpublish(&container.id).expect("unpublished");
        let _ = networking.publish(&container.id, &container.target(), &[tcp(None, 8080, 80)]).expect("published");
        far.inside(|| assert!(ask_tcp("10.8.0.1", 8080).is_some(), "for everybody again"));
    });
}

fn child(id: &str, parent: &str, address: &str) -> EndpointSpec {
    EndpointSpec {
        container_id: id.to_owned(),
        network_id: "n1".to_owned(),
        child: Some(ChildSpec { parent: parent.to_owned(), kind: ChildKind::Macvlan(MacvlanMode::Bridge) }),
        interface: "eth0".to_owned(),
        mac: mac::random().expect("an address"),
        addresses: vec![address.parse().expect("a net")],
        gateway_v4: Some("10.9.0.2".parse().expect("an address")),
        ..EndpointSpec::default()
    }
}

#[test]
fn a_macvlan_container_stands_on_the_wire_itself() {
    as_host(|host| {
        let networking = host.networking("eeee0004");
        let neighbour = Neighbour::connect_v4("wire0", "10.9.0");
        neighbour.inside(|| serve("outside", 99));
        let kind = ChildKind::Macvlan(MacvlanMode::Bridge);
        assert!(networking.has_kind(kind));
        let sandbox = networking.new_sandbox().expect("a sandbox");
        let endpoint = child("c1", "wire0", "10.9.0.50/24");
        networking.attach(&sandbox, &endpoint).expect("attached");
        let container = Container { id: "c1".to_owned(), sandbox, endpoint };
        container.inside(|| {
            assert_eq!(ask_tcp("10.9.0.2", 99).as_deref(), Some("outside to 10.9.0.50"));
            assert!(run("ip", "route").contains("default via 10.9.0.2"));
        });
        let sandbox = networking.new_sandbox().expect("a sandbox");
        let error = networking.attach(&sandbox, &child("c2", "nosuch", "10.9.0.51/24")).expect_err("no parent");
        assert_eq!(error.to_string(), "the requested parent interface nosuch was not found on the Docker host");
        networking.detach(&container.sandbox, &container.endpoint).expect("detached");
        container.inside(|| assert!(!run("ip", "-o link").contains("eth0")));
    });
}

#[test]
fn a_parent_that_was_made_goes_with_its_network() {
    as_host(|host| {
        let networking = host.networking("eeee0005");
        let parent = ParentSpec { network_id: "n1".to_owned(), link: "dm-n1".to_owned(), vlan: None };
        assert!(networking.ensure_parent(&parent).expect("made"));
        assert!(!networking.ensure_parent(&parent).expect("there"));
        let one = networking.new_sandbox().expect("a sandbox");
        let two = networking.new_sandbox().expect("a sandbox");
        networking.attach(&one, &child("c1", "dm-n1", "10.9.0.2/24")).expect("attached");
        networking.attach(&two, &child("c2", "dm-n1", "10.9.0.3/24")).expect("attached");
        let two = Container { id: "c2".to_owned(), sandbox: two, endpoint: child("c2", "dm-n1", "10.9.0.3/24") };
        two.serve("two", 80);
        let one = Container { id: "c1".to_owned(), sandbox: one, endpoint: child("c1", "dm-n1", "10.9.0.2/24") };
        one.inside(|| assert_eq!(ask_tcp("10.9.0.3", 80).as_deref(), Some("two to 10.9.0.2")));
        networking
            .remove_parent(&ParentSpec { network_id: "other".to_owned(), ..parent.clone() })
            .expect("not its own");
        assert!(run("ip", "-o link").contains("dm-n1"));
        networking.remove_parent(&parent).expect("removed");
        assert!(!run("ip", "-o link").contains("dm-n1"));
        networking.ensure_parent(&parent).expect("made");
        networking.sweep(&ferry_network::Live::default()).expect("swept");
        assert!(!run("ip", "-o link").contains("dm-n1"), "a sweep finds it by its mark");
    });
}

#[test]
fn administrators_decide_first_in_docker_user() {
    as_host(|host| {
        let neighbour = Neighbour::connect_v4("wire0", "10.9.0");
        neighbour.inside(|| serve("outside", 99));
        for (index, program) in ["iptables-nft", "iptables-legacy"].into_iter().enumerate() {
            run(program, "-P FORWARD ACCEPT");
            run(program, "-N DOCKER-USER");
            let before = run(program, "-S FORWARD");
            let networking = host.networking(&format!("eeee010{index}"));
            let spec = bridge("ferry0", GATEWAY);
            networking.ensure_bridge(&spec).expect("a bridge");
            let container = Container::start(&networking, &spec, "c1", &["172.30.0.2/16"]);
            container.inside(|| assert!(ask_tcp("10.9.0.2", 99).is_some(), "{program}: the control"));
            run(program, "-A DOCKER-USER -p tcp --dport 99 -j DROP");
            container.inside(|| assert_eq!(ask_tcp("10.9.0.2", 99), None, "{program}: what it says counts"));
            networking.remove_bridge(&spec.network_id, "ferry0").expect("removed");
            assert_eq!(run(program, "-S FORWARD"), before);
            run(program, "-F DOCKER-USER");
            run(program, "-X DOCKER-USER");
        }
    });
}

#[test]
fn a_full_bridge_says_so() {
    as_host(|host| {
        let networking = host.networking("eeee0006");
        let spec = bridge("ferry0", GATEWAY);
        networking.ensure_bridge(&spec).expect("a bridge");
        let mut lines = String::new();
        for number in 0..1023 {
            lines.push_str(&format!("link add p{number} type ifb\nlink set p{number} master ferry0\n"));
        }
        let file = host.exec_root("eeee0006").join("links");
        std::fs::write(&file, lines).expect("written");
        run("ip", &format!("-batch {}", file.display()));
        let sandbox = networking.new_sandbox().expect("a sandbox");
        let endpoint = EndpointSpec {
            child: None,
            bridge_link: "ferry0".to_owned(),
            gateway_v4: None,
            ..child("c1", "", "172.30.0.2/16")
        };
        let error = networking.attach(&sandbox, &endpoint).expect_err("full");
        assert!(matches!(error, Error::BridgeFull(_)), "{error:?}");
        assert!(error.to_string().contains("bridge ferry0 is full"));
        run("ip", "link del p0");
        networking.attach(&sandbox, &endpoint).expect("a port is free again");
    });
}

#[test]
fn a_whole_ephemeral_range_is_published_without_a_process_for_it() {
    as_host(|host| {
        let networking = host.networking("eeee0007");
        let container = one(&networking, &bridge("ferry0", GATEWAY));
        let requests: Vec<_> = (49_152..=65_535)
            .map(|number| PortRequest {
                host_ip: None,
                host_ports: number..=number,
                container_port: number,
                protocol: Protocol::Udp,
                from: Vec::new(),
            })
            .collect();
        let begin = Instant::now();
        let published = networking.publish(&container.id, &container.target(), &requests).expect("published");
        let took = begin.elapsed();
        assert_eq!(published.len(), 2 * 16_384);
        let again = networking.publish(&container.id, &container.target(), &requests).expect("the same");
        assert_eq!(again.len(), published.len());
        let held = run("ss", "-Hlun").lines().filter(|line| line.contains(":49") || line.contains(":6")).count();
        assert!(held <= 64, "{held} sockets are held");
        container.serve("udp", 60_000);
        eventually("a port of the range to answer", || {
            crate::host::ask_udp("127.0.0.1", 60_000).is_some_and(|text| text.starts_with("udp"))
        });
        networking.unpublish(&container.id).expect("unpublished");
        crate::host::say(&format!("49152-65535/udp published in {took:.2?}"));
    });
}
