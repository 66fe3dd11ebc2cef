//! Errors come back as they were, and bytes that are no error come back as none.

use std::{fmt, io::Read};

use super::*;
use crate::wire::codec;

type Boxed = Box<dyn Error + Send + Sync>;

/// An error of a type of its own, with or without a source.
#[derive(Debug)]
struct Failed(&'static str, Option<Boxed>);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed", self.0)
    }
}

impl Error for Failed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|source| source as _)
    }
}

fn failed(what: &'static str, source: impl Into<Boxed>) -> Failed {
    Failed(what, Some(source.into()))
}

fn cross(error: &(dyn Error + 'static)) -> RemoteError {
    codec::decode(&codec::encode(&RemoteError::of(error)).unwrap()).unwrap()
}

/// An error and all its sources.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source()).collect()
}

/// What can be told of each error in a chain.
fn tell(error: &(dyn Error + 'static)) -> Vec<String> {
    let io = |error: &(dyn Error + 'static)| {
        as_io(error).map(|error| (error.kind(), error.raw_os_error(), error.get_ref().map(ToString::to_string)))
    };
    chain(error).into_iter().map(|error| format!("{error} | {error:?} | {:?}", io(error))).collect()
}

#[track_caller]
fn comes_back(error: &(dyn Error + 'static)) {
    let back = cross(error).into_boxed();
    assert_eq!(tell(&*back), tell(error));
    assert_eq!(back.is::<io::Error>(), error.is::<io::Error>());
    assert_eq!(tell(&cross(&*back)), tell(error), "the second time");
}

#[test]
fn every_os_error_comes_back() {
    for code in [-1, 0, i32::MIN, i32::MAX].into_iter().chain(1..=200) {
        comes_back(&io::Error::from_raw_os_error(code));
        // Its kind may be one that std lets nobody name.
        comes_back(&io::Error::new(io::Error::from_raw_os_error(code).kind(), "reading the list"));
    }
}

#[test]
fn every_kind_comes_back() {
    use io::ErrorKind::*;
    for kind in [
        NotFound,
        PermissionDenied,
        ConnectionRefused,
        ConnectionReset,
        HostUnreachable,
        NetworkUnreachable,
        ConnectionAborted,
        NotConnected,
        AddrInUse,
        AddrNotAvailable,
        NetworkDown,
        BrokenPipe,
        AlreadyExists,
        WouldBlock,
        NotADirectory,
        IsADirectory,
        DirectoryNotEmpty,
        ReadOnlyFilesystem,
        StaleNetworkFileHandle,
        InvalidInput,
        InvalidData,
        TimedOut,
        WriteZero,
        StorageFull,
        NotSeekable,
        QuotaExceeded,
        FileTooLarge,
        ResourceBusy,
        ExecutableFileBusy,
        Deadlock,
        CrossesDevices,
        TooManyLinks,
        ArgumentListTooLong,
        Interrupted,
        Unsupported,
        UnexpectedEof,
        OutOfMemory,
        Other,
    ] {
        comes_back(&io::Error::from(kind));
        comes_back(&io::Error::new(kind, "a text"));
        comes_back(&io::Error::new(kind, Failed("a type", None)));
    }
}

#[test]
fn an_error_of_std_with_a_fixed_text_keeps_text_and_kind() {
    let error = (&[] as &[u8]).read_exact(&mut [0]).unwrap_err();
    assert!(error.get_ref().is_none());
    let back = io::Error::from(cross(&error));
    assert_eq!((back.to_string(), back.kind()), (error.to_string(), error.kind()));
    assert_eq!(format!("{back:?}"), "Custom { kind: UnexpectedEof, error: \"failed to fill whole buffer\" }");
}

#[test]
fn chains_come_back_link_by_link() {
    comes_back(&Failed("alone", None));
    comes_back(&failed("outer", failed("inner", "a text")));
    comes_back(&failed("loading", io::Error::from_raw_os_error(2)));
    comes_back(&io::Error::other(failed("around", io::Error::from_raw_os_error(13))));
    let deep = failed("c", io::Error::from(io::ErrorKind::WriteZero));
    let deep = failed("a", io::Error::new(io::ErrorKind::InvalidData, failed("b", deep)));
    comes_back(&io::Error::new(io::ErrorKind::TimedOut, io::Error::other(deep)));
    comes_back(&failed("two\nlines", "ž".repeat(100_000)));
    comes_back(&Failed("", None));
}

#[test]
fn an_io_error_is_found_deep_in_the_chain() {
    let error = failed("a", failed("b", io::Error::from_raw_os_error(2)));
    let back = cross(&error);
    let found = chain(&back).into_iter().find_map(|error| error.downcast_ref::<io::Error>());
    assert_eq!(found.and_then(io::Error::raw_os_error), Some(2));
    assert!(chain(&back).iter().all(|error| !error.is::<Failed>()));
}

#[test]
fn a_chain_without_an_end_is_cut_and_says_so() {
    #[derive(Debug)]
    struct Endless;
    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("again")
        }
    }
    impl Error for Endless {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }
    for error in [&Endless as &(dyn Error + 'static), &io::Error::other(Endless)] {
        let back = cross(error);
        let texts: Vec<_> = chain(&back).iter().map(ToString::to_string).collect();
        assert!((MAX_LINKS..=MAX_LINKS + 1).contains(&texts.len()), "{}", texts.len());
        assert_eq!(texts.last().map(String::as_str), Some(CUT));
        // It is no longer when it crosses again.
        assert_eq!(chain(&cross(&back)).len(), texts.len());
    }
}

#[test]
fn links_that_make_no_error_are_refused() {
    let text = || Link::Text { display: "x".into(), debug: "x".into() };
    let texts = |count| std::iter::repeat_with(text).take(count).collect::<Vec<_>>();
    for links in [
        vec![],
        vec![Link::Os(2), text()],
        vec![Link::Bare(io::ErrorKind::Other), text()],
        vec![Link::Around(io::ErrorKind::Other)],
        vec![text(), Link::Around(io::ErrorKind::Other), Link::Around(io::ErrorKind::NotFound)],
        texts(MAX_LINKS + 3),
        texts(10_000),
    ] {
        let bytes = codec::encode(&links).unwrap();
        assert!(codec::decode::<Vec<Link>>(&bytes).is_ok_and(|back| back == links));
        assert!(codec::decode::<RemoteError>(&bytes).is_err(), "{links:?}");
    }
    assert!(codec::decode::<RemoteError>(&codec::encode(&texts(MAX_LINKS)).unwrap()).is_ok());
}

#[test]
fn bytes_that_are_junk_never_panic() {
    let error = failed("a", io::Error::new(io::ErrorKind::StorageFull, failed("b", io::Error::from_raw_os_error(28))));
    let bytes = codec::encode(&RemoteError::of(&error)).unwrap();
    for length in 0..bytes.len() {
        assert!(codec::decode::<RemoteError>(&bytes[..length]).is_err(), "{length} bytes");
    }
    let mut refused = 0;
    for at in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        match codec::decode::<RemoteError>(&flipped) {
            // A letter of a text, or a number, is another one.
            Ok(error) => drop(tell(&error)),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > bytes.len(), "{refused} of {}", bytes.len() * 8);
}
