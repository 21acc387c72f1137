//! The parsers.

use bergshamra_c14n::{C14nMode, canonicalize};
use confide_egress::Roots;
use confide_endorser::{CacheEntry, TdxPlatform, rim_document};
use confide_evidence::boot_log::BootLog;
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::cbor;
use confide_evidence::document::{
    AttestationRequest, Claims, EvidenceDocument, KeySet, MAX_DEVICES, MAX_DOCUMENT,
};
use confide_evidence::event::EventLog;
use confide_evidence::hash::sha256;
use confide_evidence::head::SignedHead;
use confide_evidence::manifest::ModelManifest;
use confide_evidence::nvidia::{
    self, DeviceChain, Jwks, MAX_DECODED, MAX_JWKS_KEYS, MAX_RIM, NrasAnswer, Report, Rim, canonical_xml,
};
use confide_evidence::ocsp::{CertStatus, MAX_OCSP_RESPONSES, OcspResponse};
use confide_evidence::receipt::{KeptReceipt, Receipt};
use confide_evidence::record::{FIRST, Record, read_all};
use confide_evidence::snp::{
    self, EndorsementKey, MAX_CERTIFICATES, MAX_CRLS, Product, SigningKey, TcbVersion,
};
use confide_evidence::tdx::{
    MAX_CRL_ANSWER, Padding, PckExtension, QeIdentity, Quote, TcbInfo, collateral_from_json,
    collateral_to_json, collateral_windows, crl_answer, crl_window, issuer_chain, qe_identity_answer,
    tcb_info_answer,
};
use confide_evidence::text::steers;
use confide_evidence::transcript::Role;
use confide_evidence::x509::{Certificate, Crl};
use confide_evidence::{hex, pem as chains, percent, time};
use confide_policy::egress::{
    Decision, Destination, EgressPolicy, Host, HostName, NamePattern, Network, Phase, To,
};
use confide_policy::{AppraisalPolicy, ReferenceFile};
use std::sync::LazyLock;

pub(crate) fn quote(bytes: &[u8]) {
    let padded = Quote::parse(bytes, Padding::Zeros);
    let exact = Quote::parse(bytes, Padding::Refused);
    if let Ok(quote) = &padded {
        assert!(bytes.starts_with(quote.signed), "what is signed is the quote's beginning");
        let end = bytes.len() - quote.padding;
        assert!(bytes[end..].iter().all(|byte| *byte == 0), "padding is zeros");
        assert!(
            Quote::parse(&bytes[..end], Padding::Refused).is_ok(),
            "the quote stands without its padding"
        );
    }
    assert!(exact.is_err() || padded.is_ok(), "a quote without padding is one that may have some");
}

pub(crate) fn certificate(bytes: &[u8]) {
    if let Ok(certificate) = Certificate::parse(bytes) {
        assert_eq!(certificate.der, bytes);
        // Whatever the extension holds: an error at most.
        let _ = PckExtension::from_certificate(&certificate);
    }
}

pub(crate) fn crl(bytes: &[u8]) {
    if let Ok(list) = Crl::parse(bytes) {
        assert!(list.entries().all(|(serial, _)| list.revokes(serial) && list.entry(serial).is_some()));
        assert_eq!(crl_window("a list", bytes).is_ok(), list.next_update.is_some());
    }
}

pub(crate) fn ocsp(bytes: &[u8]) {
    let Ok(answer) = OcspResponse::parse(bytes) else { return };
    let tbs = &answer.tbs;
    assert!(bytes.windows(tbs.len()).any(|window| window == tbs), "what is signed is what was served");
    assert!((1..=MAX_OCSP_RESPONSES).contains(&answer.responses.len()));
    assert!(answer.responses.is_sorted_by(|one, next| one.cert_id.serial < next.cert_id.serial));
    for single in &answer.responses {
        for issuer in &answer.certificates {
            let found = answer.single(&single.cert_id.serial, issuer);
            assert_eq!(found.is_some(), single.cert_id.is_of(issuer));
        }
        let CertStatus::Revoked { time, .. } = single.status else { continue };
        assert!((0..=time::LAST).contains(&time));
    }
    let named = answer.responder_certificate();
    assert!(named.is_none_or(|certificate| answer.responder.is(certificate)));
    assert!(OcspResponse::parse(&[bytes, &[0]].concat()).is_err(), "nothing may follow");
}

