//! What is done to a container that exists: start, state, kill, delete, list, pause, resume.

use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ferry_runtime::cgroup::Cgroup;
use ferry_runtime::hooks::{self, Moment};
use ferry_runtime::{Error, ErrorKind, systemd};
use ferry_spec::runtime::State;

use super::arguments::{Arguments, Option as Flag, Rest, only};
use super::store::{Record, START_SOCKET, Store};
use super::{failed, invalid, print};

pub(crate) fn start(store: &Store, line: &[String]) -> Result<ExitCode, Error> {
    let (_, words) = Arguments::parse(&[], line, Rest::Mixed)?;
    let record = store.load(only(&words)?)?;
    match store.status(&record)? {
        "created" => {}
        "stopped" => return Err(Error::new(ErrorKind::NotRunning, "cannot start a container that has stopped")),
        _ => return Err(invalid("cannot start an already running container")),
    }
    let folder = store.open(&record.id)?;
    let socket = ferry_sys::socket::connect_at(folder.as_fd(), START_SOCKET)
        .map_err(|error| failed("reach the container's process", &error))?;
    // The end of the stream is the exec.
    let mut byte = [0u8; 1];
    ferry_sys::socket::receive(&socket, &mut byte, &mut Vec::new())
        .map_err(|error| failed("wait for the container's process", &error))?;
    store.mark_started(&record.id)?;
    poststart(store, &record)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the hooks that come after the start; the container does not outlive their failure.
pub(crate) fn poststart(store: &Store, record: &Record) -> Result<(), Error> {
    let Some(spec) = &record.spec.hooks else { return Ok(()) };
    let state = State { status: "running".into(), pid: record.pid as i32, ..store.state(record)? };
    hooks::run(spec, Moment::Poststart, &state).inspect_err(|_| {
        // The hook's failure is the one to tell.
        let _ = Cgroup::open(&record.cgroup).and_then(|cgroup| cgroup.signal_all(libc::SIGKILL));
    })
}

/// Runs the hooks that come after the end. They cannot stop it any more, so what goes wrong is said and no more.
pub(crate) fn poststop(record: &Record) {
    let Some(spec) = &record.spec.hooks else { return };
    let state = State {
        oci_version: ferry_spec::runtime::OCI_VERSION.into(),
        id: record.id.clone(),
        status: "stopped".into(),
        pid: 0,
        bundle: record.bundle.display().to_string(),
        annotations: record.spec.annotations.clone(),
    };
    for error in hooks::run_each(spec, Moment::Poststop, &state) {
        super::warn(&error.to_string());
    }
}

pub(crate) fn state(store: &Store, line: &[String]) -> Result<ExitCode, Error> {
    let (_, words) = Arguments::parse(&[], line, Rest::Mixed)?;
    let record = store.load(only(&words)?)?;
    let mut state = serde_json::to_value(store.state(&record)?).map_err(|error| failed("word the state", &error))?;
    if let Some(fields) = state.as_object_mut() {
        let rootfs = record.spec.root.as_ref().map(|root| record.bundle.join(&root.path).display().to_string());
        fields.insert("rootfs".into(), rootfs.into());
        fields.insert("created".into(), rfc3339(record.created).into());
    }
    let text = serde_json::to_string_pretty(&state).map_err(|error| failed("word the state", &error))?;
    print(&(text + "\n")).map(|()| ExitCode::SUCCESS)
}

pub(crate) fn kill(store: &Store, line: &[String]) -> Result<ExitCode, Error> {
    let known = [Flag::switch("all").short('a')];
    let (arguments, words) = Arguments::parse(&known, line, Rest::Mixed)?;
    let (id, signal) = match words.as_slice() {
        [id] => (id, libc::SIGTERM),
        [id, signal] => (id, signal_number(signal)?),
        _ => return Err(invalid("kill needs a container id and at most one signal")),
    };
    let record = store.load(id)?;
    if arguments.has("all") {
        Cgroup::open(&record.cgroup)?.signal_all(signal)?;
        return Ok(ExitCode::SUCCESS);
    }
    if store.status(&record)? == "stopped" {
        return Err(Error::new(ErrorKind::NotRunning, "container not running"));
    }
    ferry_sys::process::kill(record.pid, signal).map_err(|error| failed("send the signal", &error))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn delete(store: &Store, line: &[String]) -> Result<ExitCode, Error> {
    let known = [Flag::switch("force").short('f')];
    let (arguments, words) = Arguments::parse(&known, line, Rest::Mixed)?;
    let force = arguments.has("force");
    let id = only(&words)?;
    let record = match store.load(id) {
        Err(error) if force && error.kind() == ErrorKind::NotRunning => {
            store.remove(id)?;
            return Ok(ExitCode::SUCCESS);
        }
        other => other?,
    };
    let cgroup = Cgroup::open(&record.cgroup)?;
    match store.status(&record)? {
        "stopped" => {}
        // Nobody would miss a program that has not begun.
        "created" => end(store, &record, &cgroup)?,
        _ if force => end(store, &record, &cgroup)?,
        status => return Err(invalid(format!("cannot delete container {id} that is not stopped: {status}"))),
    }
    remove(store, &record)?;
    Ok(ExitCode::SUCCESS)
}

/// Takes away what is left of a container whose process has ended.
pub(crate) fn remove(store: &Store, record: &Record) -> Result<(), Error> {
    let cgroup = Cgroup::open(&record.cgroup)?;
    cgroup.signal_all(libc::SIGKILL)?;
    if let Some(unit) = &record.systemd_unit {
        systemd::stop(unit, systemd::PATIENCE)?;
    }
    cgroup.remove()?;
    store.remove(&record.id)?;
    poststop(record);
    Ok(())
}

fn end(store: &Store, record: &Record, cgroup: &Cgroup) -> Result<(), Error> {
    cgroup.signal_all(libc::SIGKILL)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while store.status(record)? != "stopped" {
        if Instant::now() > deadline {
            return Err(failed(
                &format!("end container {}", record.id),
                &std::io::Error::from(std::io::ErrorKind::TimedOut),
            ));
        }
        // Not our child, so there is nothing to wait on but its state.
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

pub(crate) fn list(store: &Store, line: &[String]) -> Result<ExitCode, Error> {
    let known = [Flag::value("format").short('f'), Flag::switch("quiet").short('q')];
    let (arguments, words) = Arguments::parse(&known, line, Rest::Mixed)?;
    if !words.is_empty() {
        return Err(invalid(format!("unexpected arguments: {}", words.join(" "))));
    }
    let records = store.all()?;
    if arguments.has("quiet") {
        return print(&records.iter().map(|record| format!("{}\n", record.id)).collect::<String>())
            .map(|()| ExitCode::SUCCESS);
    }
    let states = records.iter().map(|record| Ok((record, store.state(record)?))).collect::<Result<Vec<_>, Error>>()?;
    let text = match arguments.get("format").unwrap_or("table") {
        "json" => {
            let states: Vec<_> = states
                .iter()
                .map(|(record, state)| {
                    serde_json::json!({"ociVersion": state.oci_version, "id": state.id, "pid": state.pid, "status": state.status,
                        "bundle": state.bundle, "created": rfc3339(record.created), "annotations": state.annotations, "owner": "root"})
                })
                .collect();
            format!("{}\n", serde_json::Value::from(states))
        }
        "table" => {
            let width = states.iter().map(|(record, _)| record.id.len()).max().unwrap_or(0).max(2);
            let row = |id: &str, pid: &str, status: &str, bundle: &str, created: &str| {
                format!("{id:<width$}  {pid:<10}  {status:<8}  {bundle}  {created}\n")
            };
            let mut table = row("ID", "PID", "STATUS", "BUNDLE", "CREATED");
            for (record, state) in &states {
                table +=
                    &row(&state.id, &state.pid.to_string(), &state.status, &state.bundle, &rfc3339(record.created));
            }
            table
        }
        other => return Err(invalid(format!("invalid format {other:?}, must be table or json"))),
    };
    print(&text).map(|()| ExitCode::SUCCESS)
}

pub(crate) fn pause(store: &Store, line: &[String]) -> Result<ExitCode, Error> {
    let (_, words) = Arguments::parse(&[], line, Rest::Mixed)?;
    let record = store.load(only(&words)?)?;
    match store.status(&record)? {
        "running" | "created" => Cgroup::open(&record.cgroup)?.freeze().map(|()| ExitCode::SUCCESS),
        status => Err(invalid(format!("cannot pause a container that is {status}"))),
    }
}

pub(crate) fn resume(store: &Store, line: &[String]) -> Result<ExitCode, Error> {
    let (_, words) = Arguments::parse(&[], line, Rest::Mixed)?;
    let record = store.load(only(&words)?)?;
    match store.status(&record)? {
        "paused" => Cgroup::open(&record.cgroup)?.thaw().map(|()| ExitCode::SUCCESS),
        _ => Err(invalid("container not paused")),
    }
}

/// Reads a signal by number or name, with or without `SIG`.
fn signal_number(text: &str) -> Result<i32, Error> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    let unknown = || invalid(format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(position) = NAMES.iter().position(|known| *known == name) {
        return Ok(position as i32 + 1);
    }
    let real_time = |prefix: &str, base: i32, sign: i32| -> Option<i32> {
        let rest = name.strip_prefix(prefix)?;
        let offset: i32 = if rest.is_empty() { 0 } else { rest.trim_start_matches(['+', '-']).parse().ok()? };
        Some(base + sign * offset).filter(|number| (34..=64).contains(number))
    };
    real_time("RTMIN", 34, 1).or_else(|| real_time("RTMAX", 64, -1)).ok_or_else(unknown)
}

/// The time, for logs.
pub(crate) fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    rfc3339(since.map_or(0, |since| since.as_secs()))
}

/// A time as engines read it.
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // The civil calendar from days since 1970, counted in eras of 400 years from the first of March of year 0.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_many_names() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("SYS", 31),
            ("RTMIN+1", 35),
            ("SIGRTMAX-2", 62),
            ("0", 0),
        ] {
            assert_eq!(signal_number(text).unwrap(), number, "{text}");
        }
        for text in ["", "SIG", "65", "-1", "RTMIN+40", "FOO"] {
            assert!(signal_number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_civil() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_795_263_727), "2026-11-21T12:22:07Z");
    }
}
