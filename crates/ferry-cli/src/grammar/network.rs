//! The words of the `network` commands: paths, arguments and flags as Docker's client names them.
//!
//! Data alone; what a flag means stands in `commands`.

use super::{
    Args, Command,
    Kind::{Bool, List, Text},
    flag,
};

/// `network ls`
pub(crate) static NETWORK_LS: Command = Command {
    path: "network ls",
    paths: &["network ls", "network list"],
    tail: "[OPTIONS]",
    short: "List networks",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[
        flag("filter", 'f', List, "filter", "Provide filter values (e.g. \"driver=bridge\")"),
        flag(
            "format",
            '\0',
            Text,
            "string",
            "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
        ),
        flag("no-trunc", '\0', Bool, "", "Do not truncate the output"),
        flag("quiet", 'q', Bool, "", "Only display network IDs"),
    ],
};

/// `network inspect`
pub(crate) static NETWORK_INSPECT: Command = Command {
    path: "network inspect",
    paths: &["network inspect"],
    tail: "[OPTIONS] NETWORK [NETWORK...]",
    short: "Display detailed information on one or more networks",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[
        flag(
            "format",
            'f',
            Text,
            "string",
            "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
        ),
        flag("verbose", 'v', Bool, "", "Verbose output for diagnostics"),
    ],
};

/// Everything in this file.
pub(super) static ALL: &[&Command] = &[&NETWORK_LS, &NETWORK_INSPECT];