pub(crate) fn pem(bytes: &[u8]) {
    if let Ok(chain) = chains::certificates(bytes) {
        let text = chains::encode(&chain);
        if text.len() <= chains::MAX_PEM {
            assert_eq!(chains::certificates(text.as_bytes()), Ok(chain));
        }
    }
    let _ = chains::bodies(bytes);
    // Whatever the certificates are: an error at most.
    let _ = (TdxPlatform::of_pck_chain(bytes), Roots::pem(bytes));
}

pub(crate) fn collateral(bytes: &[u8]) {
    if let Ok(collateral) = collateral_from_json(bytes) {
        let text = collateral_to_json(&collateral);
        if text.len() <= confide_evidence::tdx::MAX_COLLATERAL {
            assert_eq!(collateral_from_json(text.as_bytes()), Ok(collateral.clone()));
        }
        let _ = collateral_windows(&collateral);
    }
}

pub(crate) fn tcb_info(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = TcbInfo::parse(text);
    }
}

pub(crate) fn qe_identity(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = QeIdentity::parse(text);
    }
}

pub(crate) fn pcs_answer(bytes: &[u8]) {
    for answer in [tcb_info_answer(bytes), qe_identity_answer(bytes)].into_iter().flatten() {
        let text = answer.text.as_bytes();
        assert!(
            text.is_empty() || bytes.windows(text.len()).any(|window| window == text),
            "the signed object is what was served"
        );
    }
    let _ = crl_answer("a revocation list", bytes);
    let _ = issuer_chain(bytes);
}

pub(crate) fn document(bytes: &[u8]) {
    if let Ok(document) = EvidenceDocument::decode(bytes) {
        assert_eq!(document.encode().as_deref(), Ok(bytes), "a document has one encoding");
        let _ = document.to_json();
        for role in [Role::Serve, Role::Batch, Role::KeyRelease] {
            let _ = document.check_events(role);
        }
    }
}

/// A canonical value is written again to the same bytes.
fn canonical<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value: T = cbor::from_canonical_within(bytes, MAX_DOCUMENT).ok()?;
    assert_eq!(cbor::to_canonical(&value).as_deref(), Ok(bytes));
    Some(value)
}

pub(crate) fn events(bytes: &[u8]) {
    if let Some(log) = canonical::<EventLog>(bytes) {
        let mut again = EventLog::new();
        for event in log.events() {
            again.push(event.clone()).expect("events that were read in order are in order");
        }
        assert_eq!(again.replay(), log.replay());
    }
}

pub(crate) fn claims(bytes: &[u8]) {
    if let Some(claims) = canonical::<Claims>(bytes) {
        let _ = claims.digest();
    }
}

pub(crate) fn key_set(bytes: &[u8]) {
    if let Some(keys) = canonical::<KeySet>(bytes) {
        let _ = (keys.digest(), keys.serving());
    }
}

pub(crate) fn record(bytes: &[u8]) {
    if let Ok(record) = Record::decode(bytes) {
        assert_eq!(record.encode(), bytes, "a record has one encoding");
    }
    if let Ok(records) = confide_record::read(bytes) {
        assert_eq!(read_all(bytes).filter(Result::is_ok).count(), records.len());
        let again: Vec<u8> = records.iter().flat_map(Record::encode).collect();
        assert_eq!(again, bytes, "a file of records has one encoding");
    }
}

pub(crate) fn receipt(bytes: &[u8]) {
    if let Ok(receipt) = Receipt::decode(bytes) {
        assert_eq!(receipt.encode(), bytes, "a receipt has one encoding");
        let _ = receipt.signing_input(&Bytes([0; 32]), &Bytes([1; 32]));
    }
}

