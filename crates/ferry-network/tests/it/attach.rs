//! Sandboxes, bridges and endpoints.

use std::os::fd::AsFd as _;

use ferry_network::Error;
use ferry_network::Sandbox;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::host::{Container, as_host, ask_tcp, bridge, eventually, run, serve};

const GATEWAY: &[&str] = &["172.30.0.1/16", "fd30::1/64"];

#[test]
fn attached_container_and_host_reach_one_another() {
    as_host(|host| {
        let networking = host.networking("aaaa0001");
        let bridge = bridge("ferry0", GATEWAY);
        networking.ensure_bridge(&bridge).expect("a bridge");
        let container = Container::start(&networking, &bridge, "c1", &["172.30.0.2/16", "fd30::2/64"]);
        container.serve("c1", 80);
        serve("host", 81);
        assert_eq!(ask_tcp("172.30.0.2", 80).as_deref(), Some("c1 to 172.30.0.1"));
        // A new address joins its solicited-node group in the kernel's own time.
        eventually("IPv6 from outside", || ask_tcp("fd30::2", 80).as_deref() == Some("c1 to fd30::1"));
        container.inside(|| {
            assert_eq!(ask_tcp("172.30.0.1", 81).as_deref(), Some("host to 172.30.0.2"));
            run("ping", "-c1 -W5 172.30.0.1");
            assert!(ask_tcp("127.0.0.1", 80).is_some() && ask_tcp("::1", 80).is_some());
            assert!(run("ip", "-4 route").starts_with("default via 172.30.0.1 dev eth0"));
            assert!(run("ip", "-6 route").contains("default via fd30::1 dev eth0"));
        });
    });
}

#[test]
fn containers_without_ipv6_have_none_on_their_link() {
    as_host(|host| {
        let networking = host.networking("aaaa0002");
        let bridge = bridge("ferry0", &GATEWAY[..1]);
        networking.ensure_bridge(&bridge).expect("a bridge");
        let container = Container::start(&networking, &bridge, "c1", &["172.30.0.2/16"]);
        container.inside(|| {
            assert_eq!(run("ip", "-6 addr show dev eth0"), "");
            assert!(run("ip", "-6 addr show dev lo").contains("::1/128"));
            let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/{name}")).expect("a sysctl");
            assert_eq!(read("ipv4/ping_group_range"), "0\t2147483647\n");
            assert_eq!(read("ipv4/ip_unprivileged_port_start"), "0\n");
        });
        assert_eq!(run("ip", "-6 addr show dev ferry0"), "");
    });
}

#[test]
fn ipv6_addresses_can_be_asked_for_as_soon_as_they_are_there() {
    as_host(|host| {
        let networking = host.networking("aaaa0011");
        for round in 1..=20 {
            let spec = bridge(&format!("ferry{round}"), &["172.30.0.1/16", "fd30::1/64"]);
            networking.ensure_bridge(&spec).expect("a bridge");
            let groups = || std::fs::read_to_string("/proc/thread-self/net/igmp6").expect("groups");
            assert!(groups().contains("ff0200000000000000000001ff000001"), "round {round}, the bridge: {}", groups());
            let container = Container::start(&networking, &spec, "c1", &["172.30.0.2/16", "fd30::1:2/64"]);
            let inside = container.inside(groups);
            assert!(inside.contains("ff0200000000000000000001ff010002"), "round {round}, the container: {inside}");
            drop(container);
            networking.remove_bridge(&spec.network_id, &spec.link).expect("removed");
        }
    });
}

#[test]
fn links_carry_the_instance_and_vanish_with_the_sandbox() {
    as_host(|host| {
        let networking = host.networking("aaaa0003");
        let bridge = bridge("ferry0", &GATEWAY[..1]);
        networking.ensure_bridge(&bridge).expect("a bridge");
        let container = Container::start(&networking, &bridge, "c1", &["172.30.0.2/16"]);
        let links = run("ip", "link");
        assert!(links.contains("alias ferry:aaaa0003:ferry0-network-id"), "{links}");
        assert!(links.contains("fvaaaac1-conta0"), "{links}");
        assert!(links.contains("alias ferry:aaaa0003:c1-container-id"), "{links}");
        drop(container);
        eventually("the host end is gone", || !run("ip", "link").contains("fvaaaa"));
        networking.remove_bridge(&bridge.network_id, "ferry0").expect("removed");
        assert!(!run("ip", "link").contains("ferry0"));
        networking.remove_bridge(&bridge.network_id, "ferry0").expect("gone already");
    });
}

