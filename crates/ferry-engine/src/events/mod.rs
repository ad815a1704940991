//! What happened, told to whoever listens.
//!
//! Owns the sequence of events, the last [`KEPT`] of them, and `<exec-root>/events.log`, from which a starting engine takes them up again. A reader that
//! does not read is dropped: nobody waits for it. One lock, held for an append.

mod log;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};

use ferry_api::event::{Actor, Message};
use ferry_api::filters::Filters;
use tokio::sync::broadcast;

use self::log::EventLog;
use crate::clock;
use crate::error::{Context, Result};

/// How many events `--since` can reach back.
const KEPT: usize = 4096;
/// How far a reader may fall behind before it is dropped.
const READER_LAG: usize = 1024;

/// The event stream of one engine.
#[derive(Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

struct Inner {
    past: Mutex<Past>,
    live: broadcast::Sender<Arc<Message>>,
}

struct Past {
    kept: VecDeque<Arc<Message>>,
    log: EventLog,
}

/// Which events a reader wants.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// From this time on, Unix nanoseconds; `None` is from now.
    pub since_ns: Option<i64>,
    /// Up to this time; the stream ends then.
    pub until_ns: Option<i64>,
    /// `type`, `event`, `container`, `image`, `volume`, `network`, `daemon`, `label`, `scope`, ...
    pub filters: Filters,
}

/// Past and coming events that fit a query.
pub struct EventStream {
    past: VecDeque<Arc<Message>>,
    live: broadcast::Receiver<Arc<Message>>,
    query: EventQuery,
}

impl Events {
    /// Opens the log below the exec root and reads what is there.
    pub(crate) fn open(exec_root: &Path) -> Result<Self> {
        let path = exec_root.join("events.log");
        let (log, kept) = EventLog::open(&path, KEPT).context(format!("cannot open {}", path.display()))?;
        let kept = kept.into_iter().map(Arc::new).collect();
        let (live, _) = broadcast::channel(READER_LAG);
        Ok(Self { inner: Arc::new(Inner { past: Mutex::new(Past { kept, log }), live }) })
    }

    /// Tells that `action` happened to the object `id` of type `kind`.
    pub(crate) fn publish(&self, kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        let mut past = self.inner.past.lock().expect("no panic while held");
        let message = Arc::new(message(kind, action, id, attributes));
        past.log.append(&message);
        if past.kept.len() == KEPT {
            past.kept.pop_front();
        }
        past.kept.push_back(Arc::clone(&message));
        // Sent under the lock, so that a subscriber sees each event once: in the past or live. No listener is no failure.
        let _ = self.inner.live.send(message);
    }

    /// Starts listening.
    ///
    /// API: `GET /events`
    pub fn subscribe(&self, query: EventQuery) -> EventStream {
        let past = self.inner.past.lock().expect("no panic while held");
        let live = self.inner.live.subscribe();
        let kept = match query.since_ns {
            Some(since) => past.kept.iter().filter(|event| event.time_nano >= since).cloned().collect(),
            None if query.until_ns.is_some() => past.kept.clone(),
            None => VecDeque::new(),
        };
        EventStream { past: kept, live, query }
    }
}

fn message(kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) -> Message {
    let now = clock::now_ns();
    Message {
        kind: kind.to_owned(),
        action: action.to_owned(),
        actor: Actor { id: id.to_owned(), attributes },
        scope: "local".to_owned(),
        time: now / 1_000_000_000,
        time_nano: now,
        // What older clients read besides is added where replies are shaped for their version.
        ..Message::default()
    }
}

impl EventStream {
    /// Waits for the next event that fits; `None` at `until`, when the engine ends, or when this reader was too slow.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            let event = self.next_of_all().await?;
            if self.query.until_ns.is_some_and(|until| event.time_nano > until) {
                return None;
            }
            if fits(&event, &self.query.filters) {
                return Some(Message::clone(&event));
            }
        }
    }

    async fn next_of_all(&mut self) -> Option<Arc<Message>> {
        if let Some(event) = self.past.pop_front() {
            return Some(event);
        }
        let Some(until) = self.query.until_ns else {
            return self.live.recv().await.ok();
        };
        let left = u64::try_from(until - clock::now_ns()).ok()?;
        tokio::time::timeout(std::time::Duration::from_nanos(left), self.live.recv()).await.ok()?.ok()
    }
}

fn fits(event: &Message, filters: &Filters) -> bool {
    let by_object = |kind: &str, name_keys: &[&str]| {
        let mut wanted = filters.get(kind).peekable();
        if wanted.peek().is_none() {
            return true;
        }
        let named = name_keys.iter().filter_map(|key| event.actor.attributes.get(*key));
        let names: Vec<&String> = named.chain(std::iter::once(&event.actor.id)).collect();
        event.kind == kind && wanted.any(|value| names.iter().any(|name| object_fits(kind, name, value)))
    };
    let action = |value: &str| event.action == value || event.action.split(':').next() == Some(value);
    crate::filter::any_of(filters, "type", |kind| event.kind == kind)
        && crate::filter::any_of(filters, "event", action)
        && crate::filter::any_of(filters, "scope", |scope| event.scope == scope)
        && filters.matches_labels("label", &event.actor.attributes)
        && by_object("container", &["name"])
        && image_fits(event, filters)
        && by_object("volume", &[])
        && by_object("network", &["name"])
        && by_object("daemon", &["name"])
        && by_object("plugin", &["name"])
}

fn object_fits(kind: &str, name: &str, wanted: &str) -> bool {
    name == wanted
        || (kind != "volume" && !wanted.is_empty() && name.starts_with(wanted) && crate::ids::is_id_prefix(wanted))
}

/// The filter `image` matches image events by reference and container events by the image they run.
fn image_fits(event: &Message, filters: &Filters) -> bool {
    let image = match event.kind.as_str() {
        "image" => Some(&event.actor.id),
        _ => event.actor.attributes.get("image"),
    };
    let without_tag = |text: &str| {
        text.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(text.to_owned(), |(name, _)| name.to_owned())
    };
    let name = event.actor.attributes.get("name");
    crate::filter::any_of(filters, "image", |wanted| {
        let fits = |text: &String| text == wanted || without_tag(text) == wanted;
        image.is_some_and(fits) || (event.kind == "image" && name.is_some_and(fits))
    })
}
