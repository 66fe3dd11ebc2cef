//! `&mut` arguments and `&mut self` of `#[timeout]`: changed all together when the call returns `Ok`, else not at all.

mod common;

use std::{cell::Cell, collections::BTreeMap, convert::Infallible, process, sync::LazyLock, thread, time::Duration};

use common::Mark;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use timeout_runtime::{Cancel, Reason, TimedOut, on_child, timeout};

/// How a body ends after it has changed everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum End {
    Well,
    Late,
    Panic,
    Exit,
    Crash,
    /// One of the arguments that it has changed cannot be written.
    Unwritable,
    /// … or read.
    Unreadable,
    Cancelled,
    /// It does not begin.
    NotStarted,
}

const FAILURES: [End; 8] =
    [End::Late, End::Panic, End::Exit, End::Crash, End::Unwritable, End::Unreadable, End::Cancelled, End::NotStarted];

thread_local! {
    /// Whether no child of this thread gets as far as its body.
    static REFUSES: Cell<bool> = const { Cell::new(false) };
}

impl End {
    fn come(self, count: &mut Count, running: &Mark) {
        match self {
            Self::Well => {}
            Self::Late => thread::sleep(Duration::from_secs(600)),
            Self::Panic => panic!("on purpose"),
            Self::Exit => process::exit(0),
            Self::Crash => process::abort(),
            Self::Unwritable => count.refuses = Refuses::Writing,
            Self::Unreadable => count.refuses = Refuses::Reading,
            Self::Cancelled => {
                running.now();
                thread::sleep(Duration::from_secs(600));
            }
            Self::NotStarted => unreachable!("the body runs"),
        }
    }

    fn limit(self) -> Duration {
        if let Self::Late = self { Duration::from_millis(100) } else { Duration::from_secs(60) }
    }

