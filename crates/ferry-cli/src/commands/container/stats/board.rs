//! The rows of the table, and the readers that keep them up to date.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ferry_api::container::Stats;
use ferry_client::Client;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::figures::Figures;
use crate::progress::Documents;

/// After this a row that hears nothing loses its figures.
const SILENCE: Duration = Duration::from_secs(2);

/// One answer may take longer: it is two readings, a second apart, of a daemon that may have much to do.
const ONE_ANSWER: Duration = Duration::from_secs(20);

/// What is shown.
#[derive(Default)]
pub(super) struct Board {
    rows: RefCell<Vec<Rc<Row>>>,
    changed: Notify,
}

/// One container.
#[derive(Default)]
pub(super) struct Row {
    /// Name or id as asked for.
    pub(super) asked: String,
    figures: RefCell<Figures>,
    error: RefCell<Option<String>>,
    /// There are figures, or it is known that there are none.
    settled: Cell<bool>,
}

impl Board {
    /// Adds a row unless it is there.
    pub(super) fn add(&self, asked: &str) -> Option<Rc<Row>> {
        let mut rows = self.rows.borrow_mut();
        if rows.iter().any(|row| row.asked == asked) {
            return None;
        }
        let row = Rc::new(Row { asked: asked.to_owned(), ..Row::default() });
        rows.push(Rc::clone(&row));
        Some(row)
    }

    /// Takes a row away; its reader ends with the container.
    pub(super) fn remove(&self, asked: &str) -> Option<Rc<Row>> {
        self.rows.borrow_mut().retain(|row| row.asked != asked);
        None
    }

    /// The rows in order.
    pub(super) fn rows(&self) -> Ref<'_, Vec<Rc<Row>>> {
        self.rows.borrow()
    }

    /// Whether every row has had an answer.
    pub(super) fn is_complete(&self) -> bool {
        self.rows.borrow().iter().all(|row| row.settled.get())
    }

    /// What went wrong, by row.
    pub(super) fn errors(&self) -> Vec<String> {
        self.rows.borrow().iter().filter_map(|row| row.error.borrow().clone()).collect()
    }

    /// Waits for the next change of a row.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn settle(&self, row: &Row) {
        row.settled.set(true);
        self.changed.notify_one();
    }

    fn set(&self, row: &Row, stats: &Stats) {
        row.figures.replace(Figures::of(stats));
        row.error.replace(None);
        self.settle(row);
    }

    fn fail(&self, row: &Row, error: String) {
        row.figures.borrow_mut().is_valid = false;
        row.error.replace(Some(error));
        self.settle(row);
    }
}

impl Row {
    /// The last figures.
    pub(super) fn figures(&self) -> Figures {
        self.figures.borrow().clone()
    }
}

/// Keeps a row up to date until its container is removed, or reads it once.
pub(super) async fn read(client: &Client, row: Rc<Row>, board: &Board, streams: bool) {
    let patience = if streams { SILENCE } else { ONE_ANSWER };
    let mut stream = match client.container_stats(&row.asked, streams).await {
        Ok(stream) => stream,
        Err(error) => return board.fail(&row, error.to_string()),
    };
    let mut documents = Documents::default();
    loop {
        match timeout(patience, stream.next()).await {
            Err(_) => {
                let last = row.figures();
                row.figures.replace(Figures { id: last.id, name: last.name, ..Figures::default() });
                board.fail(&row, "timeout waiting for stats".to_owned());
            }
            Ok(Ok(None)) => return board.fail(&row, "EOF".to_owned()),
            Ok(Err(error)) => return board.fail(&row, error.to_string()),
            Ok(Ok(Some(bytes))) => match documents.feed::<Stats>(&bytes) {
                Ok(found) => found.iter().for_each(|stats| board.set(&row, stats)),
                Err(error) => return board.fail(&row, error.to_string()),
            },
        }
        if !streams && row.settled.get() {
            return;
        }
    }
}
