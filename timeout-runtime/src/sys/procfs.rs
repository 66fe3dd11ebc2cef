//! What `/proc` tells of a process, read with as few system calls as it takes.
//!
//! A directory is opened once and its files by their names in there: the kernel makes anew, for each process that is
//! asked about, every part of a path that it walks. An open file or directory stays that process's, and tells of no
//! other that gets its number later.

#![expect(unsafe_code, reason = "getdents64(2) has no wrapper that takes a small buffer")]

use std::{
    ffi::CStr,
    fs,
    io::{Cursor, Read, Write},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    Result,
    errno::Errno,
    fcntl::{OFlag, open, openat},
    libc,
    sys::{stat::Mode, uio::pread},
    unistd::Pid,
};

/// The directory of all threads of a process.
pub(crate) struct Directory(OwnedFd);

/// A file that is written anew whenever it is read from its beginning.
pub(crate) struct File(OwnedFd);

impl Directory {
    /// That of the threads of a process.
    pub(crate) fn of_threads(process: Pid) -> Result<Directory> {
        let path = Name::new(format_args!("/proc/{process}/task"))?;
        open(path.as_c_str(), OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map(Directory)
    }

    /// A file of one thread.
    pub(crate) fn file_of(&self, thread: Pid, name: &str) -> Result<File> {
        let path = Name::new(format_args!("{thread}/{name}"))?;
        openat(&self.0, path.as_c_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map(File)
    }

    /// The first few threads, which are those that began first.
    ///
    /// The kernel makes an entry for each that it lists. So the buffer is small, and more than is asked for is not read.
    pub(crate) fn numbers(&self, most: usize) -> Vec<Pid> {
        let mut found = Vec::new();
        let mut buffer = Aligned([0; 512]);
        while found.len() < most {
            let length = self.entries(&mut buffer);
            let mut rest = &buffer.0[..length];
            if rest.is_empty() {
                break;
            }
            while let Some((name, behind)) = entry(rest) {
                found.extend(name.to_str().ok().and_then(|name| name.parse().ok()).map(Pid::from_raw));
                rest = behind;
            }
        }
        found.truncate(most);
        found
    }

    fn entries(&self, buffer: &mut Aligned) -> usize {
        let Aligned(bytes) = buffer;
        // SAFETY: the kernel writes no more than the length that it is given.
        let read = unsafe { libc::syscall(libc::SYS_getdents64, self.0.as_raw_fd(), bytes.as_mut_ptr(), bytes.len()) };
        usize::try_from(read).unwrap_or(0).min(bytes.len())
    }
}

/// `struct linux_dirent64` begins at a multiple of 8.
#[repr(align(8))]
struct Aligned([u8; 512]);

/// Takes the first entry off what getdents64(2) has written: its name, and what is behind it.
fn entry(bytes: &[u8]) -> Option<(&CStr, &[u8])> {
    /// Behind the number of the file and the place in the directory.
    const LENGTH: usize = 16;
    /// Behind the length and the kind of the file.
    const NAME: usize = 19;
    let length = usize::from(u16::from_ne_bytes(bytes.get(LENGTH..LENGTH + 2)?.try_into().ok()?));
    let (entry, behind) = bytes.split_at_checked(length)?;
    Some((CStr::from_bytes_until_nul(entry.get(NAME..)?).ok()?, behind))
}

impl File {
    /// One of a thread, where it is the only one that is read of its process.
    pub(crate) fn of_thread(process: Pid, thread: Pid, name: &str) -> Result<File> {
        let path = Name::new(format_args!("/proc/{process}/task/{thread}/{name}"))?;
        open(path.as_c_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map(File)
    }

    /// Reads what it says now, as much of it as there is room for.
    pub(crate) fn read<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
        self.read_from(0, buffer)
    }

    fn read_from<'a>(&self, offset: usize, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
        loop {
            match pread(&self.0, buffer, offset as libc::off_t) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
                Ok(length) => return Ok(&buffer[..length]),
            }
        }
    }

    /// Reads a list of short words to its end, in as few pieces as the kernel gives: to each it walks from the first entry.
    pub(crate) fn list(&self) -> Result<String> {
        /// The kernel fills no more than a page at once, and leaves room in it for part of a word only.
        const PAGE: usize = 4096;
        const WORD: usize = 64;
        let (mut bytes, mut piece) = (Vec::new(), [0; PAGE]);
        loop {
            let more = self.read_from(bytes.len(), &mut piece)?;
            bytes.extend_from_slice(more);
            if more.len() < PAGE - WORD {
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }
}

/// What a process has mapped, as proc_pid_maps(5) tells it.
pub(crate) fn maps(process: Pid) -> String {
    /// Where a process has mapped more than this, the rest is not looked at: it takes too long.
    const LONGEST: u64 = 256 << 10;
    let mut maps = Vec::new();
    if let Ok(file) = fs::File::open(format!("/proc/{process}/maps")) {
        let _ = file.take(LONGEST).read_to_end(&mut maps);
    }
    String::from_utf8_lossy(&maps).into_owned()
}

/// A short path, on the stack.
struct Name(Cursor<[u8; 64]>);

impl Name {
    fn new(text: std::fmt::Arguments<'_>) -> Result<Name> {
        let mut name = Name(Cursor::new([0; 64]));
        // The byte behind it is what ends a C string.
        name.0.write_fmt(text).and_then(|()| name.0.write_all(&[0])).map_err(|_| Errno::ENAMETOOLONG)?;
        Ok(name)
    }

    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(self.0.get_ref()).unwrap_or(c"")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Barrier},
        thread,
    };

    use nix::unistd::{getpid, gettid};

    use super::*;

    #[test]
    fn a_file_is_read_anew_each_time() {
        let file = Directory::of_threads(getpid()).unwrap().file_of(gettid(), "comm").unwrap();
        let read = || String::from_utf8(file.read(&mut [0; 64]).unwrap().to_vec()).unwrap();
        for name in ["one", "two and more"] {
            fs::write(format!("/proc/self/task/{}/comm", gettid()), name).unwrap();
            assert_eq!(read(), format!("{name}\n"));
        }
        assert_eq!(file.read(&mut [0; 3]).unwrap(), b"two");
    }

    #[test]
    fn no_more_threads_are_listed_than_asked_for() {
        const OTHERS: usize = 40;
        let barrier = Arc::new(Barrier::new(OTHERS + 1));
        let wait = |barrier: Arc<Barrier>| move || barrier.wait();
        let others: Vec<_> = (0..OTHERS).map(|_| thread::spawn(wait(Arc::clone(&barrier)))).collect();
        let list = |most| Directory::of_threads(getpid()).unwrap().numbers(most);
        assert!(list(usize::MAX).len() > OTHERS && list(usize::MAX).contains(&gettid()));
        for most in [0, 1, 16, 30] {
            assert_eq!(list(most).len(), most);
        }
        barrier.wait();
        others.into_iter().for_each(|other| drop(other.join()));
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        assert_eq!(Directory::of_threads(Pid::from_raw(i32::MAX)).err(), Some(Errno::ENOENT));
        assert_eq!(File::of_thread(getpid(), gettid(), "nothing").err(), Some(Errno::ENOENT));
        assert!(Name::new(format_args!("{:65}", "")).is_err());
    }
}
