//! Calls of the driver, which may never return.

use std::time::Duration;

use super::error::GpuError;
use crate::deadline::{Unfinished, run};

/// How long the driver may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For loading a library and its first call, which initialises every GPU.
    pub start: Duration,
    /// For each call after it.
    pub call: Duration,
}

impl Default for Deadlines {
    /// Eight GPUs that no persistence daemon holds take tens of seconds to initialise; a report takes one at most.
    fn default() -> Self {
        Self { start: Duration::from_secs(180), call: Duration::from_secs(30) }
    }
}

/// What `work` returns, if it does so in time. A thread that hangs in the driver cannot be ended: it is left behind.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    call: &'static str,
    work: impl FnOnce() -> Result<T, GpuError> + Send + 'static,
) -> Result<T, GpuError> {
    match run("gpu-driver", limit, work) {
        Ok(result) => result,
        Err(Unfinished::Late) => Err(GpuError::Hung { call, seconds: limit.as_secs() }),
        Err(Unfinished::Thread) => Err(GpuError::Thread),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_call_that_returns_in_time_gives_its_result() {
        let second = Duration::from_secs(60);
        assert_eq!(within(second, "call", || Ok(7)).unwrap(), 7);
        assert!(matches!(within::<()>(second, "call", || Err(GpuError::TooMany)), Err(GpuError::TooMany)));
    }

    #[test]
    fn a_call_that_does_not_return_is_an_error() {
        let hung = within::<()>(Duration::from_millis(20), "call", || {
            loop {
                thread::park();
            }
        });
        assert!(matches!(hung, Err(GpuError::Hung { call: "call", .. })), "{hung:?}");
    }

    #[test]
    fn a_call_that_panics_is_an_error() {
        let panicked = within::<()>(Duration::from_secs(60), "call", || panic!("of this test"));
        assert!(matches!(panicked, Err(GpuError::Thread)), "{panicked:?}");
    }
}
