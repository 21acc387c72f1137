//! What this crate reads that guests, local programs or whoever tells of instances wrote, as functions of bytes: what fuzzers
//! run.

use crate::fleet::discovery;
use crate::proxy::forward;
use crate::{openai, sse};
use http::StatusCode;
use std::path::Path;

/// The addresses that a discovery file names.
#[must_use]
pub fn discovered(bytes: &[u8]) -> Option<Vec<String>> {
    let found = discovery::parse(bytes, Path::new("instances.toml")).ok()?;
    Some(found.iter().map(ToString::to_string).collect())
}

/// The data of each event in a stream that comes in these pieces; none where an event is too long.
#[must_use]
pub fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<Vec<u8>>> {
    let mut decoder = sse::Decoder::default();
    let pushed = pieces.into_iter().map(|piece| decoder.push(piece).ok());
    pushed.collect::<Option<Vec<_>>>().map(|events| events.concat())
}

/// What a person is told of an error that a guest answered with this body.
#[must_use]
pub fn error_of_a_guest(body: &[u8]) -> String {
    openai::read_error(StatusCode::BAD_GATEWAY, body).to_string()
}

/// The model that the body of a local program's request names.
#[must_use]
pub fn model_of_a_request(body: &[u8]) -> Option<String> {
    forward::named(body)
}
