//! The channel after the verdict: the only taker of prompts.

use crate::answer::Answer;
use crate::clock::Moment;
use crate::error::ChannelError;
use crate::live::{KeyExchange, Live};
use crate::request::Request;
use crate::unattested::{self, Challenged, ChallengedChannel, UnattestedChannel};
use crate::verdict::Verdict;
use confide_policy::Attest;
use confide_verifier::Attested;
use std::fmt;
use std::sync::Arc;

/// A connection to a peer whose evidence was accepted. See the crate's documentation for what cannot be done without
/// one.
pub struct AttestedChannel {
    live: Live,
    verdict: Arc<Verdict>,
}

/// A request that was not answered.
pub struct SendError {
    /// Why.
    pub error: ChannelError,
    /// The request, where nothing of it was written: another attested channel may take it.
    pub unsent: Option<Request>,
}

impl AttestedChannel {
    /// Opens a connection with the witness of its own appraisal.
    ///
    /// The key, nonce and TLS exporter in the witness are compared with those of the live connection: a witness about
    /// another connection, or from recorded values, opens nothing. `attest` is the policy's `freshness.attest`.
    ///
    /// # Errors
    /// [`ChannelError::KeyMismatch`], [`ChannelError::NonceMismatch`], [`ChannelError::ExporterMismatch`],
    /// [`ChannelError::VerdictExpired`]. The connection is then closed and the witness used up.
    pub fn open(
        channel: ChallengedChannel,
        attested: Attested,
        attest: Attest,
    ) -> Result<Self, ChannelError> {
        if attested.spki() != channel.spki() {
            return Err(ChannelError::KeyMismatch);
        }
        if attested.nonce() != channel.nonce() {
            return Err(ChannelError::NonceMismatch);
        }
        if *attested.exporter() != channel.exporter()? {
            return Err(ChannelError::ExporterMismatch);
        }
        let verdict = Verdict::new(attested, channel.asked(), attest);
        verdict.check(Moment::now())?;
        Ok(Self { live: channel.into_live(), verdict: Arc::new(verdict) })
    }

    /// Opens a further connection to the key of a verdict that still holds, where the policy says `per-key`.
    ///
    /// This rests on the guest keeping its TLS key to itself: the verdict says that the guest drew it in memory.
    ///
    /// # Errors
    /// [`ChannelError::EveryConnection`], [`ChannelError::KeyMismatch`], [`ChannelError::VerdictExpired`],
    /// [`ChannelError::VerdictRevoked`]. The connection is then closed.
    pub fn ride(channel: UnattestedChannel, verdict: &Arc<Verdict>) -> Result<Self, ChannelError> {
        verdict.check_ride(channel.spki(), Moment::now())?;
        Ok(Self { live: channel.into_live(), verdict: Arc::clone(verdict) })
    }

    /// Lets this connection rest on a younger verdict about the same key.
    ///
    /// # Errors
    /// As [`Self::ride`].
    pub fn renew(self, verdict: &Arc<Verdict>) -> Result<Self, ChannelError> {
        verdict.check_ride(self.live.spki(), Moment::now())?;
        Ok(Self { live: self.live, verdict: Arc::clone(verdict) })
    }

    /// A further handle on the same connection, which rests on the same verdict, where the connection speaks HTTP/2 and
    /// the peer allows one more request at a time. One place is left for [`challenge_beside`](Self::challenge_beside).
    #[must_use]
    pub fn share(&self) -> Option<Self> {
        let live = self.live.share()?;
        Some(Self { live, verdict: Arc::clone(&self.verdict) })
    }

    /// Whether several requests may be under way on the connection.
    #[must_use]
    pub fn is_multiplexed(&self) -> bool {
        self.live.is_multiplexed()
    }

