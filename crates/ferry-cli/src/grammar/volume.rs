//! The words of the `volume` commands: paths, arguments and flags as Docker's client names them.
//!
//! Data alone; what a flag means stands in `commands`.

use super::{
    Args, Command,
    Kind::{Bool, Bytes, List, Map, Text},
    flag, hidden, own,
};

/// `volume ls`
pub(crate) static VOLUME_LS: Command = Command {
    path: "volume ls",
    paths: &["volume ls", "volume list"],
    tail: "[OPTIONS]",
    short: "List volumes",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[
        flag("cluster", '\0', Bool, "", "Display only cluster volumes, and use cluster volume list formatting"),
        flag("filter", 'f', List, "filter", "Provide filter values (e.g. \"dangling=true\")"),
        flag(
            "format",
            '\0',
            Text,
            "string",
            "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
        ),
        flag("quiet", 'q', Bool, "", "Only display volume names"),
    ],
};

/// `volume create`
pub(crate) static VOLUME_CREATE: Command = Command {
    path: "volume create",
    paths: &["volume create"],
    tail: "[OPTIONS] [VOLUME]",
    short: "Create a volume",
    long: "",
    args: Args::AtMost(1),
    options_first: false,
    flags: &[
        flag(
            "availability",
            '\0',
            Text,
            "string",
            "Cluster Volume availability (\"active\", \"pause\", \"drain\") (default \"active\")",
        ),
        flag("driver", 'd', Text, "string", "Specify volume driver name (default \"local\")"),
        flag("group", '\0', Text, "string", "Cluster Volume group (cluster volumes)"),
        flag("label", '\0', List, "list", "Set metadata for a volume"),
        flag("limit-bytes", '\0', Bytes, "bytes", "Minimum size of the Cluster Volume in bytes"),
        flag("opt", 'o', Map, "map", "Set driver specific options (default map[])"),
        flag("required-bytes", '\0', Bytes, "bytes", "Maximum size of the Cluster Volume in bytes"),
        flag("scope", '\0', Text, "string", "Cluster Volume access scope (\"single\", \"multi\") (default \"single\")"),
        flag("secret", '\0', Map, "map", "Cluster Volume secrets (default map[])"),
        flag(
            "sharing",
            '\0',
            Text,
            "string",
            "Cluster Volume access sharing (\"none\", \"readonly\", \"onewriter\", \"all\") (default \"none\")",
        ),
        own("size", Bytes, "bytes", "Limit the volume: by a project quota, or by an image where there is none"),
        flag("topology-preferred", '\0', List, "list", "A topology that the Cluster Volume would be preferred in"),
        flag("topology-required", '\0', List, "list", "A topology that the Cluster Volume must be accessible from"),
        flag("type", '\0', Text, "string", "Cluster Volume access type (\"mount\", \"block\") (default \"block\")"),
        hidden("name", Text, "string"),
    ],
};

/// `volume rm`
pub(crate) static VOLUME_RM: Command = Command {
    path: "volume rm",
    paths: &["volume rm", "volume remove"],
    tail: "[OPTIONS] VOLUME [VOLUME...]",
    short: "Remove one or more volumes",
    long: "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[flag("force", 'f', Bool, "", "Force the removal of one or more volumes")],
};

