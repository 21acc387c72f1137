//! Revocation of NVIDIA's certificates: OCSP answers and lists, each with its dates.
//!
//! A missing answer is never good. What says that a certificate is revoked counts also when it is stale: a revocation is
//! for ever (RFC 5280 section 5.3.1), but for a hold, which a fresh answer may lift.

use super::chain;
use super::endorsements::{Answer, List, PreparedDevices};
use crate::signature::Algorithms;
use crate::tdx::understood;
use confide_evidence::hex;
use confide_evidence::ocsp::{CertStatus, SingleResponse};
use confide_evidence::time::format_seconds;
use confide_evidence::x509::{Certificate, Reason};

/// id-kp-OCSPSigning (RFC 6960 section 4.2.2.2).
const OCSP_SIGNING: &str = "1.3.6.1.5.5.7.3.9";

/// What is known of a certificate. Times are in seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not revoked, by an answer or list that holds until then.
    Good { until: i64 },
    /// On hold, by an answer or list that holds until then; or by one that holds no more, and nothing newer that holds says
    /// otherwise. The latter does not tell what became of the certificate since.
    Hold { why: String, until: Option<i64> },
    /// Revoked.
    Revoked(String),
    /// Nothing that holds at this time says so.
    Missing(String),
}

/// What one answer or list says of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Good,
    Hold,
    Revoked,
    Unknown,
}

/// What one answer or list says, and when.
struct Statement {
    word: Word,
    /// When it was made: not before what it says was known.
    made: i64,
    this_update: i64,
    next_update: Option<i64>,
    from: String,
}

impl Statement {
    fn is_fresh(&self, now: i64) -> bool {
        self.made <= now && self.this_update <= now && self.next_update.is_some_and(|end| now <= end)
    }

    /// Why it says nothing now.
    fn age(&self) -> String {
        let from = format_seconds(self.made.max(self.this_update));
        match self.next_update {
            Some(end) => format!("{} holds from {from} to {}", self.from, format_seconds(end)),
            None => format!("{} of {from} does not say until when it holds", self.from),
        }
    }
}

/// Looks up a certificate that `issuer` has issued.
pub(super) fn standing(
    certificate: &Certificate,
    issuer: &Certificate,
    prepared: &PreparedDevices,
    now: i64,
    algorithms: &Algorithms,
) -> Standing {
    let mut refused = None;
    let mut statements = Vec::new();
    let said = answers(certificate, issuer, prepared, algorithms);
    for found in said.chain(lists(certificate, issuer, prepared, algorithms)) {
        match found {
            Ok(statement) => statements.push(statement),
            Err(fault) => refused = refused.or(Some(fault)),
        }
    }
    weigh(&describe(certificate), &statements, refused, now)
}

/// What statements about a certificate come to.
fn weigh(name: &str, statements: &[Statement], refused: Option<String>, now: i64) -> Standing {
    let newest = |word: Word, fresh: bool| {
        let says = statements.iter().filter(move |found| found.word == word && found.is_fresh(now) == fresh);
        says.max_by_key(|found| found.this_update)
    };
    if let Some(found) = statements.iter().find(|found| found.word == Word::Revoked) {
        return Standing::Revoked(format!("{name} is revoked by {}", found.from));
    }
    if let Some(found) = newest(Word::Hold, true) {
        return Standing::Hold {
            why: format!("{name} is on hold by {}", found.from),
            until: found.next_update,
        };
    }
    if let Some(found) = newest(Word::Unknown, true) {
        return Standing::Missing(format!("{name} is unknown to {}", found.from));
    }
    let good = newest(Word::Good, true);
    // A hold that was said after the good word counts, though it holds no more: only a newer word lifts it.
    let held = newest(Word::Hold, false)
        .filter(|held| held.made <= now && good.is_none_or(|good| held.this_update >= good.this_update));
    match (held, good.and_then(|good| good.next_update)) {
        (Some(held), _) => {
            let why = format!("{name} was on hold by {}, and nothing newer is known", held.from);
            return Standing::Hold { why, until: None };
        }
        (None, Some(until)) => return Standing::Good { until },
        (None, None) => {}
    }
    Standing::Missing(match (statements.first(), refused) {
        (Some(stale), _) => format!("{name}: at {}, {}", format_seconds(now), stale.age()),
        (None, Some(fault)) => format!("{name}: {fault}"),
        (None, None) => format!("{name}: no answer or list was given"),
    })
}

