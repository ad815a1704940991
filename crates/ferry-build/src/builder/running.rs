//! The builds that go on, by the ids that clients gave them. Several may have one: whoever cancels it ends them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

type Tasks = HashMap<String, Vec<AbortHandle>>;

/// See the module; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Running(Arc<Mutex<Tasks>>);

impl Running {
    /// Enters a build, as long as what is returned is kept; none for a build without an id.
    pub(super) fn enter(&self, id: String, task: AbortHandle) -> Option<Entry> {
        if id.is_empty() {
            return None;
        }
        self.tasks().entry(id.clone()).or_default().push(task.clone());
        Some(Entry { running: self.clone(), id, task })
    }

    /// Ends the builds of an id; tells whether there was one.
    pub(super) fn cancel(&self, id: &str) -> bool {
        let tasks = self.tasks().remove(id).unwrap_or_default();
        tasks.iter().for_each(AbortHandle::abort);
        !tasks.is_empty()
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One build among those that go on.
pub(crate) struct Entry {
    running: Running,
    id: String,
    task: AbortHandle,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut tasks = self.running.tasks();
        let Some(of_id) = tasks.get_mut(&self.id) else { return };
        of_id.retain(|task| task.id() != self.task.id());
        if of_id.is_empty() {
            tasks.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn builds_of_one_id_are_told_apart() {
        let running = Running::default();
        let begin = |id: &str| {
            let task = tokio::spawn(std::future::pending::<()>());
            (running.enter(id.to_owned(), task.abort_handle()), task)
        };
        assert!(begin("").0.is_none());
        let [(one, first), (two, second), (_three, third)] = ["a", "a", "b"].map(begin);
        drop(one);
        assert!(running.cancel("a"), "the other one is still there");
        assert!(second.await.unwrap_err().is_cancelled());
        assert!(!first.is_finished() && !third.is_finished());
        assert!(!running.cancel("a"));
        // One that begins between the two has nothing to do with either.
        let (_next, next) = begin("a");
        drop(two);
        assert!(running.cancel("a"));
        assert!(next.await.unwrap_err().is_cancelled());
        assert!(running.cancel("b"));
        assert!(third.await.unwrap_err().is_cancelled());
        first.abort();
    }
}