    /// Whether both are handles on one connection.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        self.live.is_beside(&other.live)
    }

    /// Asks the peer for evidence again, on this connection, with a new nonce, beside the requests that are under way on
    /// it. Nothing where it takes one request at a time. Other handles rest on their own verdict meanwhile.
    ///
    /// # Errors
    /// [`ChannelError`] of the future.
    pub fn challenge_beside(
        &self,
    ) -> Option<impl Future<Output = Result<Challenged, ChannelError>> + Send + use<>> {
        Some(unattested::challenge(self.live.another()?))
    }

    /// Asks the peer for evidence again, on this connection, with a new nonce. Until the new witness has opened it, this
    /// handle takes no request.
    ///
    /// # Errors
    /// [`ChannelError`]; the connection is then closed.
    pub async fn challenge(self) -> Result<Challenged, ChannelError> {
        unattested::challenge(self.live).await
    }

    /// The verdict that this channel rests on.
    #[must_use]
    pub fn verdict(&self) -> &Arc<Verdict> {
        &self.verdict
    }

    /// The key exchange of the connection.
    #[must_use]
    pub fn key_exchange(&self) -> KeyExchange {
        self.live.key_exchange()
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.live.is_closed()
    }

    /// Waits until the connection can take a request.
    ///
    /// # Errors
    /// [`ChannelError::Connection`] when it has ended.
    pub async fn ready(mut self) -> Result<Self, ChannelError> {
        self.live.ready().await?;
        Ok(self)
    }

    /// Sends one request and waits for the head of the answer. The channel comes back from the answer's body when that
    /// has been read to its end. Dropping the future, or the body, ends the request: over HTTP/1.1 with its connection,
    /// over HTTP/2 alone.
    ///
    /// # Errors
    /// [`SendError`]; the connection is then closed, or over HTTP/2 this request's part in it. [`ChannelError::VerdictExpired`] or
    /// [`ChannelError::VerdictRevoked`] when the verdict no longer holds: before a byte is written, or, where the peer is
    /// slow to take it, before the rest of it is. Over HTTP/2 a request for which the peer allows no stream before the verdict's
    /// end ends the connection, for every handle on it: also one whose future was dropped.
    pub async fn send(mut self, mut request: Request) -> Result<Answer, SendError> {
        if let Err(error) = self.verdict.check(Moment::now()) {
            return Err(SendError { error, unsent: Some(request) });
        }
        request.0.body_mut().rest_on(&self.verdict);
        let mut held = self.live.hold(request.0.body_mut(), &self.verdict);
        let sent = tokio::select! {
            biased;
            sent = self.live.send(request.0) => sent,
            error = held.ended() => Err((error, None)),
        };
        held.settle();
        match sent {
            Ok(response) => Ok(Answer::new(response, self)),
            Err((error, unsent)) => {
                let error = self.verdict.check(Moment::now()).err().unwrap_or(error);
                Err(SendError { error, unsent: unsent.map(Request) })
            }
        }
    }
}

impl fmt::Debug for AttestedChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttestedChannel").field("verdict", &self.verdict).finish_non_exhaustive()
    }
}

impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").field("error", &self.error).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The forgeries of the crate's documentation, where the fields can be seen: see the test of [`Verdict`]'s.
    #[test]
    fn the_forgeries_of_the_documentation_compile_where_the_fields_can_be_seen() {
        fn forge(verdict: Arc<Verdict>, genuine: AttestedChannel) -> AttestedChannel {
            AttestedChannel { verdict, ..genuine }
        }
        fn change(mut channel: AttestedChannel, other: Arc<Verdict>) -> AttestedChannel {
            channel.verdict = other;
            channel
        }
        let _: fn(Arc<Verdict>, AttestedChannel) -> AttestedChannel = forge;
        let _: fn(AttestedChannel, Arc<Verdict>) -> AttestedChannel = change;
        let (here, documentation) = (include_str!("attested.rs"), include_str!("lib.rs"));
        for line in ["AttestedChannel { verdict, ..genuine }", "channel.verdict = other;"] {
            assert_eq!(documentation.matches(&format!("//! {line}\n")).count(), 1, "{line}");
            assert_eq!(here.matches(&format!("            {line}\n")).count(), 1, "{line}");
        }
    }
}
