//! `update`: other limits for a container that runs, by options or by a file of resources.

use std::process::ExitCode;

use ferry_runtime::cgroup::Cgroup;
use ferry_runtime::{Error, systemd};
use ferry_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::arguments::{Arguments, Option as Flag, Rest, only};
use super::store::{Record, Store};
use super::{failed, invalid, unsupported};

const OPTIONS: &[Flag] = &[
    Flag::value("resources").short('r'),
    Flag::value("blkio-weight"),
    Flag::value("cpu-period"),
    Flag::value("cpu-quota"),
    Flag::value("cpu-burst"),
    Flag::value("cpu-share"),
    Flag::value("cpu-rt-period"),
    Flag::value("cpu-rt-runtime"),
    Flag::value("cpuset-cpus"),
    Flag::value("cpuset-mems"),
    Flag::value("cpu-idle"),
    Flag::value("kernel-memory"),
    Flag::value("kernel-memory-tcp"),
    Flag::value("memory"),
    Flag::value("memory-reservation"),
    Flag::value("memory-swap"),
    Flag::value("pids-limit"),
    Flag::value("l3-cache-schema"),
    Flag::value("mem-bw-schema"),
];

pub(crate) fn update(store: &Store, line: &[String]) -> Result<ExitCode, Error> {
    let (arguments, words) = Arguments::parse(OPTIONS, line, Rest::Mixed)?;
    let mut record = store.load(only(&words)?)?;
    for name in ["l3-cache-schema", "mem-bw-schema"] {
        if arguments.has(name) {
            return Err(unsupported(format!("--{name} is not supported")));
        }
    }
    let resources = match arguments.get("resources").filter(|path| !path.is_empty()) {
        Some(path) => read(path)?,
        None => from_options(&arguments)?,
    };
    if resources == LinuxResources::default() {
        return Err(invalid("update needs --resources or an option with a limit"));
    }
    Cgroup::open(&record.cgroup)?.update(&resources)?;
    if let Some(unit) = &record.systemd_unit {
        systemd::set_limits(unit, &record.cgroup)?;
    }
    remember(&mut record, resources);
    store.save(&record).map(|()| ExitCode::SUCCESS)
}

/// A file of resources, `-` for stdin.
fn read(path: &str) -> Result<LinuxResources, Error> {
    let text = if path == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = text.map_err(|error| failed(&format!("read {path}"), &error))?;
    serde_json::from_str(&text).map_err(|error| invalid(format!("{path}: {error}")))
}

fn from_options(arguments: &Arguments) -> Result<LinuxResources, Error> {
    let memory = LinuxMemory {
        limit: bytes(arguments, "memory")?,
        reservation: bytes(arguments, "memory-reservation")?,
        swap: bytes(arguments, "memory-swap")?,
        kernel: bytes(arguments, "kernel-memory")?,
        kernel_tcp: bytes(arguments, "kernel-memory-tcp")?,
        ..LinuxMemory::default()
    };
    let cpu = LinuxCpu {
        shares: number(arguments, "cpu-share")?,
        quota: number(arguments, "cpu-quota")?,
        burst: number(arguments, "cpu-burst")?,
        period: number(arguments, "cpu-period")?,
        realtime_runtime: number(arguments, "cpu-rt-runtime")?,
        realtime_period: number(arguments, "cpu-rt-period")?,
        cpus: arguments.get("cpuset-cpus").map(String::from),
        mems: arguments.get("cpuset-mems").map(String::from),
        idle: number(arguments, "cpu-idle")?,
    };
    let weight = number::<u16>(arguments, "blkio-weight")?;
    Ok(LinuxResources {
        memory: (memory != LinuxMemory::default()).then_some(memory),
        cpu: (cpu != LinuxCpu::default()).then_some(cpu),
        pids: number(arguments, "pids-limit")?.map(|limit| LinuxPids { limit }),
        block_io: weight.map(|weight| LinuxBlockIo { weight: Some(weight), ..LinuxBlockIo::default() }),
        ..LinuxResources::default()
    })
}

fn number<T: std::str::FromStr>(arguments: &Arguments, name: &str) -> Result<Option<T>, Error> {
    let Some(text) = arguments.get(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| invalid(format!("invalid value for {name}: {text:?}")))
}

/// A size such as `64m`; -1 is unlimited.
fn bytes(arguments: &Arguments, name: &str) -> Result<Option<i64>, Error> {
    let Some(text) = arguments.get(name) else { return Ok(None) };
    size(text).map(Some).ok_or_else(|| invalid(format!("invalid value for {name}: {text:?}")))
}

fn size(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let lower = text.trim().to_ascii_lowercase();
    let unit_at = lower.find(|character: char| !character.is_ascii_digit()).unwrap_or(lower.len());
    let (digits, unit) = lower.split_at(unit_at);
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit);
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit)?;
    digits.parse::<i64>().ok()?.checked_mul(1i64.checked_shl(10 * power as u32)?)
}

/// What was changed is what the record says from now on.
fn remember(record: &mut Record, changed: LinuxResources) {
    let known = record.spec.linux.get_or_insert_default().resources.get_or_insert_default();
    fn put<T>(known: &mut Option<T>, changed: Option<T>) {
        if changed.is_some() {
            *known = changed;
        }
    }
    if let Some(memory) = changed.memory {
        let known = known.memory.get_or_insert_default();
        put(&mut known.limit, memory.limit);
        put(&mut known.reservation, memory.reservation);
        put(&mut known.swap, memory.swap);
        put(&mut known.kernel, memory.kernel);
        put(&mut known.kernel_tcp, memory.kernel_tcp);
    }
    if let Some(cpu) = changed.cpu {
        let known = known.cpu.get_or_insert_default();
        put(&mut known.shares, cpu.shares);
        put(&mut known.quota, cpu.quota);
        put(&mut known.burst, cpu.burst);
        put(&mut known.period, cpu.period);
        put(&mut known.realtime_runtime, cpu.realtime_runtime);
        put(&mut known.realtime_period, cpu.realtime_period);
        put(&mut known.cpus, cpu.cpus);
        put(&mut known.mems, cpu.mems);
        put(&mut known.idle, cpu.idle);
    }
    put(&mut known.pids, changed.pids);
    if let Some(io) = changed.block_io {
        put(&mut known.block_io.get_or_insert_default().weight, io.weight);
    }
    known.unified.extend(changed.unified);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("-1", -1), ("100", 100), ("64m", 64 << 20), ("1GiB", 1 << 30), ("2kb", 2048)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "x", "-2", "1.5x", "9999999999g"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn options_become_resources() {
        let line = ["--memory", "64m", "--pids-limit=9", "--cpu-share", "512", "--cpuset-cpus", "0"];
        let (arguments, _) = Arguments::parse(OPTIONS, &line.map(String::from), Rest::Mixed).unwrap();
        let resources = from_options(&arguments).unwrap();
        assert_eq!(resources.memory.unwrap().limit, Some(64 << 20));
        assert_eq!(resources.pids.unwrap().limit, 9);
        let cpu = resources.cpu.unwrap();
        assert_eq!((cpu.shares, cpu.cpus.as_deref()), (Some(512), Some("0")));
        assert!(resources.block_io.is_none());
        let (arguments, _) = Arguments::parse(OPTIONS, &["--cpu-quota=x".to_owned()], Rest::Mixed).unwrap();
        assert!(from_options(&arguments).unwrap_err().to_string().contains("cpu-quota"));
    }
}
