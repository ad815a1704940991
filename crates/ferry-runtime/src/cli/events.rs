//! `events` and `ps`: what a container uses and what runs in it.

use std::os::fd::OwnedFd;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use ferry_runtime::Error;
use ferry_runtime::cgroup::{Cgroup, Stats};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Map, Value, json};

use super::arguments::{Arguments, Option as Flag, Rest, only};
use super::store::{Record, Store};
use super::{failed, invalid, print};

/// Prints statistics as JSON lines: once with `--stats`, else every interval and at each kill for want of memory, until the end.
pub(crate) fn events(store: &Store, line: &[String]) -> Result<ExitCode, Error> {
    let known = [Flag::value("interval"), Flag::switch("stats")];
    let (arguments, words) = Arguments::parse(&known, line, Rest::Mixed)?;
    let interval = arguments.get("interval").map_or(Some(Duration::from_secs(5)), duration);
    let interval = interval.ok_or_else(|| invalid("invalid duration of --interval"))?;
    if interval.is_zero() {
        return Err(invalid("duration interval must be greater than 0"));
    }
    let record = store.load(only(&words)?)?;
    if store.status(&record)? == "stopped" {
        return Err(Error::new(ferry_runtime::ErrorKind::NotRunning, "container not running"));
    }
    let cgroup = Cgroup::open(&record.cgroup)?;
    if arguments.has("stats") {
        return print_stats(&record, &cgroup).map(|()| ExitCode::SUCCESS);
    }
    // Without a memory controller nothing can be killed by it.
    let oom = cgroup.oom_event_fd().ok();
    let mut killed = cgroup.oom_kill_count().unwrap_or(0);
    let mut next = Instant::now() + interval;
    loop {
        let noticed = wait(oom.as_ref(), next)?;
        if store.status(&record)? == "stopped" {
            return Ok(ExitCode::SUCCESS);
        }
        let count = cgroup.oom_kill_count().unwrap_or(killed);
        if count > killed {
            killed = count;
            print(&format!("{}\n", json!({"type": "oom", "id": record.id})))?;
        }
        if !noticed {
            print_stats(&record, &cgroup)?;
            next = Instant::now() + interval;
        }
    }
}

/// Waits for a notice or the moment; tells whether it was a notice.
fn wait(oom: Option<&OwnedFd>, until: Instant) -> Result<bool, Error> {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(|error| failed("wait", &error))?;
    let mut fds: Vec<PollFd<'_>> = oom.iter().map(|oom| PollFd::new(*oom, PollFlags::IN)).collect();
    let noticed = match poll(&mut fds, Some(&left)) {
        Ok(count) => count > 0,
        Err(rustix::io::Errno::INTR) => true,
        Err(error) => return Err(failed("wait", &error)),
    };
    if let (true, Some(oom)) = (noticed, oom) {
        // It is readable again with the next one.
        let _ = rustix::io::read(oom, &mut [0u8; 4096]);
    }
    Ok(noticed)
}

