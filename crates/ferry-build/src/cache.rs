//! What builds remember: records of the outcomes of steps, and of the folders of cache mounts.
//!
//! Everything here may be thrown away: the layers a record names lie in the store, and a record whose layers are gone is forgotten. Records
//! lie in `build/cache.db` (SQLite); one connection under a lock, since a look-up costs microseconds. A damaged file is replaced by a new one.
//!
//! A record has one or more keys. The first is what a step's operation and the content of all it takes come to; further keys are other ways
//! to know the same, such as by the layers that the content came from.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferry_engine::images::{Images, KeptContent};
use rusqlite::{Connection, OptionalExtension, params};

use crate::clock::now_ns;
use crate::failure::{Failure, Result};
use crate::tree::Layers;

/// Layout of the file; another number is thrown away.
const VERSION: i64 = 1;

/// The outcome of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Names it to users.
    pub id: String,
    /// What it is, such as the step's name.
    pub description: String,
    /// `regular`, `source.local`, `exec.cachemount`, ….
    pub kind: String,
    /// Outputs of the step.
    pub outputs: Vec<Layers>,
    /// Bytes of its own.
    pub size_bytes: u64,
    /// When it was made; Unix time, nanoseconds.
    pub created_ns: i64,
    /// When it was last used.
    pub used_ns: i64,
    /// How often it was used.
    pub uses: i64,
    /// What was taken into its key, for telling why another key differs.
    pub parts: Vec<(String, String)>,
}

/// The records; cheap to clone.
#[derive(Clone)]
pub struct Cache {
    connection: Arc<Mutex<Connection>>,
    images: Images,
    /// Records that builds which run rely on.
    in_use: Arc<Mutex<Vec<String>>>,
}

/// Keeps a record from being pruned.
pub struct InUse {
    cache: Cache,
    id: String,
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut in_use = self.cache.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = in_use.iter().position(|id| *id == self.id) {
            in_use.swap_remove(at);
        }
    }
}

impl Cache {
    /// Opens the records in a folder, and tells the store what they keep. Blocks.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn open(folder: &Path, images: Images) -> Result<Self> {
        let path = folder.join("cache.db");
        let connection = match open(&path) {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "records of the build cache thrown away");
                for end in ["", "-wal", "-shm"] {
                    let mut name = path.clone().into_os_string();
                    name.push(end);
                    // What is not there need not be removed.
                    let _ = std::fs::remove_file(PathBuf::from(name));
                }
                open(&path)?
            }
        };
        let cache = Self { connection: Arc::new(Mutex::new(connection)), images, in_use: Arc::default() };
        cache.tell_kept();
        Ok(cache)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a record is relied on.
    #[must_use]
    pub fn hold(&self, id: &str) -> InUse {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner).push(id.to_owned());
        InUse { cache: self.clone(), id: id.to_owned() }
    }

    /// Finds the record of a key, if its layers are here. Blocks for microseconds.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<Record> {
        let record = match self.read_by_key(key) {
            Ok(record) => record?,
            Err(error) => {
                tracing::warn!(%error, "build cache not read");
                return None;
            }
        };
        let is_here = record.outputs.iter().all(|output| match output.chain() {
            Some(chain) => {
                // Those of base images need not be kept as they came.
                let own = output.0.iter().filter(|layer| !layer.foreign);
                let blobs: Vec<_> = own.map(|layer| layer.descriptor.digest.clone()).collect();
                self.images.has_layers(&chain, &blobs)
            }
            None => true,
        });
        if !is_here {
            self.forget(&[record.id]);
            return None;
        }
        let used = self
            .lock()
            .execute("UPDATE records SET used = ?1, uses = uses + 1 WHERE id = ?2", params![now_ns(), record.id]);
        if let Err(error) = used {
            tracing::warn!(%error, "use of a build cache record not noted");
        }
        Some(record)
    }

    fn read_by_key(&self, key: &str) -> Result<Option<Record>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT r.id, r.description, r.kind, r.outputs, r.size, r.created, r.used, r.uses, r.parts
             FROM keys k JOIN records r ON r.id = k.record WHERE k.key = ?1",
        )?;
        Ok(statement.query_row([key], read_record).optional()?)
    }

    /// Writes a record under its keys, in place of those that were there. Blocks.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, keys: &[String], record: &Record) -> Result<()> {
        // Held from here on: what is kept is told by the records at any moment, and this is to become one of them.
        let mut connection = self.lock();
        for output in &record.outputs {
            if let Some(chain) = output.chain() {
                self.images.keep_one_for_builds(&chain, output.0.iter().map(|layer| layer.descriptor.digest.clone()));
            }
        }
        let transaction = connection.transaction()?;
        let text = |value: &dyn Fn() -> serde_json::Result<String>| {
            value().map_err(|error| Failure::internal(error.to_string()))
        };
        transaction.execute(
            "INSERT OR REPLACE INTO records (id, description, kind, outputs, size, created, used, uses, parts)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                record.id,
                record.description,
                record.kind,
                text(&|| serde_json::to_string(&record.outputs))?,
                i64::try_from(record.size_bytes).unwrap_or(i64::MAX),
                record.created_ns,
                record.used_ns,
                record.uses,
                text(&|| serde_json::to_string(&record.parts))?,
            ],
        )?;
        for key in keys {
            transaction
                .execute("INSERT OR REPLACE INTO keys (key, record) VALUES (?1, ?2)", params![key, record.id])?;
        }
        // Whatever a key led to before and nothing leads to now.
        transaction.execute("DELETE FROM records WHERE id NOT IN (SELECT record FROM keys)", [])?;
        Ok(transaction.commit()?)
    }

    /// Every key of a record. Blocks for microseconds.
    #[must_use]
    pub fn keys_of(&self, id: &str) -> Vec<String> {
        let read = || -> rusqlite::Result<Vec<String>> {
            let connection = self.lock();
            let mut statement = connection.prepare_cached("SELECT key FROM keys WHERE record = ?1 ORDER BY key")?;
            statement.query_map([id], |row| row.get(0))?.collect()
        };
        read().unwrap_or_else(|error| {
            tracing::warn!(%error, "build cache not read");
            Vec::new()
        })
    }

    /// Adds a key to a record. Blocks.
    pub fn add_key(&self, key: &str, id: &str) {
        let added = self.lock().execute("INSERT OR REPLACE INTO keys (key, record) VALUES (?1, ?2)", params![key, id]);
        if let Err(error) = added {
            tracing::warn!(%error, "key of a build cache record not noted");
        }
    }

    /// Every record. Blocks.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn records(&self) -> Result<Vec<Record>> {
        Self::read_records(&self.lock())
    }

    fn read_records(connection: &Connection) -> Result<Vec<Record>> {
        let mut statement = connection.prepare_cached(
            "SELECT id, description, kind, outputs, size, created, used, uses, parts FROM records ORDER BY created",
        )?;
        let records = statement.query_map([], read_record)?.collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(records)
    }

    /// The record that is most like a step: one of the same description before others, then the one with most parts in common. Blocks.
    #[must_use]
    pub fn nearest(&self, description: &str, parts: &[(String, String)]) -> Option<Record> {
        let records = self.records().ok()?;
        let common = |record: &Record| record.parts.iter().filter(|part| parts.contains(part)).count();
        let is_near = |record: &&Record| record.description == description || common(record) * 2 > parts.len();
        records
            .into_iter()
            .filter(|record| is_near(&record))
            .max_by_key(|record| (record.description == description, common(record), record.used_ns))
    }

    /// Tells whether a build that runs relies on a record.
    #[must_use]
    pub fn is_in_use(&self, id: &str) -> bool {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|other| other == id)
    }

    /// Removes records; what they named is collected by whoever asked. Blocks.
    pub fn forget(&self, ids: &[String]) {
        let forget = || -> Result<()> {
            let mut connection = self.lock();
            let transaction = connection.transaction()?;
            for id in ids {
                transaction.execute("DELETE FROM keys WHERE record = ?1", [id])?;
                transaction.execute("DELETE FROM records WHERE id = ?1", [id])?;
            }
            // Keys whose record was replaced.
            transaction.execute("DELETE FROM keys WHERE record NOT IN (SELECT id FROM records)", [])?;
            Ok(transaction.commit()?)
        };
        if let Err(error) = forget() {
            tracing::warn!(%error, "build cache records not removed");
        }
        self.tell_kept();
    }

    fn tell_kept(&self) {
        // Held until it is told: a record that is put meanwhile would else be kept by nobody.
        let connection = self.lock();
        let records = match Self::read_records(&connection) {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(%error, "build cache not read");
                return;
            }
        };
        let mut kept = KeptContent { chains: HashSet::new(), blobs: HashSet::new() };
        for output in records.iter().flat_map(|record| &record.outputs) {
            kept.chains.extend(output.chain());
            kept.blobs.extend(output.0.iter().map(|layer| layer.descriptor.digest.clone()));
        }
        self.images.keep_for_builds(kept);
    }
}

