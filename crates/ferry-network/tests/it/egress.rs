//! What a container may reach outside of its networks.

use std::{
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    sync::mpsc,
    thread,
};

use ferry_network::{Egress, Live, Networking, ResolverSpec};

use crate::{
    host::{Container, Neighbour, PATIENCE, SILENCE, as_host, ask_tcp, ask_udp, bridge, eventually, run, serve},
    names::{ask, ask_by_stream},
    publish::{publish, tcp},
};

const GATEWAY: &[&str] = &["172.30.0.1/16", "fd30::1/64"];
const ADDRESSES: [&str; 2] = ["172.30.0.2", "fd30::2"];

fn egress(words: &[&str]) -> Egress {
    let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
    Egress::parse(&words).expect("words").expect("rules")
}

fn restrict(networking: &Networking, container: &Container, words: &[&str]) {
    let addresses: Vec<IpAddr> = ADDRESSES.iter().map(|text| text.parse().expect("an address")).collect();
    networking.restrict(&container.id, &addresses, Some(&egress(words)), true).expect("restricted");
    networking.forget_flows_of(&addresses).expect("forgotten");
}

/// What of the world outside the container reaches: the wire of a private net, one of a public one, in both families, and the host.
fn reached(container: &Container) -> Vec<&'static str> {
    let places =
        [("lan", "10.7.0.2", 99), ("lan6", "fd77::2", 99), ("public", "203.0.113.2", 99), ("host", "172.30.0.1", 81)];
    let open = places.into_iter().filter(|(_, address, port)| container.inside(|| ask_tcp(address, *port)).is_some());
    open.map(|(name, ..)| name).collect()
}

struct World {
    networking: Networking,
    container: Container,
    lan: Neighbour,
    public: Neighbour,
}

fn world(host: &crate::host::Host, instance: &str) -> World {
    let networking = host.networking(instance);
    networking.ensure_bridge(&bridge("ferry0", GATEWAY)).expect("a bridge");
    let container = Container::start(&networking, &bridge("ferry0", GATEWAY), "c1", &["172.30.0.2/16", "fd30::2/64"]);
    let (lan, public) = (Neighbour::connect("wire0", "10.7.0"), Neighbour::connect_v4("wire1", "203.0.113"));
    lan.inside(|| serve("lan", 99));
    public.inside(|| serve("public", 99));
    serve("host", 81);
    eventually("IPv6 to the outside", || container.inside(|| ask_tcp("fd77::2", 99)).is_some());
    World { networking, container, lan, public }
}

#[test]
fn what_no_rule_names_is_refused_and_counted() {
    as_host(|host| {
        let World { networking, container, lan, public: _public } = world(host, "aaaa0401");
        assert_eq!(reached(&container), ["lan", "lan6", "public", "host"]);
        restrict(&networking, &container, &["lan"]);
        assert_eq!(reached(&container), ["lan", "lan6", "host"]);
        restrict(&networking, &container, &["internet"]);
        assert_eq!(reached(&container), ["public"]);
        restrict(&networking, &container, &["allow=10.7.0.0/24", "allow=[fd77::2]:99/tcp", "allow=203.0.113.2:98"]);
        assert_eq!(reached(&container), ["lan", "lan6"]);
        container.inside(|| assert!(ask_udp("fd77::2", 99).is_none() && ask_udp("10.7.0.2", 99).is_some()));
        let flows = networking.flows(&container.id).expect("read").expect("restricted");
        let allowed: Vec<_> =
            flows.rules.iter().map(|(rule, count, _)| (rule.to_string(), count.packets > 0)).collect();
        assert_eq!(
            allowed,
            [
                ("allow=10.7.0.0/24".to_owned(), true),
                ("allow=[fd77::2]:99/tcp".to_owned(), true),
                ("allow=203.0.113.2:98".to_owned(), false)
            ]
        );
        assert!(flows.denied.packets >= 3 && flows.denied.bytes > 0, "{flows:?}");

        // Neighbours, and who comes from outside, are not the rules' affair.
        restrict(&networking, &container, &["none"]);
        container.serve("c1", 80);
        publish(&networking, &container, &[tcp(None, 8080, 80)]);
        lan.inside(|| assert!(ask_tcp("10.7.0.1", 8080).is_some(), "a published port"));
        let other = Container::start(&networking, &bridge("ferry0", GATEWAY), "c2", &["172.30.0.3/16", "fd30::3/64"]);
        other.serve("c2", 80);
        container.inside(|| assert!(ask_tcp("172.30.0.3", 80).is_some(), "a neighbour"));
        assert!(reached(&container).is_empty());
        eventually("others go where they like", || reached(&other) == ["lan", "lan6", "public", "host"]);

        // An address that is not its own does not help it.
        container.inside(|| {
            run("ip", "addr add 172.30.0.77/16 dev eth0");
            assert!(ask_from("172.30.0.77", "203.0.113.2:99").is_none());
        });
        networking.restrict(&container.id, &[], None, true).expect("no rules");
        assert_eq!(reached(&container), ["lan", "lan6", "public", "host"]);
        assert!(!run("nft", "list ruleset").contains("e_c1-container"));
    });
}

fn ask_from(source: &str, target: &str) -> Option<()> {
    let target: SocketAddr = target.parse().expect("an address");
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).ok()?;
    rustix::net::bind(&socket, &SocketAddr::new(source.parse().expect("an address"), 0)).ok()?;
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Send, Some(SILENCE)).ok()?;
    rustix::net::connect(&socket, &target).ok()
}

