//! The words of `buildx` besides building: builders, records of builds, images in registries.
//!
//! Data alone; what a flag means stands in `commands`. Ferry has one builder, `default`; the words that make and remove others say so.

use super::{
    Args, Command, Flag,
    Kind::{Bool, Bytes, Duration, List, Text},
    flag, hidden,
};

/// Taken by every word of `buildx`, and before it.
pub(super) const BUILDER: Flag = flag("builder", '\0', Text, "string", "Override the configured builder instance");
/// As [`BUILDER`], of words that no builder is asked for.
const UNUSED_BUILDER: Flag = hidden("builder", Text, "string");
pub(super) const DEBUG: Flag = flag("debug", 'D', Bool, "", "Enable debug logging");
const TIMEOUT: Flag = flag(
    "timeout",
    '\0',
    Duration,
    "duration",
    "Override the default timeout for loading builder status (default 20s)",
);

/// `--progress`, with what it is when nothing is said.
macro_rules! progress {
    ($default:literal) => {
        flag(
            "progress",
            '\0',
            Text,
            "string",
            concat!(
                "Set type of progress output (\"auto\", \"none\", \"plain\", \"rawjson\", \"tty\"). ",
                "Use plain to show container output (default \"",
                $default,
                "\")"
            ),
        )
    };
}

/// Options that `buildx` takes before its words.
pub(crate) static BEFORE: &[Flag] = &[BUILDER, DEBUG];

/// A command of `buildx`; each has one name.
const fn words(
    path: &'static &'static str,
    tail: &'static str,
    short: &'static str,
    args: Args,
    flags: &'static [Flag],
) -> Command {
    Command { path, paths: std::slice::from_ref(path), tail, short, long: "", args, options_first: false, flags }
}

static CREATE: Command = words(
    &"buildx create",
    "[OPTIONS] [CONTEXT|ENDPOINT]",
    "Create a new builder instance",
    Args::AtMost(1),
    &[
        flag("append", '\0', Bool, "", "Append a node to builder instead of changing it"),
        flag("bootstrap", '\0', Bool, "", "Boot builder after creation"),
        UNUSED_BUILDER,
        flag("buildkitd-config", '\0', Text, "string", "BuildKit daemon config file"),
        flag("buildkitd-flags", '\0', Text, "string", "BuildKit daemon flags"),
        hidden("config", Text, "string"),
        DEBUG,
        flag("driver", '\0', Text, "string", "Driver to use (available: \"docker\")"),
        flag("driver-opt", '\0', List, "stringArray", "Options for the driver"),
        flag("leave", '\0', Bool, "", "Remove a node from builder instead of changing it"),
        flag("name", '\0', Text, "string", "Builder instance name"),
        flag("node", '\0', Text, "string", "Create/modify node with given name"),
        flag("platform", '\0', List, "stringArray", "Fixed platforms for current node"),
        TIMEOUT,
        flag("use", '\0', Bool, "", "Set the current builder instance"),
    ],
);

static DIAL_STDIO: Command = words(
    &"buildx dial-stdio",
    "",
    "Proxy current stdio streams to builder instance",
    Args::None,
    &[
        BUILDER,
        DEBUG,
        flag("platform", '\0', Text, "string", "Target platform: this is used for node selection"),
        progress!("none"),
    ],
);

static DU: Command = words(
    &"buildx du",
    "",
    "Disk usage",
    Args::None,
    &[
        BUILDER,
        DEBUG,
        flag("filter", '\0', List, "filter", "Provide filter values"),
        flag("format", '\0', Text, "string", "Format the output"),
        TIMEOUT,
        flag("verbose", '\0', Bool, "", "Shorthand for \"--format=pretty\""),
    ],
);

static HISTORY_EXPORT: Command = words(
    &"buildx history export",
    "[OPTIONS] [REF...]",
    "Export build records into Docker Desktop bundle",
    Args::Any,
    &[
        flag("all", '\0', Bool, "", "Export all build records for the builder"),
        BUILDER,
        DEBUG,
        flag("finalize", '\0', Bool, "", "Ensure build records are finalized before exporting"),
        flag("output", 'o', Text, "string", "Output file path"),
    ],
);

