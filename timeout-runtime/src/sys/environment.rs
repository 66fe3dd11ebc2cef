//! The environment of a process: looked at as a whole, and replaced as a whole.

#![expect(unsafe_code, reason = "the environment is shared with C code")]

use std::{
    env,
    ffi::{CString, OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

/// Gives every variable as `name=value`, in the order of the environment.
pub(crate) fn entries() -> Vec<CString> {
    let entry = |(name, value): (OsString, OsString)| {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend_from_slice(value.as_bytes());
        // It comes from C strings.
        CString::new(entry).ok()
    };
    env::vars_os().filter_map(entry).collect()
}

/// Whether the environment is another than these entries. It is looked at for every call, and mostly is not.
pub(crate) fn differs_from(entries: &[CString]) -> bool {
    let is = |entry: &CString, (name, value): &(OsString, OsString)| {
        let (entry, name, value) = (entry.as_bytes(), name.as_bytes(), value.as_bytes());
        entry.len() == name.len() + 1 + value.len()
            && entry.starts_with(name)
            && entry[name.len()] == b'='
            && entry.ends_with(value)
    };
    let mut variables = env::vars_os();
    !entries.iter().all(|entry| variables.next().is_some_and(|variable| is(entry, &variable)))
        || variables.next().is_some()
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