/// A file of kept receipts, read entry by entry: what is read and what is torn is all of it.
pub(crate) fn kept_receipts(bytes: &[u8]) {
    if let Ok(kept) = KeptReceipt::decode(bytes) {
        assert_eq!(kept.encode(), bytes, "a kept receipt has one encoding");
    }
    let mut entries = confide_record::Entries::<_, KeptReceipt>::new(bytes);
    let read: Result<Vec<_>, _> = entries.by_ref().collect();
    let Ok(links) = read else { return };
    let again: Vec<u8> = links.iter().flat_map(|link| link.entry.encode()).collect();
    assert!(bytes.starts_with(&again), "a kept receipt has one encoding");
    assert_eq!(again.len() + entries.torn(), bytes.len(), "what is no entry is torn");
    let head = entries.head();
    assert_eq!(head.last, links.last().map_or(FIRST, |link| link.hash));
    for link in &links {
        let _ = link.check();
    }
}

pub(crate) fn signed_head(bytes: &[u8]) {
    if let Ok(head) = SignedHead::decode(bytes) {
        assert_eq!(head.encode(), bytes, "a head has one encoding");
        let _ = head.signing_input();
    }
}

pub(crate) fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = ModelManifest::decode(bytes) {
        assert_eq!(manifest.encode(), bytes, "a manifest has one encoding");
        assert!(
            manifest
                .entries()
                .iter()
                .all(|entry| confide_evidence::manifest::check_path(&entry.path).is_ok())
        );
    }
}

pub(crate) fn request(bytes: &[u8]) {
    if let Ok(request) = AttestationRequest::decode(bytes) {
        assert_eq!(request.encode(), bytes, "a request has one encoding");
    }
}

pub(crate) fn policy(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(policy) = AppraisalPolicy::parse_recorded(text)
    {
        for (field, reason) in policy.waivers() {
            assert!(!reason.trim().is_empty(), "{field:?} is waived without a reason");
        }
    }
}

/// What is allowed while serving is allowed before, with at least the caps.
pub(crate) fn egress_policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(policy) = EgressPolicy::parse(text) else { return };
    assert!(EgressPolicy::is_meant_by(text), "a policy that does not say so");
    for rule in policy.rules(Phase::Serving) {
        let host = match &rule.to {
            To::Name { pattern: NamePattern::Exact(name), .. } => Host::Name(name.clone()),
            To::Name { pattern: NamePattern::OneLabel(parent), .. } => {
                // A name that is as long as a name may be has none below it.
                let Ok(name) = HostName::parse(&format!("x.{parent}")) else { continue };
                Host::Name(name)
            }
            To::Network { network, .. } => Host::Ip(network.address()),
        };
        for port in &rule.ports {
            let to = Destination { host: host.clone(), port: *port, transport: rule.transport() };
            let decided = [Phase::Serving, Phase::Bootstrap].map(|phase| policy.decide(phase, &to));
            let [Decision::Allowed(serving), Decision::Allowed(before)] = decided else {
                panic!("{to} is not allowed in both phases")
            };
            let (now, then) = (serving.caps, before.caps);
            assert!(now.connections <= then.connections && now.total_bytes <= then.total_bytes, "{to}");
            assert!(now.bytes_per_second <= then.bytes_per_second, "{to}");
            assert!(serving.is_host_visible() <= before.is_host_visible(), "{to}");
        }
    }
}

pub(crate) fn references(bytes: &[u8]) {
    let _ = ReferenceFile::parse(bytes);
}