fn open(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != VERSION {
        connection.execute_batch(
            "DROP TABLE IF EXISTS keys; DROP TABLE IF EXISTS records;
             CREATE TABLE records (
                 id TEXT PRIMARY KEY, description TEXT NOT NULL, kind TEXT NOT NULL, outputs TEXT NOT NULL, size INTEGER NOT NULL,
                 created INTEGER NOT NULL, used INTEGER NOT NULL, uses INTEGER NOT NULL, parts TEXT NOT NULL);
             CREATE TABLE keys (key TEXT PRIMARY KEY, record TEXT NOT NULL);
             CREATE INDEX keys_by_record ON keys (record);",
        )?;
        connection.pragma_update(None, "user_version", VERSION)?;
    }
    // Finds out whether the file is whole as far as that can be known quickly.
    connection.query_row("SELECT count(*) FROM records", [], |row| row.get::<_, i64>(0))?;
    Ok(connection)
}

fn read_record(row: &rusqlite::Row<'_>) -> rusqlite::Result<Record> {
    let json = |at: usize, error: serde_json::Error| {
        rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(error))
    };
    let outputs: String = row.get(3)?;
    let parts: String = row.get(8)?;
    Ok(Record {
        id: row.get(0)?,
        description: row.get(1)?,
        kind: row.get(2)?,
        outputs: serde_json::from_str(&outputs).map_err(|error| json(3, error))?,
        size_bytes: u64::try_from(row.get::<_, i64>(4)?).unwrap_or_default(),
        created_ns: row.get(5)?,
        used_ns: row.get(6)?,
        uses: row.get(7)?,
        parts: serde_json::from_str(&parts).map_err(|error| json(8, error))?,
    })
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::internal(format!("build cache: {error}"))
    }
}

/// A new id, as BuildKit's look: 25 letters and digits.
pub(crate) fn new_id() -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..25).map(|_| char::from(LETTERS[usize::from(rand::random::<u8>()) % LETTERS.len()])).collect()
}
