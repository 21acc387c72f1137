//! What this crate reads that the host wrote, as functions of bytes: what fuzzers run.

/// The quote in an answer of the host's quote generation service, from behind its length; none where the answer is refused.
#[must_use]
pub fn quote_of_answer(message: &[u8]) -> Option<&[u8]> {
    crate::qgs::quote(message).ok()
}
