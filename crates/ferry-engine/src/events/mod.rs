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
use ferry_spec::reference::Reference;
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
    /// `type`, `event`, `scope`, `label`, `image`, and kinds of objects.
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
            // As in Docker, an end at zero is one that only the present has.
            if self.query.until_ns.is_some_and(|until| until != 0 && event.time_nano > until) {
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

/// Kinds of objects that are filters too. As in Docker, an event of any kind fits by its id or its name, or the beginning of either.
const OBJECTS: [&str; 9] =
    ["config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume"];

/// Actions that are followed by what was run; asked for without that, all filters are beginnings.
const WITH_DETAIL: [&str; 3] = ["exec_create", "exec_start", "health_status"];

fn fits(event: &Message, filters: &Filters) -> bool {
    let name = event.actor.attributes.get("name").map_or("", String::as_str);
    let is_object = |wanted: &str| event.actor.id.starts_with(wanted) || name.starts_with(wanted);
    crate::filter::any_of(filters, "type", |kind| event.kind == kind)
        && action_fits(event, filters)
        && crate::filter::any_of(filters, "scope", |scope| event.scope == scope)
        && OBJECTS.into_iter().all(|object| crate::filter::any_of(filters, object, is_object))
        && image_fits(event, filters)
        && filters.matches_labels("label", &event.actor.attributes)
}

fn action_fits(event: &Message, filters: &Filters) -> bool {
    let by_beginning = filters.get("event").any(|wanted| WITH_DETAIL.contains(&wanted));
    crate::filter::any_of(filters, "event", |wanted| {
        event.action == wanted || (by_beginning && event.action.starts_with(wanted))
    })
}

/// The filter `image` matches image events by reference and container events by the image they run.
fn image_fits(event: &Message, filters: &Filters) -> bool {
    let key = if event.kind == "image" { "name" } else { "image" };
    let (id, name) = (event.actor.id.as_str(), event.actor.attributes.get(key).map_or("", String::as_str));
    crate::filter::any_of(filters, "image", |wanted| {
        [id, name].iter().any(|text| *text == wanted || without_tag(text) == wanted)
    })
}

/// The familiar name of a reference; what is none, as it is.
fn without_tag(text: &str) -> String {
    text.parse::<Reference>().map_or_else(|_| text.to_owned(), |reference| reference.familiar_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) -> Message {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        message(kind, action, id, attributes)
    }

    fn fit(event: &Message, filters: &[(&str, &str)]) -> bool {
        let mut wanted = Filters::default();
        for (name, value) in filters {
            wanted.add(*name, *value);
        }
        fits(event, &wanted)
    }

    #[test]
    fn every_filter_chooses_as_dockers_does() {
        let start = event("container", "start", "abcdef", &[("name", "web1"), ("image", "busybox:1"), ("l", "v")]);
        for (filters, expected) in [
            (&[][..], true),
            (&[("type", "container")], true),
            (&[("type", "network")], false),
            (&[("type", "network"), ("type", "container")], true),
            (&[("event", "start")], true),
            (&[("event", "sta")], false),
            (&[("event", "stop")], false),
            (&[("container", "web1")], true),
            (&[("container", "web")], true),
            (&[("container", "abc")], true),
            (&[("container", "eb1")], false),
            (&[("image", "busybox")], true),
            (&[("image", "busybox:1")], true),
            (&[("image", "busy")], false),
            (&[("label", "l")], true),
            (&[("label", "l=v")], true),
            (&[("label", "l=v"), ("label", "m")], false),
            (&[("scope", "local")], true),
            (&[("scope", "swarm")], false),
            (&[("daemon", "other")], false),
            (&[("volume", "data")], false),
            (&[("unknown", "x")], true),
        ] {
            assert_eq!(fit(&start, filters), expected, "{filters:?}");
        }
        for object in OBJECTS {
            assert!(fit(&start, &[(object, "web1")]) && !fit(&start, &[(object, "db")]), "{object}");
        }
        let exec = event("container", "exec_start: sh", "abcdef", &[]);
        assert!(fit(&exec, &[("event", "exec_start")]) && !fit(&exec, &[("event", "exec_die")]));
        let pull = event("image", "pull", "busybox:1", &[("name", "busybox")]);
        assert!(fit(&pull, &[("image", "busybox")]) && fit(&pull, &[("image", "busybox:1")]));
        assert_eq!(without_tag("docker.io/library/busybox:1"), "busybox");
        assert_eq!(without_tag("Not A Reference"), "Not A Reference");
    }
}
