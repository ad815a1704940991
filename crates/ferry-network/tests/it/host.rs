//! A machine in a network namespace, with neighbours and containers in further ones.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use ferry_network::{BridgeSpec, EndpointSpec, InstanceId, Networking, Options, PortTarget, Sandbox, mac};
use ferry_sys::netns;

/// Long enough for a loaded machine; what is expected to fail by silence takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long an unanswered connection is watched: longer than the second after which the kernel says again what was lost on a busy
/// machine.
pub(crate) const SILENCE: Duration = Duration::from_millis(1600);

/// Runs a test as a machine of its own. Without root it says so and does nothing.
pub(crate) fn as_host(test: impl FnOnce(&Host) + Send) {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var("FERRY_TEST_REQUIRE_ALL").as_deref() != Ok("1"), "these tests need root");
        // Past the capture of the test harness, so that it is seen.
        let _ = std::io::stderr().write_all(b"SKIPPED: needs root\n");
        return;
    }
    netns::create(|| {
        run("ip", "link set lo up");
        let folder = tempfile::Builder::new().prefix("fn").tempdir().expect("a folder");
        test(&Host { folder });
    })
    .expect("a namespace");
}

impl Drop for Host {
    /// What a test left published ends with it, also when it failed.
    fn drop(&mut self) {
        for pid in netd_processes(self.folder.path()) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                // It may have ended by itself.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

/// Processes of `ferry-netd` for folders below a path.
pub(crate) fn netd_processes(root: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("processes").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split('\0').collect();
        if words.get(1) == Some(&"serve") && words.get(2).is_some_and(|folder| Path::new(folder).starts_with(root)) {
            found.push(pid);
        }
    }
    found
}

/// Runs a program with blank-separated arguments in the calling thread's namespace.
pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Feeds a ruleset to `nft`.
pub(crate) fn nft(ruleset: &str) {
    let mut folder = tempfile::NamedTempFile::new().expect("a file");
    folder.write_all(ruleset.as_bytes()).expect("written");
    run("nft", &format!("-f {}", folder.path().display()));
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never came true: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    pub(crate) fn exec_root(&self, instance: &str) -> PathBuf {
        self.folder.path().join(instance)
    }

    pub(crate) fn options(&self, instance: &str) -> Options {
        let exec_root = self.exec_root(instance);
        std::fs::create_dir_all(&exec_root).expect("a folder");
        Options {
            instance: InstanceId::new(instance).expect("an id"),
            exec_root,
            netd_program: PathBuf::from(env!("CARGO_BIN_EXE_ferry-netd")),
            firewall: true,
            firewall6: true,
            direct_routing: false,
            accepted_mark: None,
            ip_forward: true,
            default_pools: Options::docker_pools(),
            default_pools6: Vec::new(),
        }
    }

    pub(crate) fn networking(&self, instance: &str) -> Networking {
        Networking::open(self.options(instance)).expect("open")
    }
}

/// A bridge specification with Docker's defaults.
pub(crate) fn bridge(link: &str, gateways: &[&str]) -> BridgeSpec {
    BridgeSpec {
        network_id: format!("{link}-network-id"),
        link: link.to_owned(),
        gateways: gateways.iter().map(|net| net.parse().expect("a net")).collect(),
        subnets: gateways.iter().map(|net| net.parse::<ipnet::IpNet>().expect("a net").trunc()).collect(),
        icc: true,
        masquerade: true,
        ipv6: gateways.iter().any(|net| net.contains("::")),
        ..BridgeSpec::default()
    }
}

/// A container: a sandbox attached to a bridge.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) sandbox: Sandbox,
    pub(crate) endpoint: EndpointSpec,
}

impl Container {
    pub(crate) fn start(networking: &Networking, bridge: &BridgeSpec, id: &str, addresses: &[&str]) -> Self {
        Self::start_with(networking, bridge, id, addresses, None)
    }

    pub(crate) fn start_with(
        networking: &Networking,
        bridge: &BridgeSpec,
        id: &str,
        addresses: &[&str],
        mac: Option<ferry_network::MacAddr>,
    ) -> Self {
        let sandbox = networking.new_sandbox().expect("a sandbox");
        let gateway = |is_v4: bool| {
            bridge.gateways.iter().map(|net| net.addr()).find(|ip| ip.is_ipv4() == is_v4 && !bridge.internal)
        };
        let endpoint = EndpointSpec {
            container_id: format!("{id}-container-id"),
            network_id: bridge.network_id.clone(),
            bridge_link: bridge.link.clone(),
            interface: "eth0".to_owned(),
            mac: mac.unwrap_or_else(|| mac::random().expect("an address")),
            addresses: addresses.iter().map(|net| net.parse().expect("a net")).collect(),
            gateway_v4: gateway(true).and_then(|ip| match ip {
                IpAddr::V4(ip) => Some(ip),
                IpAddr::V6(_) => None,
            }),
            gateway_v6: gateway(false).and_then(|ip| match ip {
                IpAddr::V6(ip) => Some(ip),
                IpAddr::V4(_) => None,
            }),
            isolated: !bridge.icc,
            ..EndpointSpec::default()
        };
        networking.attach(&sandbox, &endpoint).expect("attach");
        Self { id: endpoint.container_id.clone(), sandbox, endpoint }
    }

