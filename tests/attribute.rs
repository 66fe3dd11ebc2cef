//! `#[timeout]` on every kind of function and method there is: the value comes home, and what was written stays.

use std::{
    borrow::Cow,
    fmt::{Debug, Display},
    process,
    rc::Rc,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use timeout_runtime::{TimedOut, timeout};

/// Long enough for any machine: nothing in this file waits for it.
const AMPLE: u32 = 60;

#[timeout(AMPLE)]
fn process_of_the_body() -> u32 {
    process::id()
}

#[test]
fn the_body_runs_in_another_process() {
    assert_ne!(process_of_the_body().unwrap(), process::id());
}

mod free_functions {
    use super::*;

    #[timeout(AMPLE)]
    fn nothing() {}

    #[test]
    fn without_arguments_and_result() {
        let done: Result<(), TimedOut> = nothing();
        done.unwrap();
    }

    #[timeout(AMPLE)]
    fn borrows(text: &str, list: &[u8], count: &Rc<u32>) -> (usize, Vec<u8>, u32) {
        (text.len(), list.to_vec(), **count)
    }

    #[test]
    fn with_borrowed_arguments() {
        assert_eq!(borrows("abc", &[1, 2], &Rc::new(3)).unwrap(), (3, vec![1, 2], 3));
    }

    #[timeout(AMPLE)]
    fn takes(text: String, mut list: Vec<u8>) -> String {
        list.push(b'!');
        text + str::from_utf8(&list).unwrap()
    }

    #[test]
    fn with_arguments_by_value() {
        assert_eq!(takes("a".to_owned(), vec![b'b']).unwrap(), "ab!");
    }

    struct Pair {
        left: u32,
        right: u32,
    }

    #[timeout(AMPLE)]
    fn patterns(
        (a, mut b): (u32, u32),
        [c, .., d]: [u32; 4],
        &e: &u32,
        Pair { left, right: f }: Pair,
        _: u32,
    ) -> Vec<u32> {
        b += 1;
        vec![a, b, c, d, e, left, f]
    }

    #[test]
    fn with_patterns() {
        let all = patterns((1, 1), [3, 0, 0, 4], &5, Pair { left: 6, right: 7 }, 8).unwrap();
        assert_eq!(all, [1, 2, 3, 4, 5, 6, 7]);
    }

    #[timeout(AMPLE)]
    fn leaves_early(text: &str) -> Result<u32, String> {
        if text.is_empty() {
            return Ok(0);
        }
        let number = text.parse::<u32>().map_err(|error| error.to_string())?;
        Ok(number)
    }

    #[test]
    fn with_return_and_question_mark() {
        assert_eq!(leaves_early("").unwrap(), Ok(0));
        assert_eq!(leaves_early("12").unwrap(), Ok(12));
        assert_eq!(leaves_early("twelve").unwrap(), Err("invalid digit found in string".to_owned()));
    }

    #[timeout(AMPLE)]
    fn factorial(n: u64) -> u64 {
        if n == 0 { 1 } else { n * factorial(n - 1).unwrap() }
    }

    #[test]
    fn that_recurse() {
        assert_eq!(factorial(4).unwrap(), 24);
    }

    #[test]
    fn nested_in_another() {
        #[timeout(AMPLE)]
        fn inner(a: u32) -> u32 {
            #[timeout(AMPLE)]
            fn innermost(a: u32) -> u32 {
                a + 1
            }
            innermost(a).unwrap() * 2
        }
        assert_eq!(inner(1).unwrap(), 4);
    }

    /// # Safety
    /// `pointer` must point to a number.
    #[timeout(AMPLE)]
    #[expect(unsafe_code, reason = "this is what is tested")]
    unsafe fn dereferences(pointer: *const u32) -> u32 {
        // SAFETY: the caller's promise; the child has the same memory.
        unsafe { *pointer }
    }

    #[test]
    fn that_are_unsafe() {
        let number = 5;
        #[expect(unsafe_code, reason = "this is what is tested")]
        // SAFETY: the pointer comes from a reference.
        let read = unsafe { dereferences(&number) };
        assert_eq!(read.unwrap(), 5);
    }

    #[timeout(AMPLE)]
    fn with_inner_attributes() -> u32 {
        #![allow(unused_variables)]
        let unused = 1;
        2
    }

    #[test]
    fn with_attributes_inside() {
        assert_eq!(with_inner_attributes().unwrap(), 2);
    }

    #[timeout(AMPLE)]
    fn panics_for_ever() -> ! {
        panic!("this is the end")
    }

    #[timeout(AMPLE)]
    fn exits_for_ever(log: &mut dyn FnMut()) -> ! {
        log();
        process::exit(3)
    }

    #[timeout(AMPLE)]
    fn may_never_return(never: bool) -> u32 {
        if never {
            process::abort();
        }
        7
    }

    #[test]
    fn that_never_return() {
        let ended: Result<std::convert::Infallible, TimedOut> = panics_for_ever();
        assert!(ended.unwrap_err().is_panic());
        assert!(exits_for_ever(&mut || {}).is_err());
        assert_eq!(may_never_return(false).unwrap(), 7);
        assert!(may_never_return(true).unwrap_err().is_crash());
    }

    #[timeout(AMPLE)]
    fn hands_over<'a>(text: &'a str, _other: &str) -> Cow<'a, str> {
        Cow::Borrowed(text)
    }

    #[test]
    fn that_return_a_cow() {
        assert_eq!(hands_over("text", "").unwrap(), "text");
    }
}

