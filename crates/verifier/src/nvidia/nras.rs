//! What NVIDIA's remote attestation service says of the same devices: a second opinion, appraised offline from stored answers
//! and a stored key set.
//!
//! The service's authority is the anchor: its certificate stands in the key set, its issuer's does not. A key counts if that
//! authority has issued its certificate, and a token if such a key has signed it. Then who says it, when, in answer to which
//! nonce and about which device is held against the appraisal. What is left is whether the service finds the same as here;
//! where it does not, the devices are rejected, in either direction.
//!
//! Tokens are of the present: the other time of manifests is none of theirs.

use super::chain;
use super::device::{Compared, Device};
use super::{Cpu, DeviceFindings, Node, earliest};
use crate::check::{Checks, Rule};
use crate::result::Outcome;
use crate::rules;
use crate::tdx::{PROCESSED_EXTENSIONS, understood};
use confide_evidence::bytes::ByteString;
use confide_evidence::document::{DeviceEvidence, DeviceKind as DocumentKind, MAX_DEVICES};
use confide_evidence::hex;
use confide_evidence::nvidia::{
    DeviceChain, DeviceKind, Jwks, NrasAnswer, Stamp, Submodule, SubmoduleName, Token,
};
use confide_evidence::record::NrasOpinion;
use confide_evidence::time::format_seconds;
use confide_evidence::x509::{Certificate, KeyAlgorithm};
use confide_policy::{NVIDIA_NRAS_ISSUERS, Require};
use sha2::{Digest as _, Sha256};

/// `iss` of NVIDIA's production service.
const ISSUER: &str = "https://nras.attestation.nvidia.com";
/// `sub` of its overall tokens.
const SUBJECT: &str = "NVIDIA-PLATFORM-ATTESTATION";

/// What the tokens' claims are held against once their signatures hold, in order.
static CLAIMS: [&Rule; 5] = [
    &rules::NRAS_ISSUER,
    &rules::NRAS_VALIDITY,
    &rules::NRAS_NONCE,
    &rules::NRAS_DIGEST,
    &rules::NRAS_DEVICES,
];
/// All rules of a given opinion, in order.
static RULES: [&Rule; 11] = [
    &rules::NRAS_FORMAT,
    &rules::NRAS_KEY,
    &rules::NRAS_ANCHOR,
    &rules::NRAS_CHAIN,
    &rules::NRAS_SIGNATURE,
    &rules::NRAS_ISSUER,
    &rules::NRAS_VALIDITY,
    &rules::NRAS_NONCE,
    &rules::NRAS_DIGEST,
    &rules::NRAS_DEVICES,
    &rules::NRAS,
];

/// Why a document never has what [`rules::NRAS`] asks for.
const OF_DOCUMENTS: &str =
    "none: documents carry no opinion, opinions are appraised for devices by themselves: verify gpu";

/// What was found of the devices here.
pub(super) struct Ours<'o, 'a> {
    /// Those whose chain and report signature hold.
    pub(super) devices: &'o [Device<'a>],
    /// What came of the measurements of each of them.
    pub(super) compared: &'o [Compared],
}

/// Appraises the opinion, or notes that there is none.
pub(super) fn appraise(
    node: &Node<'_>,
    ours: &Ours<'_, '_>,
    checks: &mut Checks,
    findings: &mut DeviceFindings,
) {
    let Some(given) = node.nras else {
        return not_asked(node, checks);
    };
    let here = checks.first_failure();
    if let Some(opinion) = authentic(given, node, checks, findings)
        && opinion.claims_hold(node, checks, findings)
    {
        match opinion.compare(node, ours, here) {
            Ok(actual) => checks.pass(&rules::NRAS, actual),
            Err(actual) => {
                checks.fail(&rules::NRAS_DISAGREES, actual);
                checks.not_run(&rules::NRAS, "the opinion that was given differs");
            }
        }
        return;
    }
    checks.not_reached(&RULES);
}

/// There is no opinion. A document cannot have one: under a policy that needs it, it is refused for what the policy asks.
fn not_asked(node: &Node<'_>, checks: &mut Checks) {
    let required = &node.policy.devices.nras;
    let of_document = matches!((node.cpu, required), (Cpu::Tdx(_), Require::Required));
    let actual = if of_document { OF_DOCUMENTS } else { "NVIDIA's attestation service was not asked" };
    checks.require(&rules::NRAS, required, Err::<String, _>(actual));
    checks.advise(|| {
        of_document.then_some(
            "waive devices.nras in policies for documents, and hold devices against it with verify gpu",
        )
    });
}