/// Hexadecimal, base64, percent-encoding, times, names and networks: nine readers, so that no more is read than the longest text
/// that one of them gets by itself.
pub(crate) fn text(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MAX_CRL_ANSWER)];
    assert_eq!(hex::decode(&hex::encode(bytes)).as_deref(), Some(bytes));
    let _ = percent::decode(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(decoded) = hex::decode(text) {
        assert_eq!(hex::encode(&decoded), text.to_ascii_lowercase());
    }
    let _ = chains::base64(text);
    if let Some(seconds) = time::parse_seconds(text) {
        assert_eq!(time::parse_seconds(&time::format_seconds(seconds)), Some(seconds));
    }
    let _ = time::parse_rfc3339(text);
    let _ = (NamePattern::parse(text), Network::parse(text));
    let _ = serde_json::from_str::<ByteString>(text);
}

pub(crate) fn nvidia_report(bytes: &[u8]) {
    if let Ok(report) = Report::parse(bytes) {
        let _ = (report.mode(), report.opaque.record(3));
    }
}

/// Opaque data in a report that is otherwise well formed.
pub(crate) fn nvidia_opaque(bytes: &[u8]) {
    static REPORT: LazyLock<Vec<u8>> = LazyLock::new(crate::seeds::gpu_report);
    let Ok(size) = u16::try_from(bytes.len()) else { return };
    let (head, signature) = (&REPORT[..OPAQUE_LENGTH], &REPORT[REPORT.len() - 96..]);
    nvidia_report(&[head, &size.to_le_bytes(), bytes, signature].concat());
}

/// Offset of the length of a GPU's opaque data: request, response header, 64 blocks, responder nonce.
const OPAQUE_LENGTH: usize = 37 + 8 + 64 * 55 + 32;

pub(crate) fn nvidia_chain(bytes: &[u8]) {
    if let Ok(chain) = DeviceChain::parse(bytes) {
        let _ = (chain.family(), chain.pdi(), chain.fwid());
    }
}

/// An answer of NVIDIA's attestation service.
pub(crate) fn nras_answer(bytes: &[u8]) {
    let Ok(answer) = NrasAnswer::parse(bytes) else { return };
    assert!((1..=MAX_DEVICES).contains(&answer.devices.len()));
    assert_eq!(answer.devices.len(), answer.overall.digests.len());
    for device in &answer.devices {
        assert!(answer.overall.digests.contains_key(&device.name), "of the same names");
        assert_ne!(device.serial.first(), Some(&0), "the shortest form");
        let (signed, compact) = (device.token.signed(), device.token.compact.as_bytes());
        assert!(
            compact.starts_with(signed) && compact[signed.len()..].len() == 1 + 128,
            "a signature follows"
        );
    }
}

