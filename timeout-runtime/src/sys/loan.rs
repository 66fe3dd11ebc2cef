//! Bytes that are lent to those who may keep the loan for longer than there are any.
//!
//! A call's arguments are sent from where they lie, by code that does not know how long they live: what it has can be
//! copied with the call, and be kept. So the bytes are looked at through a loan, which ends when their owner says so.

#![expect(unsafe_code, reason = "a reference whose end is checked at run time")]

use std::{
    ptr::NonNull,
    sync::{Arc, PoisonError, RwLock},
};

/// Bytes of somebody who may take them back.
#[derive(Debug)]
pub(crate) struct Loan(RwLock<Option<NonNull<[u8]>>>);

// SAFETY: it is a shared reference to bytes, which any thread may have.
unsafe impl Send for Loan {}
// SAFETY: as above.
unsafe impl Sync for Loan {}

impl Loan {
    /// Has `look` look at the bytes, unless they have been taken back.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let bytes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: they are there until `Lender` has taken them back, which waits for this lock.
        bytes.map(|bytes| look(unsafe { bytes.as_ref() }))
    }
}

/// Takes back what it has lent when it goes.
struct Lender(Vec<Arc<Loan>>);

impl Drop for Lender {
    fn drop(&mut self) {
        for loan in &self.0 {
            *loan.0.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

/// Lends some bytes until `meanwhile` is over, whatever it does with the loans.
pub(crate) fn lend<R>(bytes: &[&[u8]], meanwhile: impl FnOnce(&[Arc<Loan>]) -> R) -> R {
    let loan = |bytes: &&[u8]| Arc::new(Loan(RwLock::new(Some(NonNull::from(*bytes)))));
    // Here, where nobody can forget it.
    let lender = Lender(bytes.iter().map(loan).collect());
    meanwhile(&lender.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loan_ends_with_its_lender_however_that_ends() {
        let bytes = vec![1, 2, 3];
        let kept = lend(&[&bytes, b"x"], |loans| {
            assert_eq!(loans[0].look(<[u8]>::to_vec), Some(vec![1, 2, 3]));
            assert_eq!(loans[1].look(<[u8]>::len), Some(1));
            loans.to_vec()
        });
        drop(bytes);
        assert!(kept.iter().all(|loan| loan.look(<[u8]>::to_vec).is_none()));
        let kept = std::sync::Mutex::new(Vec::new());
        let panics = std::panic::AssertUnwindSafe(|| {
            lend(&[b"y"], |loans| {
                *kept.lock().unwrap() = loans.to_vec();
                std::panic::resume_unwind(Box::new(()));
            })
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(kept.lock().unwrap()[0].look(<[u8]>::len).is_none());
    }

    #[test]
    fn who_looks_is_waited_for() {
        let (looks, is_looking) = std::sync::mpsc::channel();
        let looker = lend(&[b"abc"], |loans| {
            let loan = Arc::clone(&loans[0]);
            let looker = std::thread::spawn(move || {
                loan.look(|bytes| {
                    looks.send(()).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    bytes.to_vec()
                })
            });
            is_looking.recv().unwrap();
            looker
        });
        assert_eq!(looker.join().unwrap().unwrap(), b"abc");
    }
}
