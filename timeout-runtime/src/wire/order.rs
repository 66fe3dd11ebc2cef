//! The work of one call on its way to a worker of the fork server: what to run, how, and with which arguments.
//!
//! It goes from the host straight to the worker, over a socket that nobody else uses: a head of fixed size, a description,
//! and the arguments. The descriptors of the working directory and the standard streams travel with the head.

use serde::{Deserialize, Serialize};

use super::{codec, frame::Token};

/// How many bytes the head has.
pub(crate) const HEAD: usize = 32;

const MARK: u64 = u64::from_le_bytes(*b"an order");

/// No description is longer: the kernel bounds an environment at 6 MiB (execve(2)).
const LONGEST_DESCRIPTION: u64 = 64 << 20;

/// What stands first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) token: Token,
    pub(crate) description: u64,
    pub(crate) arguments: u64,
}

impl Head {
    pub(crate) fn to_bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let words = [MARK, self.token.0, self.description, self.arguments];
        for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        bytes
    }

    pub(crate) fn parse(bytes: &[u8; HEAD]) -> Option<Head> {
        let mut words = bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let mut next = || words.next().unwrap_or_default();
        let [mark, token, description, arguments] = [next(), next(), next(), next()];
        (mark == MARK && description <= LONGEST_DESCRIPTION).then_some(Head {
            token: Token(token),
            description,
            arguments,
        })
    }
}

/// How a call is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description<O> {
    /// The function, by its number in the program.
    pub(crate) thunk: u64,
    pub(crate) options: O,
    /// The signals that the calling thread blocks, a bit for each from 1 on.
    pub(crate) mask: u64,
    /// The environment, if it is another than the server's.
    pub(crate) environment: Option<Vec<Vec<u8>>>,
    /// Whether it was called to its caller's core, and has to let itself go from there.
    pub(crate) is_called: bool,
    /// Which of the three standard streams are open; their descriptors follow the working directory's.
    pub(crate) streams: [bool; 3],
}

impl<O: Serialize + for<'de> Deserialize<'de>> Description<O> {
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        codec::encode(self).map_err(|error| error.to_string())
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        codec::decode(bytes).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_crosses_and_nothing_else_passes_for_one() {
        let head = Head { token: Token(1), description: 2, arguments: u64::MAX };
        let bytes = head.to_bytes();
        assert_eq!(Head::parse(&bytes), Some(head));
        for at in 0..8 {
            let mut bytes = bytes;
            bytes[at] ^= 1;
            assert_eq!(Head::parse(&bytes), None);
        }
        let too_long = Head { description: u64::MAX, ..head };
        assert_eq!(Head::parse(&too_long.to_bytes()), None);
    }

    #[test]
    fn a_description_crosses() {
        let description = Description {
            thunk: 7,
            options: (true, 3u8),
            mask: 1 << 63,
            environment: Some(vec![b"A=\xff".to_vec()]),
            is_called: true,
            streams: [true, false, true],
        };
        assert_eq!(Description::parse(&description.to_bytes().unwrap()), Ok(description));
        assert!(Description::<u8>::parse(b"nonsense").is_err());
    }
}