mod generic_functions {
    use super::*;

    #[timeout(AMPLE)]
    fn repeats<T, const N: usize>(value: &T) -> Vec<T>
    where
        T: Clone + Serialize + DeserializeOwned,
    {
        vec![value.clone(); N]
    }

    #[timeout(AMPLE)]
    fn shows(value: impl Display, more: &impl Debug) -> String {
        format!("{value} {more:?}")
    }

    #[timeout(AMPLE)]
    fn applies(function: impl Fn(&mut u32), pointer: fn(&mut u32), boxed: Box<dyn FnOnce(u32) -> u32 + '_>) -> u32 {
        let mut number = 1;
        function(&mut number);
        pointer(&mut number);
        boxed(number)
    }

    #[timeout(AMPLE)]
    fn longest<'a, 'b: 'a, I: Iterator<Item = &'a str>>(words: I, at_least: &'b str) -> usize {
        words.chain([at_least]).map(str::len).max().unwrap_or(0)
    }

    #[test]
    fn with_types_constants_and_lifetimes() {
        assert_eq!(repeats::<_, 3>(&"a".to_owned()).unwrap(), ["a", "a", "a"]);
        assert_eq!(shows(1, &"two").unwrap(), "1 \"two\"");
        let factor = 10;
        let sum = applies(|number| *number += 2, |number| *number += 3, Box::new(|number| number * factor));
        assert_eq!(sum.unwrap(), 60);
        assert_eq!(longest(["a", "bbb"].into_iter(), "cc").unwrap(), 3);
    }
}

mod methods {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Stack<T> {
        items: Vec<T>,
    }

    impl<T: Clone + Debug + Serialize + DeserializeOwned> Stack<T> {
        const FIRST: usize = 0;

        #[timeout(AMPLE)]
        fn new(items: &[T]) -> Self {
            Self { items: items.to_vec() }
        }

        #[timeout(AMPLE)]
        fn first(&self) -> Option<T> {
            self.items.get(Self::FIRST).cloned()
        }

        #[timeout(AMPLE)]
        fn push(&mut self, item: T) -> usize {
            self.items.push(item);
            self.items.len()
        }

        #[timeout(AMPLE)]
        #[expect(clippy::needless_arbitrary_self_type, reason = "this is what is tested")]
        fn push_typed(self: &mut Self, item: T) -> usize {
            self.items.push(item);
            self.items.len()
        }

        #[timeout(AMPLE)]
        fn into_last(mut self) -> Option<T> {
            self.items.pop()
        }

        #[timeout(AMPLE)]
        fn unbox(self: Box<Self>) -> Self {
            *self
        }

        #[timeout(AMPLE)]
        fn shared(self: &Rc<Self>) -> usize {
            Rc::strong_count(self)
        }
    }

