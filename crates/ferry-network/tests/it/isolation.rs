//! What networks keep from one another, and what other programs' rules must not keep from them.

use std::{net::UdpSocket, process::Command};

use crate::host::{Container, Neighbour, as_host, ask_tcp, ask_udp, bridge, eventually, nft, run, serve};
use crate::publish::{publish, tcp, udp};

#[test]
fn networks_are_closed_to_one_another_but_for_published_ports() {
    as_host(|host| {
        let networking = host.networking("dddd0001");
        let (red, blue) = (bridge("fbred", &["172.28.0.1/16"]), bridge("fbblue", &["172.29.0.1/16"]));
        for spec in [&red, &blue] {
            networking.ensure_bridge(spec).expect("a bridge");
        }
        let one = Container::start(&networking, &red, "c1", &["172.28.0.2/16"]);
        let two = Container::start(&networking, &red, "c2", &["172.28.0.3/16"]);
        let three = Container::start(&networking, &blue, "c3", &["172.29.0.2/16"]);
        one.serve("c1", 80);
        publish(&networking, &one, &[tcp(None, 8080, 80)]);
        two.inside(|| {
            assert_eq!(ask_tcp("172.28.0.2", 80).as_deref(), Some("c1 to 172.28.0.3"), "the same network");
            assert!(ask_tcp("172.28.0.1", 8080).is_some(), "published, the same network");
        });
        three.inside(|| {
            assert_eq!(ask_tcp("172.28.0.2", 80), None, "another network");
            assert_eq!(ask_udp("172.28.0.2", 80), None, "another network");
            assert!(ask_tcp("172.29.0.1", 8080).is_some(), "published, another network");
        });
    });
}

#[test]
fn containers_of_a_network_without_icc_reach_only_the_outside() {
    as_host(|host| {
        let networking = host.networking("dddd0002");
        let neighbour = Neighbour::connect("wire0", "10.9.0");
        let mut spec = bridge("fbred", &["172.28.0.1/16"]);
        spec.icc = false;
        networking.ensure_bridge(&spec).expect("a bridge");
        let one = Container::start(&networking, &spec, "c1", &["172.28.0.2/16"]);
        let two = Container::start(&networking, &spec, "c2", &["172.28.0.3/16"]);
        one.serve("c1", 80);
        neighbour.inside(|| serve("outside", 99));
        two.inside(|| {
            assert_eq!(ask_tcp("172.28.0.2", 80), None, "by the bridge");
            run("ip", "route add 172.28.0.2/32 via 172.28.0.1");
            assert_eq!(ask_tcp("172.28.0.2", 80), None, "by the host");
            assert!(ask_tcp("10.9.0.2", 99).is_some(), "the outside");
        });
        assert!(ask_tcp("172.28.0.2", 80).is_some(), "the host");
    });
}

