//! Running from a copy of itself that nobody can write.
//!
//! A process in a container can reach the program of the runtime through `/proc/<pid>/exe` while the runtime is at work there, and so
//! could overwrite the file on the host. From a sealed copy in memory there is nothing to write.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;

use ferry_runtime::Error;
use rustix::fs::{SealFlags, fcntl_get_seals};

use super::failed;

/// Goes on as a sealed copy, unless this is one.
pub(crate) fn ensure() -> Result<(), Error> {
    let mut program = File::open("/proc/self/exe").map_err(|error| failed("open the own program", &error))?;
    if fcntl_get_seals(&program).is_ok_and(|seals| seals.contains(SealFlags::WRITE | SealFlags::SEAL)) {
        return Ok(());
    }
    let sealed = ferry_sys::memfd::seal_program("ferry-runtime", &mut program)
        .map_err(|error| failed("make a sealed copy of the own program", &error))?;
    let path = CString::new(format!("/proc/self/fd/{}", sealed.as_raw_fd()))
        .map_err(|error| failed("name the copy", &error))?;
    let strings = |list: Vec<Vec<u8>>| list.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let arguments = strings(std::env::args_os().map(|argument| argument.into_vec()).collect());
    let environment = std::env::vars_os().map(|(name, value)| [name.into_vec(), value.into_vec()].join(&b'='));
    let environment = strings(environment.collect());
    let (arguments, environment) = arguments
        .and_then(|arguments| Ok((arguments, environment?)))
        .map_err(|error| failed("pass the arguments on", &error))?;
    Err(failed("run the sealed copy", &ferry_sys::process::execve(&path, &arguments, &environment)))
}