/// An opinion whose tokens are each signed by a key that the pinned authority has certified.
struct Opinion {
    answers: Vec<NrasAnswer>,
    keys: Vec<Key>,
}

/// A key that a token names.
struct Key {
    kid: String,
    point: [u8; 97],
    leaf: Certificate,
    issuer: Certificate,
}

/// Form, keys, anchor, certificates, signatures: the first that fails ends the opinion.
fn authentic(
    given: &NrasOpinion,
    node: &Node<'_>,
    checks: &mut Checks,
    findings: &mut DeviceFindings,
) -> Option<Opinion> {
    let (answers, jwks) = read(given, checks, findings)?;
    let keys = keys(&answers, &jwks);
    let keys = checks.need(&rules::NRAS_KEY, keys, |keys| format!("{} keys", keys.len())).ok()?;
    let opinion = Opinion { answers, keys };
    checks.need_text(&rules::NRAS_ANCHOR, opinion.anchor(node)).ok()?;
    checks.need_text(&rules::NRAS_CHAIN, opinion.chain(node)).ok()?;
    checks.need_text(&rules::NRAS_SIGNATURE, opinion.signatures(node)).ok()?;
    findings.simulated |= opinion.keys.iter().any(|key| !NVIDIA_NRAS_ISSUERS.contains(&key.anchor()));
    Some(opinion)
}

/// Reads answers and key set.
fn read(
    given: &NrasOpinion,
    checks: &mut Checks,
    findings: &mut DeviceFindings,
) -> Option<(Vec<NrasAnswer>, Jwks)> {
    let first = checks.first_failure().is_none();
    let (outcome, actual) = match parse(given) {
        Ok((answers, jwks)) => {
            let tokens: usize = answers.iter().map(|answer| answer.devices.len()).sum();
            let actual = format!("{} answers about {tokens} devices, {} keys", answers.len(), jwks.count());
            checks.pass(&rules::NRAS_FORMAT, actual);
            return Some((answers, jwks));
        }
        Err(fault) => fault,
    };
    checks.fail(&rules::NRAS_FORMAT, actual);
    if first {
        findings.outcome = findings.outcome.or(Some(outcome));
    }
    None
}

fn parse(given: &NrasOpinion) -> Result<(Vec<NrasAnswer>, Jwks), (Outcome, String)> {
    let count = given.answers.len();
    if count == 0 || count > MAX_DEVICES {
        return Err((Outcome::Malformed, format!("{count} answers")));
    }
    let answer = |(at, bytes): (usize, &ByteString)| {
        NrasAnswer::parse(bytes.as_bytes()).map_err(|error| {
            let outcome = if error.is_unsupported() { Outcome::Unsupported } else { Outcome::Malformed };
            (outcome, format!("answer {at}: {error}"))
        })
    };
    let answers: Vec<NrasAnswer> = given.answers.iter().enumerate().map(answer).collect::<Result<_, _>>()?;
    // Each token costs a signature: there are as many as devices, however many answers repeat them.
    let tokens: usize = answers.iter().map(|answer| answer.devices.len()).sum();
    if tokens > MAX_DEVICES {
        return Err((Outcome::Malformed, format!("tokens about {tokens} devices")));
    }
    let jwks = Jwks::parse(given.jwks.as_bytes()).map_err(|error| (Outcome::Malformed, error.to_string()))?;
    Ok((answers, jwks))
}

/// A token with what errors call it.
struct Named<'o> {
    answer: usize,
    /// Nothing is the overall token.
    of: Option<SubmoduleName>,
    token: &'o Token,
    stamp: &'o Stamp,
}

impl Named<'_> {
    fn says(&self, what: impl std::fmt::Display) -> String {
        match self.of {
            Some(name) => format!("answer {}, {name}: {what}", self.answer),
            None => format!("answer {}, overall token: {what}", self.answer),
        }
    }
}

/// Every token.
fn tokens(answers: &[NrasAnswer]) -> impl Iterator<Item = Named<'_>> {
    answers.iter().enumerate().flat_map(|(answer, found)| {
        let overall = Named { answer, of: None, token: &found.overall.token, stamp: &found.overall.stamp };
        let devices = found.devices.iter().map(move |device| Named {
            answer,
            of: Some(device.name),
            token: &device.token,
            stamp: &device.stamp,
        });
        std::iter::once(overall).chain(devices)
    })
}

