//! The words of the `context` commands: paths, arguments and flags as Docker's client names them.
//!
//! Data alone; what a flag means stands in `commands`.

use super::{
    Args, Command,
    Kind::{Bool, Map, Text},
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

/// `context create`
pub(crate) static CONTEXT_CREATE: Command = Command {
    path: "context create",
    paths: &["context create"],
    tail: "[OPTIONS] CONTEXT",
    short: "Create a context",
    long: "Create a context\n\nDocker endpoint config:\n\nNAME                DESCRIPTION\nfrom                Copy named context's Docker endpoint configuration\nhost                Docker endpoint on which to connect\nca                  Trust certs signed only by this CA\ncert                Path to TLS certificate file\nkey                 Path to TLS key file\nskip-tls-verify     Skip TLS certificate validation\n\nExample:\n\n$ docker context create my-context --description \"some description\" --docker \"host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file\"",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[
        flag("description", '\0', Text, "string", "Description of the context"),
        flag("docker", '\0', Map, "stringToString", "set the docker endpoint (default [])"),
        flag("from", '\0', Text, "string", "create context from a named context"),
    ],
};

/// `context update`
pub(crate) static CONTEXT_UPDATE: Command = Command {
    path: "context update",
    paths: &["context update"],
    tail: "[OPTIONS] CONTEXT",
    short: "Update a context",
    long: "Update a context\n\nDocker endpoint config:\n\nNAME                DESCRIPTION\nfrom                Copy named context's Docker endpoint configuration\nhost                Docker endpoint on which to connect\nca                  Trust certs signed only by this CA\ncert                Path to TLS certificate file\nkey                 Path to TLS key file\nskip-tls-verify     Skip TLS certificate validation\n\nExample:\n\n$ docker context update my-context --description \"some description\" --docker \"host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file\"",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[
        flag("description", '\0', Text, "string", "Description of the context"),
        flag("docker", '\0', Map, "stringToString", "set the docker endpoint (default [])"),
    ],
};

/// `context export`
pub(crate) static CONTEXT_EXPORT: Command = Command {
    path: "context export",
    paths: &["context export"],
    tail: "[OPTIONS] CONTEXT [FILE|-]",
    short: "Export a context to a tar archive FILE or a tar stream on STDOUT.",
    long: "",
    args: Args::Between(1, 2),
    options_first: false,
    flags: &[],
};

/// `context import`
pub(crate) static CONTEXT_IMPORT: Command = Command {
    path: "context import",
    paths: &["context import"],
    tail: "CONTEXT FILE|-",
    short: "Import a context from a tar or zip file",
    long: "",
    args: Args::Exactly(2),
    options_first: false,
    flags: &[],
};

/// `context rm`
pub(crate) static CONTEXT_RM: Command = Command {
    path: "context rm",
    paths: &["context rm", "context remove"],
    tail: "CONTEXT [CONTEXT...]",
    short: "Remove one or more contexts",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[flag("force", 'f', Bool, "", "Force the removal of a context in use")],
};

/// Everything in this file.
pub(super) static ALL: &[&Command] = &[
    &CONTEXT_LS,
    &CONTEXT_USE,
    &CONTEXT_SHOW,
    &CONTEXT_INSPECT,
    &CONTEXT_CREATE,
    &CONTEXT_UPDATE,
    &CONTEXT_EXPORT,
    &CONTEXT_IMPORT,
    &CONTEXT_RM,
];
