//! The program: where it runs, what it sees, where it is.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ferry_sys::process as sys_process;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::user::{Identity, is_set_home};
use crate::error::{Error, ErrorKind, cause_text};
use crate::plan::{ProcessPlan, c_string};
use crate::root::{Links, Root};

/// Makes the working directory where it is missing, owned by root as Docker's are.
pub(crate) fn make_cwd(cwd: &str) -> Result<(), Error> {
    let step = |error: Errno| Error::step(format!("mkdir {cwd}"), error);
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(step)?;
    let root = Root::new(&root);
    match root.open(cwd, OFlags::PATH | OFlags::DIRECTORY, Links::Follow) {
        Err(Errno::NOENT) => {}
        // What is wrong with it is said by the chdir, in words that clients know.
        _ => return Ok(()),
    }
    root.make_directory(cwd, 0o755, Links::Follow).map(drop).map_err(step)
}

/// Goes to the working directory, as the user.
pub(crate) fn enter_cwd(cwd: &str) -> Result<(), Error> {
    rustix::process::chdir(cwd)
        .map_err(|error| Error::step(format!("chdir to cwd ({cwd:?}) set in config.json failed"), error))?;
    let now = rustix::process::getcwd(Vec::new()).map_err(|error| Error::step("getcwd", error))?;
    // A descriptor of the host's, reached by some path, would show like this.
    if now.as_bytes().starts_with(b"/") {
        return Ok(());
    }
    Err(Error::internal(
        "current working directory is outside of container mount namespace root -- possible container breakout detected",
    ))
}

/// The environment, with `HOME` when it has none. A variable without `=` is passed over, as in a shell.
pub(crate) fn environment(process: &ProcessPlan, user: &Identity) -> Result<Vec<CString>, Error> {
    let mut environment: Vec<&str> = Vec::new();
    for variable in &process.environment {
        let name = variable.split_once('=').map_or(variable.as_str(), |(name, _)| name);
        // The last of a name wins, in its first place.
        let same = |known: &str| known.split_once('=').is_some_and(|(known, _)| known == name);
        match environment.iter().position(|known| same(known)) {
            Some(at) => environment[at] = variable,
            None if variable.contains('=') => environment.push(variable),
            None => {}
        }
    }
    let home = format!("HOME={}", user.home);
    if !process.environment.iter().any(|variable| is_set_home(variable)) {
        environment.retain(|variable| !variable.starts_with("HOME="));
        environment.push(&home);
    }
    environment.into_iter().map(|variable| c_string("environment variable", variable)).collect()
}

/// Finds the program as a shell would, by the environment it gets; errors in the words of Go's `exec` package.
pub(crate) fn look_up(program: &CString, environment: &[CString]) -> Result<CString, Error> {
    let name = program.to_string_lossy();
    let failed = |kind: ErrorKind, cause: &str| Error::new(kind, format!("exec: {name:?}: {cause}"));
    if program.as_bytes().contains(&b'/') {
        return match runnable(Path::new(OsStr::from_bytes(program.as_bytes()))) {
            Ok(()) => Ok(program.clone()),
            Err(Errno::ISDIR) => Err(failed(ErrorKind::CommandNotExecutable, "is a directory: permission denied")),
            Err(error @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG)) => {
                let cause = format!("stat {name}: {}", cause_text(&error.into()));
                let missing = error == Errno::NOENT;
                Err(failed(if missing { ErrorKind::CommandNotFound } else { ErrorKind::CommandNotExecutable }, &cause))
            }
            Err(error) => Err(failed(ErrorKind::CommandNotExecutable, &cause_text(&error.into()))),
        };
    }
    let path = environment.iter().find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
    for directory in path.unwrap_or_default().split(|byte| *byte == b':') {
        // An entry that is not absolute would find programs in the working directory.
        if name.is_empty() || !directory.starts_with(b"/") {
            continue;
        }
        let candidate = Path::new(OsStr::from_bytes(directory)).join(OsStr::from_bytes(program.as_bytes()));
        if runnable(&candidate).is_ok() {
            return CString::new(candidate.as_os_str().as_bytes())
                .map_err(|_| Error::internal("PATH has a NUL byte in it"));
        }
    }
    Err(failed(ErrorKind::CommandNotFound, "executable file not found in $PATH"))
}

fn runnable(path: &Path) -> Result<(), Errno> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(Errno::ISDIR);
    }
    match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        Err(Errno::NOSYS | Errno::PERM) if stat.st_mode & 0o111 != 0 => Ok(()),
        other => other,
    }
}

/// Becomes the program. The caller has been told of success already, as with runc: what the kernel has against the file (a wrong format, a
/// missing interpreter) goes to the process' stderr, and its exit code is 255.
pub(crate) fn execute(path: &CString, arguments: &[CString], environment: &[CString], preserved: u32) -> ! {
    // The channel and the socket of the start are all that is left, and the exec closes them: where the filter forbids this call their
    // other ends see the end a little later.
    let _ = sys_process::close_from(3 + preserved, &[]);
    let error = sys_process::execve(path, arguments, environment);
    let text = format!("exec {}: {}\n", path.to_string_lossy(), cause_text(&error));
    // There is nobody left to tell when this fails.
    let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
    sys_process::exit_now(255)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_of(value: &str) -> Vec<CString> {
        vec![CString::new(format!("PATH={value}")).unwrap()]
    }

    #[test]
    fn program_is_found_by_path() {
        let found = look_up(&CString::new("sh").unwrap(), &path_of("/nonexistent:/bin")).unwrap();
        assert_eq!(found.to_str().unwrap(), "/bin/sh");
        assert_eq!(look_up(&CString::new("/bin/sh").unwrap(), &[]).unwrap().to_str().unwrap(), "/bin/sh");
    }

    #[test]
    fn texts_of_failures_are_gos() {
        let failure = |program: &str, path: &str| {
            let error = look_up(&CString::new(program).unwrap(), &path_of(path)).unwrap_err();
            (error.kind(), error.to_string())
        };
        let not_found = (ErrorKind::CommandNotFound, r#"exec: "foo": executable file not found in $PATH"#.into());
        assert_eq!(failure("foo", "/bin"), not_found);
        assert_eq!(failure("foo", ""), not_found);
        assert_eq!(
            failure("/nope", ""),
            (ErrorKind::CommandNotFound, r#"exec: "/nope": stat /nope: no such file or directory"#.into())
        );
        assert_eq!(
            failure("/etc/passwd", ""),
            (ErrorKind::CommandNotExecutable, r#"exec: "/etc/passwd": permission denied"#.into())
        );
        assert_eq!(
            failure("/etc", ""),
            (ErrorKind::CommandNotExecutable, r#"exec: "/etc": is a directory: permission denied"#.into())
        );
        assert_eq!(failure("", "/bin").1, r#"exec: "": executable file not found in $PATH"#);
    }
}
