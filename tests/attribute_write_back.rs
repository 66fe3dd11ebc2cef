//! `&mut` arguments and `&mut self` of `#[timeout]`: changed all together when the call returns `Ok`, else not at all.

use std::{collections::BTreeMap, convert::Infallible, process, thread, time::Duration};

use serde::{Deserialize, Serialize};
use timeout_runtime::{TimedOut, timeout};

/// How a body ends after it has changed everything.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum End {
    Well,
    Late,
    Panic,
    Exit,
    Crash,
}

impl End {
    fn come(self) {
        match self {
            Self::Well => {}
            Self::Late => thread::sleep(Duration::from_secs(600)),
            Self::Panic => panic!("on purpose"),
            Self::Exit => process::exit(0),
            Self::Crash => process::abort(),
        }
    }

    fn limit(self) -> Duration {
        if let Self::Late = self { Duration::from_millis(100) } else { Duration::from_secs(60) }
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

        impl Game {
            #[timeout(end.limit() $(, start = $start)?)]
            fn play(&mut self, log: &mut Vec<String>, mut cells: &mut [u8], count: &mut u32, end: End) -> u32 {
                self.moves += 1;
                self.board.push(9);
                log.push(format!("move {}", self.moves));
                while let [cell, rest @ ..] = cells {
                    *cell += 1;
                    cells = rest;
                }
                *count += 1;
                end.come();
                self.moves
            }
        }

        #[test]
        fn all_changes_come_home_with_the_value() {
            let mut game = Game { board: vec![], moves: 0 };
            let (mut log, mut cells, mut count) = (vec!["start".to_owned()], [1, 2, 3], 0);
            assert_eq!(game.play(&mut log, &mut cells[1..], &mut count, End::Well).unwrap(), 1);
            assert_eq!(game, Game { board: vec![9], moves: 1 });
            assert_eq!(log, ["start", "move 1"]);
            assert_eq!((cells, count), ([1, 3, 4], 1));
        }

        #[test]
        fn a_failed_call_changes_nothing() {
            for end in [End::Late, End::Panic, End::Exit, End::Crash] {
                let mut game = Game { board: vec![], moves: 0 };
                let (mut log, mut cells, mut count) = (vec!["start".to_owned()], [1, 2, 3], 0);
                assert!(game.play(&mut log, &mut cells, &mut count, end).is_err(), "{end:?}");
                assert_eq!(game, Game { board: vec![], moves: 0 }, "{end:?}");
                assert_eq!(log, ["start"], "{end:?}");
                assert_eq!((cells, count), ([1, 2, 3], 0), "{end:?}");
            }
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