/// The keys that tokens name, each once, with their certificates.
fn keys(answers: &[NrasAnswer], jwks: &Jwks) -> Result<Vec<Key>, String> {
    let mut keys: Vec<Key> = Vec::new();
    for named in tokens(answers) {
        let kid = &named.token.kid;
        if keys.iter().all(|key| key.kid != *kid) {
            keys.push(key(kid, jwks).map_err(|why| named.says(format!("key {kid}: {why}")))?);
        }
    }
    Ok(keys)
}

fn key(kid: &str, jwks: &Jwks) -> Result<Key, String> {
    let found = jwks.key(kid).ok_or("the key set has none of this id")?;
    let found = found.key.as_ref().ok_or("no key on P-384")?;
    let [leaf, issuer] = &found.certificates;
    let certificate = |der: &[u8]| Certificate::parse(der).map_err(|error| error.to_string());
    let (leaf, issuer) = (certificate(leaf)?, certificate(issuer)?);
    if leaf.key_algorithm != KeyAlgorithm::P384 || leaf.public_key != found.point {
        return Err("x and y are not the key of its certificate".to_owned());
    }
    Ok(Key { kid: kid.to_owned(), point: found.point, leaf, issuer })
}

impl Key {
    /// SHA-256 of the SubjectPublicKeyInfo of who has issued the certificate.
    fn anchor(&self) -> [u8; 32] {
        Sha256::digest(&self.issuer.spki).into()
    }

    /// The authority has issued the certificate, and it may sign. Its purposes are those of TLS: they say nothing of tokens.
    /// Nor does its name: only that of a key for GPUs is recorded, and nothing says that a key for switches has the same.
    fn chain(&self, node: &Node<'_>) -> Result<(), String> {
        let Self { leaf, issuer, .. } = self;
        if leaf.issuer != issuer.subject {
            return Err(format!("it names another issuer than {}", issuer.common_name));
        }
        for certificate in [leaf, issuer] {
            understood(certificate, &PROCESSED_EXTENSIONS)?;
        }
        let certifies = leaf.key_usage.is_some_and(|usage| usage.key_cert_sign);
        if !chain::signs(leaf) || certifies {
            return Err(format!("the key of {} is not one for signing answers alone", leaf.common_name));
        }
        chain::authority(issuer, 0).map_err(|what| format!("{} {what}", issuer.common_name))?;
        node.algorithms.service_certificate(issuer, leaf).map_err(|fault| fault.describe().to_owned())
    }

    /// The certificates are valid now, and were when a token was issued. Of the issuer the key alone is pinned: the certificate
    /// that the key set has of it is signed by nobody who is known here, so that its own window only informs.
    fn validity(&self, times: [i64; 2]) -> Result<(), String> {
        for certificate in [&self.leaf, &self.issuer] {
            let (from, until) = (certificate.not_before, certificate.not_after);
            if let Some(at) = times.into_iter().find(|at| *at < from || *at > until) {
                let [at, from, until] = [at, from, until].map(format_seconds);
                let name = &certificate.common_name;
                return Err(format!("at {at}, the certificate of {name} is valid from {from} to {until}"));
            }
        }
        Ok(())
    }
}

impl Opinion {
    fn anchor(&self, node: &Node<'_>) -> Result<String, String> {
        let pinned = node.policy.nras_roots();
        let told = |key: &Key| {
            format!("{} with SPKI SHA-256 {}", key.issuer.common_name, hex::encode(&key.anchor()))
        };
        match self.keys.iter().find(|key| !pinned.contains(&key.anchor())) {
            Some(key) => Err(told(key)),
            None => Ok(self.keys.first().map(told).unwrap_or_default()),
        }
    }

    fn chain(&self, node: &Node<'_>) -> Result<String, String> {
        for key in &self.keys {
            key.chain(node).map_err(|why| format!("key {}: {why}", key.kid))?;
        }
        Ok(format!("{} certificates", self.keys.len()))
    }

