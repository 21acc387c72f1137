//! The client for programs that block: the same methods, each of which returns when it is done.
//!
//! ```no_run
//! use confide_client::{ChatRequest, Client, PolicyText, Turn, blocking};
//! use confide_policy::Loaded;
//!
//! # fn ask() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = PolicyText::parse(std::fs::read_to_string("policies/client.toml")?, Loaded::Normally)?;
//! let client = blocking::Client::new(Client::builder("https://guest.example:8443", policy)?.build())?;
//! let model = client.verdict()?.claims().model.name.clone();
//! println!("{}", client.chat(ChatRequest::new(&model).turn(Turn::user("What is an RTMR?")))?.content);
//! # Ok(())
//! # }
//! ```
//!
//! A client here has a runtime of its own, with one thread, which attests again ahead of a verdict's end and keeps
//! connections while nobody waits. It is for threads on which no runtime is: on one of those, waiting would keep other work
//! from going on, so that every method refuses it with [`ClientError::InsideRuntime`] before anything is sent.

use crate::chat::{ChatAnswer, ChatRequest, Delta};
use crate::error::ClientError;
use bytes::Bytes;
use confide_channel::{Request, Verdict};
use http::{HeaderMap, StatusCode};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use tokio::runtime::{Builder, Handle, Runtime};

/// A [client](crate::Client) and the runtime that it works on. Cheap to clone; clones share both.
#[derive(Clone)]
pub struct Client {
    client: crate::Client,
    own: Arc<Own>,
}

/// The runtime; `None` once it is being dropped.
struct Own(Option<Runtime>);

/// A whole answer. Not `Debug`: it may repeat the prompt.
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// The body, at most 16 MiB.
    pub body: Bytes,
    /// The verdict that the channel rests on.
    pub verdict: Arc<Verdict>,
}

/// An answer as it is being made. Not `Debug`.
pub struct ChatStream {
    stream: crate::ChatStream,
    own: Arc<Own>,
}

impl Client {
    /// Gives a client a runtime of its own.
    ///
    /// # Errors
    /// [`ClientError::Runtime`] where the system gives no thread.
    pub fn new(client: crate::Client) -> Result<Self, ClientError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| ClientError::Runtime(Arc::new(error)))?;
        Ok(Self { client, own: Arc::new(Own(Some(runtime))) })
    }

    /// As [`crate::Client::verdict`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn verdict(&self) -> Result<Arc<Verdict>, ClientError> {
        self.own.wait(self.client.verdict())
    }

    /// As [`crate::Client::chat`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn chat(&self, request: ChatRequest) -> Result<ChatAnswer, ClientError> {
        self.own.wait(self.client.chat(request))
    }

    /// As [`crate::Client::chat_stream`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn chat_stream(&self, request: ChatRequest) -> Result<ChatStream, ClientError> {
        let stream = self.own.wait(self.client.chat_stream(request))?;
        Ok(ChatStream { stream, own: Arc::clone(&self.own) })
    }

    /// As [`crate::Client::models`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn models(&self) -> Result<Vec<String>, ClientError> {
        self.own.wait(self.client.models())
    }

    /// As [`crate::Client::send`], with the whole body.
    ///
    /// # Errors
    /// [`ClientError`], among others for a body of more than 16 MiB.
    pub fn send(&self, request: Request) -> Result<Answer, ClientError> {
        self.own.wait(async {
            let response = self.client.send(request).await?;
            let (status, headers) = (response.status, response.headers.clone());
            let verdict = Arc::clone(&response.verdict);
            Ok(Answer { status, headers, body: response.whole().await?, verdict })
        })
    }

    /// The client itself, for what needs no waiting: its last appraisal, its endpoint.
    #[must_use]
    pub fn inner(&self) -> &crate::Client {
        &self.client
    }
}

impl ChatStream {
    /// As [`crate::ChatStream::next`].
    ///
    /// # Errors
    /// [`ClientError`], among others when the stream ends before its end is announced.
    #[expect(clippy::should_implement_trait, reason = "an error is no item: after it there is nothing more")]
    pub fn next(&mut self) -> Result<Option<Delta>, ClientError> {
        self.own.wait(self.stream.next())
    }

    /// The verdict that the channel rests on.
    #[must_use]
    pub fn verdict(&self) -> &Arc<Verdict> {
        self.stream.verdict()
    }
}

impl Own {
    /// Works on the own runtime until it is done, on a thread on which no runtime is.
    fn wait<T>(&self, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        if Handle::try_current().is_ok() {
            return Err(ClientError::InsideRuntime);
        }
        let runtime = self.0.as_ref().expect("it is there until it is dropped");
        runtime.block_on(work)
    }
}

impl Drop for Own {
    /// Without waiting: a client may be dropped on any thread.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.fmt(f)
    }
}
