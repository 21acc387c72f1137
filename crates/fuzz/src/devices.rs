//! NVIDIA devices and what endorses them: honest ones, whose parts the fuzzer changes.

use crate::edits::Edits;
use crate::evaluate;
use crate::guest::{self, GPU, NOW, quotes};
use crate::ways;
use confide_evidence::bytes::ByteString;
use confide_evidence::document::{
    DeviceEvidence, DeviceKind, Endorsements, MAX_DEVICE_CRLS, MAX_OCSP_ANSWERS, MAX_RIMS, NvidiaEndorsements,
};
use confide_evidence::nvidia::{NrasAnswer, Rim};
use confide_evidence::ocsp::OcspResponse;
use confide_evidence::record::NrasOpinion;
use confide_evidence::x509::Crl;
use confide_policy::AppraisalPolicy;
use confide_simulator::{
    GpuCrlFlaw, GpuRevocation, GpuRevocationList, NrasAuthority, NrasDevice, NrasFlaw, NrasOptions, OcspFlaw,
    OcspHash, OcspOptions, OcspStatus, RimFlaw, RimOptions,
};
use confide_verifier::{AttestationResult, Inputs, Subject};
use rustls_pki_types::UnixTime;
use std::sync::LazyLock;
use std::time::Duration;

/// One more than the greatest reason of a revocation, aACompromise (RFC 5280 section 5.3.1).
const MAX_REASON: u8 = 11;
/// Length of the signature behind a report.
const SIGNATURE: usize = 96;

/// The simulator's policy, which here needs manifests and revocation.
static POLICY: LazyLock<AppraisalPolicy> =
    LazyLock::new(|| guest::policy(&quotes(&[("rim", "\"required\""), ("revocation", "\"required\"")])));

/// A device, its nonce and its endorsements, and whose these are.
pub(crate) struct Honest {
    pub(crate) device: DeviceEvidence,
    pub(crate) nonce: [u8; 32],
    pub(crate) endorsements: NvidiaEndorsements,
    /// Certificates that answers are about, DER.
    pub(crate) subjects: Vec<Vec<u8>>,
    /// Certificates of the authorities that issue lists, DER.
    pub(crate) issuers: Vec<Vec<u8>>,
    /// What NVIDIA's attestation service would say of it.
    opinion: NrasOpinion,
}

/// Signing costs more than appraising: made once.
pub(crate) static HONEST: LazyLock<Honest> = LazyLock::new(Honest::made);

impl Honest {
    fn made() -> Self {
        let nonce = [7; 32];
        let device = DeviceEvidence {
            kind: DeviceKind::NvidiaGpu,
            chain: ByteString(GPU.chain_pem().into_bytes()),
            report: ByteString(GPU.report(nonce)),
        };
        let rims = GPU.rims(NOW).map(|options| options.encode().expect("a usual manifest"));
        let chains = rims.iter().map(|rim| {
            let rim = Rim::parse(rim).expect("the simulator's manifest");
            rim.certificates.map(|certificate| certificate.der).to_vec()
        });
        let (mut subjects, mut issuers) = (Vec::new(), Vec::new());
        for chain in chains.chain([GPU.certificates()[1..].to_vec()]) {
            for (subject, issuer) in chain.iter().zip(&chain[1..]) {
                add(&mut subjects, subject);
                add(&mut issuers, issuer);
            }
        }
        let answers = subjects.iter().map(|subject| OcspOptions::good(NOW).answer(subject));
        let lists = issuers.iter().map(|issuer| GpuRevocationList::empty(NOW).sign(issuer));
        let endorsements = NvidiaEndorsements {
            crls: lists.map(|list| ByteString(list.expect("a usual list"))).collect(),
            ocsp: answers.map(|answer| ByteString(answer.expect("a usual answer"))).collect(),
            rims: rims.map(ByteString).to_vec(),
        };
        let opinion = said(&asked(nonce)).expect("a usual opinion");
        Self { device, nonce, endorsements, subjects, issuers, opinion }
    }
}

/// A question to the attestation service about the device.
fn asked(nonce: [u8; 32]) -> NrasOptions {
    NrasOptions::new(nonce, NOW, vec![NrasDevice::gpu(&GPU)])
}