/// Bridges route loopback addresses, for the sake of ports published there.
#[test]
fn loopback_addresses_come_in_by_no_port_of_a_bridge() {
    as_host(|host| {
        let networking = host.networking("dddd000b");
        let spec = bridge("ferry0", &["172.30.0.1/16"]);
        networking.ensure_bridge(&spec).expect("a bridge");
        let container = Container::start(&networking, &spec, "c1", &["172.30.0.2/16"]);
        serve("local", 9000);
        let socket = |address: &str| UdpSocket::bind(address).expect("a socket");
        let says = |socket: &UdpSocket, to: &str, text: &str| drop(socket.send_to(text.as_bytes(), to));
        let hears = |socket: &UdpSocket| {
            let mut heard = [0; 16];
            let length = socket.recv(&mut heard).expect("a word");
            String::from_utf8_lossy(&heard[..length]).into_owned()
        };
        // The firewall knows of what these two say.
        let (one, other) = (socket("127.0.0.5:5005"), socket("127.0.0.1:5006"));
        says(&one, "127.0.0.1:5006", "hello");
        assert_eq!(hears(&other), "hello");
        let open = socket("0.0.0.0:5007");
        container.inside(|| {
            run("ip", "addr del 127.0.0.1/8 dev lo");
            run("ip", "route add 127.0.0.1 via 172.30.0.1");
            assert_eq!((ask_tcp("127.0.0.1", 9000), ask_udp("127.0.0.1", 9000)), (None, None));
            run("ip", "addr add 127.0.0.5/32 dev eth0");
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").expect("a sysctl");
            let forger = socket("127.0.0.5:5005");
            for to in ["127.0.0.1:5006", "172.30.0.1:5007"] {
                says(&forger, to, "forged");
            }
            let honest = socket("172.30.0.2:0");
            says(&honest, "127.0.0.1:5006", "forged");
            says(&honest, "172.30.0.1:5007", "honest");
            assert!(ask_tcp("172.30.0.1", 9000).is_some(), "the control");
        });
        says(&one, "127.0.0.1:5006", "again");
        assert_eq!((hears(&other), hears(&open)), ("again".to_owned(), "honest".to_owned()));
        networking.close(true).expect("closed");
    });
}

#[test]
fn internal_networks_have_no_way_out_and_no_host_services() {
    as_host(|host| {
        let networking = host.networking("dddd0003");
        let neighbour = Neighbour::connect("wire0", "10.9.0");
        let mut spec = bridge("fbred", &["172.28.0.1/16", "fd28::1/64"]);
        spec.internal = true;
        networking.ensure_bridge(&spec).expect("a bridge");
        let open = bridge("ferry0", &["172.30.0.1/16"]);
        networking.ensure_bridge(&open).expect("a bridge");
        let one = Container::start(&networking, &spec, "c1", &["172.28.0.2/16", "fd28::2/64"]);
        let two = Container::start(&networking, &spec, "c2", &["172.28.0.3/16", "fd28::3/64"]);
        let other = Container::start(&networking, &open, "c3", &["172.30.0.2/16"]);
        for container in [&one, &other] {
            container.serve("c", 80);
        }
        publish(&networking, &other, &[tcp(None, 8080, 80)]);
        serve("host", 99);
        neighbour.inside(|| serve("outside", 99));
        two.inside(|| {
            assert!(!run("ip", "route").contains("default"));
            assert!(ask_tcp("172.28.0.2", 80).is_some() && ask_tcp("fd28::2", 80).is_some(), "neighbours");
            run("ip", "route add default via 172.28.0.1");
            for (address, port) in
                [("10.9.0.2", 99), ("172.28.0.1", 99), ("fd28::1", 99), ("172.30.0.2", 80), ("172.28.0.1", 8080)]
            {
                assert_eq!(ask_tcp(address, port), None, "{address} {port}");
            }
        });
        neighbour.inside(|| {
            run("ip", "route add 172.28.0.0/16 via 10.9.0.1");
            assert_eq!(ask_tcp("172.28.0.2", 80), None);
        });
        // The host itself may look in.
        assert!(ask_tcp("172.28.0.2", 80).is_some() && ask_tcp("fd28::2", 80).is_some());
    });
}

/// A host where others drop what they do not know: by `nft` as ufw's and dockerd's iptables do it,
/// and in a hand-written ruleset.
const STRICT: &str = "
add table ip filter
add chain ip filter FORWARD { type filter hook forward priority filter; policy drop; }
add table ip6 filter
add chain ip6 filter FORWARD { type filter hook forward priority filter; policy drop; }
add table inet site
add chain inet site forward { type filter hook forward priority 10; policy drop; }
add rule inet site forward ct state established,related accept
";

