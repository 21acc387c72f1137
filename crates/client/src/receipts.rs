//! Receipts: whether the guest signed for what was sent to it and for what came back.

use crate::ALGORITHMS;
use bytes::Bytes;
use confide_channel::{Moment, Request, Verdict};
use confide_evidence::bytes::{Bytes as Fixed, Digest};
use confide_evidence::pem;
use confide_evidence::receipt::{BodyHasher, RECEIPT_FIELD, Receipt, salted_hash};
use confide_verifier::{ReceiptFault, SaltedBodies};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rustls_pki_types::UnixTime;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

/// The most receipts of one boot that are remembered. Those with the lowest numbers are forgotten first, and then no receipt
/// with a number as low is taken. 64 Ki numbers take about 1 MiB.
const MAX_SEEN: usize = 64 * 1024;
/// The most boots whose receipts are remembered: two of each instance of the largest fleet. The one with the oldest receipt
/// makes way.
const MAX_BOOTS: usize = 256;

/// What a client does about receipts. One that comes is verified in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Receipts {
    /// An answer may come without one.
    #[default]
    WherePresent,
    /// A successful answer to a request with a body that comes without one is an error.
    Required,
    /// A guest is not asked for receipts of streamed answers, and signs none. Those of other answers come all the same.
    NotAsked,
}

/// Why an answer is not handed over as one that the guest signed for.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// There is none, and the client asks for it.
    #[error("the guest gave no receipt for its answer")]
    Missing,
    /// The field holds no receipt.
    #[error("the guest's receipt cannot be read: {0}")]
    Malformed(String),
    /// The receipt is not about this request, this response and this guest.
    #[error("the guest's receipt does not hold: {0}")]
    Invalid(#[from] ReceiptFault),
    /// The number has been seen before, or is lower than all that are remembered.
    #[error("the guest's receipt has the number {sequence}, which an earlier receipt of the same boot had")]
    Repeated {
        /// The number.
        sequence: u64,
    },
    /// The receipt could not be kept, and a client that keeps them hands over no answer without.
    #[error("the guest's receipt could not be kept: {0}")]
    NotKept(Arc<io::Error>),
}

/// A receipt that holds, with what is needed to verify it again without the bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedReceipt {
    /// The receipt.
    pub receipt: Receipt,
    /// Salted hashes of both bodies.
    pub bodies: SaltedBodies,
    /// When the request was sent, by the wall clock.
    pub sent: UnixTime,
    /// The nonce of the appraisal that vouches for the key, as [`crate::Appraised::challenge`] has it.
    pub nonce: Fixed<32>,
}

/// What was sent.
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    body: Digest,
    length: usize,
    at: UnixTime,
}

/// What is to be settled when an answer has ended.
pub(crate) struct Expected {
    sent: Sent,
    response: BodyHasher,
    /// What the head or the trailers had in the field.
    found: Found,
}

enum Found {
    Nothing,
    One(HeaderValue),
    Several,
}

/// The numbers that the receipts of a client had, or of all clients of a fleet.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Vec<Boot>>);

/// The receipts of one boot.
struct Boot {
    id: Fixed<16>,
    key_set: Digest,
    /// No lower number is taken any more.
    floor: u64,
    numbers: BTreeSet<u64>,
}

impl ReceiptError {
    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "receipt_missing",
            Self::Malformed(_) => "receipt_malformed",
            Self::Invalid(_) => "receipt_invalid",
            Self::Repeated { .. } => "receipt_repeated",
            Self::NotKept(_) => "receipt_not_kept",
        }
    }
}

impl Sent {
    pub(crate) fn of(request: &Request) -> Self {
        Self { body: request.body_digest(), length: request.body_len(), at: Moment::now().wall() }
    }

    /// The same, sent now.
    pub(crate) fn again(self) -> Self {
        Self { at: Moment::now().wall(), ..self }
    }
}

