//! What ends a guest that serves: a device that comes, rules that change, an egress broker that is lost.

use std::thread;

use confide_egress::Guard;
use futures_util::future::select_all;
use tokio::sync::oneshot;

use super::error::BootError;
use super::hotplug;

/// Hears of all of it from the moment that it is made, each on a thread of its own.
pub(crate) struct Watch(Vec<oneshot::Receiver<BootError>>);

impl Watch {
    /// Begins to listen, to these guards, too.
    ///
    /// # Errors
    /// [`BootError::Uevents`].
    pub(crate) fn begin(guards: Vec<(&'static str, Guard)>) -> Result<Self, BootError> {
        let socket = hotplug::listen()?;
        let mut heard = vec![on_a_thread("hotplug", move || hotplug::first(&socket))?];
        for (name, guard) in guards {
            heard.push(on_a_thread(name, move || guard().into())?);
        }
        Ok(Self(heard))
    }

    /// Waits for the first of it, or until something can be heard no longer.
    pub(crate) async fn ended(self) -> BootError {
        let (first, ..) = select_all(self.0).await;
        let silent = |_| BootError::Uevents(std::io::ErrorKind::UnexpectedEof.into());
        first.unwrap_or_else(silent)
    }
}

fn on_a_thread(
    name: &str,
    wait: impl FnOnce() -> BootError + Send + 'static,
) -> Result<oneshot::Receiver<BootError>, BootError> {
    let (tell, heard) = oneshot::channel();
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(move || tell.send(wait())).map_err(BootError::Uevents)?;
    Ok(heard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_egress::{EgressError, Side};

    #[tokio::test]
    async fn the_first_that_breaks_ends_the_watch() {
        let quiet: Guard = Box::new(|| {
            loop {
                thread::park()
            }
        });
        let changed: Guard = Box::new(|| EgressError::RulesChanged { side: Side::Guest });
        let watch = Watch::begin(vec![("quiet", quiet), ("rules", changed)]).unwrap();
        assert_eq!(watch.ended().await.code(), "egress_rules_changed");
    }

    #[tokio::test]
    async fn a_guard_that_panics_is_no_guard() {
        let quiet: Guard = Box::new(|| {
            loop {
                thread::park()
            }
        });
        let panics: Guard = Box::new(|| panic!("a fault of ours"));
        let watch = Watch::begin(vec![("quiet", quiet), ("panics", panics)]).unwrap();
        assert_eq!(watch.ended().await.code(), "devices_unwatched");
    }
}