#[test]
fn a_host_that_forwards_nothing_lets_containers_through_and_only_them() {
    as_host(|host| {
        nft(STRICT);
        let before = run("nft", "list ruleset");
        let networking = host.networking("dddd0004");
        let spec = bridge("ferry0", &["172.30.0.1/16", "fd30::1/64"]);
        let (near, far) = (Neighbour::connect("wire0", "10.9.0"), Neighbour::connect_v4("wire1", "10.8.0"));
        networking.ensure_bridge(&spec).expect("a bridge");
        networking.ensure_bridge(&spec).expect("again");
        assert_eq!(run("nft", "list ruleset").matches("ferry:dddd0004:ferry0").count(), 6);
        let container = Container::start(&networking, &spec, "c1", &["172.30.0.2/16", "fd30::2/64"]);
        container.serve("c1", 80);
        publish(&networking, &container, &[tcp(None, 8080, 80)]);
        far.inside(|| serve("far", 99));
        near.inside(|| {
            assert!(ask_tcp("10.9.0.1", 8080).is_some() && ask_tcp("fd77::1", 8080).is_some());
            run("ip", "route add 10.8.0.0/24 via 10.9.0.1");
            assert_eq!(ask_tcp("10.8.0.2", 99), None, "other traffic stays the host's affair");
        });
        far.inside(|| run("ip", "route add 10.9.0.0/24 via 10.8.0.1"));
        container.inside(|| assert!(ask_tcp("10.8.0.2", 99).is_some(), "the outside"));
        networking.close(true).expect("closed");
        assert_eq!(run("nft", "list ruleset"), before);
    });
}

#[test]
fn iptables_chains_of_both_kinds_get_accepts_that_go_again() {
    as_host(|host| {
        for (index, program) in ["iptables-nft", "iptables-legacy"].into_iter().enumerate() {
            run(program, "-P FORWARD DROP");
            let before = run(program, "-S FORWARD");
            let networking = host.networking(&format!("dddd010{index}"));
            let spec = bridge("ferry0", &["172.30.0.1/16"]);
            networking.ensure_bridge(&spec).expect("a bridge");
            networking.ensure_bridge(&spec).expect("again");
            let during = run(program, "-S FORWARD");
            assert_eq!(during.matches("ACCEPT").count(), 2, "{program}: {during}");
            networking.remove_bridge(&spec.network_id, "ferry0").expect("removed");
            assert_eq!(run(program, "-S FORWARD"), before);
            run(program, "-P FORWARD ACCEPT");
        }
    });
}

#[test]
fn a_container_cannot_take_the_place_of_another() {
    as_host(|host| {
        let networking = host.networking("dddd0006");
        let spec = bridge("ferry0", &["172.30.0.1/16"]);
        networking.ensure_bridge(&spec).expect("a bridge");
        let thief = Container::start(&networking, &spec, "thief", &["172.30.0.2/16"]);
        let victim = Container::start(&networking, &spec, "victim", &["172.30.0.3/16"]);
        let client = Container::start(&networking, &spec, "client", &["172.30.0.4/16"]);
        victim.serve("victim", 80);
        thief.serve("thief", 80);
        client.inside(|| assert!(ask_tcp("172.30.0.3", 80).is_some_and(|text| text.starts_with("victim"))));
        victim.inside(|| run("ip", "link set eth0 down"));
        thief.inside(|| {
            for address in ["172.30.0.3", "172.30.0.77", "172.30.0.1"] {
                run("ip", &format!("addr add {address}/32 dev eth0"));
            }
        });
        let asks = |address: &str| {
            client.inside(|| {
                run("ip", "neigh flush all");
                ask_tcp(address, 80)
            })
        };
        // The control: an address that nobody has may be shared.
        assert!(asks("172.30.0.77").is_some_and(|text| text.starts_with("thief")));
        assert_eq!(asks("172.30.0.3"), None, "the victim's address");
        for _ in 0..5 {
            assert_eq!(asks("172.30.0.1"), None, "the gateway's address");
        }

        // Still so for a new daemon, also after it swept.
        drop(networking);
        let networking = host.networking("dddd0006");
        networking.ensure_bridge(&spec).expect("a bridge");
        let live = ferry_network::Live {
            bridges: vec![spec.clone()],
            parents: Vec::new(),
            container_ids: [&thief, &victim, &client].into_iter().map(|container| container.id.clone()).collect(),
        };
        networking.sweep(&live).expect("swept");
        assert_eq!(asks("172.30.0.3"), None, "the victim's address");
        networking.release(&victim.id).expect("released");
        networking.release(&victim.id).expect("nothing to do");
        assert!(asks("172.30.0.3").is_some(), "nobody's address any more");

        // The same for hardware addresses.
        thief.inside(|| {
            for address in ["172.30.0.3", "172.30.0.77", "172.30.0.1"] {
                run("ip", &format!("addr del {address}/32 dev eth0"));
            }
            serve("thief", 81);
        });
        let with_mac = |mac: &str| {
            thief.inside(|| {
                run("ip", &format!("link set eth0 address {mac}"));
                ask_tcp("172.30.0.4", 82).is_some()
            })
        };
        client.serve("client", 82);
        assert!(!with_mac(&client.endpoint.mac.to_string()), "somebody's hardware address");
        assert!(with_mac("02:00:00:00:00:99"), "nobody's hardware address");
        networking.close(true).expect("closed");
        assert!(!run("nft", "list ruleset").contains("ferry"));
    });
}

