//! Published ports: who reaches them, and that they go again.

use std::io::{Read, Write};

use ferry_testkit::leak::Watch;
use ferry_testkit::{Daemon, programs};

use crate::{Mirrored, until};

const GET: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
const ECHO: &str = "use Socket; socket(S, PF_INET, SOCK_DGRAM, 0); bind(S, sockaddr_in(53, INADDR_ANY)); \
    while ($from = recv(S, $what, 512, 0)) { send(S, $what, 0, $from) }";
const SERVER: &str = "mkdir /www; echo it works >/www/index.html; exec httpd -f -p 80 -h /www";

fn serve(daemon: &Daemon, name: &str, ports: &[&str]) {
    let _ = daemon.run(&[&["run", "-d", "--name", name], ports, &["busybox", "sh", "-c", SERVER]].concat()).ok();
}

fn answers(daemon: &Daemon, address: &str) -> bool {
    daemon.sandbox().http_get(address, "/index.html").is_ok_and(|answer| answer.contains("it works"))
}

#[test]
fn a_tcp_port_answers_on_every_address_and_goes_with_its_container() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    serve(&daemon, "web", &["-p", "8080:80"]);
    for address in ["127.0.0.1:8080", "192.0.2.2:8080", "[::1]:8080"] {
        until(&format!("{address} to answer"), || answers(&daemon, address));
    }
    let shown = daemon.run(&["port", "web"]).ok();
    assert!(shown.contains("80/tcp -> 0.0.0.0:8080") && shown.contains("80/tcp -> [::]:8080"), "{shown}");
    let _ = daemon.run(&["rm", "-f", "web"]).ok();
    assert!(!answers(&daemon, "127.0.0.1:8080"));
    watch.end().unwrap();
}

/// How the following scripts name the ends of sockets, for the kind of address that comes first.
const NAMES: &str = r#"$six = $ARGV[0] =~ /:/; sub made { socket($_[0], $six ? PF_INET6 : PF_INET, SOCK_STREAM, 0) }
    sub name { $six ? pack_sockaddr_in6($_[0], inet_pton(AF_INET6, $_[1])) : sockaddr_in($_[0], inet_aton($_[1])) }
    sub told { ($n, $i) = $six ? unpack_sockaddr_in6($_[0]) : sockaddr_in($_[0]); inet_ntop($six ? AF_INET6 : AF_INET, $i) }"#;

/// Connects and asks who is there. Prints whom it is connected to, its own address and the one that the container sees, then the
/// connection as the kernel lists it: short ways are for the cgroups of the daemon, where what `sh` runs is.
const ASK: &str = r#"($a, $p, $own) = @ARGV; made(S);
    if ($own eq "only6") { setsockopt(S, IPPROTO_IPV6, IPV6_V6ONLY, 1) or die $! }
    elsif ($own) { bind(S, name(0, $own)) or die $! }
    connect(S, name($p, $a)) or exit 1; $c = told(getsockname(S)); $b = told(getpeername(S)); $inode = (stat(S))[1];
    for $list ("tcp", "tcp6") { open(T, "/proc/net/$list"); push(@listed, grep(/ 01 .* $inode /, <T>)) }
    syswrite(S, "GET /cgi-bin/who HTTP/1.0\r\n\r\n"); @answer = <S>; ($seen) = $answer[-1] =~ /(\S+)/;
    print "$b:$n $c $seen\n", @listed"#;

/// Connects to an address of the host where nobody listens, then to another with the same socket, and prints who both ends are.
const AGAIN: &str = r#"($a, $p, $b, $q) = @ARGV; made(S);
    connect(S, name($p, $a)) and exit 1; connect(S, name($q, $b)) or die $!;
    print told(getpeername(S)), " ", told(getsockname(S))"#;

/// Connects, and prints who both ends are, now and when there is a file `go`.
const STAY: &str = r#"($a, $p) = @ARGV; $| = 1; made(S); connect(S, name($p, $a)) or die $!;
    sub ends { print told(getpeername(S)), ":$n ", told(getsockname(S)), "\n" }
    ends; select(undef, undef, undef, 0.01) until -e "go"; ends"#;

/// The shell line that runs one of them.
fn perl(script: &str, arguments: &str) -> String {
    format!("perl -MSocket=:all -e '{NAMES}; {script}' {arguments}")
}

/// What both ends of a connection from the host to a published port (`ADDRESS:PORT`, or `ADDRESS:PORT from OWN`, or
/// `from only6` with a socket for IPv6 alone) see, and whether it is one to the container itself.
fn ask(daemon: &Daemon, address: &str, container_address: &str) -> Option<(String, bool)> {
    let (place, own) = address.split_once(" from ").unwrap_or((address, ""));
    let (ip, port) = place.rsplit_once(':').unwrap();
    let output = daemon.sandbox().sh(&perl(ASK, &format!("{ip} {port} {own}")));
    let octets: Vec<u8> = container_address.split('.').map(|octet| octet.parse().unwrap()).collect();
    let place = format!("{:08X}:0050 01", u32::from_le_bytes(octets.try_into().unwrap()));
    let text = output.out();
    let (ends, listed) = text.split_once('\n')?;
    Some((ends.to_owned(), listed.contains(&place)))
}

