//! When to try again, and after how long.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use crate::error::{Error, Result};

/// How often and how soon a failed request is made again.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Tries in all.
    pub tries: u32,
    /// Wait after the first failure; doubled after each further one.
    pub first_wait: Duration,
    /// Longest wait that we choose ourselves.
    pub longest_wait: Duration,
    /// Longest wait that a registry may ask for.
    pub longest_asked_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries: 5,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(10),
            longest_asked_wait: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// Returns how long to wait after `failures` failures, or `None` when that was the last try. `contacted` tells whether the
    /// host ever answered: a host that never did is not waited for.
    pub(crate) fn wait(&self, failures: u32, error: &Error, contacted: bool) -> Option<Duration> {
        if failures >= self.tries || !error.may_pass(contacted) {
            return None;
        }
        if let Some(asked) = error.retry_after() {
            return Some(asked.min(self.longest_asked_wait));
        }
        let doubled = self.first_wait.saturating_mul(1 << (failures.saturating_sub(1)).min(16));
        // Jitter keeps many clients that failed together from coming back together.
        Some(doubled.min(self.longest_wait).mul_f64(rand::random_range(0.5..1.5)))
    }

    /// Runs `work` until it succeeds, fails for good or has used up its tries.
    pub(crate) async fn run<T, F: Future<Output = Result<T>>>(
        &self,
        contacted: bool,
        mut work: impl FnMut() -> F,
    ) -> Result<T> {
        let mut failures = 0;
        loop {
            let error = match work().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failures += 1;
            match self.wait(failures, &error, contacted) {
                Some(wait) => {
                    tracing::debug!(%error, failures, wait_ms = wait.as_millis(), "registry request failed, trying again");
                    tokio::time::sleep(wait).await;
                }
                None => return Err(error),
            }
        }
    }
}

/// Reads `Retry-After`, which is a number of seconds or a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (text, seconds) in [
            ("7", Some(7)),
            ("Thu, 01 Jan 2026 00:00:30 GMT", Some(30)),
            ("Wed, 31 Dec 2025 23:00:00 GMT", Some(0)),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
