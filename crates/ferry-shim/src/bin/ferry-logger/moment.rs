//! Times as servers want them, in the host's zone.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Words Unix nanoseconds.
#[derive(Debug)]
pub(crate) struct Clock {
    zone: TimeZone,
}

impl Clock {
    /// In the host's zone.
    pub(crate) fn system() -> Self {
        Self { zone: TimeZone::system() }
    }

    /// `Jan  2 03:04:05`
    pub(crate) fn stamp(&self, time_ns: i64) -> String {
        self.format(time_ns, "%b %e %H:%M:%S")
    }

    /// `2026-01-02T03:04:05+01:00`
    pub(crate) fn rfc3339(&self, time_ns: i64) -> String {
        utc_as_z(self.format(time_ns, "%Y-%m-%dT%H:%M:%S%:z"))
    }

    /// `2026-01-02T03:04:05.678901+01:00`
    pub(crate) fn rfc3339_micro(&self, time_ns: i64) -> String {
        utc_as_z(self.format(time_ns, "%Y-%m-%dT%H:%M:%S.%6f%:z"))
    }

    fn format(&self, time_ns: i64, format: &str) -> String {
        let time = Timestamp::from_nanosecond(time_ns.into()).unwrap_or_default();
        time.to_zoned(self.zone.clone()).strftime(format).to_string()
    }
}

fn utc_as_z(text: String) -> String {
    text.strip_suffix("+00:00").map_or(text.clone(), |rest| format!("{rest}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_worded_as_go_does() {
        let time = 1_767_323_045_678_901_234;
        let utc = Clock { zone: TimeZone::UTC };
        assert_eq!(utc.stamp(time), "Jan  2 03:04:05");
        assert_eq!(utc.rfc3339(time), "2026-01-02T03:04:05Z");
        assert_eq!(utc.rfc3339_micro(time), "2026-01-02T03:04:05.678901Z");
        let east = Clock { zone: TimeZone::fixed(jiff::tz::offset(2)) };
        assert_eq!(east.rfc3339(time), "2026-01-02T05:04:05+02:00");
    }
}