    #[test]
    fn with_every_receiver() {
        let mut stack = Stack::new(&[1, 2]).unwrap();
        assert_eq!(stack.first().unwrap(), Some(1));
        assert_eq!(stack.push(3).unwrap(), 3);
        assert_eq!(stack.push_typed(4).unwrap(), 4);
        let stack = Rc::new(Box::new(stack).unbox().unwrap());
        assert_eq!(stack.items, [1, 2, 3, 4]);
        assert_eq!(stack.shared().unwrap(), 1);
        assert_eq!(Rc::into_inner(stack).unwrap().into_last().unwrap(), Some(4));
    }

    trait Shape {
        type Unit: Display + Serialize + DeserializeOwned;

        fn area(&self) -> Result<Self::Unit, TimedOut>;

        #[timeout(AMPLE)]
        fn describe(&self, name: &str) -> String {
            format!("{name} of {}", self.area().unwrap())
        }
    }

    struct Square(u32);

    impl Shape for Square {
        type Unit = u32;

        #[timeout(AMPLE)]
        fn area(&self) -> Self::Unit {
            self.0 * self.0
        }
    }

    #[test]
    fn of_traits() {
        let square = Square(3);
        assert_eq!(square.area().unwrap(), 9);
        assert_eq!(square.describe("square").unwrap(), "square of 9");
        let object: &dyn Shape<Unit = u32> = &square;
        assert_eq!(object.describe("object").unwrap(), "object of 9");
    }
}

mod what_was_written {
    use super::*;

    mod inner {
        use super::*;

        #[timeout(AMPLE)]
        pub(super) fn visible() -> u32 {
            1
        }

        #[cfg(any())]
        #[timeout(AMPLE)]
        pub(super) fn visible() -> NoSuchType {}
    }

    #[test]
    fn visibility_and_cfg_stay() {
        assert_eq!(inner::visible().unwrap(), 1);
    }

    #[timeout(AMPLE)]
    fn fails() {
        panic!("on purpose");
    }

    #[timeout(AMPLE)]
    #[track_caller]
    fn fails_tracked_already() {
        panic!("on purpose");
    }

    trait Fails {
        // An object has no caller's line to pass on unless the trait asks for it.
        #[track_caller]
        fn fails(&mut self, count: &mut u32) -> Result<(), TimedOut>;
    }

    impl Fails for u32 {
        #[timeout(AMPLE)]
        fn fails(&mut self, count: &mut u32) {
            *count += *self;
            panic!("on purpose");
        }
    }

    #[test]
    fn an_error_names_the_line_of_the_call() {
        let line = |error: TimedOut| {
            assert!(error.called_from().file().ends_with("attribute.rs"), "{}", error.called_from());
            error.called_from().line()
        };
        assert_eq!(line(fails().unwrap_err()), line!());
        assert_eq!(line(fails_tracked_already().unwrap_err()), line!());
        let object: &mut dyn Fails = &mut 1;
        assert_eq!(line(object.fails(&mut 2).unwrap_err()), line!());
    }

    #[test]
    fn an_error_names_the_function() {
        let name = fails().unwrap_err().function().to_owned();
        assert!(name.ends_with("what_was_written::fails"), "{name}");
    }

    mod a_macro {
        use super::*;

        macro_rules! timed {
            ($(#[$attr:meta])* $name:ident($list:pat => $ty:ty) -> $result:ty, $limit:expr, $grace:literal, $body:block) => {
                $(#[$attr])*
                #[timeout($limit, grace = $grace)]
                pub(super) fn $name($list: $ty) -> $result $body
            };
        }

        timed!(/// Counts.
            counts(list => &mut Vec<u8>) -> usize, 60s, 1, { list.push(0); list.len() });
        timed!(#[inline] first([first, ..] => [u8; 2]) -> u8, 2 * 30, 250ms, { first });

        #[test]
        fn may_write_the_function() {
            let mut list = vec![1];
            assert_eq!(counts(&mut list).unwrap(), 2);
            assert_eq!(list, [1, 0]);
            assert_eq!(first([7, 8]).unwrap(), 7);
        }
    }
}

common::whole_file::leaves_no_process!();

mod common;
