//! The form in which an error crosses: a list of links, the outermost error first.
//!
//! A list and no nested boxes, so that neither a chain without an end nor bytes that are junk can take a stack down.

use std::{error::Error, io};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::{Form, RemoteError};

/// How many errors of a chain cross. A real chain has a handful; one whose `source` gives itself has no end.
const MAX_LINKS: usize = 128;

/// The last link of a chain that was cut.
const CUT: &str = "(the chain of sources goes on)";

/// One error of a chain.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Link {
    /// Any error that is no `io::Error`. The next link is its source.
    Text { display: String, debug: String },
    /// An `io::Error` of the system, with its code. It has no source.
    Os(i32),
    /// An `io::Error` of nothing but a kind. It has no source.
    Bare(#[serde(with = "kind")] io::ErrorKind),
    /// An `io::Error` around the error of the next link, whose source it shares.
    Around(#[serde(with = "kind")] io::ErrorKind),
}

/// The links of `error` and its sources.
pub(super) fn of(error: &(dyn Error + 'static)) -> Vec<Link> {
    let mut links = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if links.len() >= MAX_LINKS {
            links.push(Link::Text { display: CUT.into(), debug: CUT.into() });
            break;
        }
        next = match as_io(error) {
            Some(error) => of_io(error, &mut links),
            None => {
                links.push(Link::Text { display: error.to_string(), debug: format!("{error:?}") });
                error.source()
            }
        };
    }
    links
}

fn as_io<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    error.downcast_ref().or_else(|| error.downcast_ref::<RemoteError>()?.io())
}

/// Adds the links of an `io::Error`; gives what it stands around.
fn of_io<'a>(error: &'a io::Error, links: &mut Vec<Link>) -> Option<&'a (dyn Error + 'static)> {
    let kind = error.kind();
    if let Some(code) = error.raw_os_error() {
        links.push(Link::Os(code));
        return None;
    }
    if let Some(inner) = error.get_ref() {
        links.push(Link::Around(kind));
        return Some(inner);
    }
    let display = error.to_string();
    if display == io::Error::from(kind).to_string() {
        links.push(Link::Bare(kind));
    } else {
        // One of std's own with a fixed text, such as "failed to fill whole buffer", which nobody else can make.
        let debug = format!("{display:?}");
        links.extend([Link::Around(kind), Link::Text { display, debug }]);
    }
    None
}

/// Puts the error together again; says why it cannot.
pub(super) fn assemble(links: Vec<Link>) -> Result<RemoteError, &'static str> {
    if links.len() > MAX_LINKS + 2 {
        return Err("an error has too long a chain of sources");
    }
    let mut inner: Option<RemoteError> = None;
    for link in links.into_iter().rev() {
        inner = Some(match (link, inner) {
            (Link::Text { display, debug }, source) => RemoteError::text(display, debug, source),
            (Link::Os(code), None) => RemoteError(Form::Io(io::Error::from_raw_os_error(code))),
            (Link::Bare(kind), None) => RemoteError(Form::Io(io::Error::from(kind))),
            (Link::Around(kind), Some(inner)) => RemoteError(Form::Io(io::Error::new(kind, inner.into_boxed()))),
            (Link::Os(_) | Link::Bare(_), Some(_)) => return Err("an error has a source that it cannot have"),
            (Link::Around(_), None) => return Err("an error lacks the one that it stands around"),
        });
    }
    inner.ok_or("an error is missing")
}

/// The kinds of `io::Error`, which have neither numbers nor serde.
mod kind {
    use super::*;

    /// A kind by an OS code of that kind; the few that no code has, by name.
    #[derive(Serialize, Deserialize)]
    enum Told {
        LikeOs(i32),
        InvalidData,
        WriteZero,
        UnexpectedEof,
        Other,
    }

    pub(super) fn serialize<S: Serializer>(kind: &io::ErrorKind, serializer: S) -> Result<S::Ok, S::Error> {
        let told = match kind {
            io::ErrorKind::InvalidData => Told::InvalidData,
            io::ErrorKind::WriteZero => Told::WriteZero,
            io::ErrorKind::UnexpectedEof => Told::UnexpectedEof,
            io::ErrorKind::Other => Told::Other,
            // This also finds the kinds that std does not let anyone name, such as "uncategorized".
            kind => match (1..=MAX_ERRNO).find(|code| of_code(*code) == *kind) {
                Some(code) => Told::LikeOs(code),
                None => return Err(ser::Error::custom(format!("an `io::Error` of the unknown kind {kind:?}"))),
            },
        };
        told.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<io::ErrorKind, D::Error> {
        Ok(match Told::deserialize(deserializer)? {
            Told::LikeOs(code @ 1..=MAX_ERRNO) => of_code(code),
            Told::LikeOs(code) => return Err(de::Error::custom(format!("{code} is no OS error"))),
            Told::InvalidData => io::ErrorKind::InvalidData,
            Told::WriteZero => io::ErrorKind::WriteZero,
            Told::UnexpectedEof => io::ErrorKind::UnexpectedEof,
            Told::Other => io::ErrorKind::Other,
        })
    }

    /// Above every code of Linux (errno(3)).
    const MAX_ERRNO: i32 = 200;

    fn of_code(code: i32) -> io::ErrorKind {
        io::Error::from_raw_os_error(code).kind()
    }
}

#[cfg(test)]
mod tests;
