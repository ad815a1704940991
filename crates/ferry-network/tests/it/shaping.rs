//! Limits of bandwidth. What they are is read from the kernel; that they limit is shown by how long something takes at least.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use ferry_network::{ChildKind, ChildSpec, EndpointSpec, Error, MacvlanMode, Networking, Shaping, mac};

use crate::host::{Container, Neighbour, as_host, bridge, run};

const GATEWAY: &[&str] = &["172.30.0.1/16"];
/// At one megabit a second this takes half a second more than what may go at once.
const BYTES: usize = 100 * 1024;
const AT_LEAST: Duration = Duration::from_millis(400);
const MEGABIT: u64 = 1_000_000;

fn start(networking: &Networking, shaping: Shaping) -> Container {
    let sandbox = networking.new_sandbox().expect("a sandbox");
    let endpoint = EndpointSpec {
        container_id: "c1-container-id".to_owned(),
        network_id: "ferry0-network-id".to_owned(),
        bridge_link: "ferry0".to_owned(),
        interface: "eth0".to_owned(),
        mac: mac::random().expect("an address"),
        addresses: vec!["172.30.0.2/16".parse().expect("a net")],
        gateway_v4: Some("172.30.0.1".parse().expect("an address")),
        shaping,
        ..EndpointSpec::default()
    };
    networking.attach(&sandbox, &endpoint).expect("attach");
    Container { id: endpoint.container_id.clone(), sandbox, endpoint }
}

/// How long the bytes take out of the container.
fn send(container: &Container, port: u16) -> Duration {
    let listener = TcpListener::bind(("172.30.0.1", port)).expect("listen");
    let reader = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("read");
        bytes.len()
    });
    let begin = Instant::now();
    container.inside(|| {
        let mut stream = TcpStream::connect(("172.30.0.1", port)).expect("connected");
        stream.write_all(&[7; BYTES]).expect("written");
    });
    assert_eq!(reader.join().expect("no panic"), BYTES);
    begin.elapsed()
}

/// How long they take into it.
fn receive(container: &Container, port: u16) -> Duration {
    let listener = TcpListener::bind(("172.30.0.1", port)).expect("listen");
    let writer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(&[7; BYTES]).expect("written");
    });
    let begin = Instant::now();
    container.inside(|| {
        let mut bytes = Vec::new();
        TcpStream::connect(("172.30.0.1", port)).expect("connected").read_to_end(&mut bytes).expect("read");
        assert_eq!(bytes.len(), BYTES);
    });
    writer.join().expect("no panic");
    begin.elapsed()
}

#[test]
fn bandwidth_is_limited_both_ways_changed_and_given_back() {
    as_host(|host| {
        let networking = host.networking("eeee0101");
        networking.ensure_bridge(&bridge("ferry0", GATEWAY)).expect("a bridge");
        let both = Shaping { in_bits: MEGABIT, out_bits: MEGABIT, ..Shaping::default() };
        let container = start(&networking, both);
        let disciplines = run("tc", "qdisc");
        assert_eq!(disciplines.matches("rate 1Mbit").count(), 2, "{disciplines}");
        assert!(send(&container, 7001) > AT_LEAST, "out");
        assert!(receive(&container, 7002) > AT_LEAST, "in");
        networking.shape(&container.id, &Shaping { out_bits: 8 * MEGABIT, ..Shaping::default() }).expect("changed");
        let disciplines = run("tc", "qdisc");
        assert!(!disciplines.contains("rate 1Mbit") && disciplines.contains("rate 8Mbit"), "{disciplines}");
        // A later daemon finds the link by its mark.
        let later = host.networking("eeee0101");
        later.shape(&container.id, &both).expect("changed by a later daemon");
        assert_eq!(run("tc", "qdisc").matches("rate 1Mbit").count(), 2);
        later.shape(&container.id, &Shaping::default()).expect("no limit");
        assert!(!run("tc", "qdisc").contains("tbf") && !run("ip", "link").contains("fieeee"));
        let _ = send(&container, 7003);
        later.shape(&container.id, &both).expect("limited again");
        assert!(run("ip", "link").contains("fieeee"));
        drop(container.sandbox);
        later.release("c1-container-id").expect("released");
        assert!(!run("ip", "link").contains("fieeee"), "nothing is left");
    });
}

