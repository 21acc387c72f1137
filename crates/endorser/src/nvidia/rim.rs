//! Answers of NVIDIA's RIM service.

use std::borrow::Cow;

use confide_evidence::hash::sha256;
use confide_evidence::nvidia::{MAX_RIM, Rim};
use confide_evidence::{hex, pem};
use serde::Deserialize;

use super::id::RimId;
use crate::error::Fault;

/// The largest answer with a RIM accepted, in bytes: the largest RIM in base64, and its names.
pub const MAX_RIM_ANSWER: usize = 2 * MAX_RIM;
/// The largest list of ids accepted, in bytes: ten thousand of the longest ones, where NVIDIA's had hundreds in 2025.
pub const MAX_RIM_LIST: usize = 1024 * 1024;
/// `rim_format` of SWID tags; the service has CoRIMs of other products.
const SWID: &str = "TCG";

/// What the service says of a RIM. There are more fields, of which nothing depends.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    rim: Cow<'a, str>,
    #[serde(borrow)]
    sha256: Cow<'a, str>,
    /// The service has it since March 2025.
    #[serde(borrow, default)]
    rim_format: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Ids<'a> {
    #[serde(borrow)]
    ids: Vec<Cow<'a, str>>,
}

/// The RIM, XML, in an answer of at most [`MAX_RIM_ANSWER`] bytes: the one that was asked for, whole, and about what its id
/// says. No signature is verified.
///
/// # Errors
/// [`Fault`].
pub fn rim_document(id: &RimId, answer: &[u8]) -> Result<Vec<u8>, Fault> {
    if answer.len() > MAX_RIM_ANSWER {
        return Err(Fault::TooLarge(MAX_RIM_ANSWER));
    }
    let json = |error: serde_json::Error| Fault::Json(error.to_string());
    let Answer { id: found, rim, sha256: said, rim_format } = serde_json::from_slice(answer).map_err(json)?;
    if found != id.as_str() {
        return Err(Fault::Other { asked: id.to_string(), found: shown(&found) });
    }
    if let Some(format) = rim_format.filter(|format| format != SWID) {
        return Err(Fault::RimFormat(shown(&format)));
    }
    let document = pem::base64(&rim).map_err(|_| Fault::Json("the field rim is not base64".to_owned()))?;
    let found = hex::encode(&sha256(&document).0);
    if !said.eq_ignore_ascii_case(&found) {
        return Err(Fault::Digest { said: shown(&said), found });
    }
    id.check(&Rim::parse(&document)?)?;
    Ok(document)
}

/// The ids of RIMs of GPUs and switches in a list, sorted. Those of other products are left away.
pub(super) fn listed(answer: &[u8]) -> Result<Vec<RimId>, Fault> {
    let Ids { ids } = serde_json::from_slice(answer).map_err(|error| Fault::Json(error.to_string()))?;
    let mut ids: Vec<RimId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
    ids.sort();
    ids.dedup();
    Ok(ids)
}

/// The beginning of what a service says, for an error.
fn shown(text: &str) -> String {
    text.chars().take(96).collect()
}