    fn key(&self, kid: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.kid == kid)
    }

    fn signatures(&self, node: &Node<'_>) -> Result<String, String> {
        let mut count = 0_u32;
        for named in tokens(&self.answers) {
            let Token { kid, signature, .. } = named.token;
            let verified = self
                .key(kid)
                .map(|key| node.algorithms.p384_raw(&key.point, named.token.signed(), signature));
            if verified != Some(Ok(())) {
                return Err(named.says(format!("the signature does not verify under key {kid}")));
            }
            count = count.wrapping_add(1);
        }
        Ok(format!("{count} signatures"))
    }

    /// Independent checks of what the tokens say of themselves: all run.
    fn claims_hold(&self, node: &Node<'_>, checks: &mut Checks, findings: &mut DeviceFindings) -> bool {
        let matched = self.matched(node);
        let found = [
            self.issuer(),
            self.validity(node),
            self.nonces(node, &matched),
            self.digests(),
            self.devices(node, &matched),
        ];
        let mut hold = true;
        for (rule, found) in CLAIMS.into_iter().zip(found) {
            hold &= checks.need_text(rule, found).is_ok();
        }
        if hold {
            findings.valid_until = earliest(findings.valid_until, self.until());
        }
        hold
    }

    fn issuer(&self) -> Result<String, String> {
        for named in tokens(&self.answers) {
            if named.stamp.issuer != ISSUER {
                return Err(named.says(format!("issuer {}", named.stamp.issuer)));
            }
        }
        match self.answers.iter().find(|answer| answer.overall.subject != SUBJECT) {
            Some(answer) => Err(format!("subject {}", answer.overall.subject)),
            None => Ok(ISSUER.to_owned()),
        }
    }

    fn validity(&self, node: &Node<'_>) -> Result<String, String> {
        for named in tokens(&self.answers) {
            let Stamp { issued_at, not_before, expires, .. } = *named.stamp;
            if node.now < issued_at.max(not_before) || node.now >= expires {
                let times = [node.now, issued_at, not_before, expires].map(format_seconds);
                let [now, issued, from, until] = times;
                return Err(
                    named.says(format!("at {now}, issued at {issued}, good from {from} to before {until}"))
                );
            }
            if let Some(key) = self.key(&named.token.kid) {
                key.validity([node.now, issued_at]).map_err(|why| named.says(why))?;
            }
        }
        Ok(format!("until {}", format_seconds(self.until())))
    }

    /// The last second at which every token and certificate holds.
    fn until(&self) -> i64 {
        let tokens = tokens(&self.answers).map(|named| named.stamp.expires.saturating_sub(1));
        let keys = self.keys.iter().map(|key| key.leaf.not_after.min(key.issuer.not_after));
        tokens.chain(keys).min().unwrap_or(i64::MIN)
    }

    fn nonces(&self, node: &Node<'_>, matched: &[Matched<'_>]) -> Result<String, String> {
        for found in matched {
            let nonce = found.device.stamp.nonce;
            let overall = self.answers.get(found.answer).map(|answer| answer.overall.stamp.nonce);
            let asked = match found.position {
                Some(position) => (node.nonce)(position) == Some(nonce),
                // Whose token it is shows elsewhere.
                None => (0..).zip(node.devices).any(|(position, _)| (node.nonce)(position) == Some(nonce)),
            };
            if !asked || overall != Some(nonce) {
                let nonce = hex::encode(&nonce);
                let overall = overall.map(|overall| hex::encode(&overall)).unwrap_or_default();
                let what = format!("nonce {nonce}, {overall} in the overall token, or not the device's");
                return Err(found.says(&what));
            }
        }
        Ok(format!("{} nonces", matched.len()))
    }

    fn digests(&self) -> Result<String, String> {
        let mut count = 0_u32;
        for (answer, found) in self.answers.iter().enumerate() {
            for device in &found.devices {
                let digest: [u8; 32] = Sha256::digest(device.token.compact.as_bytes()).into();
                let expected = found.overall.digests.get(&device.name);
                if expected != Some(&digest) {
                    let name = device.name;
                    let (digest, expected) =
                        (hex::encode(&digest), expected.map(|expected| hex::encode(expected)));
                    let expected = expected.unwrap_or_default();
                    return Err(format!(
                        "answer {answer}, {name}: SHA-256 {digest}, the overall token has {expected}"
                    ));
                }
                count = count.wrapping_add(1);
            }
        }
        Ok(format!("{count} digests"))
    }

    /// The devices' tokens, each with the device whose leaf certificate it names.
    fn matched(&self, node: &Node<'_>) -> Vec<Matched<'_>> {
        let serials: Vec<(u32, Option<Vec<u8>>)> =
            (0..).zip(node.devices).map(|(position, device)| (position, serial(device))).collect();
        let of_answer = |(answer, found): (usize, &'_ NrasAnswer)| -> Vec<(usize, usize)> {
            (0..found.devices.len()).map(|device| (answer, device)).collect()
        };
        let all = self.answers.iter().enumerate().flat_map(of_answer);
        all.filter_map(|(answer, device)| {
            let device = self.answers.get(answer)?.devices.get(device)?;
            let is_it = |(_, serial): &&(u32, Option<Vec<u8>>)| serial.as_ref() == Some(&device.serial);
            let position = serials.iter().find(is_it).map(|(position, _)| *position);
            Some(Matched { answer, device, position })
        })
        .collect()
    }

    fn devices(&self, node: &Node<'_>, matched: &[Matched<'_>]) -> Result<String, String> {
        if let Some(found) = matched.iter().find(|found| found.position.is_none()) {
            let serial = hex::encode(&found.device.serial);
            return Err(found.says(&format!("about the device with serial {serial}, which is none of these")));
        }
        for (position, device) in (0..).zip(node.devices) {
            let about: Vec<&Matched<'_>> =
                matched.iter().filter(|found| found.position == Some(position)).collect();
            let [found] = about[..] else {
                return Err(format!("{} tokens about device {position}", about.len()));
            };
            if !is_kind(device.kind, found.device.name.kind()) {
                return Err(found.says(&format!("about device {position}, which is of another kind")));
            }
        }
        Ok(format!("{} devices", matched.len()))
    }

    /// Holds the opinion against what was found here; `here` is the first check that failed.
    fn compare(
        &self,
        node: &Node<'_>,
        ours: &Ours<'_, '_>,
        here: Option<&'static str>,
    ) -> Result<String, String> {
        let matched = self.matched(node);
        for found in &matched {
            found.compare(ours)?;
        }
        let refused = self.answers.iter().position(|answer| !answer.overall.result);
        let refused = refused.map(|answer| format!("answer {answer}, overall token: refused"));
        let warnings = matches!(node.policy.devices.not_on_hold, Require::Required);
        let against = || matched.iter().find_map(|found| found.against(warnings));
        match (here, refused.or_else(against)) {
            (None, None) => Ok(format!("the service accepts the {} devices, too", matched.len())),
            (None, Some(there)) => Err(format!("here accepted, there {there}")),
            (Some(_), Some(there)) => Ok(format!("the service refuses the devices, too: {there}")),
            (Some(code), None) => {
                Ok(format!("the service finds the same signatures and measurements; here {code} fails"))
            }
        }
    }
}