    fn is_told_by(self, reason: &Reason) -> bool {
        match self {
            Self::Well => false,
            Self::Late => matches!(reason, Reason::Late { .. }),
            Self::Panic => matches!(reason, Reason::Panicked { .. }),
            Self::Exit => matches!(reason, Reason::Exited { .. }),
            Self::Crash => matches!(reason, Reason::Crashed { .. }),
            Self::Unwritable | Self::Unreadable => matches!(reason, Reason::Lost { .. }),
            Self::Cancelled => matches!(reason, Reason::Cancelled),
            Self::NotStarted => matches!(reason, Reason::NotStarted(_)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Refuses {
    Nothing,
    Writing,
    Reading,
}

/// A number with impls that fail on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    number: u32,
    refuses: Refuses,
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.refuses {
            Refuses::Writing => Err(ser::Error::custom("it would rather not")),
            refuses => (self.number, refuses).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Count, D::Error> {
        match Deserialize::deserialize(deserializer)? {
            (_, Refuses::Reading) => Err(de::Error::custom("it would rather not")),
            (number, refuses) => Ok(Count { number, refuses }),
        }
    }
}

/// The same by each start method.
macro_rules! written_back {
    ($($start:ident)?) => {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        struct Game {
            board: Vec<u8>,
            moves: u32,
        }

        static CANCEL: LazyLock<Cancel> = LazyLock::new(Cancel::new);

        fn token(end: End) -> Cancel {
            if end == End::Cancelled { CANCEL.clone() } else { Cancel::new() }
        }

        impl Game {
            #[timeout(end.limit(), cancel = &token(end) $(, start = $start)?)]
            fn play(
                &mut self,
                log: &mut Vec<String>,
                count: &mut Count,
                mut cells: &mut [u8],
                end: End,
                running: &Mark,
            ) -> u32 {
                self.moves += 1;
                self.board.push(9);
                log.push(format!("move {}", self.moves));
                while let [cell, rest @ ..] = cells {
                    *cell += 1;
                    cells = rest;
                }
                count.number += 1;
                end.come(count, running);
                self.moves
            }
        }

        #[test]
        fn all_changes_come_home_with_the_value() {
            let mut game = Game { board: vec![], moves: 0 };
            let (mut log, mut cells) = (vec!["start".to_owned()], [1, 2, 3]);
            let mut count = Count { number: 0, refuses: Refuses::Nothing };
            let moves = game.play(&mut log, &mut count, &mut cells[1..], End::Well, &Mark::new());
            assert_eq!(moves.unwrap(), 1);
            assert_eq!(game, Game { board: vec![9], moves: 1 });
            assert_eq!(log, ["start", "move 1"]);
            assert_eq!((cells, count), ([1, 3, 4], Count { number: 1, refuses: Refuses::Nothing }));
        }

        #[test]
        fn a_failed_call_changes_nothing() {
            on_child(|| assert!(!REFUSES.get(), "it does not begin"));
            for end in FAILURES {
                let (mut game, running) = (Game { board: vec![], moves: 0 }, Mark::new());
                let (mut log, mut cells) = (vec!["start".to_owned()], [1, 2, 3]);
                let before = match end {
                    // No worker has this thread's copy of the hook's mind, but the arguments must be sent there.
                    End::NotStarted => Count { number: 0, refuses: Refuses::Writing },
                    _ => Count { number: 0, refuses: Refuses::Nothing },
                };
                REFUSES.set(end == End::NotStarted);
                let mut count = before;
                let result = thread::scope(|scope| {
                    if end == End::Cancelled {
                        scope.spawn(|| {
                            running.hear();
                            CANCEL.cancel();
                        });
                    }
                    game.play(&mut log, &mut count, &mut cells, end, &running)
                });
                let error = result.unwrap_err();
                assert!(end.is_told_by(error.reason()), "{end:?}: {error:?}");
                assert_eq!(game, Game { board: vec![], moves: 0 }, "{end:?}");
                assert_eq!(log, ["start"], "{end:?}");
                assert_eq!((cells, count), ([1, 2, 3], before), "{end:?}");
            }
            REFUSES.set(false);
        }

        #[timeout(60 $(, start = $start)?)]
        fn own_failure(list: &mut Vec<u8>) -> Result<(), String> {
            list.push(1);
            Err("the body has come to its end, with an error of its own".to_owned())
        }

        #[test]
        fn an_error_of_the_body_is_a_value() {
            let mut list = vec![];
            assert!(own_failure(&mut list).unwrap().is_err());
            assert_eq!(list, [1]);
        }

        #[timeout(60 $(, start = $start)?)]
        fn named_lifetimes<'a>(list: &'a mut Vec<u32>, word: &'a str) -> usize {
            let inside: &'a mut Vec<u32> = list;
            let both: [&'a mut Vec<u32>; 1] = [inside];
            both.into_iter().for_each(|list| list.push(7));
            word.len()
        }

        #[timeout(60 $(, start = $start)?)]
        fn generic<K: Ord + Serialize + for<'de> Deserialize<'de>>(
            map: &mut BTreeMap<K, u32>,
            key: K,
            _: &mut K,
            _seen: &mut u8,
        ) {
            *map.entry(key).or_default() += 1;
        }

        #[timeout(60 $(, start = $start)?)]
        fn replaced(game: &mut Game, other: &mut Game) {
            std::mem::swap(game, other);
        }

        #[timeout(60 $(, start = $start)?)]
        #[allow(unused_parens)]
        fn parenthesized(count: (&mut u32)) -> u32 {
            std::mem::replace(count, 5)
        }

        #[test]
        fn the_body_uses_the_argument_as_it_likes() {
            let mut list = vec![];
            assert_eq!(named_lifetimes(&mut list, "word").unwrap(), 4);
            assert_eq!(list, [7]);

            let mut map = BTreeMap::new();
            generic(&mut map, "key".to_owned(), &mut String::new(), &mut 0).unwrap();
            assert_eq!(map["key"], 1);

            let (mut a, mut b) = (Game { board: vec![1], moves: 1 }, Game { board: vec![], moves: 2 });
            replaced(&mut a, &mut b).unwrap();
            assert_eq!((a.moves, b.moves), (2, 1));

            let mut count = 4;
            assert_eq!(parenthesized(&mut count).unwrap(), 4);
            assert_eq!(count, 5);
        }

        trait Step: Serialize + for<'de> Deserialize<'de> {
            fn position(&mut self) -> &mut i64;

            #[timeout(60 $(, start = $start)?)]
            fn step(&mut self, by: i64) {
                *self.position() += by;
            }
        }

        impl Step for i64 {
            fn position(&mut self) -> &mut i64 {
                self
            }
        }

        #[test]
        fn a_default_method_changes_its_implementor() {
            let mut position = 1;
            position.step(2).unwrap();
            assert_eq!(position, 3);
        }
    };
}

mod by_fork {
    use super::*;
    written_back!();
}

mod by_server {
    use super::*;
    written_back!(forkserver);
}

#[timeout(60)]
fn never(list: &mut Vec<u8>, code: Option<&mut i32>) -> ! {
    list.clear();
    process::exit(code.map_or(1, |code| *code))
}

#[test]
fn nothing_is_written_back_from_a_function_that_never_returns() {
    let mut list = vec![1];
    let ended: Result<Infallible, TimedOut> = never(&mut list, None);
    assert!(ended.is_err());
    assert_eq!(list, [1]);
}

common::whole_file::leaves_no_process!();
