//! How a body's value comes home, found out from its type: by serde, or with its errors apart.
//!
//! Only the attribute's expansion asks: `way_home::<T>().by(&call)` is the call itself where all of `T` has serde, and a
//! call with [`ErrorsApart`] where some errors in it have none. Each question is a type whose `by` is there only for those
//! `T` that it fits, and which dereferences to the next question; the compiler takes the first `by` that is there. It asks
//! about the bounds of a generic function as it does about types.
//!
//! Where nothing fits, what comes last decides what the compiler complains of.
//!
//! What is still ugly: an error deeper in a type than the table looks is not found, and the compiler asks it for serde.

use std::{marker::PhantomData, ops::Deref};

use crate::{
    Call, Portable,
    crossing::{ByTrait, ErrorsApart, Inside, InsideOk},
};

/// Gives the first question.
#[must_use]
pub fn way_home<T>() -> Question<T, 0> {
    Question(PhantomData)
}

/// The question of the number `N` about `T`.
#[derive(Debug)]
pub struct Question<T, const N: usize>(PhantomData<fn() -> T>);

macro_rules! questions {
    ($($number:literal: [$($generics:tt)*] $value:ty => $($way:ty)?;)*) => {$(
        impl<$($generics)*> Question<$value, $number> {
            /// Gives the call that brings this value home.
            pub fn by<'a>(&self, call: &'a Call) -> questions!(@ 'a $($way)?) {
                questions!(@ call $($way)?)
            }
        }
    )*};
    (@ $a:lifetime) => { &$a Call };
    (@ $a:lifetime $way:ty) => { ErrorsApart<$a, $way> };
    (@ $call:ident) => { $call };
    (@ $call:ident $way:ty) => { ErrorsApart::new($call) };
}

questions! {
    // All of it has serde.
    0: [T: Portable] T => ;
    // A result whose value alone has, or a few of these. If its error has no other way either, that is told then.
    1: [T: Portable, E] Result<T, E> => ByTrait;
    1: [T: Portable, E] Option<Result<T, E>> => Inside<ByTrait>;
    1: [T: Portable, E] Vec<Result<T, E>> => Inside<ByTrait>;
    // The same in the `Ok` of another result, whose error has serde …
    2: [T: Portable, F, E: Portable] Result<Result<T, F>, E> => InsideOk<ByTrait>;
    2: [T: Portable, F, E: Portable] Result<Option<Result<T, F>>, E> => InsideOk<Inside<ByTrait>>;
    2: [T: Portable, F, E: Portable] Result<Vec<Result<T, F>>, E> => InsideOk<Inside<ByTrait>>;
    // … or has not.
    3: [T: Portable, F, E] Result<Result<T, F>, E> => Inside<ByTrait>;
    3: [T: Portable, F, E] Result<Option<Result<T, F>>, E> => Inside<Inside<ByTrait>>;
    3: [T: Portable, F, E] Result<Vec<Result<T, F>>, E> => Inside<Inside<ByTrait>>;
    // Nothing fits. The value of a result lacks serde: the error is to be complained of only if it lacks it, too.
    4: [T, E: Portable] Result<T, E> => ;
    5: [T, E] Result<T, E> => ByTrait;
    6: [T] T => ;
}

macro_rules! next_question {
    ($($number:literal)*) => {$(
        impl<T> Deref for Question<T, $number> {
            type Target = Question<T, { $number + 1 }>;

            fn deref(&self) -> &Self::Target {
                &Question(PhantomData)
            }
        }
    )*};
}

next_question!(0 1 2 3 4 5);

#[cfg(test)]
mod tests {
    use std::{any::type_name_of_val, error::Error, fmt, io};

    use serde::{Serialize, de::DeserializeOwned};

    use super::way_home;
    use crate::{Call, PortableError};

    macro_rules! way {
        ($($result:ty),* $(,)?) => {
            [$(type_name_of_val(&way_home::<$result>().by(&Call::new(1)))
                .replace("timeout_runtime::crossing::", "")
                .replace("'_, ", "")),*]
        };
    }

    const BY_SERDE: &str = "&timeout_runtime::call::Call";

    #[test]
    fn what_has_serde_goes_by_serde() {
        type Alias = Result<Vec<u8>, String>;
        let ways = way![
            (), u8, String, Vec<u8>, Option<(char, bool)>, Alias, Result<(), ()>, Result<Result<u8, u8>, String>,
            Vec<Result<u8, String>>, crate::RemoteError, Result<u8, crate::RemoteError>,
        ];
        assert!(ways.iter().all(|way| way == BY_SERDE), "{ways:?}");
        fn of_bounds<T: Serialize + DeserializeOwned, E: Serialize + DeserializeOwned>() -> [String; 2] {
            way![Vec<T>, Result<T, E>]
        }
        assert_eq!(of_bounds::<u8, u8>(), [BY_SERDE; 2]);
    }

    #[test]
    fn errors_without_serde_go_apart() {
        let ways = way![io::Result<u8>, fmt::Result, Result<(), Box<dyn Error + Send + Sync>>];
        assert_eq!(ways, ["ErrorsApart<ByTrait>"; 3]);
        fn of_bounds<T: Serialize + DeserializeOwned, E: PortableError>() -> [String; 2] {
            way![Result<Vec<T>, io::Error>, Result<u8, E>]
        }
        assert_eq!(of_bounds::<u8, io::Error>(), ["ErrorsApart<ByTrait>"; 2]);
        assert_eq!(way![Option<io::Result<u8>>, Vec<io::Result<u8>>], ["ErrorsApart<Inside<ByTrait>>"; 2]);
        assert_eq!(way![io::Result<Result<u8, String>>], ["ErrorsApart<ByTrait>"]);
        assert_eq!(way![Result<io::Result<u8>, String>], ["ErrorsApart<InsideOk<ByTrait>>"]);
        assert_eq!(way![Result<io::Result<u8>, fmt::Error>], ["ErrorsApart<Inside<ByTrait>>"]);
        assert_eq!(way![Result<Vec<io::Result<u8>>, fmt::Error>], ["ErrorsApart<Inside<Inside<ByTrait>>>"]);
    }
}