/// `volume inspect`
pub(crate) static VOLUME_INSPECT: Command = Command {
    path: "volume inspect",
    paths: &["volume inspect"],
    tail: "[OPTIONS] VOLUME [VOLUME...]",
    short: "Display detailed information on one or more volumes",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[flag(
        "format",
        'f',
        Text,
        "string",
        "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    )],
};

/// `volume prune`
pub(crate) static VOLUME_PRUNE: Command = Command {
    path: "volume prune",
    paths: &["volume prune"],
    tail: "[OPTIONS]",
    short: "Remove unused local volumes",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[
        flag("all", 'a', Bool, "", "Remove all unused volumes, not just anonymous ones"),
        flag("filter", '\0', List, "filter", "Provide filter values (e.g. \"label=<label>\")"),
        flag("force", 'f', Bool, "", "Do not prompt for confirmation"),
    ],
};

/// `volume update`
pub(crate) static VOLUME_UPDATE: Command = Command {
    path: "volume update",
    paths: &["volume update"],
    tail: "[OPTIONS] [VOLUME]",
    short: "Update a volume (cluster volumes only)",
    long: "",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[flag(
        "availability",
        '\0',
        Text,
        "string",
        "Cluster Volume availability (\"active\", \"pause\", \"drain\") (default \"active\")",
    )],
};

const COPY: &[super::Flag] = &[
    own("live", Bool, "", "Copy though containers may write to it meanwhile"),
    own("pause", Bool, "", "Pause containers that may write to it meanwhile"),
];

/// `volume cp`
pub(crate) static VOLUME_CP: Command = Command {
    path: "volume cp",
    paths: &["volume cp"],
    tail: "[OPTIONS] SOURCE TARGET",
    short: "Copy a volume",
    long: "Copy a volume. Files share their extents where the file system can do that. One that containers run with and may write to is not copied\nunless it is said how.",
    args: Args::Exactly(2),
    options_first: false,
    flags: COPY,
};

/// `volume du`
pub(crate) static VOLUME_DU: Command = Command {
    path: "volume du",
    paths: &["volume du"],
    tail: "[VOLUME...]",
    short: "Show what volumes take up",
    long: "",
    args: Args::Any,
    options_first: false,
    flags: &[],
};

/// `volume export`
pub(crate) static VOLUME_EXPORT: Command = Command {
    path: "volume export",
    paths: &["volume export"],
    tail: "[OPTIONS] VOLUME",
    short: "Write the files of a volume as a tar archive",
    long: "",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[flag("output", 'o', Text, "string", "Write to a file, instead of STDOUT")],
};

/// `volume import`
pub(crate) static VOLUME_IMPORT: Command = Command {
    path: "volume import",
    paths: &["volume import"],
    tail: "[OPTIONS] VOLUME [FILE|-]",
    short: "Unpack a tar archive into a volume",
    long: "Unpack a tar archive, compressed or not, into a volume, which is made when it is not there. All of it, or nothing when something fails.",
    args: Args::Between(1, 2),
    options_first: false,
    flags: &[own("replace", Bool, "", "Replace the files that the volume has")],
};

/// `volume mv`
pub(crate) static VOLUME_MV: Command = Command {
    path: "volume mv",
    paths: &["volume mv"],
    tail: "VOLUME NAME",
    short: "Give a volume another name",
    long: "Give a volume another name, for the containers that have it, too. None of those may run.",
    args: Args::Exactly(2),
    options_first: false,
    flags: &[],
};

/// `volume snapshot`
pub(crate) static VOLUME_SNAPSHOT: Command = Command {
    path: "volume snapshot",
    paths: &["volume snapshot"],
    tail: "[OPTIONS] VOLUME [NAME]",
    short: "Copy a volume as it is now",
    long: "",
    args: Args::Between(1, 2),
    options_first: false,
    flags: COPY,
};

/// `volume used-by`
pub(crate) static VOLUME_USED_BY: Command = Command {
    path: "volume used-by",
    paths: &["volume used-by"],
    tail: "VOLUME",
    short: "List the containers that have a volume",
    long: "",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[],
};

/// Everything in this file.
pub(super) static ALL: &[&Command] = &[
    &VOLUME_LS,
    &VOLUME_CP,
    &VOLUME_CREATE,
    &VOLUME_DU,
    &VOLUME_EXPORT,
    &VOLUME_IMPORT,
    &VOLUME_INSPECT,
    &VOLUME_MV,
    &VOLUME_PRUNE,
    &VOLUME_RM,
    &VOLUME_SNAPSHOT,
    &VOLUME_UPDATE,
    &VOLUME_USED_BY,
];
