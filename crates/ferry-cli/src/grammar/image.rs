//! The words of the `image` commands: paths, arguments and flags as Docker's client names them.
//!
//! Data alone; what a flag means stands in `commands`.

use super::{
    Args, Command, Flag,
    Kind::{Bool, List, Strings, Text},
    flag, own,
};

const PLAIN_HTTP: Flag = own("plain-http", Bool, "", "Speak to the registry without TLS");
const TLS_CA: Flag = own("tls-ca", Text, "file", "Trust this certificate authority (PEM) too");

/// `image history`
pub(crate) static IMAGE_HISTORY: Command = Command {
    path: "image history",
    paths: &["image history", "history"],
    tail: "[OPTIONS] IMAGE",
    short: "Show the history of an image",
    long: "",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[
        flag(
            "format",
            '\0',
            Text,
            "string",
            "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
        ),
        flag("human", 'H', Bool, "", "Print sizes and dates in human readable format (default true)"),
        flag("no-trunc", '\0', Bool, "", "Don't truncate output"),
        flag(
            "platform",
            '\0',
            Text,
            "string",
            "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
        ),
        flag("quiet", 'q', Bool, "", "Only show image IDs"),
    ],
};

/// `image import`
pub(crate) static IMAGE_IMPORT: Command = Command {
    path: "image import",
    paths: &["image import", "import"],
    tail: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    short: "Import the contents from a tarball to create a filesystem image",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[
        flag("change", 'c', List, "list", "Apply Dockerfile instruction to the created image"),
        flag("message", 'm', Text, "string", "Set commit message for imported image"),
        flag("platform", '\0', Text, "string", "Set platform if server is multi-platform capable"),
    ],
};

/// `image inspect`
pub(crate) static IMAGE_INSPECT: Command = Command {
    path: "image inspect",
    paths: &["image inspect"],
    tail: "[OPTIONS] IMAGE [IMAGE...]",
    short: "Display detailed information on one or more images",
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
        flag(
            "platform",
            '\0',
            Text,
            "string",
            "Inspect a specific platform of the multi-platform image.\nIf the image or the server is not multi-platform capable, the command will error out if the platform does not match.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
        ),
    ],
};

/// `image load`
pub(crate) static IMAGE_LOAD: Command = Command {
    path: "image load",
    paths: &["image load", "load"],
    tail: "[OPTIONS]",
    short: "Load an image from a tar archive or STDIN",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[
        flag("input", 'i', Text, "string", "Read from tar archive file, instead of STDIN"),
        flag(
            "platform",
            '\0',
            Strings,
            "string",
            "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
        ),
        flag("quiet", 'q', Bool, "", "Suppress the load output"),
    ],
};

/// `image ls`
pub(crate) static IMAGE_LS: Command = Command {
    path: "image ls",
    paths: &["image ls", "image list", "images"],
    tail: "[OPTIONS] [REPOSITORY[:TAG]]",
    short: "List images",
    long: "",
    args: Args::AtMost(1),
    options_first: false,
    flags: &[
        flag("all", 'a', Bool, "", "Show all images (default hides intermediate images)"),
        flag("digests", '\0', Bool, "", "Show digests"),
        flag("filter", 'f', List, "filter", "Filter output based on conditions provided"),
        flag(
            "format",
            '\0',
            Text,
            "string",
            "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
        ),
        flag("no-trunc", '\0', Bool, "", "Don't truncate output"),
        flag("quiet", 'q', Bool, "", "Only show image IDs"),
        flag("tree", '\0', Bool, "", "List multi-platform images as a tree (EXPERIMENTAL)"),
    ],
};

/// `image prune`
pub(crate) static IMAGE_PRUNE: Command = Command {
    path: "image prune",
    paths: &["image prune"],
    tail: "[OPTIONS]",
    short: "Remove unused images",
    long: "",
    args: Args::None,
    options_first: false,
    flags: &[
        flag("all", 'a', Bool, "", "Remove all unused images, not just dangling ones"),
        flag("filter", '\0', List, "filter", "Provide filter values (e.g. \"until=<timestamp>\")"),
        flag("force", 'f', Bool, "", "Do not prompt for confirmation"),
    ],
};

/// `image pull`
pub(crate) static IMAGE_PULL: Command = Command {
    path: "image pull",
    paths: &["image pull", "pull"],
    tail: "[OPTIONS] NAME[:TAG|@DIGEST]",
    short: "Download an image from a registry",
    long: "",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[
        flag("all-tags", 'a', Bool, "", "Download all tagged images in the repository"),
        flag("disable-content-trust", '\0', Bool, "", "Skip image verification (default true)"),
        PLAIN_HTTP,
        flag("platform", '\0', Text, "string", "Set platform if server is multi-platform capable"),
        flag("quiet", 'q', Bool, "", "Suppress verbose output"),
        TLS_CA,
    ],
};

/// `image push`
pub(crate) static IMAGE_PUSH: Command = Command {
    path: "image push",
    paths: &["image push", "push"],
    tail: "[OPTIONS] NAME[:TAG]",
    short: "Upload an image to a registry",
    long: "",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[
        flag("all-tags", 'a', Bool, "", "Push all tags of an image to the repository"),
        flag("disable-content-trust", '\0', Bool, "", "Skip image signing (default true)"),
        PLAIN_HTTP,
        flag(
            "platform",
            '\0',
            Text,
            "string",
            "Push a platform-specific manifest as a single-platform image to the registry.\nImage index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
        ),
        flag("quiet", 'q', Bool, "", "Suppress verbose output"),
        TLS_CA,
    ],
};

/// `image rm`
pub(crate) static IMAGE_RM: Command = Command {
    path: "image rm",
    paths: &["image rm", "image remove", "rmi", "image rmi"],
    tail: "[OPTIONS] IMAGE [IMAGE...]",
    short: "Remove one or more images",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[
        flag("force", 'f', Bool, "", "Force removal of the image"),
        flag("no-prune", '\0', Bool, "", "Do not delete untagged parents"),
        flag(
            "platform",
            '\0',
            Strings,
            "strings",
            "Remove only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
        ),
    ],
};

/// `image save`
pub(crate) static IMAGE_SAVE: Command = Command {
    path: "image save",
    paths: &["image save", "save"],
    tail: "[OPTIONS] IMAGE [IMAGE...]",
    short: "Save one or more images to a tar archive (streamed to STDOUT by default)",
    long: "",
    args: Args::AtLeast(1),
    options_first: false,
    flags: &[
        flag("output", 'o', Text, "string", "Write to a file, instead of STDOUT"),
        flag(
            "platform",
            '\0',
            Strings,
            "string",
            "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
        ),
    ],
};

/// `image tag`
pub(crate) static IMAGE_TAG: Command = Command {
    path: "image tag",
    paths: &["image tag", "tag"],
    tail: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    short: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    long: "",
    args: Args::Exactly(2),
    options_first: true,
    flags: &[],
};

/// Everything in this file.
pub(super) static ALL: &[&Command] = &[
    &IMAGE_HISTORY,
    &IMAGE_IMPORT,
    &IMAGE_INSPECT,
    &IMAGE_LOAD,
    &IMAGE_LS,
    &IMAGE_PRUNE,
    &IMAGE_PULL,
    &IMAGE_PUSH,
    &IMAGE_RM,
    &IMAGE_SAVE,
    &IMAGE_TAG,
];