#[test]
fn programs_of_the_host_have_a_short_way_to_ports_and_cannot_tell() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let server = "mkdir -p /www/cgi-bin; printf '#!/bin/sh\necho; echo $REMOTE_ADDR\n' >/www/cgi-bin/who; chmod 755 /www/cgi-bin/who;
        echo it works >/www/index.html; exec httpd -f -p 0.0.0.0:80 -h /www";
    let ports = ["-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "192.0.2.2:8082:80", "-p", "8083:81"];
    let _ = daemon.run(&[&["run", "-d", "--name", "web"], &ports[..], &["busybox", "sh", "-c", server]].concat()).ok();
    let inside = daemon.inspect("web", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}}{{end}}");
    let (inside, gateway) = inside.trim().split_once(' ').unwrap();
    let addresses = [
        "127.0.0.1:8080",
        "127.0.0.9:8080",
        "192.0.2.2:8080",
        "127.0.0.1:8081",
        "192.0.2.2:8082",
        "::ffff:127.0.0.1:8080",
        "::ffff:127.0.0.1:8081",
    ];
    until("the container to answer", || answers(&daemon, "127.0.0.1:8080"));
    let ask = |address: &str| ask(&daemon, address, inside);
    let is_short = |address: &str| ask(address).is_some_and(|(_, is_short)| is_short);
    let short: Vec<_> = addresses.iter().map(|address| ask(address)).collect();
    assert_eq!(short[0], Some((format!("127.0.0.1:8080 127.0.0.1 {gateway}"), true)));
    assert_eq!(short[2], Some(("192.0.2.2:8080 192.0.2.2 192.0.2.2".to_owned(), true)));

    // Sockets for IPv6, with addresses of IPv4 and with `::1`, where nothing is relayed then but for those which cannot be led.
    assert_eq!(short[5], Some((format!("::ffff:127.0.0.1:8080 ::ffff:127.0.0.1 {gateway}"), true)));
    let six = format!("::1:8080 ::1 {gateway}");
    assert_eq!(ask("::1:8080"), Some((six.clone(), true)));
    assert_eq!(ask("::1:8080 from only6"), Some((six.clone(), false)));
    assert_eq!(ask("::1:8080 from ::1"), Some((six, false)));
    assert_eq!(ask("::ffff:127.0.0.1:8080 from only6"), None);
    assert_eq!(ask("::1:8081"), None);

    // A socket with an address of its own keeps it.
    let bound = ["127.0.0.1:8080 from 192.0.2.2", "127.0.0.1:8080 from 127.0.0.5", "192.0.2.2:8080 from 127.0.0.1"];
    let with_own: Vec<_> = bound.iter().map(|address| ask(address)).collect();
    assert_eq!(with_own[0], Some(("127.0.0.1:8080 192.0.2.2 192.0.2.2".to_owned(), false)));

    // Nor has one an address, that was refused at another address of the host.
    let again = |from: &str, to: &str| daemon.sandbox().sh(&perl(AGAIN, &format!("{from} 8083 {to}"))).ok();
    assert_eq!(again("192.0.2.2", "127.0.0.1 8080"), "127.0.0.1 127.0.0.1");
    assert_eq!(again("192.0.2.2", "192.0.2.2 8080"), "192.0.2.2 192.0.2.2");
    assert_eq!(again("192.0.2.2", &format!("{inside} 80")), format!("{inside} {gateway}"));
    assert_eq!(again("::1", "::1 8080"), "::1 ::1");
    assert_eq!(again("::1", "::ffff:127.0.0.1 8080"), "::ffff:127.0.0.1 ::ffff:127.0.0.1");

    // A daemon that has gone is not needed, and its successor knows what it led to.
    let folder = daemon.sandbox().dir();
    let stay = |file: &str, to: &str| format!("{{ {} >{file} 2>&1 & }}", perl(STAY, to));
    let both = [stay("stayed", "127.0.0.1 8080"), stay("stayed6", "::1 8080")].join("; ");
    let _ = daemon.sandbox().sh(&format!("cd {}; {both}", folder.display())).ok();
    let stayed = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    until("both connections", || stayed("stayed").ends_with('\n') && stayed("stayed6").ends_with('\n'));
    daemon.kill().unwrap();
    assert!(is_short("127.0.0.1:8080"), "without a daemon");
    daemon.start().unwrap();
    until("the short way of a new one", || is_short("192.0.2.2:8080"));
    std::fs::write(folder.join("go"), "").unwrap();
    until("all answers", || ["stayed", "stayed6"].iter().all(|file| stayed(file).lines().count() == 2));
    assert_eq!(stayed("stayed"), "127.0.0.1:8080 127.0.0.1\n".repeat(2), "before and after");
    assert_eq!(stayed("stayed6"), "::1:8080 ::1\n".repeat(2), "before and after");

    // What the firewall translates is the same for both ends, address by address.
    daemon.kill().unwrap();
    let _ = daemon.sandbox().sh("kill -9 $(pgrep -f '^ferry-netd serve')").ok();
    until("the short way to go", || !is_short("127.0.0.1:8080"));
    for (address, short) in addresses.iter().chain(&bound).zip(short.into_iter().chain(with_own)) {
        assert_eq!(ask(address), short.map(|(ends, _)| (ends, false)), "{address}");
    }
    daemon.start().unwrap();
    serve(&daemon, "second", &["-p", "8090:80"]);
    assert!(is_short("127.0.0.1:8080"), "with a new process");

    // An address that the host has no more is somebody else's, and one that it has since now is its own.
    let _ = daemon.sandbox().sh("ip address add 198.51.100.7/32 dev lo").ok();
    until("the new address to be known", || is_short("198.51.100.7:8080"));
    let _ = daemon.sandbox().sh("ip address del 198.51.100.7/32 dev lo").ok();
    let elsewhere = daemon.sandbox().sh("curl -s --max-time 1 http://198.51.100.7:8080/index.html");
    assert!(!elsewhere.out().contains("it works"), "{elsewhere}");

    // Ports that go are closed.
    let _ = daemon.run(&["network", "disconnect", "bridge", "web"]).ok();
    assert_eq!(ask("127.0.0.1:8080"), None);
    let _ = daemon.run(&["rm", "-f", "web", "second"]).ok();
    assert_eq!(ask("127.0.0.1:8090"), None);
    watch.end().unwrap();
}

