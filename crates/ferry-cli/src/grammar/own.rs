//! The words of commands that Docker does not have.
//!
//! Data alone; what a flag means stands in `commands`.

use super::{
    Args, Command,
    Kind::{Bool, Bytes, Text},
    flag,
};

/// `prune`
pub(crate) static PRUNE: Command = Command {
    path: "prune",
    paths: &["prune"],
    tail: "[OPTIONS]",
    short: "Remove images that were not used for long",
    long: "Remove images that were not used for long, or as many as it takes to get below a size, those unused for longest first.\nWhat a container uses stays.",
    args: Args::None,
    options_first: false,
    flags: &[
        flag("budget", '\0', Bytes, "bytes", "Remove until all images together take up no more than this"),
        flag("dry-run", '\0', Bool, "", "Only tell what would go"),
        flag("force", 'f', Bool, "", "Do not prompt for confirmation"),
        flag("format", '\0', Text, "string", "Print 'json'"),
        flag("keep-last", '\0', Text, "number", "Keep so many names of each repository, those used last"),
        flag(
            "unused-for",
            '\0',
            Text,
            "duration",
            "Remove images that nobody used for so long (e.g. \"14d\", \"36h\")",
        ),
    ],
};

/// `image explore`
pub(crate) static IMAGE_EXPLORE: Command = Command {
    path: "image explore",
    paths: &["image explore"],
    tail: "[OPTIONS] IMAGE",
    short: "Look into the layers of an image",
    long: "Look into the layers of an image: what each brings, changes and removes, and which bytes are wasted because a later layer hides them.\nOn a terminal the arrow keys, tab, enter and q do the rest.",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[
        flag(
            "fail-waste",
            '\0',
            Text,
            "limit",
            "Exit with 1 when more is wasted than this size or share (e.g. \"20MB\", \"10%\")",
        ),
        flag("format", '\0', Text, "string", "Print 'json'"),
        flag("plain", '\0', Bool, "", "Print a summary, without the keyboard"),
        flag(
            "platform",
            '\0',
            Text,
            "string",
            "Look into the image for this platform. Formatted as \"os[/arch[/variant]]\"",
        ),
    ],
};

/// Everything in this file.
pub(super) static ALL: &[&Command] = &[&PRUNE, &IMAGE_EXPLORE];
