//! A standard stream of this process, turned to somewhere else for a while.

use std::{
    fs,
    io::{PipeReader, PipeWriter, Read, Seek, pipe},
    os::fd::{AsRawFd, RawFd},
};

use super::raw;

/// Where a stream goes.
enum To {
    File(fs::File),
    Pipe(PipeReader),
}

/// A stream turned away until dropped.
pub(crate) struct Turned {
    fd: RawFd,
    before: Option<RawFd>,
    to: Option<To>,
}

impl Turned {
    /// Turns `fd` to a file.
    pub(crate) fn to_file(fd: RawFd) -> Turned {
        let path = std::env::temp_dir().join(format!("timeout-suite-stream-{}", std::process::id()));
        let file = fs::File::options().read(true).append(true).create_new(true).open(&path).unwrap();
        fs::remove_file(path).unwrap();
        let before = raw::dup(fd);
        raw::dup_onto(file.as_raw_fd(), fd);
        Turned { fd, before, to: Some(To::File(file)) }
    }

    /// Turns `fd` to a pipe.
    pub(crate) fn to_pipe(fd: RawFd) -> Turned {
        let (read, write): (_, PipeWriter) = pipe().unwrap();
        let before = raw::dup(fd);
        raw::dup_onto(write.as_raw_fd(), fd);
        Turned { fd, before, to: Some(To::Pipe(read)) }
    }

    /// Turns `fd` to nowhere.
    pub(crate) fn to_null(fd: RawFd) -> Turned {
        let null = fs::File::options().write(true).open("/dev/null").unwrap();
        let before = raw::dup(fd);
        raw::dup_onto(null.as_raw_fd(), fd);
        Turned { fd, before, to: None }
    }

    /// Closes `fd`.
    pub(crate) fn closed(fd: RawFd) -> Turned {
        let before = raw::dup(fd);
        raw::close(fd);
        Turned { fd, before, to: None }
    }

    /// Turns the stream back and gives what was written to it.
    pub(crate) fn end(mut self) -> String {
        self.turn_back();
        let mut text = String::new();
        match self.to.take() {
            None => {}
            Some(To::File(mut file)) => {
                file.rewind().unwrap();
                file.read_to_string(&mut text).unwrap();
            }
            Some(To::Pipe(mut read)) => {
                read.read_to_string(&mut text).unwrap();
            }
        }
        text
    }

    fn turn_back(&mut self) {
        if let Some(before) = self.before.take() {
            raw::dup_onto(before, self.fd);
            raw::close(before);
        }
    }
}

impl Drop for Turned {
    fn drop(&mut self) {
        self.turn_back();
    }
}