/// Reads Go's durations: `500ms`, `5s`, `1m30s`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let unit_at = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, after) = rest.split_at(unit_at);
        let end = after.find(|character: char| character.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum += Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

fn print_stats(record: &Record, cgroup: &Cgroup) -> Result<(), Error> {
    let event = json!({"type": "stats", "id": record.id, "data": data(&cgroup.stats()?)});
    print(&format!("{event}\n"))
}

/// A number that is left out when it is nothing.
fn put(object: &mut Map<String, Value>, name: &str, value: u64) {
    if value != 0 {
        object.insert(name.into(), value.into());
    }
}

/// Statistics by the names that runc's have.
fn data(stats: &Stats) -> Value {
    let value_of =
        |name: &str| stats.memory.stat.iter().find(|(known, _)| known == name).map_or(0, |(_, value)| *value);
    let object = |fields: &[(&str, u64)]| {
        let mut object = Map::new();
        fields.iter().for_each(|(name, value)| put(&mut object, name, *value));
        object
    };
    let cpu = &stats.cpu;
    let mut usage = object(&[("total", cpu.total_ns)]);
    if !cpu.per_cpu_ns.is_empty() {
        usage.insert("percpu".into(), cpu.per_cpu_ns.clone().into());
    }
    usage.insert("kernel".into(), cpu.system_ns.into());
    usage.insert("user".into(), cpu.user_ns.into());
    let throttling = object(&[
        ("periods", cpu.periods),
        ("throttledPeriods", cpu.throttled_periods),
        ("throttledTime", cpu.throttled_ns),
    ]);
    let mut memory_usage = Map::from_iter([("limit".to_owned(), Value::from(stats.memory.limit))]);
    put(&mut memory_usage, "usage", stats.memory.usage);
    put(&mut memory_usage, "max", stats.memory.max_usage);
    memory_usage.insert("failcnt".into(), stats.memory.fail_count.into());
    let raw: Map<String, Value> =
        stats.memory.stat.iter().map(|(name, value)| (name.clone(), Value::from(*value))).collect();
    let empty = || json!({"limit": 0, "failcnt": 0});
    let mut memory = object(&[("cache", value_of("cache").max(value_of("file")))]);
    memory.insert("usage".into(), memory_usage.into());
    memory.insert("swap".into(), empty());
    memory.insert("kernel".into(), empty());
    memory.insert("kernelTCP".into(), empty());
    memory.insert("raw".into(), raw.into());
    let limit = if stats.pids.limit == u64::MAX { 0 } else { stats.pids.limit };
    json!({
        "cpu": {"usage": usage, "throttling": throttling},
        "cpuset": {},
        "memory": memory,
        "pids": object(&[("current", stats.pids.current), ("limit", limit)]),
        "blkio": blkio(stats),
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn blkio(stats: &Stats) -> Value {
    let entry = |major: u64, minor: u64, op: &str, value: u64| {
        let mut entry = Map::new();
        put(&mut entry, "major", major);
        put(&mut entry, "minor", minor);
        entry.insert("op".into(), op.into());
        put(&mut entry, "value", value);
        Value::from(entry)
    };
    let list = |read: fn(&ferry_runtime::cgroup::IoStats) -> [u64; 2]| -> Vec<Value> {
        let entries = stats.io.iter().flat_map(|device| {
            let [reads, writes] = read(device);
            [entry(device.major, device.minor, "Read", reads), entry(device.major, device.minor, "Write", writes)]
        });
        entries.collect()
    };
    if stats.io.is_empty() {
        return json!({});
    }
    json!({
        "ioServiceBytesRecursive": list(|device| [device.read_bytes, device.write_bytes]),
        "ioServicedRecursive": list(|device| [device.read_operations, device.write_operations]),
    })
}

/// Lists host pids as JSON, or those lines of the host's `ps` that are about them.
pub(crate) fn ps(store: &Store, line: &[String]) -> Result<ExitCode, Error> {
    let known = [Flag::value("format").short('f')];
    let (arguments, words) = Arguments::parse(&known, line, Rest::StopsAtWord)?;
    let (id, ps_arguments) = words.split_first().ok_or_else(|| invalid("a container id is needed"))?;
    // The format may come after the id as well, as long as no options for `ps` do.
    let (late, ps_arguments) = match ps_arguments {
        [flag, format] if flag == "--format" || flag == "-f" => (Some(format.as_str()), &[][..]),
        [flag] if flag.starts_with("--format=") => (flag.strip_prefix("--format="), &[][..]),
        other => (None, other),
    };
    let record = store.load(id)?;
    let pids = Cgroup::open(&record.cgroup)?.pids()?;
    let text = match late.or(arguments.get("format")).unwrap_or("table") {
        "json" => format!("{}\n", Value::from(pids)),
        "table" => table(&pids, ps_arguments)?,
        _ => return Err(invalid("invalid format option")),
    };
    print(&text).map(|()| ExitCode::SUCCESS)
}

fn table(pids: &[u32], arguments: &[String]) -> Result<String, Error> {
    let default = ["-ef".to_owned()];
    let arguments = if arguments.is_empty() { &default[..] } else { arguments };
    let output = Command::new("ps").args(arguments).output().map_err(|error| failed("run ps", &error))?;
    if !output.status.success() {
        return Err(failed(
            "run ps",
            &std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        ));
    }
    choose_lines(&String::from_utf8_lossy(&output.stdout), pids)
        .ok_or_else(|| invalid("couldn't find PID field in ps output"))
}

fn choose_lines(output: &str, pids: &[u32]) -> Option<String> {
    let mut lines = output.lines();
    let header = lines.next()?;
    let column = header.split_whitespace().position(|name| name == "PID")?;
    let about = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|field| field.parse().ok());
        pid.is_some_and(|pid: u32| pids.contains(&pid))
    };
    Some([header].into_iter().chain(lines.filter(about)).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
        for text in ["", "5", "x", "5d"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn lines_are_chosen_by_pid() {
        let output = "UID          PID CMD\nroot           7 sh\nroot          70 x 7\n";
        assert_eq!(choose_lines(output, &[7]).unwrap(), "UID          PID CMD\nroot           7 sh\n");
        assert_eq!(choose_lines("A B\n", &[7]), None);
    }

    #[test]
    fn statistics_have_runcs_names() {
        let mut stats = Stats::default();
        stats.cpu.total_ns = 5;
        stats.pids.limit = u64::MAX;
        stats.memory.limit = 9;
        let data = data(&stats);
        assert_eq!(data["cpu"]["usage"], json!({"total": 5, "kernel": 0, "user": 0}));
        assert_eq!(data["pids"], json!({}));
        assert_eq!(data["memory"]["usage"], json!({"limit": 9, "failcnt": 0}));
    }
}
