//! Several engines of one kind that share the work: every case needs an engine of its own for as
//! long as it lasts, since it looks at everything there is, but not always the same one.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Says how many engines work side by side, instead of the number that fits the machine.
pub const WORKERS: &str = "FERRY_TEST_WORKERS";

/// What came of one piece of work, and how long it took.
#[derive(Clone, Debug)]
pub struct Done<T> {
    /// What the action returned.
    pub value: T,
    /// How long it took.
    pub took: Duration,
}

/// Starts the engines for `pieces` pieces of work, side by side.
///
/// # Errors
/// When one of them does not come up.
pub fn start<E: Send>(pieces: usize, start: impl Fn() -> Result<E> + Sync) -> Result<Vec<E>> {
    // Most of a case is waiting, for a process or a clock: two engines a processor keep it busy.
    let fitting = 2 * std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let asked = std::env::var(WORKERS).ok().and_then(|number| number.parse().ok());
    let number = asked.unwrap_or(fitting).min(pieces.div_ceil(4)).max(1);
    std::thread::scope(|scope| {
        let starting: Vec<_> = (0..number).map(|_| scope.spawn(&start)).collect();
        starting.into_iter().map(|thread| thread.join().expect("starting an engine does not panic")).collect()
    })
}

/// Calls `action` for every item on whichever engine is free; the results are in the order of the items.
///
/// # Panics
/// When `action` does.
pub fn run<E: Sync, I: Sync, T: Send>(engines: &[E], items: &[I], action: impl Fn(&E, &I) -> T + Sync) -> Vec<Done<T>> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Done<T>>>> = Mutex::new(items.iter().map(|_| None).collect());
    let work = |engine: &E| {
        while let Some((index, item)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, items.get(at)?)))
        {
            let begin = Instant::now();
            let value = action(engine, item);
            results.lock().expect("no holder panics")[index] = Some(Done { value, took: begin.elapsed() });
        }
    };
    std::thread::scope(|scope| {
        for engine in engines {
            scope.spawn(|| work(engine));
        }
    });
    let results = results.into_inner().expect("no holder panics");
    results.into_iter().map(|result| result.expect("every item was worked on")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<u64> = (0..50).collect();
        let done = run(&[1, 2, 3], &items, |_, item| item * 2);
        assert!(done.iter().zip(&items).all(|(done, item)| done.value == item * 2));
    }
}
