//! Waiting for a condition, up to a deadline, without fixed sleeps between a cause and its check.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Calls `condition` until it gives a value, at most for `limit`.
///
/// # Errors
/// Names `what` when the deadline passes.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_names_what_did_not_happen() {
        let error = until::<()>("a blue moon", Duration::from_millis(20), || None).unwrap_err();
        assert!(error.to_string().contains("a blue moon"), "{error}");
    }

    #[test]
    fn until_gives_the_value() {
        let mut calls = 0;
        let value = until("three", Duration::from_secs(5), || {
            calls += 1;
            (calls == 3).then_some(calls)
        });
        assert_eq!(value.unwrap(), 3);
    }
}