/// The token about a device.
struct Matched<'o> {
    answer: usize,
    device: &'o Submodule,
    /// Which device it is about; nothing where none has that serial number.
    position: Option<u32>,
}

impl Matched<'_> {
    fn says(&self, what: &str) -> String {
        format!("answer {}, {}: {what}", self.answer, self.device.name)
    }

    /// Signature, measurements and versions are as here.
    fn compare(&self, ours: &Ours<'_, '_>) -> Result<(), String> {
        let position = self.position.unwrap_or(u32::MAX);
        let differs = |here: &str, there: &str| {
            Err(format!("device {position}: here {here}, there {}", self.says(there)))
        };
        let mut devices = ours.devices.iter().zip(ours.compared);
        let Some((device, compared)) = devices.find(|(device, _)| device.position == position) else {
            return match self.device.signature {
                true => differs("not authentic", "the report's signature holds"),
                false => Ok(()),
            };
        };
        if !self.device.signature {
            return differs("authentic", "the report's signature does not hold");
        }
        let measurements = self.device.measurements.as_str();
        match (compared, measurements) {
            (Compared::Same, "success") | (Compared::NotRun, _) => {}
            (Compared::Different, there) if there != "success" => {}
            (Compared::Same, there) => {
                return differs("the measurements are the manifests'", &format!("measres {there}"));
            }
            (Compared::Different, _) => {
                return differs("the measurements are not the manifests'", "measres success");
            }
        }
        let opaque = &device.report.opaque;
        for (what, here, there) in [
            ("driver", opaque.driver_version, self.device.driver.as_deref()),
            ("VBIOS or firmware", opaque.vbios_version.as_deref(), Some(self.device.firmware.as_str())),
        ] {
            if let Some(there) = there
                && here.is_none_or(|here| !here.eq_ignore_ascii_case(there))
            {
                let here = format!("{what} {}", here.unwrap_or("without a version"));
                return differs(&here, there);
            }
        }
        Ok(())
    }

    /// What the token says against the device.
    fn against(&self, warnings: bool) -> Option<String> {
        if let Some(claim) = self.device.against.first() {
            return Some(self.says(claim));
        }
        (warnings && self.device.warning).then(|| self.says("a certificate on hold"))
    }
}

/// The serial number of a device's leaf certificate.
fn serial(device: &DeviceEvidence) -> Option<Vec<u8>> {
    DeviceChain::parse(device.chain.as_bytes()).ok().map(|chain| chain.leaf().serial.clone())
}

fn is_kind(declared: DocumentKind, named: DeviceKind) -> bool {
    match named {
        DeviceKind::Gpu => declared == DocumentKind::NvidiaGpu,
        DeviceKind::Switch => declared == DocumentKind::NvidiaSwitch,
    }
}