#[test]
fn a_container_is_attached_again_while_its_old_link_dies() {
    as_host(|host| {
        let networking = host.networking("aaaa0004");
        let bridge = bridge("ferry0", &GATEWAY[..1]);
        networking.ensure_bridge(&bridge).expect("a bridge");
        for _ in 0..10 {
            let container = Container::start(&networking, &bridge, "c1", &["172.30.0.2/16"]);
            container.inside(|| run("ip", "addr show dev eth0"));
        }
        eventually("old links are gone", || !run("ip", "link").contains("fvaaaa"));
    });
}

#[test]
fn a_reused_address_is_reached_at_once() {
    as_host(|host| {
        let networking = host.networking("aaaa000b");
        let spec = bridge("ferry0", &GATEWAY[..1]);
        networking.ensure_bridge(&spec).expect("a bridge");
        let client = Container::start(&networking, &spec, "client", &["172.30.0.9/16"]);
        for life in 0..6 {
            let container = Container::start(&networking, &spec, "c1", &["172.30.0.2/16"]);
            container.serve("c1", 80);
            assert!(ask_tcp("172.30.0.2", 80).is_some(), "from the host, life {life}");
            // Other containers keep what they learnt: the engine gives an address one hardware address.
            if life == 0 {
                client.inside(|| assert!(ask_tcp("172.30.0.2", 80).is_some()));
            }
            networking.release(&container.id).expect("released");
        }
    });
}

#[test]
fn neighbours_reach_a_reused_address_with_the_hardware_address_that_goes_with_it() {
    as_host(|host| {
        let networking = host.networking("aaaa000c");
        let spec = bridge("ferry0", &GATEWAY[..1]);
        networking.ensure_bridge(&spec).expect("a bridge");
        let client = Container::start(&networking, &spec, "client", &["172.30.0.9/16"]);
        let mac = ferry_network::mac::from_ipv4("172.30.0.2".parse().expect("an address"));
        for life in 0..6 {
            let id = format!("c{life}");
            let container = Container::start_with(&networking, &spec, &id, &["172.30.0.2/16"], Some(mac));
            container.serve("c1", 80);
            client.inside(|| assert!(ask_tcp("172.30.0.2", 80).is_some(), "life {life}"));
            networking.release(&container.id).expect("released");
        }
    });
}

#[test]
fn a_bridge_is_brought_to_its_specification() {
    as_host(|host| {
        let networking = host.networking("aaaa0005");
        let mut spec = bridge("ferry0", &GATEWAY[..1]);
        networking.ensure_bridge(&spec).expect("a bridge");
        networking.ensure_bridge(&spec).expect("again");
        spec.gateways = vec!["172.31.0.1/16".parse().expect("a net")];
        spec.mtu = Some(1400);
        networking.ensure_bridge(&spec).expect("changed");
        let shown = run("ip", "addr show dev ferry0");
        assert!(
            shown.contains("172.31.0.1/16") && !shown.contains("172.30.0.1") && shown.contains("mtu 1400"),
            "{shown}"
        );
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("a sysctl"), "1\n");
    });
}

#[test]
fn a_bridge_whose_record_was_lost_is_taken_over() {
    as_host(|host| {
        let networking = host.networking("aaaa000a");
        let mut spec = bridge("ferry0", &GATEWAY[..1]);
        networking.ensure_bridge(&spec).expect("a bridge");
        spec.network_id = "new-network-id".to_owned();
        networking.ensure_bridge(&spec).expect("the same bridge");
        assert!(run("ip", "link").contains("alias ferry:aaaa000a:new-network-id"));
    });
}

