//! Networks of users: names, isolation, changes while containers run, and what a kill of the daemon leaves.

use ferry_testkit::leak::Watch;
use ferry_testkit::{Daemon, programs};

use crate::until;

const SERVER: &str = "mkdir /www; echo it works >/www/index.html; exec httpd -f -p 80 -h /www";

/// A container that serves a page.
fn serve(daemon: &Daemon, name: &str, options: &[&str]) {
    let _ = daemon.run(&[&["run", "-d", "--name", name], options, &["busybox", "sh", "-c", SERVER]].concat()).ok();
}

/// Whether a container gets the page from a name.
fn reaches(daemon: &Daemon, from: &str, name: &str) -> bool {
    // Not by `wget`: that of a static busybox does not survive.
    let line = format!("printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {name} 80 | grep -q works");
    daemon.run(&["exec", from, "sh", "-c", &line]).code == 0
}

fn sleeper(daemon: &Daemon, name: &str, options: &[&str]) {
    let _ = daemon.run(&[&["run", "-d", "--name", name], options, &["busybox", "sleep", "1000"]].concat()).ok();
}

#[test]
fn containers_of_a_network_reach_one_another_by_name_and_no_others_do() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    assert_eq!(daemon.run(&["network", "create", "front"]).ok().len(), 64);
    let _ = daemon.run(&["network", "create", "--subnet", "10.77.0.0/24", "--label", "tier=back", "back"]).ok();
    serve(&daemon, "web", &["--network", "front", "--network-alias", "site", "-h", "webhost"]);
    sleeper(&daemon, "client", &["--network", "front"]);
    sleeper(&daemon, "stranger", &["--network", "back", "--ip", "10.77.0.99"]);
    let short = daemon.inspect("web", "{{slice .Id 0 12}}");
    for name in ["web", "site", "webhost", "web.front", short.as_str()] {
        until(&format!("{name} to answer"), || reaches(&daemon, "client", name));
    }
    assert!(!reaches(&daemon, "stranger", "web"));
    let address = daemon.inspect("web", "{{.NetworkSettings.Networks.front.IPAddress}}");
    assert!(!reaches(&daemon, "stranger", &address), "networks are apart");
    assert_eq!(daemon.inspect("stranger", "{{.NetworkSettings.Networks.back.IPAddress}}"), "10.77.0.99");
    let resolv = daemon.run(&["exec", "client", "cat", "/etc/resolv.conf"]).ok();
    assert!(resolv.contains("nameserver 127.0.0.11") && resolv.contains("ndots:0"), "{resolv}");
    let told = daemon.run(&["exec", "client", "nslookup", &address]).ok();
    assert!(told.contains("web.front"), "{told}");

    let listed =
        daemon.run(&["network", "ls", "--filter", "label=tier=back", "--format", "{{.Name}} {{.Driver}}"]).ok();
    assert_eq!(listed, "back bridge");
    let error = daemon.run(&["network", "rm", "front"]).fails_with(1);
    assert!(error.contains("error while removing network: network front has active endpoints"), "{error}");
    let _ = daemon.run(&["rm", "-f", "web", "client", "stranger"]).ok();
    let pruned = daemon.run(&["network", "prune", "-f"]).ok();
    assert!(pruned.starts_with("Deleted Networks:") && pruned.contains("front") && pruned.contains("back"), "{pruned}");
    watch.end().unwrap();
}

