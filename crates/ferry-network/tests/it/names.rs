//! Containers look names up.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpStream, UdpSocket},
    sync::mpsc,
    thread,
};

use ferry_network::{Named, NetworkName, Networking, ResolverSpec};

use crate::host::{Container, PATIENCE, as_host, bridge, netd_processes, run};

const SERVER: (&str, u16) = ("127.0.0.11", 53);

fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("short"));
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, u8::try_from(kind).expect("small"), 0, 1]);
    bytes
}

/// Code, number of answers and the last four bytes.
fn read(reply: &[u8]) -> (u8, u8, Vec<u8>) {
    assert_eq!(reply[..2], [0xab, 0xcd]);
    (reply[3] & 15, reply[7], reply[reply.len() - 4..].to_vec())
}

/// Asks by datagram inside the container.
pub(crate) fn ask(container: &Container, name: &str) -> (u8, u8, Vec<u8>) {
    container.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        socket.connect(SERVER).expect("connected");
        socket.send(&query(name, 1)).expect("sent");
        let mut reply = [0; 512];
        let length = socket.recv(&mut reply).expect("an answer");
        read(&reply[..length])
    })
}

pub(crate) fn ask_by_stream(container: &Container, name: &str) -> (u8, u8, Vec<u8>) {
    container.inside(|| {
        let mut stream = TcpStream::connect(SERVER).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let query = query(name, 1);
        let length = u16::try_from(query.len()).expect("short").to_be_bytes();
        stream.write_all(&[&length, query.as_slice()].concat()).expect("sent");
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("an answer");
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut reply).expect("the whole answer");
        read(&reply)
    })
}

fn resolver(container: &str, servers: &[&str], forwards: bool) -> ResolverSpec {
    ResolverSpec {
        container_id: container.to_owned(),
        networks: vec![NetworkName { id: "n1".to_owned(), name: "backend".to_owned() }],
        servers: servers.iter().map(|server| server.parse().expect("an address")).collect(),
        forwards,
        ..ResolverSpec::default()
    }
}

fn join(networking: &Networking, container: &str, names: &[&str], address: &str) {
    let named = Named {
        network_id: "n1".to_owned(),
        container_id: container.to_owned(),
        names: names.iter().map(|&name| name.to_owned()).collect(),
        addresses: vec![address.parse::<IpAddr>().expect("an address")],
    };
    networking.join_names(named).expect("known");
}

#[test]
fn names_of_the_network_are_answered_over_both_transports() {
    as_host(|host| {
        let networking = host.networking("aaaa0301");
        let spec = bridge("ferry0", &["172.30.0.1/16"]);
        networking.ensure_bridge(&spec).expect("a bridge");
        let container = Container::start(&networking, &spec, "c1", &["172.30.0.2/16"]);
        networking.resolve(&container.sandbox, &resolver("c1", &[], false)).expect("answered");
        join(&networking, "c2", &["db", "alias"], "172.30.0.3");
        assert_eq!(ask(&container, "db"), (0, 1, vec![172, 30, 0, 3]));
        assert_eq!(ask(&container, "DB.backend"), (0, 1, vec![172, 30, 0, 3]));
        assert_eq!(ask_by_stream(&container, "alias"), (0, 1, vec![172, 30, 0, 3]));
        // No way out: nobody is asked, also not whom the container was given.
        let upstream = UdpSocket::bind("127.0.0.1:53").expect("a socket");
        upstream.set_nonblocking(true).expect("a mode");
        networking.resolve(&container.sandbox, &resolver("c1", &["127.0.0.1"], false)).expect("answered");
        assert_eq!(ask(&container, "example.org").0, 2);
        assert_eq!(ask_by_stream(&container, "example.org").0, 2);
        upstream.recv(&mut [0; 512]).expect_err("no question came");
        drop(upstream);
        networking.leave_names("n1", "c2").expect("unknown");
        assert_eq!(ask(&container, "db").0, 2);
        // A name server in the container can have the port.
        container.inside(|| UdpSocket::bind("0.0.0.0:53").map(drop).expect("the port is free"));
        networking.release("c1").expect("released");
        networking.close(true).expect("closed");
        assert!(!run("nft", "list tables").contains("ferry"));
    });
}

