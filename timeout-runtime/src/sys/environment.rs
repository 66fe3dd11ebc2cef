//! The environment of a process: looked at as a whole, and replaced as a whole.

#![expect(unsafe_code, reason = "the environment is shared with C code")]

use std::{
    env,
    ffi::{CString, OsStr},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

/// Gives every variable as `name=value`, in the order of the environment.
pub(crate) fn entries() -> Vec<CString> {
    let entry = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend_from_slice(value.as_bytes());
        // It comes from C strings.
        CString::new(entry).ok()
    };
    env::vars_os().filter_map(entry).collect()
}

/// Puts `entries` in the place of the whole environment. For a process with one thread.
pub(crate) fn replace(entries: &[Vec<u8>]) {
    for (name, _) in env::vars_os() {
        // SAFETY: no other thread exists that could look at the environment.
        unsafe { env::remove_var(name) };
    }
    for entry in entries {
        // A name may begin with the sign: on other systems some do.
        let Some(sign) = entry.iter().skip(1).position(|byte| *byte == b'=') else { continue };
        let (name, value) = (OsStr::from_bytes(&entry[..=sign]), OsStr::from_bytes(&entry[sign + 2..]));
        // SAFETY: as above; neither has a zero byte, as they come from C strings.
        unsafe { env::set_var(name, value) };
    }
}