#[test]
fn a_port_on_loopback_is_not_reached_from_elsewhere() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    serve(&daemon, "web", &["-p", "127.0.0.1:8080:80"]);
    until("loopback to answer", || answers(&daemon, "127.0.0.1:8080"));
    assert!(!answers(&daemon, "192.0.2.2:8080"));
}

#[test]
fn a_port_is_for_those_it_is_meant_for_and_the_audit_says_who_they_are() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let wire = "ip link add near type veth peer name far && ip netns add other && ip link set far netns other &&
        ip address add 198.51.100.1/24 dev near && ip link set near up &&
        ip -n other address add 198.51.100.2/24 dev far && ip -n other link set far up";
    let _ = daemon.sandbox().sh(wire).ok();
    serve(
        &daemon,
        "web",
        &["-p", "8080:80,from=203.0.113.0/24", "-p", "8081:80,from=198.51.100.0/24", "-p", "127.0.0.1:8082:80"],
    );
    let other = |port: u16| {
        let line = format!("ip netns exec other curl -s --max-time 2 http://198.51.100.1:{port}/index.html");
        daemon.sandbox().sh(&line).out().contains("it works")
    };
    until("who is meant to be answered", || other(8081));
    assert!(!other(8080), "who is not meant");
    until("the host itself to be answered", || answers(&daemon, "127.0.0.1:8080"));
    let told = daemon.run(&["ports", "--audit", "--format", "{{.Port}} {{.Container}} {{.Target}} {{.Reach}}"]).ok();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "0.0.0.0:8080/tcp web 80/tcp this host, 203.0.113.0/24", "{told}");
    assert!(lines.contains(&"127.0.0.1:8082/tcp web 80/tcp this host"), "{told}");
    // What a firewall of the host says is read, or that it says nothing; what no port is published for is told apart.
    let fake = daemon.sandbox().dir().join("programs");
    std::fs::create_dir(&fake).unwrap();
    let ufw =
        "#!/bin/sh\nprintf 'Status: active\\nDefault: deny (incoming)\\n\\n8080/tcp  ALLOW IN  203.0.113.0/24\\n'\n";
    let firewalld = "#!/bin/sh\necho 'Authorization failed.' >&2; exit 253\n";
    for (name, text) in [("ufw", ufw), ("firewall-cmd", firewalld)] {
        daemon.sandbox().program(&fake.join(name), text);
    }
    let _ = daemon.run(&["run", "-d", "--name", "bare", "--network", "host", "busybox", "sleep", "1000"]).ok();
    let line =
        format!("PATH={}:$PATH; ferry ports --audit --format '{{{{.Port}}}}: {{{{.Firewall}}}}'", fake.display());
    let audited = daemon.sh(&line);
    assert!(audited.err().contains("bare uses the host's network: what it listens on is not published"), "{audited}");
    let audited = audited.ok();
    for told in [
        "0.0.0.0:8080/tcp: ufw opens it to 203.0.113.0/24, firewalld does not tell (Authorization failed.)",
        "0.0.0.0:8081/tcp: ufw believes it is closed, firewalld does not tell (Authorization failed.)",
        "127.0.0.1:8082/tcp: ufw closes it to others, firewalld does not tell (Authorization failed.)",
    ] {
        assert!(audited.lines().any(|line| line == told), "{told} is not in {audited}");
    }
    let _ = daemon.run(&["rm", "-f", "bare"]).ok();
    assert!(daemon.inspect("web", "{{json .NetworkSettings.Ports}}").contains(r#""From":["203.0.113.0/24"]"#));
    let wrong = daemon.run(&["run", "-p", "8083:80,from=nobody", "busybox", "true"]).fails_with(125);
    assert!(wrong.contains("invalid source \"nobody\" of a published port"), "{wrong}");
    daemon.kill().unwrap();
    daemon.start().unwrap();
    assert!(!other(8080), "nor for a new daemon");
    until("who is meant to be answered still", || other(8081));
    let _ = daemon.run(&["rm", "-f", "web"]).ok();
    let _ = daemon.sandbox().sh("ip link del near; ip netns del other; umount /run/netns; rmdir /run/netns").ok();
    watch.end().unwrap();
}

#[test]
fn ephemeral_ports_and_exposed_ones_are_told() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    serve(&daemon, "web", &["-p", "80"]);
    let told = daemon.run(&["port", "web", "80"]).ok();
    let port = told.lines().next().and_then(|line| line.rsplit(':').next()).unwrap_or_default().to_owned();
    until("the ephemeral port to answer", || answers(&daemon, &format!("127.0.0.1:{port}")));
    serve(&daemon, "all", &["-P", "--expose", "80"]);
    let told = daemon.run(&["port", "all"]).ok();
    assert!(told.starts_with("80/tcp -> "), "{told}");
}

