//! Containers whose lines a plugin takes: the FIFO is made and the plugin told before the start, and told again when no line can come
//! any more.
//!
//! `<exec-root>/log-plugins/<container id>` says what is to be ended; a start of the daemon ends what belongs to no container that runs.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferry_shim::log::{Stream, read_from_plugin};
use rustix::fs::{CWD, FileType, FlockOperation, Mode};
use serde::{Deserialize, Serialize};

use super::Options;
use crate::clock;
use crate::containers::logs::{Message, Output};
use crate::containers::record::Record;
use crate::containers::{Container, Containers};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::plugins::{LOG_DRIVER, LogInfo, ReadConfig};

/// How long a logger may have lines after the end of its container, and a little more.
const LAST_LINES: Duration = Duration::from_secs(12);

/// How long a plugin may leave lines in the pipe then.
const LAST_READ: Duration = Duration::from_secs(2);

/// What a container was started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::containers) struct PluginLog {
    plugin: String,
    /// As the plugin names it.
    file: String,
    /// The same on the host.
    pub(super) fifo: PathBuf,
    /// The plugin gives lines back.
    pub(super) reads_back: bool,
}

impl PluginLog {
    /// What stands for one that is not made yet.
    pub(super) fn planned(driver: &str) -> Self {
        let (plugin, file) = (driver.to_owned(), String::new());
        Self { plugin, file, fifo: PathBuf::from("/"), reads_back: false }
    }
}

impl Containers {
    /// Whether a plugin is there for lines of that driver; its options are its own business but for those that every driver has. Blocks.
    ///
    /// # Errors
    /// InvalidArgument in Docker's words.
    pub(in crate::containers) fn check_log_plugin(&self, driver: &str, options: &Options) -> Result<()> {
        super::common_options(options).map_err(Error::invalid)?;
        let found = tokio::runtime::Handle::current().block_on(self.inner.plugins.get(driver, LOG_DRIVER));
        let wrong =
            |error: &Error| Error::invalid(format!("error looking up logging plugin {driver}: {}", error.text()));
        found.map(drop).map_err(|error| wrong(&error))
    }

    /// Tells the plugin of a container's driver that lines will come; `None` where no plugin takes them.
    pub(in crate::containers) async fn begin_plugin_log(
        &self,
        container: &Arc<Container>,
    ) -> Result<Option<PluginLog>> {
        let record = container.snapshot();
        let driver = &record.host_config.log_config.driver;
        if super::is_built_in(driver) {
            return Ok(None);
        }
        let failed = |kind: ErrorKind, why: String| {
            Error::new(kind, format!("failed to create task for container: failed to initialize logging driver: {why}"))
        };
        let plugin = self.inner.plugins.get(driver, LOG_DRIVER).await.map_err(|error| {
            let why =
                format!("failed to get logging factory: error looking up logging plugin {driver}: {}", error.text());
            failed(error.kind(), why)
        })?;
        let (file, fifo) = plugin.log_fifo(&record.id);
        let log = PluginLog { plugin: plugin.name.clone(), file, fifo, reads_back: plugin.reads_logs().await };
        self.note_plugin_log(&record.id, &log).map_err(|error| failed(ErrorKind::Internal, error.text()))?;
        let told = plugin.start_logging(&log.file, &info(&record)).await;
        told.map_err(|error| failed(ErrorKind::Internal, format!("error creating logger: {}", error.text())))?;
        Ok(Some(log))
    }