#[test]
fn a_running_container_joins_and_leaves() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let _ = daemon.run(&["network", "create", "one"]).ok();
    let _ = daemon.run(&["network", "create", "two"]).ok();
    serve(&daemon, "web", &["--network", "two", "-p", "8080:80"]);
    sleeper(&daemon, "client", &["--network", "one"]);
    assert!(!reaches(&daemon, "client", "web"));
    let _ = daemon.run(&["network", "connect", "--alias", "me", "two", "client"]).ok();
    until("web to answer", || reaches(&daemon, "client", "web"));
    let links = daemon.run(&["exec", "client", "ip", "-o", "link"]).ok();
    assert!(links.contains("eth0") && links.contains("eth1"), "{links}");
    let again = daemon.run(&["network", "connect", "two", "client"]).fails_with(1);
    assert!(again.contains("endpoint with name client already exists in network two"), "{again}");
    let first = daemon.run(&["network", "connect", "--ip", "9.9.9.9", "two", "client"]).fails_with(1);
    let told = "invalid endpoint settings:\nno configured subnet contains IP address 9.9.9.9";
    assert!(first.contains(told), "what is said comes before where: {first}");

    // The default route and the published port follow the network that is left over.
    let _ = daemon.run(&["network", "connect", "one", "web"]).ok();
    let _ = daemon.run(&["network", "disconnect", "two", "web"]).ok();
    until("web to answer by its other network", || reaches(&daemon, "client", "web"));
    until("the port to answer", || {
        daemon.sandbox().http_get("127.0.0.1:8080", "/index.html").is_ok_and(|answer| answer.contains("it works"))
    });
    let route = daemon.run(&["exec", "web", "ip", "route"]).ok();
    assert_eq!(route.matches("default").count(), 1, "{route}");

    let _ = daemon.run(&["network", "disconnect", "two", "client"]).ok();
    let networks = daemon.inspect("client", "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}");
    assert_eq!(networks.trim(), "one");
    let links = daemon.run(&["exec", "client", "ip", "-o", "link"]).ok();
    assert!(!links.contains("eth1"), "{links}");
    let _ = daemon.run(&["rm", "-f", "web", "client"]).ok();
    let _ = daemon.run(&["network", "rm", "one", "two"]).ok();
    watch.end().unwrap();
}

#[test]
fn a_killed_daemon_leaves_names_at_work_and_finds_its_networks_again() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    // Forwarding stays on once a network has needed it, as with Docker.
    let _ = daemon.run(&["network", "create", "--ipv6", "first"]).ok();
    let _ = daemon.run(&["network", "rm", "first"]).ok();
    let watch = Watch::daemon(&daemon);
    let _ = daemon.run(&["network", "create", "--ipv6", "net"]).ok();
    serve(&daemon, "web", &["--network", "net"]);
    sleeper(&daemon, "client", &["--network", "net"]);
    until("web to answer", || reaches(&daemon, "client", "web"));
    let subnet = daemon.run(&["network", "inspect", "-f", "{{json .IPAM.Config}}", "net"]).ok();
    // Asked from inside while nobody is there.
    let asking = daemon.run(&[
        "exec",
        "-d",
        "client",
        "sh",
        "-c",
        "while ! test -e /go; do sleep 0.1; done; printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 20 web 80 >/got",
    ]);
    let _ = asking.ok();
    let root = daemon.inspect("client", "{{.State.Pid}}");
    daemon.kill().unwrap();
    let go = daemon.sh(&format!("touch /proc/{root}/root/go; i=0; while ! test -s /proc/{root}/root/got; do i=$((i+1)); test $i -lt 400 || exit 1; sleep 0.1; done"));
    let _ = go.ok();
    daemon.start().unwrap();
    assert_eq!(daemon.run(&["network", "inspect", "-f", "{{json .IPAM.Config}}", "net"]).ok(), subnet);
    sleeper(&daemon, "late", &["--network", "net"]);
    until("web to answer a new container", || reaches(&daemon, "late", "web"));
    let lookup = daemon.run(&["exec", "client", "nslookup", "late"]).ok();
    assert!(lookup.contains("fd"), "an IPv6 address as well: {lookup}");
    let _ = daemon.run(&["rm", "-f", "web", "client", "late"]).ok();
    let _ = daemon.run(&["network", "rm", "net"]).ok();
    watch.end().unwrap();
}

#[test]
fn an_internal_network_has_no_way_out_and_still_has_names() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["network", "create", "--internal", "inside"]).ok();
    serve(&daemon, "web", &["--network", "inside"]);
    sleeper(&daemon, "client", &["--network", "inside"]);
    until("web to answer", || reaches(&daemon, "client", "web"));
    assert!(!daemon.run(&["exec", "client", "ip", "route"]).ok().contains("default"));
    assert!(daemon.run(&["exec", "client", "nslookup", "example.org"]).code != 0);
}