#[test]
fn udp_passes_both_ways() {
    if !programs::need_root() {
        return;
    }
    let host = Mirrored::start();
    let daemon = &host.daemon;
    let _ = daemon.run(&["run", "-d", "--name", "udp", "-p", "5353:53/udp", "debian:12", "perl", "-e", ECHO]).ok();
    let socket = daemon.sandbox().udp("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let mut buffer = [0; 16];
    until("an echo", || {
        socket.send_to(b"ping", "127.0.0.1:5353").is_ok()
            && socket.recv(&mut buffer).is_ok_and(|count| &buffer[..count] == b"ping")
    });
    let _ = daemon.run(&["rm", "-f", "udp"]).ok();
    let left = daemon.sandbox().sh("conntrack -L -p udp 2>/dev/null | grep -c dport=5353");
    assert_eq!(left.out().trim(), "0", "no conntrack entry outlives its port: {left}");
}

#[test]
fn containers_reach_each_other_and_the_outside() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    serve(&daemon, "web", &[]);
    let address = daemon.inspect("web", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    let fetch = |address: &str, port: &str| {
        daemon.run_with_input(&["run", "--rm", "-i", "busybox", "nc", "-w", "5", address, port], GET)
    };
    until("the neighbour to answer", || fetch(&address, "80").out().ends_with("it works\n"));
    let listener = daemon.sandbox().listen("192.0.2.2:7070").unwrap();
    let peer = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        let mut buffer = [0; 512];
        let _ = stream.read(&mut buffer).unwrap();
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\noutside\n").unwrap();
        peer.ip().to_string()
    });
    assert!(fetch("192.0.2.2", "7070").ok().ends_with("outside"));
    let _ = peer.join().unwrap();
}

#[test]
fn a_published_port_is_held_against_others() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    serve(&daemon, "web", &["-p", "8080:80"]);
    assert!(daemon.sandbox().listen("0.0.0.0:8080").is_err(), "another program cannot take the port");
}

#[test]
fn a_host_that_drops_forwarding_gets_the_accepts_it_needs() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let drop =
        "add table ip filter\nadd chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }\n";
    let _ = daemon.sandbox().sh_with_input("nft -f -", drop.as_bytes()).ok();
    let watch = Watch::daemon(&daemon);
    serve(&daemon, "web", &["-p", "8080:80"]);
    until("the port to answer", || answers(&daemon, "192.0.2.2:8080"));
    let address = daemon.inspect("web", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    let fetched = daemon.run_with_input(&["run", "--rm", "-i", "busybox", "nc", "-w", "5", &address, "80"], GET);
    assert!(fetched.ok().ends_with("it works"), "{fetched}");
    let _ = daemon.run(&["rm", "-f", "web"]).ok();
    watch.end().unwrap();
}