/// Packets, unlike questions for addresses, are looked at by no rule: the bridge must not learn from them.
#[test]
fn packets_from_the_hardware_address_of_another_draw_nothing_to_their_sender() {
    as_host(|host| {
        let networking = host.networking("dddd000a");
        let spec = bridge("ferry0", &["172.30.0.1/16"]);
        networking.ensure_bridge(&spec).expect("a bridge");
        let start = |id: &str, last: u8| Container::start(&networking, &spec, id, &[&format!("172.30.0.{last}/16")]);
        let (thief, victim, client) = (start("thief", 2), start("victim", 3), start("client", 4));
        victim.serve("victim", 80);
        let asks = || client.inside(|| ask_tcp("172.30.0.3", 80).is_some_and(|text| text.starts_with("victim")));
        assert!(asks());
        let (of_victim, of_client) = (victim.endpoint.mac.to_string(), client.endpoint.mac.to_string());
        thief.inside(|| {
            run("ip", &format!("link set eth0 address {of_victim}"));
            run("ip", &format!("neigh replace 172.30.0.4 lladdr {of_client} dev eth0 nud permanent"));
            // Not answered: what the client says goes to the victim.
            assert_eq!(ask_tcp("172.30.0.4", 80), None);
        });
        let port = |mac: &str| {
            let entries = run("bridge", "fdb show br ferry0");
            let of_mac = entries.lines().find(|line| line.starts_with(mac) && line.contains("master ferry0"));
            of_mac.map(str::to_owned).unwrap_or_else(|| panic!("no entry for {mac}: {entries}"))
        };
        assert!(port(&of_victim).contains("sticky"), "{}", port(&of_victim));
        assert_ne!(port(&of_victim).split(' ').nth(2), port(&of_client).split(' ').nth(2));
        assert!(asks(), "the victim is where it was");
        networking.close(true).expect("closed");
    });
}