#[test]
fn rules_come_back_and_outlive_the_daemon_but_not_the_container() {
    as_host(|host| {
        let World { networking, container, lan: _lan, public: _public } = world(host, "aaaa0402");
        restrict(&networking, &container, &["lan"]);
        run("nft", "flush ruleset");
        eventually("the rules are back", || {
            let reached = reached(&container);
            run("nft", "list ruleset").contains("e_c1-container") && reached == ["lan", "lan6", "host"]
        });
        drop(networking);
        assert_eq!(reached(&container), ["lan", "lan6", "host"], "without a daemon");
        let later = host.networking("aaaa0402");
        later.ensure_bridge(&bridge("ferry0", GATEWAY)).expect("a bridge");
        let live = |containers: &[&str]| Live {
            bridges: vec![bridge("ferry0", GATEWAY)],
            container_ids: containers.iter().map(|&id| id.to_owned()).collect(),
            ..Live::default()
        };
        let _ = later.sweep(&live(&[&container.id])).expect("swept");
        assert_eq!(reached(&container), ["lan", "lan6", "host"], "whose rules are not known yet is not let go");
        restrict(&later, &container, &["lan"]);
        assert_eq!(reached(&container), ["lan", "lan6", "host"]);
        drop(later);
        let last = host.networking("aaaa0402");
        let _ = last.sweep(&live(&[])).expect("swept");
        let rules = run("nft", "list ruleset");
        assert!(!rules.contains("e_c1-container"), "{rules}");
    });
}

/// Answers every question with one address, until the sender is dropped.
fn name_server(answer: [u8; 4]) -> (mpsc::Sender<()>, thread::JoinHandle<usize>) {
    let socket = UdpSocket::bind("127.0.0.1:53").expect("a socket");
    socket.set_read_timeout(Some(SILENCE / 4)).expect("a time limit");
    let listener = std::net::TcpListener::bind("127.0.0.1:53").expect("a listener");
    listener.set_nonblocking(true).expect("a mode");
    let (stop, stopped) = mpsc::channel::<()>();
    let reply = move |query: &[u8]| {
        let mut reply = query.to_vec();
        reply[2] |= 0x80;
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend_from_slice(&answer);
        reply[7] = 1;
        reply
    };
    let thread = thread::spawn(move || {
        let mut asked = 0;
        let mut buffer = [0; 512];
        while matches!(stopped.try_recv(), Err(mpsc::TryRecvError::Empty)) {
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                asked += 1;
                socket.send_to(&reply(&buffer[..length]), from).expect("answered");
            }
            if let Ok((stream, _)) = listener.accept() {
                asked += 1;
                answer_stream(stream, &reply);
            }
        }
        asked
    });
    (stop, thread)
}

fn answer_stream(mut stream: TcpStream, reply: &dyn Fn(&[u8]) -> Vec<u8>) {
    use std::io::{Read, Write};
    stream.set_nonblocking(false).expect("a mode");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a length");
    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut query).expect("a query");
    let reply = reply(&query);
    let length = u16::try_from(reply.len()).expect("short").to_be_bytes();
    stream.write_all(&[&length, reply.as_slice()].concat()).expect("written");
}

#[test]
fn a_name_is_reached_from_the_moment_it_is_told() {
    as_host(|host| {
        let World { networking, container, lan: _lan, public: _public } = world(host, "aaaa0403");
        let rules = egress(&["allow=site.example:99", "allow=*.deep.example"]);
        let resolve = |networking: &Networking, words: &[&str]| {
            let rules = egress(words);
            let spec = ResolverSpec {
                container_id: container.id.clone(),
                servers: vec!["127.0.0.1".parse().expect("an address")],
                forwards: true,
                watched: rules.names().map(str::to_owned).collect(),
                asked_in: rules.name_server_nets(),
                ..ResolverSpec::default()
            };
            networking.resolve(&container.sandbox, &spec).expect("answered");
        };
        let words = ["allow=site.example:99", "allow=*.deep.example"];
        resolve(&networking, &words);
        restrict(&networking, &container, &words);
        let (stop, server) = name_server([203, 0, 113, 2]);
        assert!(reached(&container).is_empty());
        assert_eq!(ask(&container, "other.example").0, 2, "a name of no rule is asked of nobody");
        // The thread that hears of it may not have begun; from then on there is no gap.
        eventually("the name to be reached", || {
            assert_eq!(ask(&container, "site.example").2, [203, 0, 113, 2]);
            reached(&container) == ["public"]
        });
        let flows = networking.flows(&container.id).expect("read").expect("restricted");
        assert_eq!(flows.rules[0].2, ["203.0.113.2".parse::<IpAddr>().expect("an address")]);
        assert!(flows.rules[0].1.packets > 0 && flows.rules[1].1.packets == 0, "{flows:?}");
        run("nft", "flush ruleset");
        eventually("the rules are back, with what was learnt", || {
            let reached = reached(&container);
            run("nft", "list ruleset").contains("e_c1-container") && reached == ["public"]
        });

        // Over a connection as well, for a name below another; a later daemon keeps what was learnt and goes on learning.
        drop(networking);
        let later = host.networking("aaaa0403");
        later.ensure_bridge(&bridge("ferry0", GATEWAY)).expect("a bridge");
        resolve(&later, &["allow=*.deep.example"]);
        restrict(&later, &container, &["allow=*.deep.example"]);
        assert!(reached(&container).is_empty());
        eventually("the name to be reached", || {
            assert_eq!(ask_by_stream(&container, "a.deep.example").2, [203, 0, 113, 2]);
            reached(&container) == ["public"]
        });
        assert_eq!(rules.rules.len(), 2);
        drop(stop);
        assert!(server.join().expect("no panic") >= 2);
        later.release(&container.id).expect("released");
        later.close(true).expect("closed");
    });
}
