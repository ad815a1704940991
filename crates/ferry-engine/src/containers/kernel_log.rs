//! The kernel's own words about processes that a memory limit killed.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use super::ending::OomKill;

/// One record of `/dev/kmsg` is never longer.
const RECORD_BYTES: usize = 8192;
/// More than the ring buffer of any usual kernel holds; a guard against one that never ends.
const MOST_RECORDS: usize = 200_000;

/// Processes of `cgroup` that were killed since `since_us` (microseconds since boot), by the kernel's log. Nothing where it may not be read.
pub(super) fn oom_kills(cgroup: &str, since_us: u64) -> Vec<OomKill> {
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open("/dev/kmsg");
    let Ok(mut log) = opened else { return Vec::new() };
    let mut found = Vec::new();
    let mut record = vec![0; RECORD_BYTES];
    for _ in 0..MOST_RECORDS {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(count) => found.extend(oom_kill(&String::from_utf8_lossy(&record[..count]), cgroup, since_us)),
            // A record was overwritten before it could be read: the next one is there.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(_) => break,
        }
    }
    found
}

/// Reads one record: `6,1234,98765,-;oom-kill:constraint=CONSTRAINT_MEMCG,...,task_memcg=/ferry-x/id,task=python,pid=42,uid=0`.
fn oom_kill(record: &str, cgroup: &str, since_us: u64) -> Option<OomKill> {
    let (head, text) = record.split_once(';')?;
    let time_us: u64 = head.split(',').nth(2)?.parse().ok()?;
    let fields = text.lines().next()?.strip_prefix("oom-kill:")?;
    if time_us < since_us {
        return None;
    }
    let (_, after) = fields.split_once(",task_memcg=")?;
    // The name of a program may hold commas: it lies between two keys that are the kernel's.
    let (memcg, after) = after.split_once(",task=")?;
    let (name, numbers) = after.rsplit_once(",pid=")?;
    let below = memcg.strip_prefix(cgroup)?;
    if !below.is_empty() && !below.starts_with('/') {
        return None;
    }
    let pid = numbers.split(',').next()?.trim().parse().ok()?;
    Some(OomKill { pid, name: name.to_owned() })
}

/// Microseconds since boot, on the clock of the kernel's log.
pub(super) fn uptime_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(now.tv_nsec / 1_000).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_tells_the_victim() {
        let line = "6,1234,98765,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=id,mems_allowed=0,oom_memcg=/ferry-x/id,\
                    task_memcg=/ferry-x/id,task=odd,pid=7 name,pid=42,uid=0\n";
        let victim = OomKill { pid: 42, name: "odd,pid=7 name".into() };
        assert_eq!(oom_kill(line, "/ferry-x/id", 0), Some(victim.clone()));
        assert_eq!(oom_kill(line, "/ferry-x/id", 98_766), None, "an earlier run");
        assert_eq!(oom_kill(line, "/ferry-x/i", 0), None, "another container");
        assert_eq!(oom_kill("6,1,2,-;something else\n", "/ferry-x/id", 0), None);
        let below = line.replace("task_memcg=/ferry-x/id", "task_memcg=/ferry-x/id/inner");
        assert_eq!(oom_kill(&below, "/ferry-x/id", 0), Some(victim));
    }
}