/// Who is asked learns where the asker is.
#[test]
fn a_question_claims_an_address_too() {
    const QUESTION: &str = r#"
import socket, struct, sys
own, to = (bytes.fromhex(text.replace(":", "")) for text in sys.argv[1:3])
address = sys.argv[3]
source, target = (socket.inet_pton(socket.AF_INET6, text) for text in (address, "fd30::4"))
def total(data):
    words = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while words >> 16:
        words = (words & 0xffff) + (words >> 16)
    return words ^ 0xffff
body = target + b"\x01\x01" + own
bare = bytes.fromhex("87000000") + bytes(4) + body
checked = total(source + target + struct.pack("!II", len(bare), 58) + bare)
question = bytes.fromhex("8700") + struct.pack("!H", checked) + bytes(4) + body
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0))
link.send(to + own + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(question), 58, 255) + source + target + question)
"#;
    as_host(|host| {
        let networking = host.networking("dddd000d");
        let spec = bridge("ferry0", &["172.30.0.1/16", "fd30::1/64"]);
        networking.ensure_bridge(&spec).expect("a bridge");
        let start = |id: &str, last: u8| {
            Container::start(&networking, &spec, id, &[&format!("172.30.0.{last}/16"), &format!("fd30::{last}/64")])
        };
        let (thief, victim, client) = (start("thief", 2), start("victim", 3), start("client", 4));
        let addresses = ["fd30::3", "fd30::1", "fd30::77"];
        client.inside(|| {
            for address in addresses {
                run("ip", &format!("-6 neigh replace {address} lladdr {} dev eth0 nud stale", victim.endpoint.mac));
            }
        });
        let thieves = thief.endpoint.mac.to_string();
        for address in addresses {
            thief.inside(|| {
                let words = ["-c", QUESTION, &thieves, &client.endpoint.mac.to_string(), address];
                assert!(Command::new("python3").args(words).status().expect("python3").success());
            });
        }
        let known = client.inside(|| run("ip", "-6 neigh show dev eth0"));
        let is_at_thief = |address: &str| {
            known.lines().find(|line| line.starts_with(address)).is_some_and(|line| line.contains(&thieves))
        };
        // The last is the control: an address that nobody has may be shared.
        assert_eq!(addresses.map(is_at_thief), [false, false, true], "{known}");
        networking.close(true).expect("closed");
    });
}

/// Whoever gets a frame with a tag for priority alone reads it as if it had none.
#[test]
fn claims_in_tagged_frames_are_claims() {
    const CLAIM: &str = r#"
import socket, sys
tags, mac, address = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", "")), sys.argv[3]
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0))
to = socket.inet_aton("172.30.0.4")
claim = bytes.fromhex("0001080006040001") + mac + socket.inet_aton(address) + bytes(6) + to
link.send(b"\xff" * 6 + mac + bytes.fromhex(tags) + b"\x08\x06" + claim)
"#;
    as_host(|host| {
        let networking = host.networking("dddd000c");
        let spec = bridge("ferry0", &["172.30.0.1/16"]);
        networking.ensure_bridge(&spec).expect("a bridge");
        let start = |id: &str, last: u8| Container::start(&networking, &spec, id, &[&format!("172.30.0.{last}/16")]);
        let (thief, victim, client) = (start("thief", 2), start("victim", 3), start("client", 4));
        let thieves = thief.endpoint.mac.to_string();
        client.inside(|| {
            // What was learnt last counts at once.
            std::fs::write("/proc/sys/net/ipv4/neigh/eth0/locktime", "0").expect("a sysctl");
            run("ip", &format!("neigh replace 172.30.0.3 lladdr {} dev eth0 nud stale", victim.endpoint.mac));
            run("ip", &format!("neigh replace 172.30.0.77 lladdr {} dev eth0 nud stale", victim.endpoint.mac));
        });
        for tags in ["", "81000000", "8100000081000000", "88a8000081000000"] {
            for address in ["172.30.0.3", "172.30.0.77"] {
                thief.inside(|| {
                    let sent = Command::new("python3").args(["-c", CLAIM, tags, &thieves, address]).status();
                    assert!(sent.expect("python3").success());
                });
            }
            let known = client.inside(|| run("ip", "neigh show dev eth0"));
            let of = |address: &str| known.lines().find(|line| line.starts_with(address)).unwrap_or_default();
            assert!(!of("172.30.0.3 ").contains(&thieves), "with {tags:?}: {known}");
            // The control.
            assert!(of("172.30.0.77 ").contains(&thieves), "with {tags:?}: {known}");
        }
        networking.close(true).expect("closed");
    });
}

