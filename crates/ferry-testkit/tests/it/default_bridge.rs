//! The default bridge as the daemon's configuration makes it.

use ferry_testkit::{Daemon, Sandbox, programs};

use crate::until;

fn start(args: &[&str]) -> Daemon {
    let sandbox = Sandbox::new().unwrap();
    let daemon = Daemon::ferry(&sandbox, "a").args(args);
    daemon.start().unwrap();
    daemon.load(&ferry_testkit::material::Material::get().busybox());
    daemon
}

fn bridge(daemon: &Daemon) -> String {
    let template = "{{.EnableIPv6}}{{range .IPAM.Config}} {{.Subnet}}|{{.IPRange}}|{{.Gateway}}{{end}}";
    daemon.run(&["network", "inspect", "-f", template, "bridge"]).ok()
}

fn sleeper(daemon: &Daemon, name: &str) {
    let _ = daemon.run(&["run", "-d", "--name", name, "-p", "8080:80", "busybox", "sleep", "1000"]).ok();
}

#[test]
fn it_has_ipv6_where_that_is_switched_on() {
    if !programs::need_root() {
        return;
    }
    let pools = "base=10.99.0.0/16,size=24";
    let daemon = start(&[
        "--bip",
        "172.29.5.1/24",
        "--default-gateway",
        "172.29.5.254",
        "--ipv6",
        "--fixed-cidr-v6",
        "fd00:77::/64",
        "--host-gateway-ip",
        "192.0.2.1",
        "--default-address-pool",
        pools,
        "--default-address-pool",
        "base=fd12::/32,size=64",
        "--allow-direct-routing",
        "--bridge-accept-fwmark",
        "0x10/0xf0",
        "--default-network-opt",
        "bridge=com.docker.network.driver.mtu=1400",
    ]);
    let rules = daemon.sandbox().sh("nft list ruleset").ok();
    assert!(rules.contains("meta mark & 0x000000f0 == 0x00000010 accept"), "{rules}");
    assert_eq!(bridge(&daemon), "true 172.29.5.0/24||172.29.5.1 fd00:77::/64|fd00:77::/64|fd00:77::1");
    sleeper(&daemon, "box");
    let shown = "{{with .NetworkSettings.Networks.bridge}}{{.GlobalIPv6Address}}/{{.GlobalIPv6PrefixLen}} {{.IPv6Gateway}} {{.Gateway}}{{end}}";
    assert_eq!(daemon.inspect("box", shown), "fd00:77::2/64 fd00:77::1 172.29.5.254");
    let routes = daemon.run(&["exec", "box", "sh", "-c", "ip route; ip -6 route"]).ok();
    assert!(routes.contains("default via 172.29.5.254") && routes.contains("default via fd00:77::1"), "{routes}");
    until("IPv6 to the host", || daemon.run(&["exec", "box", "ping", "-6", "-c1", "-w2", "fd00:77::1"]).code == 0);
    let _ = daemon.run(&["exec", "-d", "box", "sh", "-c", "while :; do echo here | nc -l -p 80; done"]).ok();
    until("the port over IPv6", || {
        daemon.sandbox().sh("busybox nc -w 2 fd00:77::1 8080 </dev/null").out().contains("here")
    });
    let hosts = daemon.run(&["run", "--rm", "--add-host", "me:host-gateway", "busybox", "cat", "/etc/hosts"]).ok();
    assert!(hosts.contains("192.0.2.1\tme") && hosts.contains("fd00:77::3"), "{hosts}");
    let _ = daemon.run(&["network", "create", "--ipv6", "pooled"]).ok();
    let subnets = daemon
        .run(&["network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}{{.Options}}", "pooled"])
        .ok();
    assert_eq!(subnets, "10.99.0.0/24 fd12::/64 map[com.docker.network.driver.mtu:1400]");
    let _ = daemon.run(&["rm", "-f", "box"]).ok();
    let _ = daemon.run(&["network", "rm", "pooled"]).ok();
}

#[test]
fn its_ipv6_subnet_is_chosen_and_kept_or_cut_to_a_range() {
    if !programs::need_root() {
        return;
    }
    let daemon = start(&["--ipv6", "--ip6tables=false"]);
    let chosen = bridge(&daemon);
    assert!(chosen.starts_with("true ") && chosen.contains(" fd"), "{chosen}");
    let rules = daemon.sandbox().sh("nft list ruleset").ok();
    assert!(rules.contains("meta nfproto ipv6 accept"), "{rules}");
    daemon.stop().unwrap();
    daemon.start().unwrap();
    assert_eq!(bridge(&daemon), chosen, "as it was");
    let daemon = start(&[
        "--fixed-cidr",
        "172.29.7.0/25",
        "--ipv6",
        "--bip6",
        "fd00:78::9/64",
        "--fixed-cidr-v6",
        "fd00:78::100/120",
        "--default-gateway-v6",
        "fd00:78::99",
    ]);
    let v4 = "172.29.7.0/25|172.29.7.0/25|172.29.7.1";
    assert_eq!(bridge(&daemon), format!("true {v4} fd00:78::/64|fd00:78::100/120|fd00:78::9"));
    sleeper(&daemon, "box");
    let address = daemon.inspect("box", "{{.NetworkSettings.Networks.bridge.GlobalIPv6Address}}");
    assert!(address.starts_with("fd00:78::1"), "{address}");
    assert!(daemon.run(&["exec", "box", "ip", "-6", "route"]).ok().contains("default via fd00:78::99"));
    let _ = daemon.run(&["rm", "-f", "box"]).ok();
}

#[test]
fn an_address_that_does_not_fit_keeps_the_daemon_from_starting() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    for (name, args, told) in [
        (
            "a",
            &["--bip", "172.29.5.1/24", "--default-gateway", "10.0.0.1"][..],
            "auxiliary address: (DefaultGatewayIPv4:10.0.0.1) must belong to the master pool: 172.29.5.0/24",
        ),
        ("c", &["--ipv6", "--default-address-pool", "base=10.0.0.0/8,size=4"], "invalid size"),
    ] {
        let daemon = Daemon::ferry(&sandbox, name).args(args);
        // It may have been listening already when it found that out.
        let _ = daemon.start();
        until(&format!("{args:?} to be refused"), || daemon.log().contains(told));
    }
}

#[test]
fn a_range_outside_of_its_subnet_is_told_by_containers_of_it_alone() {
    if !programs::need_root() {
        return;
    }
    let bip = ["--bip", "172.29.5.1/24", "--ipv6", "--bip6", "fd00:78::9/64"];
    let daemon = start(&[&bip[..], &["--fixed-cidr", "172.29.0.0/16", "--fixed-cidr-v6", "fd00:79::/120"]].concat());
    assert_eq!(
        bridge(&daemon),
        "true 172.29.5.0/24|172.29.0.0/16|172.29.5.1 fd00:78::/64|fd00:79::/120|fd00:78::9",
        "the wider one is cut to the subnet"
    );
    assert!(daemon.log().contains("`fixed-cidr-v6` is not in the subnet of the default bridge"), "{}", daemon.log());
    let told = daemon.run(&["run", "--rm", "busybox", "true"]).fails_with(125);
    let expected =
        "failed to set up container networking: add-any, range 'fd00:79::/120' is not in subnet 'fd00:78::/64'";
    assert!(told.contains(expected), "{told}");
    let _ = daemon.run(&["network", "create", "own"]).ok();
    let _ = daemon.run(&["run", "--rm", "--network", "own", "busybox", "true"]).ok();
    let _ = daemon.run(&["network", "rm", "own"]).ok();
}