/// A certificate as verdicts call it.
fn describe(certificate: &Certificate) -> String {
    format!("{} (serial {})", certificate.common_name, hex::encode(&certificate.serial))
}

/// What OCSP answers say of the certificate. Only those are looked at that name it.
fn answers<'p>(
    certificate: &'p Certificate,
    issuer: &'p Certificate,
    prepared: &'p PreparedDevices,
    algorithms: &'p Algorithms,
) -> impl Iterator<Item = Result<Statement, String>> {
    prepared.answers.iter().filter_map(move |answer| {
        let response = &answer.response;
        let found = response.single(&certificate.serial, issuer)?;
        let responder = match responder(answer, issuer, prepared, found, algorithms) {
            Ok(responder) => responder,
            Err(fault) => return Some(Err(fault)),
        };
        let word = match &found.status {
            CertStatus::Good => Word::Good,
            CertStatus::Revoked { reason: Some(Reason::CertificateHold), .. } => Word::Hold,
            CertStatus::Revoked { .. } => Word::Revoked,
            CertStatus::Unknown => Word::Unknown,
        };
        // Nobody asks whether a responder is revoked: the end of its certificate is all that bounds a stolen key of it.
        let next_update = found.next_update.map(|end| end.min(responder.not_after));
        let (made, this_update) = (response.produced_at, found.this_update);
        let from = format!("the answer of {}", responder.common_name);
        Some(Ok(Statement { word, made, this_update, next_update, from }))
    })
}

/// The certificate whose key signed the answer: the issuer's own, or one that the issuer issued for answering (RFC 6960
/// section 4.2.2.2). It must be valid when it answered; whether it is revoked is not asked, as id-pkix-ocsp-nocheck in it
/// says.
fn responder<'a>(
    answer: &'a Answer,
    issuer: &'a Certificate,
    prepared: &PreparedDevices,
    single: &SingleResponse,
    algorithms: &Algorithms,
) -> Result<&'a Certificate, String> {
    let (known, response) = (&prepared.known, &answer.response);
    let responder = response
        .certificates
        .iter()
        .chain(std::iter::once(issuer))
        .find(|certificate| response.responder.is(certificate))
        .ok_or_else(|| "an answer without its responder's certificate".to_owned())?;
    let name = &responder.common_name;
    if responder.der != issuer.der {
        if responder.issuer != issuer.subject {
            return Err(format!("an answer of {name}, which {} did not issue", issuer.common_name));
        }
        if !responder.extended_key_usage.iter().any(|usage| usage == OCSP_SIGNING) {
            return Err(format!("an answer of {name}, which is not for signing answers"));
        }
        if !responder.has_ocsp_no_check() {
            return Err(format!("an answer of {name}, whose own revocation would have to be asked for"));
        }
        understood(responder, chain::RESPONDER_EXTENSIONS)?;
        if !chain::signs(responder) {
            return Err(format!("an answer of {name}, which may not sign"));
        }
        known
            .certificate(issuer, responder, algorithms)
            .map_err(|fault| format!("the certificate of {name}: {}", fault.describe()))?;
        let at = [single.this_update, response.produced_at];
        if at.iter().any(|at| *at < responder.not_before || *at > responder.not_after) {
            return Err(format!("an answer of {name} from outside of its certificate's window"));
        }
    }
    if response.produced_at < single.this_update {
        return Err(format!("an answer of {name} from before what it says was known"));
    }
    known
        .answer(responder, answer, algorithms)
        .map_err(|fault| format!("the answer of {name}: {}", fault.describe()))?;
    Ok(responder)
}

