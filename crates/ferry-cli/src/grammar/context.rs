//! The words of the `context` commands: paths, arguments and flags as Docker's client names them.
//!
//! Data alone; what a flag means stands in `commands`.

use super::{
    Args, Command,
    Kind::{Bool, Text},
    flag,
};

/// `context ls`
pub(crate) static CONTEXT_LS: Command = Command {
    path: "context ls",
    paths: &["context ls", "context list"],
    tail: "[OPTIONS]",
    short: "List contexts",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[
        flag(
            "format",
            '\0',
            Text,
            "string",
            "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
        ),
        flag("quiet", 'q', Bool, "", "Only show context names"),
    ],
};

/// `context use`
pub(crate) static CONTEXT_USE: Command = Command {
    path: "context use",
    paths: &["context use"],
    tail: "CONTEXT",
    short: "Set the current docker context",
    long: "",
    args: Args::Any,
    options_first: false,
    flags: &[],
};

/// `context show`
pub(crate) static CONTEXT_SHOW: Command = Command {
    path: "context show",
    paths: &["context show"],
    tail: "",
    short: "Print the name of the current context",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[],
};

/// `context inspect`
pub(crate) static CONTEXT_INSPECT: Command = Command {
    path: "context inspect",
    paths: &["context inspect"],
    tail: "[OPTIONS] [CONTEXT] [CONTEXT...]",
    short: "Display detailed information on one or more contexts",
    long: "",
    args: Args::Any,
    options_first: false,
    flags: &[flag(
        "format",
        'f',
        Text,
        "string",
        "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    )],
};

/// Everything in this file.
pub(super) static ALL: &[&Command] = &[&CONTEXT_LS, &CONTEXT_USE, &CONTEXT_SHOW, &CONTEXT_INSPECT];