#[test]
fn what_no_network_knows_is_passed_on_word_for_word() {
    as_host(|host| {
        let networking = host.networking("aaaa0302");
        let spec = bridge("ferry0", &["172.30.0.1/16"]);
        networking.ensure_bridge(&spec).expect("a bridge");
        let container = Container::start(&networking, &spec, "c1", &["172.30.0.2/16"]);
        let upstream = UdpSocket::bind("127.0.0.1:53").expect("a socket");
        upstream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let (sender, asked) = mpsc::channel();
        // The first server refuses: nobody listens there.
        networking.resolve(&container.sandbox, &resolver("c1", &["127.0.0.2", "127.0.0.1"], true)).expect("answered");
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut buffer = [0; 512];
                let (length, from) = upstream.recv_from(&mut buffer).expect("a question");
                sender.send(buffer[..length].to_vec()).expect("told");
                let mut reply = buffer[..length].to_vec();
                reply[2] |= 0x80;
                reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
                reply[7] = 1;
                upstream.send_to(&reply, from).expect("answered");
            });
            assert_eq!(ask(&container, "example.org"), (0, 1, vec![192, 0, 2, 7]));
        });
        assert_eq!(asked.recv().expect("one question"), query("example.org", 1));
        networking.release("c1").expect("released");
        networking.close(true).expect("closed");
    });
}

#[test]
fn a_killed_process_is_replaced_with_all_that_it_knew() {
    as_host(|host| {
        let networking = host.networking("aaaa0303");
        let spec = bridge("ferry0", &["172.30.0.1/16"]);
        networking.ensure_bridge(&spec).expect("a bridge");
        let container = Container::start(&networking, &spec, "c1", &["172.30.0.2/16"]);
        networking.resolve(&container.sandbox, &resolver("c1", &[], false)).expect("answered");
        join(&networking, "c2", &["db"], "172.30.0.3");
        let killed = netd_processes(&host.exec_root("aaaa0303"));
        for pid in &killed {
            let pid = rustix::process::Pid::from_raw(*pid).expect("a pid");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
        }
        assert_eq!(killed.len(), 1);
        join(&networking, "c3", &["web"], "172.30.0.4");
        assert_eq!(ask(&container, "web"), (0, 1, vec![172, 30, 0, 4]));
        assert_eq!(ask(&container, "db"), (0, 1, vec![172, 30, 0, 3]));
        // A daemon that comes later finds the resolver at work.
        drop(networking);
        let later = host.networking("aaaa0303");
        later.resolve(&container.sandbox, &resolver("c1", &[], false)).expect("answered");
        assert_eq!(ask(&container, "db"), (0, 1, vec![172, 30, 0, 3]));
        later.release("c1").expect("released");
        later.close(true).expect("closed");
    });
}

#[test]
fn a_name_of_the_network_is_answered_at_once() {
    as_host(|host| {
        let networking = host.networking("aaaa0304");
        let spec = bridge("ferry0", &["172.30.0.1/16"]);
        networking.ensure_bridge(&spec).expect("a bridge");
        let container = Container::start(&networking, &spec, "c1", &["172.30.0.2/16"]);
        networking.resolve(&container.sandbox, &resolver("c1", &[], false)).expect("answered");
        for number in 0..1000 {
            join(&networking, &format!("other{number}"), &[&format!("name{number}")], "172.30.9.9");
        }
        let mut times: Vec<_> = container.inside(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
            socket.connect(SERVER).expect("connected");
            let mut reply = [0; 512];
            let mut once = |number: u32| {
                let begin = std::time::Instant::now();
                socket.send(&query(&format!("name{}", number % 1000), 1)).expect("sent");
                let length = socket.recv(&mut reply).expect("an answer");
                assert_eq!(read(&reply[..length]).1, 1);
                begin.elapsed()
            };
            (0..2000).map(&mut once).collect()
        });
        times.sort();
        crate::host::say(&format!(
            "a name among 1,000 is answered in {:?} (p50), {:?} (p99)",
            times[1000], times[1980]
        ));
    });
}