#[test]
fn what_the_kernel_cannot_do_leaves_nothing() {
    as_host(|host| {
        let networking = host.networking("eeee0102");
        networking.ensure_bridge(&bridge("ferry0", GATEWAY)).expect("a bridge");
        let container = start(&networking, Shaping::default());
        let delayed = Shaping { delay_ns: 20_000_000, loss_ppm: 1, out_bits: MEGABIT, ..Shaping::default() };
        match networking.can_delay().expect("tried") {
            true => {
                networking.shape(&container.id, &delayed).expect("delayed");
                let disciplines = run("tc", "qdisc");
                assert!(disciplines.contains("delay 20ms") && disciplines.contains("rate 1Mbit"), "{disciplines}");
            }
            false => {
                let error = networking.shape(&container.id, &delayed).expect_err("no netem");
                assert!(matches!(error, Error::NoQueueing("netem")), "{error:?}");
            }
        }
        networking.shape(&container.id, &Shaping::default()).expect("no limit");
        assert!(!run("ip", "link").contains("fieeee"));
    });
}

#[test]
fn a_link_without_an_end_on_the_host_is_limited_inside() {
    as_host(|host| {
        let networking = host.networking("eeee0103");
        let neighbour = Neighbour::connect_v4("wire0", "10.9.0");
        let both = Shaping { in_bits: MEGABIT, out_bits: MEGABIT, ..Shaping::default() };
        let sandbox = networking.new_sandbox().expect("a sandbox");
        let endpoint = EndpointSpec {
            container_id: "c1".to_owned(),
            network_id: "n1".to_owned(),
            child: Some(ChildSpec { parent: "wire0".to_owned(), kind: ChildKind::Macvlan(MacvlanMode::Bridge) }),
            interface: "eth0".to_owned(),
            mac: mac::random().expect("an address"),
            addresses: vec!["10.9.0.50/24".parse().expect("a net")],
            shaping: both,
            ..EndpointSpec::default()
        };
        networking.attach(&sandbox, &endpoint).expect("attached");
        let container = Container { id: "c1".to_owned(), sandbox, endpoint };
        let disciplines = || container.inside(|| run("tc", "qdisc"));
        assert_eq!(disciplines().matches("rate 1Mbit").count(), 2, "{}", disciplines());
        assert!(!run("tc", "qdisc").contains("tbf"), "nothing on the host");

        let listener = neighbour.inside(|| TcpListener::bind(("10.9.0.2", 7001)).expect("listen"));
        let other_side = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut bytes = vec![0; BYTES];
            stream.read_exact(&mut bytes).expect("all of it");
            stream.write_all(&bytes).expect("written");
        });
        let (out, back) = container.inside(|| {
            let mut stream = TcpStream::connect(("10.9.0.2", 7001)).expect("connected");
            let begin = Instant::now();
            stream.write_all(&[7; BYTES]).expect("written");
            let mut first = [0];
            stream.read_exact(&mut first).expect("it has come back");
            let out = begin.elapsed();
            let begin = Instant::now();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).expect("read");
            assert_eq!(rest.len(), BYTES - 1);
            (out, begin.elapsed())
        });
        other_side.join().expect("no panic");
        assert!(out > AT_LEAST, "out: {out:?}");
        // A part of it may have come before the clock was started.
        assert!(out + back > 2 * AT_LEAST, "in: {back:?}");

        let faster = Shaping { out_bits: 8 * MEGABIT, ..Shaping::default() };
        networking.shape_inside(&container.sandbox, "eth0", &faster).expect("changed");
        assert!(disciplines().contains("rate 8Mbit") && !disciplines().contains("rate 1Mbit"), "{}", disciplines());
        let links = || container.inside(|| run("ip", "-o link"));
        assert!(!links().contains(": fi"), "{}", links());
        networking.shape_inside(&container.sandbox, "eth0", &both).expect("limited again");
        networking.shape_inside(&container.sandbox, "eth0", &Shaping::default()).expect("no limit");
        assert!(!disciplines().contains("tbf") && !links().contains(": fi"), "{}", links());
        networking.shape_inside(&container.sandbox, "eth0", &both).expect("limited again");
        networking.detach(&container.sandbox, &container.endpoint).expect("detached");
        assert_eq!(links().lines().count(), 1, "{}", links());
        let error = networking.shape_inside(&container.sandbox, "eth0", &both).expect_err("gone");
        assert!(matches!(error, Error::NoSuchLink(_)), "{error:?}");
    });
}