/// The service's answer, with its key set.
fn said(options: &NrasOptions) -> Option<NrasOpinion> {
    let (jwks, answer) = (options.jwks().ok()?, options.answer().ok()?);
    Some(NrasOpinion { jwks: ByteString(jwks.into_bytes()), answers: vec![ByteString(answer.into_bytes())] })
}

fn add(to: &mut Vec<Vec<u8>>, certificate: &Vec<u8>) {
    if !to.contains(certificate) {
        to.push(certificate.clone());
    }
}

/// What is appraised, and what of it an authority of the simulator has signed with other content.
struct Given {
    device: DeviceEvidence,
    nonce: [u8; 32],
    endorsements: NvidiaEndorsements,
    opinion: Option<NrasOpinion>,
    time: u64,
    rim_time: Option<u64>,
    other_manifests: bool,
    other_answers: bool,
    other_lists: bool,
    other_opinion: bool,
}

/// An honest device with changes, also of its manifests, OCSP answers and revocation lists, in their bytes and before they
/// are signed, of its nonce and of both times; every second time the signature of the report is made anew.
pub(crate) fn devices(bytes: &[u8]) {
    let mut edits = Edits::of(bytes);
    let honest = &*HONEST;
    let mut given = Given {
        device: honest.device.clone(),
        nonce: honest.nonce,
        endorsements: honest.endorsements.clone(),
        opinion: Some(honest.opinion.clone()),
        time: NOW,
        rim_time: None,
        other_manifests: false,
        other_answers: false,
        other_lists: false,
        other_opinion: false,
    };
    let signed_anew = edits.byte() % 2 == 1;
    while !edits.is_over() {
        change(&mut given, &mut edits);
    }
    let report = &mut given.device.report.0;
    if signed_anew && report.len() > SIGNATURE {
        *report = GPU.resign(report);
    }
    if verdict(&given, ways::every).accepted() {
        assert_signed(&given, signed_anew);
    }
}