#[test]
fn wrong_networks_are_refused_in_dockers_words_and_nothing_is_made() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let _ = daemon.run(&["network", "create", "--subnet", "10.88.0.0/16", "taken"]).ok();
    sleeper(&daemon, "there", &["--network", "taken", "--ip", "10.88.0.5"]);
    let refused: &[(&[&str], &str)] = &[
        (&["network", "create", "taken"], "network with name taken already exists"),
        (&["network", "create", "bridge"], "operation is not permitted on predefined bridge network"),
        (&["network", "create", "--subnet", "10.88.5.0/24", "x"], "Pool overlaps with other one on this address space"),
        (&["network", "create", "--subnet", "10.1.0.1/16", "x"], "invalid subnet 10.1.0.1/16"),
        (&["network", "create", "-d", "nosuch", "x"], "plugin \"nosuch\" not found"),
        (&["network", "create", "-d", "host", "x"], "only one instance of \"host\" network is allowed"),
        (&["network", "create", "../../x"], "includes invalid characters"),
        (
            &["network", "create", "-o", "com.docker.network.driver.mtu=many", "x"],
            "failed to parse com.docker.network.driver.mtu value: many",
        ),
        (&["network", "rm", "host"], "host is a pre-defined network and cannot be removed"),
        (&["network", "rm", "nosuch"], "network nosuch not found"),
        (&["network", "inspect", "nosuch"], "network nosuch not found"),
        (&["network", "connect", "nosuch", "there"], "network nosuch not found"),
        (&["network", "connect", "taken", "nobody"], "No such container: nobody"),
        (&["network", "disconnect", "bridge", "there"], "is not connected to network bridge"),
        (&["network", "connect", "host", "there"], "cannot connect container to host network"),
    ];
    for (arguments, text) in refused {
        let said = daemon.run(arguments).fails_with(1);
        assert!(said.contains(text), "{arguments:?} said {said:?}");
    }
    let run =
        |options: &[&str]| daemon.run(&[&["run", "--rm"], options, &["busybox", "true"]].concat()).fails_with(125);
    assert!(run(&["--network", "nosuch"]).contains("network nosuch not found"));
    assert!(run(&["--network", "taken", "--ip", "10.88.0.5"]).contains("Address already in use"));
    assert!(run(&["--ip", "172.17.0.9"]).contains("supported on user-defined networks only"));
    let _ = daemon.run(&["rm", "-f", "there"]).ok();
    let _ = daemon.run(&["network", "rm", "taken"]).ok();
    watch.end().unwrap();
}

#[test]
fn pools_that_are_used_up_name_who_has_them_and_what_frees_some() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let _ = daemon.run(&["network", "create", "--subnet", "10.44.0.0/24", "apart"]).ok();
    // A route of the host's, which no network may take.
    let _ = daemon
        .sandbox()
        .sh("ip route add 172.30.0.0/16 via 192.0.2.9 2>/dev/null || ip route add 172.30.0.0/16 dev uplink")
        .ok();
    let mut made = 0;
    let told = loop {
        let outcome = daemon.run(&["network", "create", &format!("pool{made}")]);
        if outcome.code != 0 {
            break outcome.err();
        }
        made += 1;
        assert!(made < 40, "there are no more than 31 networks in the pools");
    };
    assert!(
        told.contains("all predefined address pools have been fully subnetted: they are held by bridge, pool0"),
        "{told}"
    );
    assert!(told.contains("network prune"), "{told}");
    assert!(!told.contains("apart"), "a network outside of the pools holds nothing of them: {told}");
    let subnets =
        daemon.run(&["network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", "pool1", "pool9"]);
    assert!(!subnets.ok().contains("172.30."), "{made} networks avoid the host's route");
    let _ = daemon.run(&["network", "prune", "-f"]).ok();
    let _ = daemon.run(&["network", "create", "pool0"]).ok();
    let _ = daemon.run(&["network", "rm", "pool0"]).ok();
    let _ = daemon.sandbox().sh("ip route del 172.30.0.0/16").ok();
    watch.end().unwrap();
}
