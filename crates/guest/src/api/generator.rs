//! What makes completions.

use std::pin::Pin;

use confide_engine::process::EngineClient;
use confide_engine::protocol::{Event, Failure};
use confide_engine::{ChatRequest, KeyHolder};
use futures_util::{FutureExt as _, Stream, stream};

/// What happens to one request, in order; ends after [`Event::Finished`] or [`Event::Failed`]. Dropping it stops
/// the request.
pub type Events = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// Makes completions: the engine process, or a script in tests.
pub trait Generator: Send + Sync + 'static {
    /// Starts a request of `holder`. Requests run side by side.
    ///
    /// # Errors
    /// The request is refused at once, or the engine is gone.
    fn generate(&self, holder: Option<KeyHolder>, request: ChatRequest) -> Result<Events, Failure>;

    /// Why no request can be answered any more, if so.
    fn failure(&self) -> Option<Failure>;
}

impl Generator for EngineClient {
    fn generate(&self, holder: Option<KeyHolder>, request: ChatRequest) -> Result<Events, Failure> {
        let mut events = self.chat(holder, request)?;
        Ok(Box::pin(stream::poll_fn(move |context| events.poll_next(context))))
    }

    fn failure(&self) -> Option<Failure> {
        self.closed().now_or_never()
    }
}
