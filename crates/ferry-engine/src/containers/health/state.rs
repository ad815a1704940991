//! How healthy a container is: what is kept of it, and what one more result makes of it. Pure.

use ferry_api::container::{Health, HealthSummary, HealthcheckResult};
use serde::{Deserialize, Serialize};

use super::check::Check;
use crate::clock;

/// Results that are kept.
const LOG_KEPT: usize = 5;

/// Health as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HealthRecord {
    pub(crate) status: HealthStatus,
    /// Failures in a row.
    pub(crate) failing_streak: i64,
    /// The last results, the oldest first.
    pub(crate) log: Vec<CheckResult>,
}

/// The words of `State.Health.Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HealthStatus {
    /// No check has succeeded yet, and not enough have failed.
    Starting,
    Healthy,
    Unhealthy,
}

/// One run of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckResult {
    /// Unix time, nanoseconds.
    pub(crate) start_ns: i64,
    /// Unix time, nanoseconds.
    pub(crate) end_ns: i64,
    /// 0 is healthy, -1 is a check that could not be run or not be waited for.
    pub(crate) exit_code: i32,
    /// What it said, bounded.
    pub(crate) output: String,
}

impl HealthStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }

    /// The words in the status column of `ps`.
    pub(crate) fn in_list(self) -> &'static str {
        match self {
            Self::Starting => "health: starting",
            known => known.as_str(),
        }
    }
}

impl HealthRecord {
    /// Health at the beginning of a run: earlier results are still told.
    pub(super) fn anew(earlier: Option<Self>) -> Self {
        let log = earlier.map(|earlier| earlier.log).unwrap_or_default();
        Self { status: HealthStatus::Starting, failing_streak: 0, log }
    }

    /// Takes one more result. `started_ns` is the beginning of the run.
    pub(super) fn take(&mut self, result: CheckResult, check: &Check, started_ns: i64) {
        let failed = result.exit_code != 0;
        let grace = self.status == HealthStatus::Starting && result.start_ns - started_ns < check.start_period_ns;
        if !failed {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if !grace {
            self.failing_streak += 1;
            if self.failing_streak >= check.retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push(result);
        let spare = self.log.len().saturating_sub(LOG_KEPT);
        self.log.drain(..spare);
    }

    /// As `inspect` tells it.
    pub(crate) fn to_api(&self) -> Health {
        let result = |result: &CheckResult| HealthcheckResult {
            start: clock::rfc3339(result.start_ns),
            end: clock::rfc3339(result.end_ns),
            exit_code: i64::from(result.exit_code),
            output: result.output.clone(),
        };
        Health {
            status: self.status.as_str().to_owned(),
            failing_streak: self.failing_streak,
            log: Some(self.log.iter().map(result).collect()),
        }
    }
}

/// As lists tell it, of containers without a check too.
pub(crate) fn summary(health: Option<&HealthRecord>) -> HealthSummary {
    HealthSummary {
        status: health.map_or("none", |health| health.status.as_str()).to_owned(),
        failing_streak: health.map_or(0, |health| health.failing_streak),
    }
}

#[cfg(test)]
mod tests {
    use ferry_api::container::HealthConfig;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn check(start_period_s: i64) -> Check {
        let config = HealthConfig {
            test: vec!["CMD".into(), "true".into()],
            retries: 2,
            start_period: start_period_s * SECOND,
            ..HealthConfig::default()
        };
        Check::of(&config).unwrap()
    }

    fn result(at_s: i64, exit_code: i32) -> CheckResult {
        CheckResult { start_ns: at_s * SECOND, end_ns: at_s * SECOND, exit_code, output: String::new() }
    }

    fn after(check: &Check, results: &[(i64, i32)]) -> (HealthStatus, i64) {
        let mut health = HealthRecord::anew(None);
        for (at_s, code) in results {
            health.take(result(*at_s, *code), check, 0);
        }
        (health.status, health.failing_streak)
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        use HealthStatus::{Healthy, Starting, Unhealthy};
        let check = check(0);
        assert_eq!(after(&check, &[]), (Starting, 0));
        assert_eq!(after(&check, &[(1, 1)]), (Starting, 1));
        assert_eq!(after(&check, &[(1, 1), (2, -1)]), (Unhealthy, 2));
        assert_eq!(after(&check, &[(1, 0), (2, 7)]), (Healthy, 1));
        assert_eq!(after(&check, &[(1, 1), (2, 0), (3, 1)]), (Healthy, 1));
        assert_eq!(after(&check, &[(1, 1), (2, 1), (3, 1), (4, 0)]), (Healthy, 0));
    }

    #[test]
    fn failures_in_the_start_period_do_not_count_until_it_was_healthy() {
        use HealthStatus::{Healthy, Starting, Unhealthy};
        let check = check(10);
        assert_eq!(after(&check, &[(1, 1), (2, 1), (9, 1)]), (Starting, 0));
        assert_eq!(after(&check, &[(1, 1), (10, 1), (11, 1)]), (Unhealthy, 2));
        assert_eq!(after(&check, &[(1, 0), (2, 1)]), (Healthy, 1), "once healthy, it counts");
    }

    #[test]
    fn five_results_are_kept_over_runs() {
        let check = check(0);
        let mut health = HealthRecord::anew(None);
        for at_s in 0..7 {
            health.take(result(at_s, 1), &check, 0);
        }
        let starts: Vec<i64> = health.log.iter().map(|result| result.start_ns / SECOND).collect();
        assert_eq!(starts, [2, 3, 4, 5, 6]);
        let again = HealthRecord::anew(Some(health));
        assert_eq!((again.status, again.failing_streak, again.log.len()), (HealthStatus::Starting, 0, 5));
    }

    #[test]
    fn lists_tell_of_containers_without_a_check() {
        assert_eq!(summary(None).status, "none");
        assert_eq!(summary(Some(&HealthRecord::anew(None))).status, "starting");
        assert_eq!(HealthStatus::Starting.in_list(), "health: starting");
        assert_eq!(HealthStatus::Unhealthy.in_list(), "unhealthy");
    }
}