    fn note_plugin_log(&self, id: &str, log: &PluginLog) -> Result<()> {
        let note = self.plugin_log_note(id);
        let folder = self.inner.config.exec_root.join("log-plugins");
        let write = || -> io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            let file = fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&note)?;
            Ok(serde_json::to_writer(file, log)?)
        };
        // The folder goes with the last note, at any time.
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let written = write().or_else(|error| if gone(&error) { write() } else { Err(error) });
        written.context(format!("cannot write {}", note.display()))?;
        self.inner.plugins.acquire(&log.plugin, &user_of(id));
        make_fifo(&log.fifo).context(format!("error creating i/o pipe for log plugin: {}", log.plugin))
    }

    fn plugin_log_note(&self, id: &str) -> PathBuf {
        self.inner.config.exec_root.join("log-plugins").join(id)
    }

    /// Tells the plugin that a container's lines are over, once they are. Nobody waits for that.
    pub(in crate::containers) fn end_plugin_log(&self, id: &str) {
        let note = self.plugin_log_note(id);
        let Ok(text) = fs::read(&note) else { return };
        let (containers, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            match serde_json::from_slice::<PluginLog>(&text) {
                Ok(log) => containers.end_noted_log(&id, log).await,
                Err(error) => tracing::warn!(note = %note.display(), %error, "note of a log plugin not understood"),
            }
            if let Err(error) = fs::remove_file(&note) {
                tracing::warn!(note = %note.display(), %error, "note of a log plugin left behind");
            }
            // The last one's folder; another is made with the next.
            let _ = note.parent().map(fs::remove_dir);
        });
    }

    async fn end_noted_log(&self, id: &str, log: PluginLog) {
        let fifo = log.fifo.clone();
        let _: Result<()> = crate::blocking(move || {
            wait_for_last_lines(&fifo);
            Ok(())
        })
        .await;
        let told = match self.inner.plugins.get(&log.plugin, LOG_DRIVER).await {
            Ok(plugin) => plugin.stop_logging(&log.file).await.map_err(|error| error.text().to_owned()),
            Err(error) => Err(error.text()),
        };
        if let Err(why) = told {
            tracing::warn!(plugin = %log.plugin, container = %id, why, "log plugin not told of the end of a container");
        }
        match fs::remove_file(&log.fifo) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(fifo = %log.fifo.display(), %error, "pipe of a log plugin left behind");
            }
            _ => {}
        }
        self.inner.plugins.release(&log.plugin, &user_of(id));
    }

    /// Ends what a daemon that was killed left of containers that do not run, and takes up the rest.
    pub(in crate::containers) fn recover_plugin_logs(&self, live: &[String]) {
        let Ok(notes) = fs::read_dir(self.inner.config.exec_root.join("log-plugins")) else { return };
        for note in notes.flatten() {
            let id = note.file_name().to_string_lossy().into_owned();
            if !live.contains(&id) {
                self.end_plugin_log(&id);
            } else if let Some(log) =
                fs::read(note.path()).ok().and_then(|text| serde_json::from_slice::<PluginLog>(&text).ok())
            {
                self.inner.plugins.acquire(&log.plugin, &user_of(&id));
            }
        }
    }

    /// Sends the lines that a plugin gives back.
    pub(in crate::containers) async fn send_plugin_log(&self, container: &Container, mut output: Output) -> Result<()> {
        let record = container.snapshot();
        let driver = &record.host_config.log_config.driver;
        let plugin = self.inner.plugins.get(driver, LOG_DRIVER).await?;
        let options = output.options.clone();
        let config = ReadConfig {
            since: clock::rfc3339(options.since_ns.unwrap_or(0)),
            until: clock::rfc3339(options.until_ns.unwrap_or(0)),
            tail: options.tail.map_or(-1, |tail| i64::try_from(tail).unwrap_or(-1)),
            follow: options.follow && container.status().counts_as_running(),
        };
        let reading = plugin.read_logs(&info(&record), &config).await;
        let mut lines =
            reading.map_err(|error| Error::internal(format!("error getting log reader: {}", error.text())))?;
        loop {
            let message = tokio::select! {
                message = lines.next() => message,
                () = output.closed() => return Ok(()),
            };
            let Some(entry) = message.as_deref().map(read_from_plugin) else { break };
            let Some(entry) = entry else { continue };
            if options.since_ns.is_some_and(|since| entry.time_ns < since) {
                continue;
            }
            if options.until_ns.is_some_and(|until| entry.time_ns > until) {
                break;
            }
            let stream = if entry.is_stderr { Stream::Stderr } else { Stream::Stdout };
            let (time_ns, attributes) = (entry.time_ns, Vec::new());
            let message = Message { stream, time_ns, line: &entry.line, part: None, attributes };
            if output.push_and_send(&message).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// How a container is named among those who use a plugin.
fn user_of(id: &str) -> String {
    format!("container {id}")
}

fn make_fifo(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    Ok(rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o700), 0)?)
}

/// Waits until the logger has gone, which holds a lock on the pipe, and the plugin has read what is in it; within bounds.
fn wait_for_last_lines(fifo: &Path) {
    let open = fs::File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(fifo);
    let Ok(pipe) = open else { return };
    const STEP: Duration = Duration::from_millis(20);
    let begun = Instant::now();
    while rustix::fs::flock(&pipe, FlockOperation::NonBlockingLockExclusive).is_err() {
        if begun.elapsed() > LAST_LINES {
            return;
        }
        std::thread::sleep(STEP);
    }
    let begun = Instant::now();
    while matches!(rustix::io::ioctl_fionread(&pipe), Ok(1..)) && begun.elapsed() < LAST_READ {
        std::thread::sleep(STEP);
    }
}

fn info(record: &Record) -> LogInfo {
    let argv = record.argv();
    let (program, arguments) =
        argv.split_first().map_or((String::new(), Vec::new()), |(first, rest)| (first.clone(), rest.to_vec()));
    LogInfo {
        config: record.host_config.log_config.config.clone().unwrap_or_default(),
        container_id: record.id.clone(),
        container_name: format!("/{}", record.name),
        container_entrypoint: program,
        container_args: arguments,
        container_image_id: record.image_id.to_string(),
        container_image_name: record.config.image.clone(),
        container_created: clock::rfc3339(record.created_ns),
        container_env: record.config.env.clone().unwrap_or_default(),
        container_labels: record.config.labels.clone().unwrap_or_default(),
        log_path: String::new(),
        daemon_name: "docker".to_owned(),
    }
}
