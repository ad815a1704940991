//! The table of execs.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use ferry_api::exec::CreateRequest;

use crate::error::{Error, Result};
use crate::ids;

/// Ended execs that are kept for `inspect`, over all containers; the oldest go first.
const ENDED_KEPT: usize = 1024;

/// One exec.
#[derive(Debug, Clone)]
pub(crate) struct ExecEntry {
    pub(crate) id: String,
    pub(crate) container_id: String,
    pub(crate) request: CreateRequest,
    pub(crate) state: ExecState,
    age: u64,
}

/// Where an exec stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExecState {
    Created,
    Starting,
    Running { pid: u32 },
    Ended { code: i32, pid: u32 },
}

impl ExecEntry {
    pub(crate) fn new(id: &str, container_id: &str, request: CreateRequest) -> Self {
        Self { id: id.to_owned(), container_id: container_id.to_owned(), request, state: ExecState::Created, age: 0 }
    }
}

/// Every exec that is known.
#[derive(Debug, Default)]
pub(crate) struct ExecTable {
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    by_id: HashMap<String, ExecEntry>,
    next_age: u64,
}

impl ExecTable {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().expect("no panic while held")
    }

    pub(crate) fn insert(&self, mut entry: ExecEntry) {
        let mut rows = self.rows();
        rows.next_age += 1;
        entry.age = rows.next_age;
        rows.forget_oldest_ended();
        rows.by_id.insert(entry.id.clone(), entry);
    }

    /// By id or a beginning that only one has.
    pub(crate) fn get(&self, id: &str) -> Result<ExecEntry> {
        let rows = self.rows();
        if let Some(entry) = rows.by_id.get(id) {
            return Ok(entry.clone());
        }
        let not_found = || Error::not_found(format!("No such exec instance: {id}"));
        if !ids::is_id_prefix(id) {
            return Err(not_found());
        }
        let mut matching = rows.by_id.values().filter(|entry| entry.id.starts_with(id));
        match (matching.next(), matching.next()) {
            (Some(entry), None) => Ok(entry.clone()),
            _ => Err(not_found()),
        }
    }

    /// An exec runs once.
    pub(crate) fn begin(&self, id: &str) -> Result<()> {
        let entry_id = self.get(id)?.id;
        let mut rows = self.rows();
        let entry =
            rows.by_id.get_mut(&entry_id).ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))?;
        match entry.state {
            ExecState::Created => entry.state = ExecState::Starting,
            ExecState::Starting | ExecState::Running { .. } => {
                return Err(Error::conflict(format!("exec command {entry_id} is already running")));
            }
            ExecState::Ended { .. } => return Err(Error::conflict(format!("exec command {entry_id} has already run"))),
        }
        Ok(())
    }

    /// The shim has started it; the news of its end may have been quicker.
    pub(crate) fn running(&self, id: &str, pid: u32) {
        if let Some(entry) = self.rows().by_id.get_mut(id) {
            match &mut entry.state {
                ExecState::Starting => entry.state = ExecState::Running { pid },
                ExecState::Ended { pid: known, .. } if *known == 0 => *known = pid,
                _ => {}
            }
        }
    }

    pub(crate) fn end(&self, id: &str, code: i32) {
        if let Some(entry) = self.rows().by_id.get_mut(id) {
            let pid = if let ExecState::Running { pid } = entry.state { pid } else { 0 };
            entry.state = ExecState::Ended { code, pid };
        }
    }

    /// One that a shim still runs, of which the request is not known any more.
    pub(crate) fn adopt(&self, id: &str, container_id: &str, pid: u32) {
        let mut entry = ExecEntry::new(id, container_id, CreateRequest::default());
        entry.state = ExecState::Running { pid };
        self.insert(entry);
    }

    pub(crate) fn running_of(&self, container_id: &str) -> Vec<String> {
        let rows = self.rows();
        let live = rows
            .by_id
            .values()
            .filter(|entry| entry.container_id == container_id && !matches!(entry.state, ExecState::Ended { .. }));
        let mut ids: Vec<String> = live.map(|entry| entry.id.clone()).collect();
        ids.sort();
        ids
    }

    pub(crate) fn forget(&self, id: &str) {
        self.rows().by_id.remove(id);
    }

    pub(crate) fn forget_container(&self, container_id: &str) {
        self.rows().by_id.retain(|_, entry| entry.container_id != container_id);
    }
}

impl Rows {
    fn forget_oldest_ended(&mut self) {
        let ended = |entry: &&ExecEntry| matches!(entry.state, ExecState::Ended { .. });
        if self.by_id.values().filter(ended).count() < ENDED_KEPT {
            return;
        }
        let oldest = self.by_id.values().filter(ended).min_by_key(|entry| entry.age).map(|entry| entry.id.clone());
        if let Some(oldest) = oldest {
            self.by_id.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_of_an_exec_is_known_though_its_end_is_heard_before_its_start() {
        let table = ExecTable::default();
        for heard_first in ["start", "end"] {
            table.insert(ExecEntry::new(heard_first, "box", CreateRequest::default()));
            table.begin(heard_first).unwrap();
            if heard_first == "start" {
                table.running(heard_first, 7);
                table.end(heard_first, 3);
            } else {
                table.end(heard_first, 3);
                table.running(heard_first, 7);
            }
            assert_eq!(table.get(heard_first).unwrap().state, ExecState::Ended { code: 3, pid: 7 }, "{heard_first}");
        }
    }
}
