//! The words of the `system` commands: paths, arguments and flags as Docker's client names them.
//!
//! Data alone; what a flag means stands in `commands`.

use super::{
    Args, Command,
    Kind::{Bool, List, Text},
    flag, hidden,
};

/// `system info`
pub(crate) static SYSTEM_INFO: Command = Command {
    path: "system info",
    paths: &["system info", "info"],
    tail: "[OPTIONS]",
    short: "Display system-wide information",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[flag(
        "format",
        'f',
        Text,
        "string",
        "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    )],
};

/// `system df`
pub(crate) static SYSTEM_DF: Command = Command {
    path: "system df",
    paths: &["system df"],
    tail: "[OPTIONS]",
    short: "Show docker disk usage",
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
        flag("verbose", 'v', Bool, "", "Show detailed information on space usage"),
    ],
};

/// `system prune`
pub(crate) static SYSTEM_PRUNE: Command = Command {
    path: "system prune",
    paths: &["system prune"],
    tail: "[OPTIONS]",
    short: "Remove unused data",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[
        flag("all", 'a', Bool, "", "Remove all unused images not just dangling ones"),
        flag("filter", '\0', List, "filter", "Provide filter values (e.g. \"label=<key>=<value>\")"),
        flag("force", 'f', Bool, "", "Do not prompt for confirmation"),
        flag("volumes", '\0', Bool, "", "Prune anonymous volumes"),
    ],
};

/// `system events`
pub(crate) static SYSTEM_EVENTS: Command = Command {
    path: "system events",
    paths: &["system events", "events"],
    tail: "[OPTIONS]",
    short: "Get real time events from the server",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[
        flag("filter", 'f', List, "filter", "Filter output based on conditions provided"),
        flag(
            "format",
            '\0',
            Text,
            "string",
            "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
        ),
        flag("since", '\0', Text, "string", "Show all events created since timestamp"),
        flag("until", '\0', Text, "string", "Stream events until this timestamp"),
    ],
};

/// `version`
pub(crate) static VERSION: Command = Command {
    path: "version",
    paths: &["version"],
    tail: "[OPTIONS]",
    short: "Show the Docker version information",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[flag(
        "format",
        'f',
        Text,
        "string",
        "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    )],
};

/// `inspect`
pub(crate) static INSPECT: Command = Command {
    path: "inspect",
    paths: &["inspect"],
    tail: "[OPTIONS] NAME|ID [NAME|ID...]",
    short: "Return low-level information on Docker objects",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[
        hidden("as", Text, "string"),
        flag(
            "format",
            'f',
            Text,
            "string",
            "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
        ),
        flag("size", 's', Bool, "", "Display total file sizes if the type is container"),
        flag("type", '\0', Text, "string", "Only inspect objects of the given type"),
    ],
};

/// `doctor`
pub(crate) static DOCTOR: Command = Command {
    path: "doctor",
    paths: &["doctor"],
    tail: "[storage]",
    short: "Tell what this host can do for containers",
    long: "",
    args: Args::AtMost(1),
    options_first: false,
    flags: &[],
};

/// Everything in this file.
pub(super) static ALL: &[&Command] =
    &[&SYSTEM_DF, &SYSTEM_PRUNE, &SYSTEM_INFO, &SYSTEM_EVENTS, &VERSION, &INSPECT, &DOCTOR];