#[test]
fn two_instances_live_side_by_side() {
    as_host(|host| {
        let (one, two) = (host.networking("dddd0005"), host.networking("eeee0005"));
        let (red, blue) = (bridge("fbred", &["172.28.0.1/16"]), bridge("fbblue", &["172.29.0.1/16"]));
        one.ensure_bridge(&red).expect("a bridge");
        two.ensure_bridge(&blue).expect("a bridge");
        let first = Container::start(&one, &red, "c1", &["172.28.0.2/16"]);
        let second = Container::start(&two, &blue, "c1", &["172.29.0.2/16"]);
        first.serve("first", 80);
        second.serve("second", 80);
        publish(&one, &first, &[tcp(None, 8080, 80), udp(None, 8080, 80)]);
        publish(&two, &second, &[tcp(None, 8081, 80)]);
        let error = two.publish("other", &second.target(), &[tcp(None, 8080, 80)]).expect_err("taken");
        assert_eq!(error.to_string(), "failed to bind host port 0.0.0.0:8080/tcp: address already in use");
        assert!(ask_tcp("127.0.0.1", 8080).is_some_and(|text| text.starts_with("first")));
        assert!(ask_tcp("127.0.0.1", 8081).is_some_and(|text| text.starts_with("second")));
        second.inside(|| {
            assert_eq!(ask_tcp("172.28.0.2", 80), None, "closed");
            assert!(ask_tcp("172.29.0.1", 8080).is_some(), "published");
        });
        one.close(true).expect("closed");
        assert!(ask_tcp("127.0.0.1", 8081).is_some());
        assert_eq!(ask_tcp("127.0.0.1", 8080), None);
        let ruleset = run("nft", "list ruleset");
        assert!(ruleset.contains("ferry_eeee0005") && !ruleset.contains("dddd0005"), "{ruleset}");
    });
}

#[test]
fn a_container_cannot_take_an_ipv6_address_or_play_the_router() {
    as_host(|host| {
        let networking = host.networking("dddd0009");
        let spec = bridge("ferry0", &["172.30.0.1/16", "fd30::1/64"]);
        networking.ensure_bridge(&spec).expect("a bridge");
        let start = |id: &str, last: u8| {
            Container::start(&networking, &spec, id, &[&format!("172.30.0.{last}/16"), &format!("fd30::{last}/64")])
        };
        let (thief, victim, client) = (start("thief", 2), start("victim", 3), start("client", 4));
        victim.serve("victim", 80);
        thief.serve("thief", 80);
        client.inside(|| assert!(ask_tcp("fd30::3", 80).is_some_and(|text| text.starts_with("victim"))));
        victim.inside(|| run("ip", "link set eth0 down"));
        thief.inside(|| {
            for address in ["fd30::3", "fd30::77", "fd30::1"] {
                run("ip", &format!("-6 addr add {address}/128 dev eth0 nodad"));
            }
        });
        let asks = |address: &str| {
            client.inside(|| {
                run("ip", "-6 neigh flush all");
                ask_tcp(address, 80)
            })
        };
        // The control: an address that nobody has may be shared.
        // The kernel listens for who asks for an address a moment after it has taken it.
        eventually("the thief is reached", || asks("fd30::77").is_some_and(|text| text.starts_with("thief")));
        assert_eq!(asks("fd30::3"), None, "the victim's address");
        assert_eq!(asks("fd30::1"), None, "the gateway's address");
        networking.release(&victim.id).expect("released");
        assert!(asks("fd30::3").is_some(), "nobody's address any more");
        // Nobody listens to router advertisements, and none passes.
        for (who, link) in [(&client, "eth0"), (&thief, "eth0")] {
            let path = format!("/proc/sys/net/ipv6/conf/{link}/accept_ra");
            who.inside(|| assert_eq!(std::fs::read_to_string(&path).expect("a sysctl").trim(), "0"));
        }
        assert!(run("nft", "list table bridge ferry_dddd0009").contains("nd-router-advert"));
    });
}