/// What the issuer's revocation lists say of the certificate.
fn lists<'p>(
    certificate: &'p Certificate,
    issuer: &'p Certificate,
    prepared: &'p PreparedDevices,
    algorithms: &'p Algorithms,
) -> impl Iterator<Item = Result<Statement, String>> {
    prepared.lists.iter().filter(|list| list.crl.issuer == issuer.subject).map(move |list| {
        signed_list(list, issuer, prepared, algorithms)?;
        let crl = &list.crl;
        let word = match crl.entry(&certificate.serial) {
            None => Word::Good,
            Some(entry) if entry.reason == Some(Reason::CertificateHold) => Word::Hold,
            Some(_) => Word::Revoked,
        };
        let from = format!("the list of {}", issuer.common_name);
        let (this_update, next_update) = (crl.this_update, crl.next_update);
        Ok(Statement { word, made: this_update, this_update, next_update, from })
    })
}

fn signed_list(
    list: &List,
    issuer: &Certificate,
    prepared: &PreparedDevices,
    algorithms: &Algorithms,
) -> Result<(), String> {
    let name = &issuer.common_name;
    if !issuer.key_usage.is_some_and(|usage| usage.crl_sign) {
        return Err(format!("{name} may not sign revocation lists"));
    }
    if let Some(oid) = list.crl.critical_extensions.first() {
        return Err(format!("the list of {name} has the critical extension {oid}"));
    }
    prepared
        .known
        .list(issuer, list, algorithms)
        .map_err(|fault| format!("the list of {name}: {}", fault.describe()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(word: Word, this_update: i64, next_update: i64) -> Statement {
        let next_update = Some(next_update);
        Statement { word, made: this_update, this_update, next_update, from: "a test".to_owned() }
    }

    fn weighed(statements: &[Statement]) -> Standing {
        weigh("it", statements, None, 100)
    }

    #[test]
    fn a_revocation_counts_however_old_it_is() {
        for (from, to) in [(1, 2), (90, 110), (200, 300)] {
            let found = weighed(&[said(Word::Good, 90, 110), said(Word::Revoked, from, to)]);
            assert!(matches!(found, Standing::Revoked(_)), "{from} {found:?}");
        }
    }

    #[test]
    fn a_hold_counts_until_something_newer_lifts_it() {
        let held = |statements: &[Statement]| match weighed(statements) {
            Standing::Hold { until, .. } => Some(until),
            _ => None,
        };
        assert_eq!(held(&[said(Word::Good, 90, 110), said(Word::Hold, 80, 120)]), Some(Some(120)));
        assert_eq!(held(&[said(Word::Good, 50, 110), said(Word::Hold, 80, 90)]), Some(None));
        assert_eq!(held(&[said(Word::Hold, 80, 90)]), Some(None));
        assert_eq!(held(&[said(Word::Good, 85, 110), said(Word::Hold, 80, 90)]), None);
    }

    #[test]
    fn only_what_holds_now_is_good() {
        assert_eq!(weighed(&[said(Word::Good, 90, 110)]), Standing::Good { until: 110 });
        assert_eq!(
            weighed(&[said(Word::Good, 90, 110), said(Word::Good, 50, 900)]),
            Standing::Good { until: 110 }
        );
        assert_eq!(weighed(&[said(Word::Good, 100, 100)]), Standing::Good { until: 100 });
        for statements in [
            vec![],
            vec![said(Word::Good, 80, 99)],
            vec![said(Word::Good, 101, 110)],
            vec![said(Word::Good, 90, 110), said(Word::Unknown, 90, 110)],
            vec![Statement { next_update: None, ..said(Word::Good, 90, 110) }],
            vec![Statement { made: 101, ..said(Word::Good, 90, 110) }],
        ] {
            assert!(matches!(weighed(&statements), Standing::Missing(_)));
        }
    }
}