impl Expected {
    /// What an answer with this head is to end with; nothing where no receipt comes and none is asked for.
    pub(crate) fn of(
        sent: Sent,
        status: StatusCode,
        headers: &HeaderMap,
        receipts: Receipts,
    ) -> Result<Option<Self>, ReceiptError> {
        let found = Found::Nothing.and(headers);
        if matches!(found, Found::Nothing) && !is_announced(headers) {
            let asked_for = receipts == Receipts::Required && status.is_success() && sent.length > 0;
            return if asked_for { Err(ReceiptError::Missing) } else { Ok(None) };
        }
        Ok(Some(Self { sent, response: BodyHasher::default(), found }))
    }

    /// Whether the receipt came with the head of the answer.
    pub(crate) fn is_in_head(&self) -> bool {
        !matches!(self.found, Found::Nothing)
    }

    pub(crate) fn update(&mut self, octets: &Bytes) {
        self.response.update(octets);
    }

    /// Takes the receipt out of trailer fields.
    pub(crate) fn take_from(&mut self, trailers: &mut HeaderMap) {
        self.found = std::mem::replace(&mut self.found, Found::Nothing).and(trailers);
        trailers.remove(RECEIPT_FIELD);
    }

    /// Verifies the receipt at the end of the answer.
    pub(crate) fn settle(self, verdict: &Verdict, ledger: &Ledger) -> Result<VerifiedReceipt, ReceiptError> {
        let receipt = match self.found {
            // It was announced: that it does not come is no choice of a guest that gives none.
            Found::Nothing => return Err(ReceiptError::Missing),
            Found::One(value) => read(&value)?,
            Found::Several => return Err(ReceiptError::Malformed("there are several".to_owned())),
        };
        let salted = |body: &Digest| salted_hash(&receipt.salt, body);
        let bodies =
            SaltedBodies { request: salted(&self.sent.body), response: salted(&self.response.finish()) };
        verdict.voucher().check(&receipt, &bodies, &ALGORITHMS)?;
        ledger.note(&receipt)?;
        Ok(VerifiedReceipt { receipt, bodies, sent: self.sent.at, nonce: Fixed(*verdict.nonce()) })
    }
}

impl Found {
    fn and(self, fields: &HeaderMap) -> Self {
        fields.get_all(RECEIPT_FIELD).iter().fold(self, |found, value| match found {
            Self::Nothing => Self::One(value.clone()),
            Self::One(_) | Self::Several => Self::Several,
        })
    }
}

/// Whether a receipt is announced as a trailer field (RFC 9110 section 6.6.2).
fn is_announced(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TRAILER).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|name| name.trim().eq_ignore_ascii_case(RECEIPT_FIELD))
}

fn read(value: &HeaderValue) -> Result<Receipt, ReceiptError> {
    let text = value.to_str().map_err(|_| ReceiptError::Malformed("not text".to_owned()))?;
    let bytes = pem::base64(text).map_err(|error| ReceiptError::Malformed(error.to_string()))?;
    Receipt::decode(&bytes).map_err(|error| ReceiptError::Malformed(error.to_string()))
}

impl Ledger {
    /// Takes each number of a boot once.
    fn note(&self, receipt: &Receipt) -> Result<(), ReceiptError> {
        let Receipt { boot_id, key_set, sequence, .. } = *receipt;
        let mut boots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = boots.iter().position(|boot| boot.id == boot_id && boot.key_set == key_set);
        // The last in the list has the youngest receipt.
        let mut boot = match known {
            Some(place) => boots.remove(place),
            None => Boot { id: boot_id, key_set, floor: 0, numbers: BTreeSet::new() },
        };
        let fresh = boot.take(sequence);
        if boots.len() >= MAX_BOOTS {
            boots.remove(0);
        }
        boots.push(boot);
        if fresh { Ok(()) } else { Err(ReceiptError::Repeated { sequence }) }
    }
}

