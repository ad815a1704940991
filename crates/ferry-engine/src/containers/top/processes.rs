//! Lists processes out of `/proc` as `ps -ef` and `ps aux` do, for hosts that have no `ps`.

use std::collections::BTreeMap;
use std::fs;

use ferry_api::container::TopResponse;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::error::{Error, Result};

/// The kernel's unit of times in `/proc`, on every architecture that ferry runs on.
const TICKS_PER_SECOND: u64 = 100;

type Column = (&'static str, fn(&Process, &Machine) -> String);

const FULL: [Column; 8] = [
    ("UID", |process, machine| machine.user(process.uid)),
    ("PID", |process, _| process.pid.to_string()),
    ("PPID", |process, _| process.parent.to_string()),
    ("C", |process, machine| process.permille(machine).div_euclid(10).to_string()),
    ("STIME", |process, machine| process.started(machine)),
    ("TTY", |process, _| terminal(process.terminal)),
    ("TIME", |process, _| long_time(process.ticks / TICKS_PER_SECOND)),
    ("CMD", |process, _| process.command.clone()),
];

const BSD: [Column; 11] = [
    ("USER", |process, machine| machine.user(process.uid)),
    ("PID", |process, _| process.pid.to_string()),
    ("%CPU", |process, machine| tenths(process.permille(machine))),
    ("%MEM", |process, machine| tenths(process.resident_kib * 1000 / machine.memory_kib.max(1))),
    ("VSZ", |process, _| process.virtual_kib.to_string()),
    ("RSS", |process, _| process.resident_kib.to_string()),
    ("TTY", |process, _| terminal(process.terminal)),
    ("STAT", |process, _| process.state.clone()),
    ("START", |process, machine| process.started(machine)),
    ("TIME", |process, _| short_time(process.ticks / TICKS_PER_SECOND)),
    ("COMMAND", |process, _| process.command.clone()),
];

/// One row. Times are in ticks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    uid: u32,
    state: String,
    terminal: u32,
    ticks: u64,
    /// Since boot.
    start: u64,
    virtual_kib: u64,
    resident_kib: u64,
    command: String,
}

/// What rows are reckoned against.
struct Machine {
    /// Names by number.
    users: BTreeMap<u32, String>,
    /// Unix seconds.
    booted: i64,
    now: i64,
    memory_kib: u64,
    zone: TimeZone,
}

/// Lists the processes that are still there.
///
/// # Errors
/// Internal, in the words of a shell, for options that need a real `ps`.
pub(super) fn list(words: &[String], pids: &[u32]) -> Result<TopResponse> {
    let columns = columns(words)?;
    let machine = Machine::here();
    let processes: Vec<Vec<String>> = pids
        .iter()
        .filter_map(|pid| Process::read(*pid))
        .map(|process| columns.iter().map(|(_, value)| value(&process, &machine)).collect())
        .collect();
    let titles = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
    Ok(TopResponse { processes: Some(processes), titles: Some(titles) })
}

fn columns(words: &[String]) -> Result<&'static [Column]> {
    let joined: String = words.iter().map(|word| word.trim_start_matches('-')).collect();
    let all = |letters: &str| joined.chars().all(|letter| letters.contains(letter));
    if joined.contains('f') && all("eAf") {
        return Ok(&FULL);
    }
    if joined.contains('u') && all("auxw") {
        return Ok(&BSD);
    }
    Err(Error::internal(format!(
        "exec: \"ps\": executable file not found in $PATH; without it only `-ef` and `aux` can be had, not `{}`",
        words.join(" ")
    )))
}

impl Machine {
    fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key).map(str::to_owned));
            line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<i64>().ok()).unwrap_or(0)
        };
        Self {
            users: users(&read("/etc/passwd")),
            booted: after(&read("/proc/stat"), "btime "),
            now: Timestamp::now().as_second(),
            memory_kib: after(&read("/proc/meminfo"), "MemTotal:").unsigned_abs(),
            zone: TimeZone::system(),
        }
    }

    /// Long names lose their end, as in `ps`.
    fn user(&self, uid: u32) -> String {
        match self.users.get(&uid) {
            Some(name) if name.chars().count() > 8 => format!("{}+", name.chars().take(7).collect::<String>()),
            Some(name) => name.clone(),
            None => uid.to_string(),
        }
    }
}

