//! Real servers from the distribution across networks of users, and a neighbour of the host that must not get at them.

use std::time::Duration;

use ferry_testkit::leak::Watch;
use ferry_testkit::{Daemon, Outcome, programs, wait};

/// Servers take their time on a busy machine, PostgreSQL to make its files above all.
const PATIENCE: Duration = Duration::from_secs(90);
/// The host's programs with what they load, in an image that has only a shell.
const PROGRAMS: [&str; 8] =
    ["-v", "/usr:/usr:ro", "-v", "/usr/lib:/lib:ro", "-v", "/usr/lib64:/lib64:ro", "-v", "/etc/passwd:/etc/passwd:ro"];
const POSTGRES: &str = "set -e; export LC_ALL=C; bin=$(echo /usr/lib/postgresql/*/bin); \
    $bin/initdb -D /tmp/data -U postgres --auth=trust --no-sync >/dev/null; echo 'host all all all trust' >>/tmp/data/pg_hba.conf; \
    exec $bin/postgres -D /tmp/data -h '*' -k /tmp -c fsync=off";
const NGINX: &str = "printf 'user root; daemon off; pid /tmp/pid; error_log stderr; events {} http { access_log off; \
    client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c; uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e; \
    server { listen 80; location / { return 200 \"served by nginx\\\\n\"; } } }' >/tmp/conf; exec /usr/sbin/nginx -c /tmp/conf";
const REDIS: &str = "exec /usr/bin/redis-server --save '' --protected-mode no --bind 0.0.0.0 --dir /tmp";

fn start(daemon: &Daemon, name: &str, options: &[&str], script: &str) {
    let run = ["run", "-d", "--name", name];
    let _ = daemon.run(&[&run, PROGRAMS.as_slice(), options, &["busybox", "sh", "-c", script]].concat()).ok();
}

fn inside(daemon: &Daemon, container: &str, line: &str) -> Outcome {
    daemon.run(&["exec", container, "sh", "-c", line])
}

#[track_caller]
fn said(daemon: &Daemon, container: &str, line: &str, wanted: &str) {
    let mut last = String::new();
    let answered = wait::until(&format!("{line} in {container}"), PATIENCE, || {
        let outcome = inside(daemon, container, line);
        last = outcome.to_string();
        outcome.out().contains(wanted).then_some(())
    });
    assert!(answered.is_ok(), "{answered:?}: {last}\n{}", daemon.run(&["ps", "-a"]).out());
}

#[test]
fn servers_are_found_by_name_in_their_networks_alone() {
    if !programs::need_root() {
        return;
    }
    for (program, package) in [("nginx", "nginx-light"), ("redis-server", "redis-server"), ("psql", "postgresql")] {
        assert!(programs::on_path(program).is_some(), "{program} is missing: apt-get install {package}");
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    for network in ["front", "back"] {
        let _ = daemon.run(&["network", "create", network]).ok();
    }
    start(&daemon, "db", &["--network", "back", "--user", "postgres"], POSTGRES);
    start(&daemon, "cache", &["--network", "back", "--network-alias", "sessions"], REDIS);
    start(&daemon, "web", &["--network", "front", "-p", "8080:80", "-p", "127.0.0.1:8081:80"], NGINX);
    start(&daemon, "app", &["--network", "front", "--network", "back"], "exec sleep 1000");
    start(&daemon, "stranger", &["--network", "front"], "exec sleep 1000");
    let query = "$(echo /usr/lib/postgresql/*/bin/psql) -h db -U postgres -At -c 'select 6*7'";
    said(&daemon, "app", query, "42");
    said(&daemon, "app", "redis-cli -h sessions set key kept && redis-cli -h cache get key", "kept");
    said(
        &daemon,
        "app",
        "wget -q -O - http://web.front/ 2>/dev/null || /usr/bin/curl -s http://web/",
        "served by nginx",
    );

    // Neither by name nor by address.
    let address = |name: &str, network: &str| {
        daemon.inspect(name, &format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}"))
    };
    let (db, cache) = (address("db", "back"), address("cache", "back"));
    assert!(inside(&daemon, "stranger", "nslookup db").code != 0, "a name of another network");
    for (host, port) in [(&db, 5432), (&cache, 6379)] {
        let tried = inside(&daemon, "stranger", &format!("nc -w 2 {host} {port} </dev/null && echo reached"));
        assert!(!tried.out().contains("reached"), "{host}:{port}: {tried}");
        let control = inside(&daemon, "app", &format!("nc -w 5 {host} {port} </dev/null && echo reached"));
        assert!(control.out().contains("reached"), "who is in the network does: {control}");
    }
    refuses_neighbours(&daemon, &db, &address("web", "front"));
    let _ = daemon.run(&["rm", "-f", "-v", "db", "cache", "web", "app", "stranger"]).ok();
    let _ = daemon.run(&["network", "rm", "front", "back"]).ok();
    let _ = daemon.sandbox().sh("ip link del toward; ip netns del neighbour; umount /run/netns; rmdir /run/netns").ok();
    watch.end().unwrap();
}

/// A machine on a wire with the host that has routes to the networks of containers, and to the host's loopback.
fn refuses_neighbours(daemon: &Daemon, db: &str, web: &str) {
    let make = "ip netns add neighbour && ip link add toward type veth peer name wire netns neighbour &&
        ip address add 198.51.100.1/24 dev toward && ip link set toward up &&
        ip -n neighbour address add 198.51.100.2/24 dev wire && ip -n neighbour link set wire up &&
        ip netns exec neighbour sh -c 'echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet' &&
        ip -n neighbour route add 172.16.0.0/12 via 198.51.100.1 && ip -n neighbour route add 192.168.0.0/16 via 198.51.100.1 &&
        ip -n neighbour route add 127.0.0.0/8 via 198.51.100.1";
    let _ = daemon.sandbox().sh(make).ok();
    let fetch = |target: &str| {
        let line = format!("ip netns exec neighbour curl -s --max-time 3 http://{target}/");
        daemon.sandbox().sh(&line)
    };
    // The control: what is published for all is reached, by the same way.
    let control = wait::until("the published port to answer the neighbour", PATIENCE, || {
        fetch("198.51.100.1:8080").out().contains("served by nginx").then_some(())
    });
    control.unwrap();
    let unpublished = format!("{db}:5432");
    let direct = format!("{web}:80");
    for target in [direct.as_str(), unpublished.as_str(), "198.51.100.1:8081", "127.0.0.1:8081"] {
        let tried = fetch(target);
        // 7 is refused, 28 is silence.
        assert!(matches!(tried.code, 7 | 28), "{target} from the neighbour: {tried}");
    }
    assert!(
        daemon.sandbox().http_get("127.0.0.1:8081", "/").is_ok_and(|answer| answer.contains("served by nginx")),
        "the host itself reaches what is published on loopback"
    );
}
