//! The session keyring, where the kernel keeps secrets of a login.

use std::ffi::CStr;
use std::io;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
const KEYCTL_SETPERM: libc::c_long = 5;
/// All for the possessor; view and search for the user.
const PERMISSIONS: libc::c_long = 0x3f09_0000;

/// Gives the calling process a new, empty session keyring of that name in place of the one it has inherited.
///
/// # Errors
/// What `keyctl` answers; ENOSYS where the kernel has no keys.
pub fn join_session(name: &CStr) -> io::Result<()> {
    // SAFETY: the name is a C string that outlives the call.
    let keyring = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if keyring < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes numbers only.
    if unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, keyring, PERMISSIONS) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
