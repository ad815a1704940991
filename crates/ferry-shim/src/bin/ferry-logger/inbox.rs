//! Lines between the thread that reads and the one that delivers.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// What happens when the server does not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The reader waits while more bytes than this wait.
    HoldUpBeyond(usize),
    /// New lines are dropped while that many wait.
    DropBeyond(u64),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Inbox {
    limit: Limit,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that the deliverer is done with, one way or another.
    delivered: u64,
    taken: u64,
    dropped: u64,
    closed: bool,
}

impl Inbox {
    pub(crate) fn new(limit: Limit) -> Self {
        Self { limit, state: Mutex::default(), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// Adds a line, or drops it, or waits until it can be added.
    pub(crate) fn push(&self, line: Vec<u8>) {
        let mut state = self.state();
        match self.limit {
            Limit::DropBeyond(limit) if state.lines.len() as u64 >= limit => {
                state.dropped += 1;
                return;
            }
            Limit::DropBeyond(_) => {}
            Limit::HoldUpBeyond(limit) => {
                state = self.changed.wait_while(state, |state| state.bytes > limit).expect("no panic while held");
            }
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        self.changed.notify_all();
    }

    /// No more will come.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// The next line, and how many were dropped before it; `None` at the end. The line before it counts as delivered.
    pub(crate) fn next(&self) -> Option<(Vec<u8>, u64)> {
        let mut state = self.state();
        state.delivered = state.taken;
        self.changed.notify_all();
        state = self
            .changed
            .wait_while(state, |state| state.lines.is_empty() && !state.closed)
            .expect("no panic while held");
        let line = state.lines.pop_front()?;
        state.bytes -= line.len();
        state.taken += 1;
        self.changed.notify_all();
        Some((line, std::mem::take(&mut state.dropped)))
    }

    /// Lines that are done with.
    pub(crate) fn delivered(&self) -> u64 {
        self.state().delivered
    }

    /// Waits until more than `delivered` lines are done with, for so long at most; `None` when nothing is left or nothing moved.
    pub(crate) fn wait_for_progress(&self, delivered: u64, patience: Duration) -> Option<u64> {
        let is_over = |state: &State| state.lines.is_empty() && state.delivered == state.taken;
        let (state, _) = self
            .changed
            .wait_timeout_while(self.state(), patience, |state| !is_over(state) && state.delivered == delivered)
            .expect("no panic while held");
        (!is_over(&state) && state.delivered > delivered).then_some(state.delivered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_by_dropping() {
        let inbox = Inbox::new(Limit::DropBeyond(2));
        for number in 0..5 {
            inbox.push(vec![number]);
        }
        inbox.close();
        assert_eq!(inbox.next(), Some((vec![0], 3)));
        assert_eq!(inbox.next(), Some((vec![1], 0)));
        assert_eq!(inbox.next(), None);
        assert_eq!(inbox.delivered(), 2);
    }

    #[test]
    fn a_full_inbox_holds_the_reader_up() {
        let inbox = Inbox::new(Limit::HoldUpBeyond(3));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..100 {
                    inbox.push(vec![number; 4]);
                }
                inbox.close();
            });
            for number in 0..100 {
                assert_eq!(inbox.next(), Some((vec![number; 4], 0)));
                assert!(inbox.state().bytes <= 3 + 4);
            }
            assert_eq!(inbox.next(), None);
        });
    }

    #[test]
    fn the_wait_for_the_rest_ends_when_nothing_moves() {
        let inbox = Inbox::new(Limit::HoldUpBeyond(100));
        inbox.push(vec![1]);
        inbox.close();
        assert_eq!(inbox.wait_for_progress(0, Duration::from_millis(1)), None, "nobody delivers");
        let _ = inbox.next();
        assert_eq!(inbox.wait_for_progress(0, Duration::from_millis(1)), None, "it is not done with");
        let _ = inbox.next();
        assert_eq!(inbox.wait_for_progress(0, Duration::from_secs(60)), None, "all is done");
    }
}
