//! Many containers at once.

use std::time::{Duration, Instant};

use ferry_testkit::command::Running;
use ferry_testkit::differential::pool;
use ferry_testkit::leak::Watch;
use ferry_testkit::{Daemon, programs};

const MANY: usize = 200;
const AT_ONCE: usize = 8;
const LISTS: u32 = 9;
/// Networks and containers of a network that grows.
const GROWN: usize = 24;
/// A loaded machine may be slow; it may not be stuck.
const LIMIT: Duration = Duration::from_secs(180);

fn many(daemon: &Daemon, verb: &[&str], names: &[String]) {
    let mut ferry = daemon.client(programs::binary("ferry").unwrap());
    ferry.args(verb).args(names);
    let outcome = Running::start(ferry, b"").unwrap().finish(LIMIT).unwrap();
    let mut told: Vec<String> = outcome.ok().lines().map(str::to_owned).collect();
    told.sort();
    assert_eq!(told, names, "{verb:?}");
}

#[test]
fn two_hundred_containers_start_eight_at_a_time_and_go_at_once() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let names: Vec<String> = (0..MANY).map(|number| format!("many-{number:03}")).collect();
    let starters: Vec<()> = vec![(); AT_ONCE];
    let begin = Instant::now();
    let started = pool::run(&starters, &names, |(), name| {
        daemon.run(&["run", "-d", "--name", name, "busybox", "sh", "-c", "trap exit TERM; sleep 1000 & wait"])
    });
    let start = begin.elapsed();
    for outcome in started {
        assert_eq!(outcome.value.ok().len(), 64, "{}", outcome.value);
    }
    let listed = daemon.api("GET", "/containers/json?all=1", None).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(MANY));
    assert!(listed.as_array().into_iter().flatten().all(|one| one["State"] == "running"), "{listed}");
    let begin = cpu_time(&daemon);
    let mut times: Vec<Duration> = (0..LISTS).map(|_| list(&daemon)).collect();
    times.sort();
    let work = (cpu_time(&daemon) - begin) / LISTS;
    let begin = Instant::now();
    many(&daemon, &["stop"], &names);
    let stop = begin.elapsed();
    let begin = Instant::now();
    many(&daemon, &["rm"], &names);
    say(&format!(
        "{MANY} containers: started in {start:.1?}, `ps -a` over the API in {:.1?} (median of {LISTS}, {work:.1?} of a \
         processor), stopped in {stop:.1?}, removed in {:.1?}",
        times[times.len() / 2],
        begin.elapsed()
    ));
    // What the daemon works for it is the same on a machine that does ten other things.
    assert!(
        work < Duration::from_millis(30),
        "a list of {MANY} containers takes {work:?} of a processor, {times:?} in all"
    );
    watch.end().unwrap();
}

/// What all threads of the daemon have run until now, those that have ended included.
fn cpu_time(daemon: &Daemon) -> Duration {
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    // After the name, which may hold anything: the state is the 3rd field, the times are the 14th and the 15th.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u32>().unwrap()).sum::<u32>();
    TICK * ticks
}

/// `FERRY_SCALE` containers, and as many networks; a few are part of every run.
#[test]
fn a_bridge_with_many_containers_starts_the_last_as_quickly_as_the_first() {
    if !programs::need_root() {
        return;
    }
    let many = std::env::var("FERRY_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(GROWN);
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let created = Instant::now();
    let networks: Vec<String> = (0..many).map(|number| format!("net-{number:04}")).collect();
    for (number, name) in networks.iter().enumerate() {
        let subnet = format!("10.{}.{}.0/24", 100 + number / 256, number % 256);
        let body = serde_json::json!({"Name": name, "IPAM": {"Config": [{"Subnet": subnet}]}});
        let answer = daemon.api("POST", "/networks/create", Some(&body));
        assert_eq!(answer.status, 201, "{name}");
    }
    let created = created.elapsed();
    let _ = daemon.run(&["network", "create", "--subnet", "10.90.0.0/16", "wide"]).ok();
    let names: Vec<String> = (0..many).map(|number| format!("grown-{number:04}")).collect();
    let start = |name: &String| {
        let begin = Instant::now();
        let outcome = daemon.run(&["run", "-d", "--name", name, "--network", "wide", "busybox", "sleep", "100000"]);
        assert_eq!(outcome.code, 0, "{name}: {outcome}");
        begin.elapsed()
    };
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (most, last) = names.split_at(names.len() - 10);
    for name in most {
        let _ = start(name);
    }
    let late = median(last.iter().map(start).collect());
    let told = daemon.run(&["exec", &names[0], "nslookup", &names[names.len() - 1]]).ok();
    assert!(told.contains("10.90."), "{told}");
    // The tenth is started right after the last, so that both find the machine in the same mood.
    many_quietly(&daemon, &["rm", "-f"], &names[5..]);
    let early = median(names[5..15].iter().map(start).collect());
    say(&format!(
        "{many} networks in {created:.1?}; on one bridge the last of {many} containers starts in {late:.1?}, the tenth in {early:.1?} \
         ({:.2} times)",
        late.as_secs_f64() / early.as_secs_f64()
    ));
    many_quietly(&daemon, &["rm", "-f"], &names[..15]);
    let mut all = networks;
    all.push("wide".to_owned());
    many_quietly(&daemon, &["network", "rm"], &all);
    watch.end_within(Duration::from_secs(60)).unwrap();
}

fn many_quietly(daemon: &Daemon, verb: &[&str], names: &[String]) {
    let mut ferry = daemon.client(programs::binary("ferry").unwrap());
    ferry.args(verb).args(names);
    let outcome = Running::start(ferry, b"").unwrap().finish(LIMIT).unwrap();
    assert_eq!(outcome.code, 0, "{verb:?}: {outcome}");
}

fn list(daemon: &Daemon) -> Duration {
    let begin = Instant::now();
    let answer = daemon.api("GET", "/containers/json?all=1", None);
    let took = begin.elapsed();
    assert_eq!(answer.status, 200);
    took
}

/// Not `println!`: the test harness would keep that to itself, and the figures are to be read.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