impl Boot {
    fn take(&mut self, sequence: u64) -> bool {
        if sequence < self.floor || !self.numbers.insert(sequence) {
            return false;
        }
        if self.numbers.len() > MAX_SEEN
            && let Some(lowest) = self.numbers.pop_first()
        {
            self.floor = lowest.saturating_add(1);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_evidence::receipt::Usage;

    fn receipt(boot: u16, sequence: u64) -> Receipt {
        let [high, low] = boot.to_be_bytes();
        let mut boot_id = [low; 16];
        boot_id[0] = high;
        Receipt {
            salt: Fixed([0; 32]),
            time: 0,
            usage: Usage::default(),
            boot_id: Fixed(boot_id),
            key_set: Fixed([0; 32]),
            manifest: Fixed([0; 32]),
            sequence,
            signature: Fixed([0; 64]),
            request_id: String::new(),
            configuration: Fixed([0; 32]),
        }
    }

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn each_number_of_a_boot_is_taken_once_in_any_order() {
        let ledger = Ledger::default();
        for (boot, sequence, fresh) in [
            (1, 5, true),
            (1, 3, true),
            (1, 5, false),
            (2, 5, true),
            (1, 4, true),
            (1, 3, false),
            (2, 5, false),
        ] {
            assert_eq!(ledger.note(&receipt(boot, sequence)).is_ok(), fresh, "{sequence} of {boot}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_forgotten_is_refused() {
        let ledger = Ledger::default();
        let most = MAX_SEEN as u64;
        for sequence in (1..=most).map(|at| 2 * at) {
            ledger.note(&receipt(1, sequence)).unwrap();
        }
        ledger.note(&receipt(1, 1)).expect("a number among those remembered");
        // The lowest is forgotten: nothing as low is taken, whether it came or not.
        assert!(ledger.note(&receipt(1, 0)).is_err() && ledger.note(&receipt(1, 1)).is_err());
        ledger.note(&receipt(1, 3)).unwrap();
        assert!(ledger.note(&receipt(1, 2)).is_err());
        assert_eq!(ledger.0.lock().unwrap()[0].numbers.len(), MAX_SEEN);
        for boot in 2..=300 {
            ledger.note(&receipt(boot, 0)).unwrap();
        }
        assert_eq!(ledger.0.lock().unwrap().len(), MAX_BOOTS);
    }

    #[test]
    fn a_receipt_is_expected_where_it_is_there_announced_or_asked_for() {
        let sent = |length| Sent {
            body: Fixed([0; 32]),
            length,
            at: UnixTime::since_unix_epoch(std::time::Duration::ZERO),
        };
        let expected = |length, status: u16, headers: &[(&'static str, &'static str)], receipts| {
            let status = StatusCode::from_u16(status).unwrap();
            Expected::of(sent(length), status, &fields(headers), receipts).map(|found| found.is_some()).ok()
        };
        use Receipts::{Required, WherePresent};
        let (there, announced) = ([(RECEIPT_FIELD, "AA==")], [("trailer", "x-other, X-Confide-Receipt")]);
        for receipts in [WherePresent, Required] {
            assert_eq!(expected(1, 200, &there, receipts), Some(true));
            assert_eq!(expected(1, 400, &there, receipts), Some(true));
            assert_eq!(expected(1, 200, &announced, receipts), Some(true));
            assert_eq!(expected(1, 400, &[], receipts), Some(false));
            assert_eq!(expected(0, 200, &[("trailer", "x-other")], receipts), Some(false));
        }
        assert_eq!(expected(1, 200, &[], WherePresent), Some(false));
        assert_eq!(expected(1, 200, &[("trailer", "x-other")], Required), None);
    }

    #[test]
    fn what_is_no_receipt_is_malformed() {
        for value in ["", "AA==", "not base64!", "\u{e9}"] {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            assert_eq!(read(&value).map_err(|error| error.code()), Err("receipt_malformed"), "{value:?}");
        }
        let genuine = receipt(1, 2);
        let value = HeaderValue::from_str(&pem::base64_text(&genuine.encode())).unwrap();
        assert_eq!(read(&value).unwrap(), genuine);
    }
}
