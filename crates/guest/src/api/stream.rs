//! A completion as server-sent events.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use confide_engine::protocol::Event;
use futures_util::StreamExt as _;
use http::HeaderMap;
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::admission::Slot;
use super::answer::{Chunk, Head, UsageMember};
use super::fault::Fault;
use super::generator::Events;
use super::unix_now;
use crate::receipts::Draft;

/// Ends a stream in which nothing went wrong.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// The events of one answer. Dropping it stops the completion.
pub(super) struct EventStream {
    head: Head,
    usage: UsageMember,
    events: UnboundedReceiver<Event>,
    /// Written and not yet taken.
    written: VecDeque<Bytes>,
    /// What is to be signed, where the client takes it.
    receipt: Option<Draft>,
    /// What follows the last event.
    trailers: Option<HeaderMap>,
    over: bool,
}

impl EventStream {
    /// Streams `first` and what follows. The place in the engine is free when the completion ends, also where
    /// the client does not read it: what it left unread is bounded by the context.
    pub(super) fn new(
        head: Head,
        usage: UsageMember,
        receipt: Option<Draft>,
        first: Event,
        rest: Events,
        slot: Slot,
    ) -> Self {
        let (sender, events) = unbounded_channel();
        let written = VecDeque::new();
        let mut stream = Self { head, usage, events, written, receipt, trailers: None, over: false };
        stream.say(sse(&Chunk::first(&stream.head, usage)));
        let ended = is_last(&first);
        stream.write(Some(first));
        if !ended {
            tokio::spawn(pump(rest, sender, slot));
        }
        stream
    }

    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        loop {
            if let Some(bytes) = self.written.pop_front() {
                return Poll::Ready(Some(Frame::data(bytes)));
            }
            if self.over {
                return Poll::Ready(self.trailers.take().map(Frame::trailers));
            }
            let event = ready!(self.events.poll_recv(context));
            self.write(event);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over && self.written.is_empty() && self.trailers.is_none()
    }

    /// Writes one event.
    fn say(&mut self, event: Bytes) {
        if let Some(receipt) = &mut self.receipt {
            receipt.update(&event);
        }
        self.written.push_back(event);
    }

    /// Writes what an event says; the end without one is the end of the engine.
    fn write(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Text(text)) => {
                self.say(sse(&Chunk::text(&self.head, &text, self.usage)));
            }
            Some(Event::Finished { reason, usage }) => {
                self.over = true;
                self.say(sse(&Chunk::end(&self.head, reason, self.usage)));
                if self.usage == UsageMember::Present {
                    self.say(sse(&Chunk::usage(&self.head, usage)));
                }
                self.say(Bytes::from_static(DONE));
                let field = self.receipt.take().map(|receipt| receipt.sign(usage, unix_now()));
                self.trailers = field.map(|field| HeaderMap::from_iter([field]));
            }
            Some(Event::Failed(failure)) => {
                tracing::warn!(code = failure.code, "completion failed");
                self.fail(&failure.into());
            }
            None => self.fail(&Fault::EngineUnavailable),
        }
    }

    /// Ends the stream with an error, and without `[DONE]` and receipt.
    fn fail(&mut self, fault: &Fault) {
        self.over = true;
        self.receipt = None;
        self.written.push_back(event(fault.to_json()));
    }
}

/// Hands on events until the last, or until nobody takes them.
async fn pump(mut events: Events, taker: UnboundedSender<Event>, slot: Slot) {
    loop {
        let event = tokio::select! {
            () = taker.closed() => break,
            event = events.next() => event,
        };
        let Some(event) = event else { break };
        let last = is_last(&event);
        if taker.send(event).is_err() || last {
            break;
        }
    }
    drop(slot);
}

fn is_last(event: &Event) -> bool {
    !matches!(event, Event::Text(_))
}

fn sse(chunk: &impl Serialize) -> Bytes {
    event(serde_json::to_vec(chunk).expect("strings and numbers always serialise"))
}

/// One server-sent event. JSON has no line breaks outside of strings, and escapes those inside.
fn event(json: Vec<u8>) -> Bytes {
    [b"data: ", json.as_slice(), b"\n\n"].concat().into()
}