fn users(passwd: &str) -> BTreeMap<u32, String> {
    let mut users = BTreeMap::new();
    for line in passwd.lines() {
        let mut parts = line.split(':');
        if let (Some(name), Some(uid)) = (parts.next(), parts.nth(1).and_then(|uid| uid.parse().ok())) {
            users.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    users
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).ok();
        let (stat, status, command) = (read("stat")?, read("status")?, read("cmdline")?);
        Self::parse(&String::from_utf8_lossy(&stat), &String::from_utf8_lossy(&status), &command)
    }

    fn parse(stat: &str, status: &str, command: &[u8]) -> Option<Self> {
        let (pid, rest) = stat.split_once(" (")?;
        // The name may hold anything, parentheses too.
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let small = |at: usize| number(at).and_then(|value| u32::try_from(value).ok());
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let line = words.join(" ");
        Some(Self {
            pid: pid.parse().ok()?,
            parent: small(1)?,
            uid: u32::try_from(kib("Uid:")?).ok()?,
            state: (*fields.first()?).to_owned(),
            terminal: small(4).unwrap_or(0),
            ticks: number(11)?.saturating_add(number(12)?),
            start: number(19)?,
            virtual_kib: kib("VmSize:").unwrap_or(0),
            resident_kib: kib("VmRSS:").unwrap_or(0),
            command: if line.trim().is_empty() { format!("[{name}]") } else { line.trim_end().to_owned() },
        })
    }

    fn started_at(&self, machine: &Machine) -> i64 {
        machine.booted.saturating_add(i64::try_from(self.start / TICKS_PER_SECOND).unwrap_or(0))
    }

    /// Thousandths of a processor over its whole life.
    fn permille(&self, machine: &Machine) -> u64 {
        let alive = machine.now.saturating_sub(self.started_at(machine)).max(1).unsigned_abs();
        self.ticks * 1000 / TICKS_PER_SECOND / alive
    }

    /// The time of day; a day of the year for what is older, and its year for what is older still.
    fn started(&self, machine: &Machine) -> String {
        let zoned = |seconds: i64| Timestamp::from_second(seconds).ok().map(|time| time.to_zoned(machine.zone.clone()));
        let (Some(start), Some(now)) = (zoned(self.started_at(machine)), zoned(machine.now)) else {
            return "?".to_owned();
        };
        let format = match () {
            () if start.date() == now.date() => "%H:%M",
            () if start.year() == now.year() => "%b%d",
            () => "%Y",
        };
        start.strftime(format).to_string()
    }
}

/// Device numbers of terminals.
fn terminal(number: u32) -> String {
    let major = (number >> 8) & 0xfff;
    let minor = (number & 0xff) | ((number >> 12) & 0xfff00);
    match major {
        0 => "?".to_owned(),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        5 => "console".to_owned(),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => "?".to_owned(),
    }
}

fn tenths(permille: u64) -> String {
    format!("{}.{}", permille / 10, permille % 10)
}

fn long_time(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let clock = format!("{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    if days > 0 { format!("{days}-{clock}") } else { clock }
}

fn short_time(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            users: users("root:x:0:0::/:/bin/sh\nsystemd-resolve:x:101:1::/:/x\nother:x:0:0::/:/bin/sh\nbad\n"),
            booted: 1_700_000_000,
            now: 1_700_001_000,
            memory_kib: 1000,
            zone: TimeZone::UTC,
        }
    }

    fn process() -> Process {
        let stat = "42 (a) b) S 7 42 42 34816 42 0 0 0 0 0 150 50 0 0 20 0 1 0 50000 1 2 3";
        let status = "Name:\ta\nUid:\t101\t0\t0\t0\nVmSize:\t  2048 kB\nVmRSS:\t   100 kB\n";
        Process::parse(stat, status, b"sleep\x0010\0").unwrap()
    }

    fn row(columns: &[Column]) -> String {
        columns.iter().map(|(_, value)| value(&process(), &machine())).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn rows_are_those_of_ps() {
        assert_eq!(row(&FULL), "systemd+ 42 7 0 22:21 pts/0 00:00:02 sleep 10");
        assert_eq!(row(&BSD), "systemd+ 42 0.4 10.0 2048 100 pts/0 S 22:21 0:02 sleep 10");
        assert_eq!((machine().user(0), machine().user(9)), ("root".to_owned(), "9".to_owned()));
    }

    #[test]
    fn options_that_need_a_real_ps_are_refused() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (text, title) in [("-ef", "UID"), ("-e -f", "UID"), ("aux", "USER"), ("-aux", "USER"), ("auxww", "USER")] {
            assert_eq!(columns(&words(text)).unwrap()[0].0, title, "{text}");
        }
        assert!(columns(&words("-o pid")).unwrap_err().text().contains("not `-o pid`"));
    }

    #[test]
    fn own_processes_are_found() {
        let list = list(&["-ef".to_owned()], &[std::process::id(), u32::MAX]).unwrap();
        assert_eq!(list.processes.unwrap().len(), 1);
    }

    #[test]
    fn terminals_and_times_are_worded() {
        for (number, name) in [(0, "?"), (0x8800, "pts/0"), (0x8901, "pts/257"), (0x401, "tty1"), (0x440, "ttyS0")] {
            assert_eq!(terminal(number), name);
        }
        assert_eq!((long_time(93_784), short_time(3725)), ("1-02:03:04".to_owned(), "62:05".to_owned()));
    }
}
