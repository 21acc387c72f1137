//! An OCSP answer compared with what the crate x509-ocsp reads.
#![allow(clippy::unwrap_used, reason = "tests")]

use confide_evidence::ocsp::{CertStatus, OcspResponse, Responder, SingleResponse};
use confide_evidence::x509::{Reason, SignatureAlgorithm};
use der::{Decode as _, Encode as _, ErrorKind};
use x509_ocsp::{BasicOcspResponse, OcspResponseStatus, ResponderId, ResponseData};

/// Whether both read the bytes. What we read they must read, to the same fields: all but values whose tags they do not
/// know, within names and parameters, and object identifiers of numbers that are too large for them.
pub(crate) fn read_alike(der: &[u8]) -> bool {
    let Ok(ours) = OcspResponse::parse(der) else { return false };
    let theirs = x509_ocsp::OcspResponse::from_der(der).unwrap();
    assert_eq!(theirs.response_status, OcspResponseStatus::Successful);
    let bytes = theirs.response_bytes.unwrap();
    assert_eq!(bytes.response_type.to_string(), "1.3.6.1.5.5.7.48.1.1");
    let data = match ResponseData::from_der(&ours.tbs) {
        Ok(data) => data,
        Err(error) if matches!(error.kind(), ErrorKind::TagUnknown { .. } | ErrorKind::OidMalformed) => {
            return false;
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(ours.tbs, data.to_der().unwrap());
    match BasicOcspResponse::from_der(bytes.response.as_bytes()) {
        Ok(basic) => same_outside(&ours, &basic, &data),
        // Of what nobody signed they read more closely certificates and parameters.
        Err(error) => {
            let other = ours.signature_algorithm == SignatureAlgorithm::Other;
            assert!(other || !ours.certificates.is_empty(), "{error}");
        }
    }
    assert_eq!(ours.produced_at, seconds(&data.produced_at));
    match (&ours.responder, &data.responder_id) {
        (Responder::Name(ours), ResponderId::ByName(theirs)) => assert_eq!(*ours, theirs.to_der().unwrap()),
        (Responder::KeyHash(ours), ResponderId::ByKey(theirs)) => assert_eq!(ours, theirs.as_bytes()),
        (ours, theirs) => panic!("{ours:?} and {theirs:?}"),
    }
    let mut singles: Vec<_> = data.responses.iter().collect();
    assert_eq!(ours.responses.len(), singles.len());
    singles.sort_by_key(|single| serial(single));
    for (ours, theirs) in ours.responses.iter().zip(singles) {
        same_single(ours, theirs);
    }
    let nonce = data.nonce().map(|nonce| nonce.0.as_bytes().to_vec());
    assert_eq!(ours.nonce, nonce);
    true
}

/// What is outside of the signed part.
fn same_outside(ours: &OcspResponse, basic: &BasicOcspResponse, data: &ResponseData) {
    assert_eq!(basic.tbs_response_data, *data);
    assert_eq!(ours.signature, basic.signature.as_bytes().unwrap());
    let certificates = basic.certs.as_deref().unwrap_or_default();
    let ders: Vec<Vec<u8>> = certificates.iter().map(|certificate| certificate.to_der().unwrap()).collect();
    assert_eq!(ours.certificates.iter().map(|one| one.der.clone()).collect::<Vec<_>>(), ders);
}

fn same_single(ours: &SingleResponse, theirs: &x509_ocsp::SingleResponse) {
    assert_eq!(ours.cert_id.serial, serial(theirs));
    assert_eq!(ours.cert_id.issuer_name_hash, theirs.cert_id.issuer_name_hash.as_bytes());
    assert_eq!(ours.cert_id.issuer_key_hash, theirs.cert_id.issuer_key_hash.as_bytes());
    assert_eq!(ours.this_update, seconds(&theirs.this_update));
    assert_eq!(ours.next_update, theirs.next_update.as_ref().map(seconds));
    match (ours.status, &theirs.cert_status) {
        (CertStatus::Good, x509_ocsp::CertStatus::Good(_))
        | (CertStatus::Unknown, x509_ocsp::CertStatus::Unknown(_)) => {}
        (CertStatus::Revoked { time, reason }, x509_ocsp::CertStatus::Revoked(info)) => {
            assert_eq!(time, seconds(&info.revocation_time));
            let number = info.revocation_reason.map(|reason| reason as u32);
            assert_eq!(reason.map(number_of), number);
        }
        (ours, theirs) => panic!("{ours:?} and {theirs:?}"),
    }
}

/// The number of a reason (RFC 5280 section 5.3.1).
pub(crate) fn number_of(reason: Reason) -> u32 {
    match reason {
        Reason::Unspecified => 0,
        Reason::KeyCompromise => 1,
        Reason::CaCompromise => 2,
        Reason::AffiliationChanged => 3,
        Reason::Superseded => 4,
        Reason::CessationOfOperation => 5,
        Reason::CertificateHold => 6,
        Reason::RemoveFromCrl => 8,
        Reason::PrivilegeWithdrawn => 9,
        Reason::AaCompromise => 10,
    }
}

fn serial(single: &x509_ocsp::SingleResponse) -> Vec<u8> {
    single.cert_id.serial_number.as_bytes().iter().copied().skip_while(|byte| *byte == 0).collect()
}

fn seconds(time: &x509_ocsp::OcspGeneralizedTime) -> i64 {
    i64::try_from(time.0.to_unix_duration().as_secs()).unwrap()
}
