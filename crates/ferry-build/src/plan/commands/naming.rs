//! Names of vertices, entries of histories, and Go's ways to write values in them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ferry_dockerfile::expand::{Environment, Lexer, Variables};
use ferry_dockerfile::quoted;
use ferry_spec::platform::Platform;

use crate::plan::args::with_os_version;
use crate::plan::stages::Stage;

/// Returns the description of a vertex: the line that it comes from.
pub(super) fn description(line: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("com.docker.dockerfile.v1.command".to_owned(), line.to_owned())])
}

/// Returns a line, its variables resolved, its keyword in capitals.
pub(super) fn shown(line: &str, lexer: &Lexer, variables: &dyn Variables) -> String {
    let text = lexer.text(line, variables).map_or_else(|_| line.to_owned(), |expanded| expanded.text);
    match text.split_once(' ') {
        Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
        None => text.to_uppercase(),
    }
}

impl Stage {
    /// Returns the name of the next step: `[build 2/5] RUN make`.
    pub(super) fn step_name(
        &mut self,
        text: &str,
        platform: Option<&Platform>,
        environment: &Environment,
        is_trigger: bool,
    ) -> String {
        if self.steps == 0 {
            return text.to_owned();
        }
        self.step += 1;
        self.current_step_name(text, platform, environment, is_trigger)
    }

    /// Returns the name of the step that was named last, with another text.
    pub(super) fn current_step_name(
        &self,
        text: &str,
        platform: Option<&Platform>,
        environment: &Environment,
        is_trigger: bool,
    ) -> String {
        if self.steps == 0 {
            return text.to_owned();
        }
        let mut name = "[".to_owned();
        if let Some(platform) = platform {
            let _ = write!(name, "{}{} ", with_os_version(platform), cross_target(platform, environment));
        }
        if !self.name.is_empty() {
            let _ = write!(name, "{} ", self.name);
        }
        let width = self.steps.to_string().len();
        let _ = write!(name, "{:>width$}/{}] ", self.step, self.steps);
        if is_trigger {
            name.push_str("ONBUILD ");
        }
        name + text
    }
}

/// Returns what a stage on one platform makes for another: `->arm64`.
fn cross_target(base: &Platform, environment: &Environment) -> String {
    let Some(target) = target_of(environment, base) else { return String::new() };
    let target = target.normalized();
    if target.os != base.os {
        return format!("->{}", with_os_version(&target));
    }
    if target.architecture == base.architecture {
        return String::new();
    }
    match target.variant.as_deref() {
        None | Some("") => format!("->{}", target.architecture),
        Some(variant) => format!("->{}/{variant}", target.architecture),
    }
}

/// Returns the platform that the variables TARGET… name.
fn target_of(environment: &Environment, base: &Platform) -> Option<Platform> {
    let mut target = base.clone();
    target.variant = None;
    let mut is_set = false;
    for (name, value) in environment.iter() {
        match name {
            "TARGETPLATFORM" => {
                if let Ok(platform) = Platform::parse(value) {
                    return Some(platform);
                }
            }
            "TARGETOS" | "TARGETARCH" | "TARGETVARIANT" => {
                is_set = true;
                match name {
                    "TARGETOS" if !value.is_empty() => value.clone_into(&mut target.os),
                    "TARGETARCH" if !value.is_empty() => value.clone_into(&mut target.architecture),
                    "TARGETVARIANT" => target.variant = Some(value.to_owned()).filter(|value| !value.is_empty()),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    is_set.then_some(target)
}

/// A list as Go's `%v` writes it.
pub(super) fn go_list(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

/// A list as Go's `%q` writes it.
pub(super) fn go_quoted_list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", quoted.join(" "))
}

/// A duration in nanoseconds as Go writes it.
pub(super) fn go_duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    if total == 0 {
        return "0s".to_owned();
    }
    if total < 1_000_000_000 {
        let (unit, size) = match total {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", with_fraction(total, size));
    }
    let seconds = total / 1_000_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = with_fraction(total % 60_000_000_000, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{rest}s"),
        (0, _) => format!("{sign}{minutes}m{rest}s"),
        _ => format!("{sign}{hours}h{minutes}m{rest}s"),
    }
}

fn with_fraction(value: u64, size: u64) -> String {
    let (whole, fraction) = (value / size, value % size);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = size.ilog10() as usize;
    let fraction = format!("{fraction:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// A time in seconds as RFC 3339; `None` when it is beyond all years.
pub(super) fn rfc3339(seconds: i64) -> Option<String> {
    let days = seconds.div_euclid(86_400);
    let time = seconds.rem_euclid(86_400);
    // From days to a date: the civil calendar, counted in eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if !(0..=9999).contains(&year) {
        return None;
    }
    Some(format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", time / 3600, time / 60 % 60, time % 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (1_500_000_000, "1.5s"),
            (300_000_000_000, "5m0s"),
            (3_723_500_000_000, "1h2m3.5s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(nanoseconds), text);
        }
    }

    #[test]
    fn times_are_written_as_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds).as_deref(), Some(text));
        }
        assert_eq!(rfc3339(i64::MAX / 2), None);
    }
}