static HISTORY_IMPORT: Command = words(
    &"buildx history import",
    "[OPTIONS] -",
    "Import build records into Docker Desktop",
    Args::Any,
    &[BUILDER, DEBUG, flag("file", 'f', List, "stringArray", "Import from a file path")],
);

static HISTORY_INSPECT: Command = words(
    &"buildx history inspect",
    "[OPTIONS] [REF]",
    "Inspect a build record",
    Args::AtMost(1),
    &[BUILDER, DEBUG, flag("format", '\0', Text, "string", "Format the output (default \"pretty\")")],
);

static HISTORY_ATTACHMENT: Command = words(
    &"buildx history inspect attachment",
    "[OPTIONS] [REF [DIGEST]]",
    "Inspect a build record attachment",
    Args::AtMost(2),
    &[
        BUILDER,
        DEBUG,
        flag("platform", '\0', Text, "string", "Platform of attachment"),
        flag("type", '\0', Text, "string", "Type of attachment"),
    ],
);

static HISTORY_LOGS: Command = words(
    &"buildx history logs",
    "[OPTIONS] [REF]",
    "Print the logs of a build record",
    Args::AtMost(1),
    &[
        BUILDER,
        DEBUG,
        flag("progress", '\0', Text, "string", "Set type of progress output (plain, rawjson, tty) (default \"plain\")"),
    ],
);

static HISTORY_LS: Command = words(
    &"buildx history ls",
    "[OPTIONS]",
    "List build records",
    Args::None,
    &[
        BUILDER,
        DEBUG,
        flag("filter", '\0', List, "stringArray", "Provide filter values (e.g., \"status=error\")"),
        flag("format", '\0', Text, "string", "Format the output (default \"table\")"),
        flag("local", '\0', Bool, "", "List records for current repository only"),
        flag("no-trunc", '\0', Bool, "", "Don't truncate output"),
    ],
);

static HISTORY_OPEN: Command = words(
    &"buildx history open",
    "[OPTIONS] [REF]",
    "Open a build record in Docker Desktop",
    Args::AtMost(1),
    &[BUILDER, DEBUG],
);

static HISTORY_RM: Command = words(
    &"buildx history rm",
    "[OPTIONS] [REF...]",
    "Remove build records",
    Args::Any,
    &[flag("all", '\0', Bool, "", "Remove all build records"), BUILDER, DEBUG],
);

static HISTORY_TRACE: Command = words(
    &"buildx history trace",
    "[OPTIONS] [REF]",
    "Show the OpenTelemetry trace of a build record",
    Args::AtMost(1),
    &[
        flag("addr", '\0', Text, "string", "Address to bind the UI server (default \"127.0.0.1:0\")"),
        BUILDER,
        flag("compare", '\0', Text, "string", "Compare with another build record"),
        DEBUG,
    ],
);

static IMAGETOOLS_CREATE: Command = words(
    &"buildx imagetools create",
    "[OPTIONS] [SOURCE...]",
    "Create a new image based on source images",
    Args::Any,
    &[
        flag("annotation", '\0', List, "stringArray", "Add annotation to the image"),
        flag("append", '\0', Bool, "", "Append to existing manifest"),
        BUILDER,
        DEBUG,
        flag("dry-run", '\0', Bool, "", "Show final image instead of pushing"),
        flag("file", 'f', List, "stringArray", "Read source descriptor from file"),
        flag("metadata-file", '\0', Text, "string", "Write create result metadata to a file"),
        flag("platform", 'p', List, "stringArray", "Filter specified platforms of target image"),
        flag(
            "prefer-index",
            '\0',
            Bool,
            "",
            "When only a single source is specified, prefer outputting an image index or manifest list instead of performing a carbon copy (default true)",
        ),
        progress!("auto"),
        flag("tag", 't', List, "stringArray", "Set reference for new image"),
    ],
);