    pub(crate) fn v4(&self) -> Option<Ipv4Addr> {
        self.endpoint.addresses.iter().find_map(|net| match net.addr() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
    }

    pub(crate) fn v6(&self) -> Option<std::net::Ipv6Addr> {
        self.endpoint.addresses.iter().find_map(|net| match net.addr() {
            IpAddr::V6(ip) => Some(ip),
            IpAddr::V4(_) => None,
        })
    }

    /// Where published ports lead.
    pub(crate) fn target(&self) -> PortTarget {
        PortTarget { v4: self.v4(), v6: self.v6(), ..PortTarget::default() }
    }

    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::run_inside(self.sandbox.as_fd(), work).expect("inside")
    }

    /// Serves TCP and UDP on a port of every address: answers with a name and the peer's address.
    pub(crate) fn serve(&self, name: &str, port: u16) {
        let name = name.to_owned();
        self.inside(move || serve(&name, port));
    }
}

/// Another machine on a wire with the host.
pub(crate) struct Neighbour {
    namespace: OwnedFd,
}

impl Neighbour {
    /// Connects a neighbour to the calling thread's machine: `.1` is the host, `.2` the neighbour,
    /// with IPv6 in fd77::/64.
    pub(crate) fn connect(link: &str, prefix: &str) -> Self {
        let neighbour = Self::connect_v4(link, prefix);
        run("ip", &format!("-6 addr add fd77::1/64 dev {link} nodad"));
        neighbour.inside(|| run("ip", "-6 addr add fd77::2/64 dev wire nodad"));
        // The kernel sets a new link's IPv6 up by and by.
        let ping = || Command::new("ping").args(["-6", "-c1", "-W1", "fd77::2"]).output().expect("ping is needed");
        eventually("the wire carries IPv6", || ping().status.success());
        neighbour
    }

    /// The same without IPv6.
    pub(crate) fn connect_v4(link: &str, prefix: &str) -> Self {
        let (namespace, _) = netns::create(|| run("ip", "link set lo up")).expect("a namespace");
        let neighbour = Self { namespace };
        let path = format!("/proc/{}/fd/{}", std::process::id(), neighbour.namespace.as_raw_fd());
        run("ip", &format!("link add {link} type veth peer name wire netns {path}"));
        // Without waiting for duplicates of link-local addresses.
        let no_detection = |link: &str| std::fs::write(format!("/proc/sys/net/ipv6/conf/{link}/accept_dad"), "0");
        no_detection(link).expect("a sysctl");
        neighbour.inside(|| no_detection("wire")).expect("a sysctl");
        run("ip", &format!("addr add {prefix}.1/24 dev {link}"));
        run("ip", &format!("link set {link} up"));
        neighbour.inside(|| {
            run("ip", &format!("addr add {prefix}.2/24 dev wire"));
            run("ip", "link set wire up");
        });
        neighbour
    }

    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::run_inside(self.as_fd(), work).expect("inside")
    }
}

impl AsFd for Neighbour {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

fn greeting(name: &str, peer: SocketAddr) -> String {
    format!("{name} to {}", peer.ip().to_canonical())
}

/// Serves in the calling thread's namespace, for the life of the test process.
pub(crate) fn serve(name: &str, port: u16) {
    // A namespace without IPv6 addresses still has `::`.
    let listener = TcpListener::bind(("::", port)).expect("listen");
    let socket = UdpSocket::bind(("::", port)).expect("bind");
    let owned = name.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let text = stream.peer_addr().map(|peer| greeting(&owned, peer)).unwrap_or_default();
            // A client that has gone is its own affair.
            let _ = stream.write_all(text.as_bytes());
        }
    });
    let owned = name.to_owned();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(greeting(&owned, peer).as_bytes(), peer);
        }
    });
}

/// Connects by TCP and returns what is said; none when nobody answers.
pub(crate) fn ask_tcp(address: &str, port: u16) -> Option<String> {
    let address = SocketAddr::new(address.parse().expect("an address"), port);
    let mut stream = TcpStream::connect_timeout(&address, SILENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    (!text.is_empty()).then_some(text)
}

/// Sends a datagram and returns the answer; none when nobody answers.
pub(crate) fn ask_udp(address: &str, port: u16) -> Option<String> {
    let address = SocketAddr::new(address.parse().expect("an address"), port);
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).expect("bind");
    ask_udp_from(&socket, address)
}

/// The same from a given socket.
pub(crate) fn ask_udp_from(socket: &UdpSocket, address: SocketAddr) -> Option<String> {
    socket.connect(address).expect("connect");
    socket.set_read_timeout(Some(SILENCE)).expect("a timeout");
    let mut buffer = [0; 256];
    socket.send(b"hello").ok()?;
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Past the capture of the test harness: figures are to be read.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