fn verdict(given: &Given, appraise: fn(&Inputs<'_>) -> AttestationResult) -> AttestationResult {
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let endorsements = Endorsements { nvidia: Some(given.endorsements.clone()), ..Endorsements::default() };
    let subject = Subject::Devices {
        devices: std::slice::from_ref(&given.device),
        nonces: std::slice::from_ref(&given.nonce),
        rim_at: given.rim_time.map(at),
        nras: given.opinion.as_ref(),
    };
    let inputs = Inputs { policy: &POLICY, ..evaluate::inputs(subject, &endorsements, None, at(given.time)) };
    appraise(&inputs)
}

fn change(given: &mut Given, edits: &mut Edits<'_>) {
    let NvidiaEndorsements { crls, ocsp, rims } = &mut given.endorsements;
    match edits.byte() % 18 {
        0 | 1 => edits.change(&mut given.device.report.0),
        2 => edits.change(&mut given.device.chain.0),
        3 | 4 => change_one(rims, edits),
        5 | 6 => change_one(ocsp, edits),
        7 => change_one(crls, edits),
        8 => count(rims, edits),
        9 => count(ocsp, edits),
        10 => count(crls, edits),
        11 => {
            given.other_manifests = true;
            put(rims, manifest(edits), edits);
        }
        12 => {
            given.other_answers = true;
            put(ocsp, answer(edits), edits);
        }
        13 => {
            given.other_lists = true;
            put(crls, list(edits), edits);
        }
        14 => {
            given.nonce[edits.below(32)] ^= edits.byte();
        }
        15 => change_opinion(&mut given.opinion, edits),
        16 => {
            given.other_opinion = true;
            given.opinion = opinion(edits);
        }
        _ => {
            let time = NOW.wrapping_add((edits.below(1 << 24) as u64) << 6).wrapping_sub(1 << 29);
            match edits.byte() % 2 {
                0 => given.time = time,
                _ => given.rim_time = Some(time),
            }
        }
    }
}

/// The opinion with changes in its bytes, without an answer or with one more; or none, and the honest one in place of none.
fn change_opinion(opinion: &mut Option<NrasOpinion>, edits: &mut Edits<'_>) {
    let Some(given) = opinion else {
        *opinion = Some(HONEST.opinion.clone());
        return;
    };
    match edits.byte() % 8 {
        0 => *opinion = None,
        1 => count(&mut given.answers, edits),
        2 | 3 => edits.change(&mut given.jwks.0),
        _ => change_one(&mut given.answers, edits),
    }
}

fn change_one(files: &mut [ByteString], edits: &mut Edits<'_>) {
    let at = edits.below(files.len());
    if let Some(file) = files.get_mut(at) {
        edits.change(&mut file.0);
    }
}

/// One file more, as an honest one stands, or one less.
fn count(files: &mut Vec<ByteString>, edits: &mut Edits<'_>) {
    let at = edits.below(files.len());
    if at >= files.len() {
        return;
    }
    match edits.byte() % 2 {
        0 => drop(files.remove(at)),
        _ => files.push(files[at].clone()),
    }
}

/// Puts a file in another's place, or behind them.
fn put(files: &mut Vec<ByteString>, file: Option<Vec<u8>>, edits: &mut Edits<'_>) {
    let at = edits.below(files.len() + 1);
    let Some(file) = file.map(ByteString) else { return };
    match files.get_mut(at) {
        Some(place) => *place = file,
        None => files.push(file),
    }
}

/// Another manifest of the device's firmware, rightly signed but for its flaw.
fn manifest(edits: &mut Edits<'_>) -> Option<Vec<u8>> {
    const FLAWS: [RimFlaw; 5] = [
        RimFlaw::None,
        RimFlaw::Digest,
        RimFlaw::Signature,
        RimFlaw::SignerOfAnotherKey,
        RimFlaw::ForeignRoot,
    ];
    let mut options: RimOptions = GPU.rims(NOW).into_iter().nth(edits.below(2))?;
    let at = edits.below(options.measurements.len());
    if let Some(measurement) = options.measurements.get_mut(at) {
        match edits.byte() % 4 {
            0 => measurement.alternatives = vec![[edits.byte(); 48]; edits.below(20)],
            1 => measurement.index = edits.byte(),
            2 => drop(options.measurements.remove(at)),
            _ => {}
        }
    }
    options.window.until = NOW.wrapping_add(edits.below(1 << 24) as u64).wrapping_sub(1 << 22);
    options.flaw = FLAWS[edits.below(FLAWS.len())];
    options.encode().ok()
}

/// Another answer about a certificate, rightly signed but for its flaw.
fn answer(edits: &mut Edits<'_>) -> Option<Vec<u8>> {
    const FLAWS: [OcspFlaw; 5] = [
        OcspFlaw::None,
        OcspFlaw::ResponderOfAnotherAuthority,
        OcspFlaw::ResponderOfAnotherKey,
        OcspFlaw::ResponderWithoutUsage,
        OcspFlaw::Signature,
    ];
    let subject = HONEST.subjects.get(edits.below(HONEST.subjects.len()))?;
    let around = |edits: &mut Edits<'_>| NOW.wrapping_add(edits.below(1 << 20) as u64).wrapping_sub(1 << 19);
    let status = match edits.byte() % 4 {
        0 => OcspStatus::Revoked { at: around(edits), reason: Some(edits.byte() % MAX_REASON) },
        1 => OcspStatus::Revoked { at: around(edits), reason: None },
        2 => OcspStatus::Unknown,
        _ => OcspStatus::Good,
    };
    let hash = [OcspHash::Sha1, OcspHash::Sha256, OcspHash::Sha384][edits.below(3)];
    let (produced_at, this_update) = (around(edits), around(edits));
    let next_update = (!edits.byte().is_multiple_of(4)).then(|| around(edits));
    let flaw = FLAWS[edits.below(FLAWS.len())];
    OcspOptions { status, hash, produced_at, this_update, next_update, flaw, ..OcspOptions::good(NOW) }
        .answer(subject)
        .ok()
}

/// Another list of an authority, rightly signed but for its flaw.
fn list(edits: &mut Edits<'_>) -> Option<Vec<u8>> {
    const FLAWS: [GpuCrlFlaw; 3] =
        [GpuCrlFlaw::None, GpuCrlFlaw::Signature, GpuCrlFlaw::UnknownCriticalExtension];
    let issuer = HONEST.issuers.get(edits.below(HONEST.issuers.len()))?;
    let subject = HONEST.subjects.get(edits.below(HONEST.subjects.len()))?;
    let reason = (edits.byte() % 2 == 1).then(|| edits.byte() % MAX_REASON);
    let mut list = GpuRevocationList::of(subject, reason, NOW);
    if edits.byte() % 2 == 1 {
        let serial = edits.take(20).to_vec();
        list.revoked.resize(edits.below(50), GpuRevocation { serial, at: NOW, reason });
    }
    list.window.until = NOW.wrapping_add(edits.below(1 << 24) as u64).wrapping_sub(1 << 22);
    list.flaw = FLAWS[edits.below(FLAWS.len())];
    list.sign(issuer).ok()
}

/// Another opinion of the service, rightly signed but for its flaw.
fn opinion(edits: &mut Edits<'_>) -> Option<NrasOpinion> {
    const FLAWS: [NrasFlaw; 6] = [
        NrasFlaw::None,
        NrasFlaw::OverallSignature,
        NrasFlaw::DeviceSignature,
        NrasFlaw::SharedKey,
        NrasFlaw::ForeignIssuer,
        NrasFlaw::KeyMayCertify,
    ];
    let mut options = asked(HONEST.nonce);
    match edits.byte() % 4 {
        0 => options.nonce[edits.below(32)] ^= edits.byte(),
        1 => options.issued_at = NOW.wrapping_add(edits.below(1 << 14) as u64).wrapping_sub(1 << 13),
        2 => options.overall.push(("x-nvidia-overall-att-result".to_owned(), Some(false.into()))),
        _ => options.authority = NrasAuthority::Rsa,
    }
    options.flaw = FLAWS[edits.below(FLAWS.len())];
    said(&options)
}

/// What an accepted device rests on is what somebody has signed.
fn assert_signed(given: &Given, signed_anew: bool) {
    let honest = &*HONEST;
    let signed = |report: &ByteString| report.0[..report.0.len() - SIGNATURE].to_vec();
    assert!(signed_anew || signed(&given.device.report) == signed(&honest.device.report), "a report");
    assert_eq!(given.nonce, honest.nonce, "another nonce than the report's");
    let (found, made) = (&given.endorsements, &honest.endorsements);
    let values = |file: &ByteString| Rim::parse(&file.0).ok().map(|rim| rim.measurements);
    let held = |files: &[ByteString], file| files.iter().any(|one| values(one) == values(file));
    assert!(
        given.other_manifests || made.rims.iter().all(|rim| held(&found.rims, rim)),
        "a manifest that nobody signed"
    );
    if let Some(opinion) = &given.opinion {
        let said = |answer: &ByteString| {
            NrasAnswer::parse(&answer.0).ok().map(|answer| answer.overall.token.signed().to_vec())
        };
        let made = honest.opinion.answers.first().and_then(said);
        let held = opinion.answers.iter().all(|answer| said(answer) == made);
        assert!(given.other_opinion || held && made.is_some(), "an opinion that nobody signed");
    }
    // Of each certificate an answer or a list will do.
    if found.crls.is_empty() {
        let told = |file: &ByteString| OcspResponse::parse(&file.0).ok().map(|answer| answer.tbs);
        let held = |file| found.ocsp.iter().any(|one| told(one) == told(file));
        assert!(given.other_answers || made.ocsp.iter().all(held), "an answer that nobody signed");
    }
    if found.ocsp.is_empty() {
        let told = |file: &ByteString| Crl::parse(&file.0).ok().map(|list| list.tbs);
        let held = |file| found.crls.iter().any(|one| told(one) == told(file));
        assert!(given.other_lists || made.crls.iter().all(held), "a list that nobody signed");
    }
}

/// Bytes as the files of one kind of a device's endorsements, each behind its length of three bytes, beside the honest ones
/// of the other kinds.
pub(crate) fn files(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let mut endorsements = HONEST.endorsements.clone();
    let (part, limit) = match kind % 3 {
        0 => (&mut endorsements.rims, MAX_RIMS),
        1 => (&mut endorsements.ocsp, MAX_OCSP_ANSWERS),
        _ => (&mut endorsements.crls, MAX_DEVICE_CRLS),
    };
    *part = split(rest, limit);
    let given = Given {
        device: HONEST.device.clone(),
        nonce: HONEST.nonce,
        endorsements,
        opinion: None,
        time: NOW,
        rim_time: None,
        other_manifests: false,
        other_answers: false,
        other_lists: false,
        other_opinion: false,
    };
    if verdict(&given, ways::cold).accepted() {
        assert_signed(&given, false);
    }
}

fn split(mut rest: &[u8], limit: usize) -> Vec<ByteString> {
    let mut files = Vec::new();
    while let Some((&[high, middle, low], behind)) = rest.split_first_chunk()
        && files.len() < limit
    {
        let size = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let (file, behind) = behind.split_at(size.min(behind.len()));
        files.push(ByteString(file.to_vec()));
        rest = behind;
    }
    files
}

/// What [`files`] reads, of this kind.
pub(crate) fn joined(kind: u8, files: &[ByteString]) -> Vec<u8> {
    let mut bytes = vec![kind];
    for file in files {
        let [_, high, middle, low] =
            u32::try_from(file.0.len()).expect("a file of less than 16 MiB").to_be_bytes();
        bytes.extend([high, middle, low]);
        bytes.extend_from_slice(&file.0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn honest() -> Given {
        Given {
            device: HONEST.device.clone(),
            nonce: HONEST.nonce,
            endorsements: HONEST.endorsements.clone(),
            opinion: Some(HONEST.opinion.clone()),
            time: NOW,
            rim_time: Some(NOW),
            other_manifests: false,
            other_answers: false,
            other_lists: false,
            other_opinion: false,
        }
    }

    /// Where it is not, nothing that the targets assert of accepted evidence is ever looked at.
    #[test]
    fn an_honest_device_is_accepted_by_its_answers_or_by_its_lists() {
        let all = honest();
        let mut without_lists = honest();
        without_lists.endorsements.crls.clear();
        let mut without_answers = honest();
        without_answers.endorsements.ocsp.clear();
        for given in [all, without_lists, without_answers] {
            let result = verdict(&given, ways::every);
            assert_eq!((result.accepted(), result.code), (true, None));
            assert_signed(&given, false);
        }
        let mut without_opinion = honest();
        change(&mut without_opinion, &mut Edits::of(&[15, 0]));
        assert!(without_opinion.opinion.is_none() && verdict(&without_opinion, ways::every).accepted());
        let mut unread = honest();
        unread.opinion.as_mut().unwrap().answers.clear();
        assert_eq!(verdict(&unread, ways::every).code, Some("nras_format"));
        let mut neither = honest();
        (neither.endorsements.crls, neither.endorsements.ocsp) = (Vec::new(), Vec::new());
        assert!(!verdict(&neither, ways::every).accepted());
        let mut without_manifests = honest();
        without_manifests.endorsements.rims.clear();
        assert!(!verdict(&without_manifests, ways::every).accepted());
    }

    #[test]
    fn what_is_signed_anew_is_looked_at() {
        let mut codes = std::collections::BTreeSet::new();
        // The first manifest with another value of one measurement, good for half a year.
        for at in 0..16 {
            let other_value = [11, 0, 0, 0, 0, 0, at, 0, 9, 0, 0, 1, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
            let mut given = honest();
            change(&mut given, &mut Edits::of(&other_value));
            codes.extend(verdict(&given, ways::cold).code);
        }
        for kind in [11, 12, 13, 16] {
            for seed in 0..64_u8 {
                let decisions: Vec<u8> = (0..64_u8).map(|at| at.wrapping_mul(seed) ^ (seed >> 1)).collect();
                let mut given = honest();
                change(&mut given, &mut Edits::of(&[&[kind], &decisions[..]].concat()));
                codes.extend(verdict(&given, ways::cold).code);
            }
        }
        for code in
            ["device_measurements", "device_revocation", "rim_signature", "nras_nonce", "nras_disagrees"]
        {
            assert!(codes.contains(code), "{code}: {codes:?}");
        }
    }

    #[test]
    fn files_are_split_as_they_were_joined() {
        let files = HONEST.endorsements.ocsp.clone();
        assert_eq!(split(&joined(1, &files)[1..], MAX_OCSP_ANSWERS), files);
        assert_eq!(split(&[0, 0, 9, 1], 1), [ByteString(vec![1])]);
        assert_eq!(split(&[0; 3 * 5], 4).len(), 4);
    }
}