static IMAGETOOLS_INSPECT: Command = words(
    &"buildx imagetools inspect",
    "[OPTIONS] NAME",
    "Show details of an image in the registry",
    Args::Exactly(1),
    &[
        BUILDER,
        DEBUG,
        flag(
            "format",
            '\0',
            Text,
            "string",
            "Format the output using the given Go template (default \"{{.Manifest}}\")",
        ),
        flag("raw", '\0', Bool, "", "Show original, unformatted JSON manifest"),
    ],
);

static INSPECT: Command = words(
    &"buildx inspect",
    "[NAME]",
    "Inspect current builder instance",
    Args::AtMost(1),
    &[flag("bootstrap", '\0', Bool, "", "Ensure builder has booted before inspecting"), BUILDER, DEBUG, TIMEOUT],
);

static LS: Command = words(
    &"buildx ls",
    "",
    "List builder instances",
    Args::None,
    &[
        UNUSED_BUILDER,
        DEBUG,
        flag("format", '\0', Text, "string", "Format the output (default \"table\")"),
        flag("no-trunc", '\0', Bool, "", "Don't truncate output"),
        TIMEOUT,
    ],
);

static PRUNE: Command = words(
    &"buildx prune",
    "",
    "Remove build cache",
    Args::None,
    &[
        flag("all", 'a', Bool, "", "Include internal/frontend images"),
        BUILDER,
        DEBUG,
        flag("filter", '\0', List, "filter", "Provide filter values"),
        flag("force", 'f', Bool, "", "Do not prompt for confirmation"),
        hidden("keep-storage", Bytes, "bytes"),
        flag("max-used-space", '\0', Bytes, "bytes", "Maximum amount of disk space allowed to keep for cache"),
        flag("min-free-space", '\0', Bytes, "bytes", "Target amount of free disk space after pruning"),
        flag("reserved-space", '\0', Bytes, "bytes", "Amount of disk space always allowed to keep for cache"),
        TIMEOUT,
        flag("verbose", '\0', Bool, "", "Provide a more verbose output"),
    ],
);

static RM: Command = words(
    &"buildx rm",
    "[OPTIONS] [NAME...]",
    "Remove one or more builder instances",
    Args::Any,
    &[
        flag("all-inactive", '\0', Bool, "", "Remove all inactive builders"),
        BUILDER,
        DEBUG,
        flag("force", 'f', Bool, "", "Do not prompt for confirmation"),
        flag("keep-daemon", '\0', Bool, "", "Keep the BuildKit daemon running"),
        flag("keep-state", '\0', Bool, "", "Keep BuildKit state"),
        TIMEOUT,
    ],
);

static STOP: Command = words(&"buildx stop", "[NAME]", "Stop builder instance", Args::AtMost(1), &[BUILDER, DEBUG]);

static USE: Command = words(
    &"buildx use",
    "[OPTIONS] NAME",
    "Set the current builder instance",
    Args::AtMost(1),
    &[
        BUILDER,
        DEBUG,
        flag("default", '\0', Bool, "", "Set builder as default for current context"),
        flag("global", '\0', Bool, "", "Builder persists context changes"),
    ],
);

static VERSION: Command =
    words(&"buildx version", "", "Show buildx version information", Args::None, &[UNUSED_BUILDER, DEBUG]);

/// Everything in this file.
pub(super) static ALL: &[&Command] = &[
    &CREATE,
    &DIAL_STDIO,
    &DU,
    &HISTORY_EXPORT,
    &HISTORY_IMPORT,
    &HISTORY_INSPECT,
    &HISTORY_ATTACHMENT,
    &HISTORY_LOGS,
    &HISTORY_LS,
    &HISTORY_OPEN,
    &HISTORY_RM,
    &HISTORY_TRACE,
    &IMAGETOOLS_CREATE,
    &IMAGETOOLS_INSPECT,
    &INSPECT,
    &LS,
    &PRUNE,
    &RM,
    &STOP,
    &USE,
    &VERSION,
];