/// The claims of an overall token and, behind a zero byte, of a device's: no change of bytes reaches them behind base64.
pub(crate) fn nras_claims(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let [overall, device] = [parts.next(), parts.next()].map(|claims| {
        let parts = [br#"{"kid":"k","alg":"ES384"}"#, claims.unwrap_or_default(), &[7; 96]];
        parts.map(base64url).join(".")
    });
    nras_answer(format!("[[\"JWT\",\"{overall}\"],{{\"GPU-0\":\"{device}\"}}]").as_bytes());
}

/// Base64url without padding.
fn base64url(bytes: &[u8]) -> String {
    chains::base64_text(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// The key set of NVIDIA's attestation service.
pub(crate) fn nras_jwks(bytes: &[u8]) {
    if let Ok(set) = Jwks::parse(bytes) {
        assert!((1..=MAX_JWKS_KEYS).contains(&set.count()));
    }
}

/// A list of devices, and files with a device's evidence in any encoding.
pub(crate) fn evidence_list(bytes: &[u8]) {
    if let Ok(list) = nvidia::evidence_list(bytes) {
        assert!((1..=MAX_DEVICES).contains(&list.len()));
        assert!(list.iter().all(|listed| listed.device.kind == listed.arch.kind()));
    }
    if let Ok(found) = nvidia::decoded(bytes) {
        let digits = hex::encode(&found);
        if digits.len() <= MAX_DECODED {
            assert_eq!(nvidia::decoded(digits.as_bytes()), Ok(found), "its digits hold the same");
        }
    }
    if let Ok(found) = nvidia::decoded_rim(bytes) {
        let digits = hex::encode(&found);
        if digits.len() <= MAX_DECODED {
            assert_eq!(nvidia::decoded_rim(digits.as_bytes()), Ok(found), "its digits hold the same");
        }
    }
    let _ = nvidia::device_of(bytes, bytes);
}

/// An answer of NVIDIA's service: the document in it is a RIM of what was asked for.
pub(crate) fn rim_answer(bytes: &[u8]) {
    use crate::seeds::RIM_ID;
    let id = RIM_ID.parse().expect("the id of the seed");
    let Ok(document) = rim_document(&id, bytes) else { return };
    let rim = Rim::parse(&document).expect("what an answer holds is read");
    assert_eq!(format!("NV_GPU_DRIVER_{}_{}", rim.product, rim.colloquial_version), RIM_ID);
}

/// A RIM: what is signed is canonical, and the content says what the RIM says.
pub(crate) fn rim(bytes: &[u8]) {
    let Ok(rim) = Rim::parse(bytes) else { return };
    for signed in [&rim.content, &rim.signed_info] {
        assert_stays(signed);
    }
    // The content with the signature in its place again is a RIM that says the same.
    let (Ok(content), Ok(text)) = (std::str::from_utf8(&rim.content), std::str::from_utf8(bytes)) else {
        return;
    };
    let (Some(start), Some(end)) = (text.find("<ds:Signature "), text.find("</ds:Signature>")) else {
        return;
    };
    let Some(body) = content.strip_suffix("</SoftwareIdentity>") else { return };
    let again = [body, &text[start..end], "</ds:Signature></SoftwareIdentity>"].concat();
    if again.len() <= MAX_RIM {
        let again = Rim::parse(again.as_bytes()).expect("canonical content is a RIM's content");
        assert_eq!((again.measurements, again.product), (rim.measurements, rim.product));
        assert_eq!(again.signed_info, rim.signed_info);
    }
}

/// Canonical XML of any document in the XML of RIMs: what is read here is read by bergshamra, too, and to the same bytes.
pub(crate) fn rim_canonical(bytes: &[u8]) {
    if let Ok(canonical) = canonical_xml(bytes) {
        let text = std::str::from_utf8(bytes).expect("what is read as XML is UTF-8");
        let oracle = canonicalize::<&str>(text, C14nMode::Inclusive11, None, &[]);
        assert_eq!(oracle.ok().as_deref(), Some(&*canonical), "bergshamra's canonical form is another");
        assert!(
            canonical.len() <= 6 * bytes.len() + 2 * MAX_RIM,
            "{} bytes of {}",
            canonical.len(),
            bytes.len()
        );
        assert_stays(&canonical);
    }
}

/// That canonical bytes are their own canonical form.
fn assert_stays(canonical: &[u8]) {
    if canonical.len() <= MAX_RIM {
        assert_eq!(canonical_xml(canonical).as_deref(), Ok(canonical), "canonical XML has one form");
    }
}

/// A boot event log: header, events, padding.
pub(crate) fn boot_log(bytes: &[u8]) {
    if let Ok(log) = BootLog::parse(bytes) {
        assert!(bytes.starts_with(log.bytes()), "the log is the table's beginning");
        for event in log.events() {
            let _ = (event.description(), event.data_is_measured());
        }
        let again = BootLog::parse(log.bytes()).expect("the log stands without its padding");
        assert_eq!(again.replay(), log.replay());
        let _ = log.to_json();
    }
}

pub(crate) fn snp_report(bytes: &[u8]) {
    let Ok(report) = snp::Report::parse(bytes) else { return };
    assert_eq!(bytes.len(), snp::REPORT, "a report has one length");
    let shown = report.to_json();
    assert_eq!(shown["broken_reserved"].is_null(), report.broken_reserved().is_none());
    for product in Product::ALL {
        for levels in [report.reported_tcb, report.committed_tcb, report.current_tcb, report.launch_tcb] {
            let (levels, _) = TcbVersion::from_bytes(product, levels);
            assert!(levels.reaches(&levels), "levels reach themselves");
        }
    }
}

/// What the certificate of a VCEK or VLEK says of it.
pub(crate) fn snp_key(bytes: &[u8]) {
    let Ok(certificate) = Certificate::parse(bytes) else { return };
    if let Ok(key) = EndorsementKey::from_certificate(&certificate) {
        assert_eq!(key.hardware_id.is_some(), key.kind == SigningKey::Vcek, "a VCEK is of a chip");
        assert_eq!(key.csp_id.is_some(), key.kind == SigningKey::Vlek, "a VLEK is of a provider");
    }
}

/// Files with AMD's certificates or lists.
pub(crate) fn snp_file(bytes: &[u8]) {
    for (found, most) in
        [(snp::certificates(bytes), MAX_CERTIFICATES), (snp::revocation_lists(bytes), MAX_CRLS)]
    {
        let Ok(elements) = found else { continue };
        assert!(elements.len() <= most, "{} elements", elements.len());
        if bytes.first() == Some(&0x30) {
            assert_eq!(elements.concat(), bytes, "DER is taken apart without a rest");
        }
    }
}

/// A file of the cache, behind a line with its name; as it is, and with the digest that it would need.
pub(crate) fn cache_file(bytes: &[u8]) {
    let Some(at) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let (Ok(name), content) = (std::str::from_utf8(&bytes[..at]), &bytes[at + 1..]) else { return };
    let read = |file: &[u8]| CacheEntry::of_file("service", name, file);
    let _ = read(content);
    if let Some(entry) = read(&sealed(content)) {
        assert!(!entry.window.part.is_empty());
    }
}

/// A content with the first line of a file of the cache.
pub(crate) fn sealed(content: &[u8]) -> Vec<u8> {
    let head = format!("confide-endorsement-1 {}\n", hex::encode(&sha256(content).0));
    [head.as_bytes(), content, b"\n"].concat()
}

pub(crate) fn reference_state(bytes: &[u8]) {
    let _ = confide::readers::reads_reference_state(bytes);
}

/// What is shown of a file is one line after the other, and moves no terminal.
pub(crate) fn inspect(bytes: &[u8]) {
    for line in confide::readers::inspected(bytes) {
        assert!(!line.contains(steers), "{line:?}");
    }
}

/// A case of the conformance suite, appraised.
pub(crate) fn conformance_case(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let line = confide::readers::conformance_case(text);
    assert!(!line.contains('\n') && serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds;

    #[test]
    fn the_seed_of_an_answer_holds_what_was_asked_for() {
        let id = seeds::RIM_ID.parse().unwrap();
        for seed in seeds::of("rim_answer") {
            assert!(rim_document(&id, &seed).is_ok());
        }
    }

    #[test]
    fn the_seeds_of_files_are_read() {
        for seed in seeds::of("cache_file") {
            let at = seed.iter().position(|byte| *byte == b'\n').unwrap();
            let name = std::str::from_utf8(&seed[..at]).unwrap();
            assert!(CacheEntry::of_file("service", name, &sealed(&seed[at + 1..])).is_some(), "{name}");
        }
        for seed in seeds::of("reference_state") {
            assert!(confide::readers::reads_reference_state(&seed));
        }
        for seed in seeds::of("rim") {
            assert!(Rim::parse(&seed).is_ok());
        }
        for seed in seeds::of("snp_key") {
            assert!(EndorsementKey::from_certificate(&Certificate::parse(&seed).unwrap()).is_ok());
        }
        for seed in seeds::of("conformance_case") {
            let line = confide::readers::conformance_case(std::str::from_utf8(&seed).unwrap());
            assert!(line.contains("\"met\":true"), "{}", line.chars().take(2000).collect::<String>());
        }
    }
}
