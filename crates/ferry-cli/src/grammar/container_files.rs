//! The words of the commands on a container's files.

use super::{
    Args, Command,
    Kind::{Bool, List, Text},
    flag, own,
};

/// `container cp`
pub(crate) static CONTAINER_CP: Command = Command {
    path: "container cp",
    paths: &["container cp", "cp"],
    tail: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tdocker cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    short: "Copy files/folders between a container and the local filesystem",
    long: "Copy files/folders between a container and the local filesystem\n\nUse '-' as the source to read a tar archive from stdin\nand extract it to a directory destination in a container.\nUse '-' as the destination to stream a tar archive of a\ncontainer source to stdout.",
    args: Args::Exactly(2),
    options_first: false,
    flags: &[
        flag("archive", 'a', Bool, "", "Archive mode (copy all uid/gid information)"),
        flag("follow-link", 'L', Bool, "", "Always follow symlinks in SRC_PATH"),
        flag(
            "quiet",
            'q',
            Bool,
            "",
            "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached",
        ),
    ],
};

/// `container diff`
pub(crate) static CONTAINER_DIFF: Command = Command {
    path: "container diff",
    paths: &["container diff", "diff"],
    tail: "CONTAINER",
    short: "Inspect changes to files or directories on a container's filesystem",
    long: "",
    args: Args::Exactly(1),
    options_first: false,
    // With a second image or container the two are compared; see `takes_more`.
    flags: &[
        own("format", Text, "string", "Print 'json'"),
        own("platform", Text, "string", "Compare images for this platform. Formatted as \"os[/arch[/variant]]\""),
    ],
};

/// `container export`
pub(crate) static CONTAINER_EXPORT: Command = Command {
    path: "container export",
    paths: &["container export", "export"],
    tail: "[OPTIONS] CONTAINER",
    short: "Export a container's filesystem as a tar archive",
    long: "",
    args: Args::Exactly(1),
    options_first: false,
    flags: &[flag("output", 'o', Text, "string", "Write to a file, instead of STDOUT")],
};

/// `container commit`
pub(crate) static CONTAINER_COMMIT: Command = Command {
    path: "container commit",
    paths: &["container commit", "commit"],
    tail: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    short: "Create a new image from a container's changes",
    long: "",
    args: Args::Between(1, 2),
    options_first: true,
    flags: &[
        flag("author", 'a', Text, "string", "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")"),
        flag("change", 'c', List, "list", "Apply Dockerfile instruction to the created image"),
        flag("message", 'm', Text, "string", "Commit message"),
        flag("no-pause", '\0', Bool, "", "Disable pausing container during commit"),
        super::Flag { name: "pause", short: 'p', kind: Bool, value: "", usage: "", hidden: true, own: false },
    ],
};

/// `debug`
pub(crate) static DEBUG: Command = Command {
    path: "debug",
    paths: &["debug"],
    tail: "[OPTIONS] CONTAINER [COMMAND] [ARG...]",
    short: "Get a shell into any container, also one without a shell or that does not run",
    long: "Get a shell into any container, also one without a shell or that does not run\n\nThe tools are those of this host's static busybox, or of an image. A container\nthat runs shares its processes and network with them, and its files are the\nworking directory (/proc/1/root). Of one that does not run the files are a copy,\nand changes are gone when you leave.",
    args: Args::AtLeast(1),
    options_first: true,
    flags: &[
        flag("command", 'c', Text, "string", "Evaluate a command line instead of starting a shell"),
        flag("image", '\0', Text, "string", "Take the tools of this image (default: static busybox of this host)"),
        flag("privileged", '\0', Bool, "", "Give extended privileges to the tools"),
        flag("shell", '\0', Text, "string", "Shell to use (default \"auto\")"),
    ],
};

/// Everything in this file.
pub(super) static ALL: &[&Command] = &[&DEBUG, &CONTAINER_CP, &CONTAINER_DIFF, &CONTAINER_EXPORT, &CONTAINER_COMMIT];
