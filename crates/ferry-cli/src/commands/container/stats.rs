//! `stats`

mod board;
mod figures;

use std::rc::Rc;
use std::time::Duration;

use ferry_api::event::Message;
use ferry_api::filters::Filters;
use ferry_client::{ByteStream, Client};
use ferry_gotmpl::Value;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::MissedTickBehavior;

use self::board::{Board, Row};
use self::figures::Figures;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::{Listing, human};
use crate::progress::Documents;

/// How often the table is drawn anew.
const FRAME: Duration = Duration::from_millis(500);

const LISTING: Listing<'_> = Listing {
    type_name: "container.statsContext",
    headers: &[
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    raw: "",
};

/// Runs `stats`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let format = match parsed.text_or_empty("format") {
        "" => context.config.file.stats_format.clone(),
        given => given.to_owned(),
    };
    let client = context.client().await?;
    let view = View { format, truncate: !parsed.on("no-trunc"), streams: !parsed.on("no-stream"), context };
    let board = Board::default();
    if parsed.args.is_empty() {
        all(parsed.on("all"), client, &view, &board).await
    } else {
        named(parsed, client, &view, &board).await
    }
}

/// How the table is shown.
struct View<'a> {
    format: String,
    truncate: bool,
    streams: bool,
    context: &'a Context,
}

/// Containers by name: all of them must be there.
async fn named(parsed: &Parsed, client: &Client, view: &View<'_>, board: &Board) -> Result<u8> {
    let rows = parsed.args.iter().filter_map(|name| board.add(name));
    let mut readers: FuturesUnordered<_> = rows.map(|row| board::read(client, row, board, view.streams)).collect();
    while !board.is_complete() {
        tokio::select! {
            _ = readers.next(), if !readers.is_empty() => {}
            () = board.changed() => {}
        }
    }
    crate::commands::lists::finish(board.errors())?;
    if !view.streams {
        return view.print(board);
    }
    let mut frames = frames();
    loop {
        tokio::select! {
            _ = readers.next(), if !readers.is_empty() => {}
            _ = frames.tick() => view.draw(board)?,
        }
    }
}

/// Every container, those that come and go meanwhile too.
async fn all(stopped_too: bool, client: &Client, view: &View<'_>, board: &Board) -> Result<u8> {
    let mut only_containers = Filters::default();
    only_containers.add("type", "container");
    // Listening begins before the list is asked for, so that nobody falls between.
    let mut events = Events::new(client.events("", "", &only_containers).await?);
    let mut readers = FuturesUnordered::new();
    for container in client.container_list(stopped_too, -1, false, &Filters::default()).await? {
        readers
            .extend(board.add(human::short_id(&container.id)).map(|row| board::read(client, row, board, view.streams)));
    }
    let mut frames = frames();
    loop {
        let complete = board.is_complete();
        if complete && !view.streams {
            return view.print(board);
        }
        tokio::select! {
            _ = readers.next(), if !readers.is_empty() => {}
            () = board.changed() => {}
            _ = frames.tick(), if complete => view.draw(board)?,
            happened = events.next() => {
                // The daemon has gone, and with it everything there was to show.
                let Some(messages) = happened? else { return Ok(0) };
                for message in messages {
                    let added = note(&message, stopped_too, board);
                    readers.extend(added.map(|row| board::read(client, row, board, view.streams)));
                }
            }
        }
    }
}

/// Puts a container on the board or takes it off; returns its row if it is new.
fn note(message: &Message, stopped_too: bool, board: &Board) -> Option<Rc<Row>> {
    let id = human::short_id(&message.actor.id);
    match message.action.as_str() {
        "start" => board.add(id),
        "create" if stopped_too => board.add(id),
        "die" if !stopped_too => board.remove(id),
        "destroy" => board.remove(id),
        _ => None,
    }
}

fn frames() -> tokio::time::Interval {
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    frames
}

/// The daemon's events as they come.
struct Events {
    stream: ByteStream,
    documents: Documents,
}

impl Events {
    fn new(stream: ByteStream) -> Self {
        Self { stream, documents: Documents::default() }
    }

    /// `None` when the daemon ends or goes away.
    async fn next(&mut self) -> Result<Option<Vec<Message>>> {
        match self.stream.next().await {
            Ok(Some(bytes)) => Ok(Some(self.documents.feed(&bytes)?)),
            Ok(None) | Err(ferry_client::Error::UnexpectedEof) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl View<'_> {
    fn text(&self, board: &Board) -> Result<String> {
        let rows = board.rows().iter().map(|row| cells(row, self.truncate)).collect();
        LISTING.render(&self.format, rows)
    }

    /// Once, for a script.
    fn print(&self, board: &Board) -> Result<u8> {
        self.context.printer.data(self.text(board)?)?;
        Ok(0)
    }

    /// Over what was drawn before: each line ends by clearing the rest of its line, the last one the rest of the screen.
    fn draw(&self, board: &Board) -> Result<()> {
        let mut frame = "\x1b[H".to_owned();
        for line in self.text(board)?.split('\n') {
            frame.push_str(line);
            frame.push_str("\x1b[K\n");
        }
        frame.push_str("\x1b[J");
        Ok(self.context.printer.data(frame)?)
    }
}

fn cells(row: &Row, truncate: bool) -> Vec<(&'static str, Value)> {
    let figures = row.figures();
    let shown = |text: &dyn Fn(&Figures) -> String, unknown: &str| {
        if figures.is_valid { text(&figures) } else { unknown.to_owned() }
    };
    let id = if truncate { human::short_id(&figures.id) } else { &figures.id };
    let name = figures.name.strip_prefix('/').unwrap_or(&figures.name);
    let pair =
        |one: u64, other: u64, word: fn(i64) -> String| format!("{} / {}", word(signed(one)), word(signed(other)));
    vec![
        ("Container", row.asked.as_str().into()),
        ("Name", (if name.is_empty() { "--" } else { name }).into()),
        ("ID", id.into()),
        ("CPUPerc", shown(&|figures| format!("{:.2}%", figures.cpu_percent), "--").into()),
        ("MemUsage", shown(&|figures| pair(figures.memory, figures.memory_limit, human::bytes_size), "-- / --").into()),
        ("MemPerc", shown(&|figures| format!("{:.2}%", figures.memory_percent), "--").into()),
        ("NetIO", shown(&|figures| pair(figures.received, figures.sent, human::size_short), "--").into()),
        ("BlockIO", shown(&|figures| pair(figures.read, figures.written, human::size_short), "--").into()),
        ("PIDs", shown(&|figures| figures.pids.to_string(), "--").into()),
    ]
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