#[test]
fn a_link_of_somebody_else_is_left_alone() {
    as_host(|host| {
        let (one, two) = (host.networking("aaaa0006"), host.networking("bbbb0006"));
        let spec = bridge("ferry0", &GATEWAY[..1]);
        one.ensure_bridge(&spec).expect("a bridge");
        let error = two.ensure_bridge(&spec).expect_err("taken");
        assert_eq!(error.to_string(), "link ferry0 exists and belongs to ferry:aaaa0006:ferry0-network-id");
        assert!(one.is_link_available("ferry0").expect("seen") && !two.is_link_available("ferry0").expect("seen"));
        assert!(two.is_link_available("ferry1").expect("seen"));
        two.remove_bridge(&spec.network_id, "ferry0").expect("nothing to do");
        assert!(run("ip", "link").contains("ferry0"));
        run("ip", "link add wire type veth peer name other");
        assert!(matches!(one.ensure_bridge(&bridge("wire", GATEWAY)), Err(Error::LinkTaken { .. })));
        run("ip", "link add own type bridge");
        let adopted = bridge("own", &["172.29.0.1/16"]);
        one.ensure_bridge(&adopted).expect("used");
        assert!(run("ip", "addr show dev own").contains("172.29.0.1/16"));
        one.remove_bridge(&adopted.network_id, "own").expect("nothing to do");
        assert!(run("ip", "link").contains("own:"));
    });
}

#[test]
fn a_failed_attach_leaves_nothing() {
    as_host(|host| {
        let networking = host.networking("aaaa0007");
        let spec = bridge("ferry0", &GATEWAY[..1]);
        networking.ensure_bridge(&spec).expect("a bridge");
        let container = Container::start(&networking, &spec, "c1", &["172.30.0.2/16"]);
        let error = networking.attach(&container.sandbox, &container.endpoint).expect_err("eth0 is there");
        assert_eq!(error.to_string(), "link eth0 exists and is in the container already");
        let mut second = container.endpoint.clone();
        second.interface = "eth1".to_owned();
        second.gateway_v4 = Some("192.0.2.1".parse().expect("an address"));
        networking.attach(&container.sandbox, &second).expect_err("no way to the gateway");
        assert_eq!(run("ip", "link").matches("fvaaaa").count(), 1);
        second.gateway_v4 = None;
        networking.attach(&container.sandbox, &second).expect("second link");
        networking.detach(&container.sandbox, &second).expect("detached");
        networking.detach(&container.sandbox, &second).expect("gone already");
        assert_eq!(run("ip", "link").matches("fvaaaa").count(), 1);
        second.bridge_link = "nosuch0".to_owned();
        assert!(matches!(networking.attach(&container.sandbox, &second), Err(Error::NoSuchLink(_))));
    });
}

#[test]
fn sandbox_of_a_process_is_that_process_namespace() {
    as_host(|host| {
        let networking = host.networking("aaaa0008");
        let spec = bridge("ferry0", &GATEWAY[..1]);
        networking.ensure_bridge(&spec).expect("a bridge");
        let container = Container::start(&networking, &spec, "c1", &["172.30.0.2/16"]);
        let mut sleeper =
            container.inside(|| std::process::Command::new("sleep").arg("60").spawn().expect("a process"));
        let process = pidfd_open(Pid::from_child(&sleeper), PidfdFlags::empty()).expect("a pidfd");
        let again = networking.open_sandbox_of(process.as_fd()).expect("open");
        let mut second = container.endpoint.clone();
        second.interface = "eth1".to_owned();
        second.gateway_v4 = None;
        networking.attach(&again, &second).expect("attach by pid");
        container.inside(|| run("ip", "addr show dev eth1"));
        sleeper.kill().expect("killed");
        sleeper.wait().expect("reaped");
        assert!(Sandbox::of_process(process.as_fd()).is_err());
    });
}

#[test]
fn chosen_subnet_avoids_the_hosts_routes() {
    as_host(|host| {
        let networking = host.networking("aaaa0009");
        assert_eq!(networking.choose_subnet(&[]).expect("free").to_string(), "172.17.0.0/16");
        run("ip", "link add wire type veth peer name other");
        run("ip", "addr add 172.17.3.4/24 dev wire");
        run("ip", "link set wire up");
        run("ip", "link set other up");
        run("ip", "route add 172.18.0.0/15 via 172.17.3.1");
        run("ip", "route add 128.0.0.0/1 via 172.17.3.1");
        let taken = ["172.20.0.0/16".parse().expect("a net")];
        assert_eq!(networking.choose_subnet(&taken).expect("free").to_string(), "172.21.0.0/16");
    });
}
