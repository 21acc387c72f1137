//! Panics of libraries that read what others wrote, made errors.
//!
//! A panic of the engine process ends it, and with it the guest. Text of one client must not do that to all others, so that
//! the tokenizer and the template engine run under [`catch`].

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What `work` returns; nothing if it panics. What it shares with others must stay usable after a panic: the libraries keep
/// caches, and nothing that a half-done call leaves wrong.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Option<T> {
    let outer = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    done.ok()
}

/// Whether a panic of this thread is going to be caught.
pub(crate) fn is_guarded() -> bool {
    GUARDED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_nothing_and_the_guard_ends_with_its_work() {
        assert_eq!(catch(|| 7), Some(7));
        assert_eq!(catch(|| -> u8 { panic!("a library") }), None);
        assert!(!is_guarded());
        assert_eq!(catch(|| (catch(is_guarded), is_guarded())), Some((Some(true), true)));
        assert!(!is_guarded());
    }
}
