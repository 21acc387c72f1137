//! What a guest and a broker say to each other, the key by which one knows the other, and the broker's audit log.

use confide_evidence::bytes::Bytes;
use confide_evidence::document::NvidiaEndorsements;
use confide_policy::BrokerKey;
use confide_release::audit::{Entry, SignedHead, What};
use confide_release::{
    Challenge, Failure, Formatted, IdentityKey, MAX_REFUSAL, Profile, Refusal, ReleaseAnswer, ReleaseRequest,
    SealedVolume, Secret, Verity, Version, VolumeSecrets,
};
use zeroize::Zeroizing;

/// The short messages, a refusal's JSON, and the key of a broker's certificate.
pub(crate) fn message(bytes: &[u8]) {
    if let Ok(challenge) = Challenge::decode(bytes) {
        assert_eq!(challenge.encode(), bytes, "a challenge has one encoding");
    }
    if let Ok(formatted) = Formatted::decode(bytes) {
        assert_eq!(formatted.encode(), bytes, "a report has one encoding");
    }
    if let Ok(failure) = Failure::decode(bytes) {
        assert_eq!(failure.encode(), bytes, "a failure has one encoding");
        assert!(!failure.sentence.chars().any(char::is_control), "a failure is one line");
    }
    if let Ok(key) = IdentityKey::from_der(bytes) {
        assert_eq!(key.to_der().as_bytes(), bytes, "a key has one encoding");
    }
    if let Some(key) = BrokerKey::from_spki(bytes) {
        assert_eq!(key.spki(), bytes, "a key has one encoding");
    }
    if let Some(refusal) = Refusal::from_json(bytes) {
        let text = refusal.to_json(403);
        let again = Refusal::from_json(&text);
        assert!(text.len() > MAX_REFUSAL || again == Some(refusal), "a refusal is read as it is written");
    }
}

pub(crate) fn request(bytes: &[u8]) {
    if let Ok(request) = ReleaseRequest::decode(bytes) {
        assert_eq!(request.encode(), bytes, "a request has one encoding");
        assert!((1..=64).contains(&request.volumes.len()));
    }
}

pub(crate) fn answer(bytes: &[u8]) {
    if let Ok(answer) = ReleaseAnswer::decode(bytes) {
        assert_eq!(answer.encode(), bytes, "an answer has one encoding");
        assert!((1..=64).contains(&answer.volumes.len()));
    }
}

pub(crate) fn secrets(bytes: &[u8]) {
    if let Ok(secrets) = VolumeSecrets::decode(bytes) {
        assert_eq!(secrets.encode().as_slice(), bytes, "secrets have one encoding");
        assert!(matches!(secrets.versions.len(), 1 | 2));
        assert_eq!(secrets.verity.is_some(), secrets.profile == Profile::Model);
    }
}

/// An entry, and a head.
pub(crate) fn audit(bytes: &[u8]) {
    if let Ok(entry) = Entry::decode(bytes) {
        assert_eq!(entry.encode(), bytes, "an entry has one encoding");
        let _ = entry.hash();
    }
    if let Ok(head) = SignedHead::decode(bytes) {
        assert_eq!(head.encode(), bytes, "a head has one encoding");
    }
}

/// Valid messages, each target's own.
pub(crate) fn seeds(target: &str) -> Vec<Vec<u8>> {
    let id = || "weights".parse().expect("a name");
    let (nonce, boot_id) = (Bytes([1; 32]), Bytes([2; 16]));
    match target {
        "release_message" => vec![
            Challenge { nonce, expires_at: 7 }.encode(),
            Formatted { token: nonce, header: Bytes([3; 32]), volume: id() }.encode(),
            Failure::new("volume_rolled_back", boot_id, "an old header").encode(),
            Refusal::new("volume_revoked", "the volume is revoked").to_json(403),
            IdentityKey::from_raw([7; 32]).to_der().0,
        ],
        "release_request" => {
            vec![ReleaseRequest { nonce, volumes: vec![id()], document: vec![4; 40].into() }.encode()]
        }
        "release_answer" => {
            let sealed = vec![5; 40].into();
            let volume = SealedVolume { id: id(), ciphertext: sealed, encapsulated: vec![6; 1120].into() };
            let list = || vec![vec![7; 9].into()];
            let endorsements = Some(NvidiaEndorsements { crls: list(), ocsp: list(), rims: list() });
            let answer =
                ReleaseAnswer { time: 7, volumes: vec![volume], signature: Bytes([8; 64]), endorsements };
            vec![answer.encode(), ReleaseAnswer { endorsements: None, ..answer }.encode()]
        }
        "volume_secrets" => [model(), state()].map(|secrets| secrets.encode().to_vec()).to_vec(),
        _ => {
            let head = SignedHead { last: nonce, time: 7, count: 5, signature: Bytes([8; 64]) };
            vec![entry().encode(), head.encode()]
        }
    }
}

fn version(generation: u64, header: Option<Bytes<32>>) -> Version {
    Version { header, secret: Secret::new(Zeroizing::new([9; 64])), generation }
}

/// A volume while it is rotated.
fn model() -> VolumeSecrets {
    let versions = vec![version(1, Some(Bytes([3; 32]))), version(2, Some(Bytes([4; 32])))];
    let verity = Some(Verity { root: Bytes([1; 32]), salt: Bytes([2; 32]), data_blocks: 3 });
    VolumeSecrets { size: 4096, verity, profile: Profile::Model, versions, format_token: None }
}

/// A volume that is yet to be formatted.
fn state() -> VolumeSecrets {
    let versions = vec![version(1, None)];
    let format_token = Some(Bytes([5; 32]));
    VolumeSecrets { size: 4096, verity: None, profile: Profile::State, versions, format_token }
}

fn entry() -> Entry {
    Entry {
        seq: 4,
        code: Some("volume_revoked".to_owned()),
        peer: Some("192.0.2.1".to_owned()),
        prev: Bytes([5; 32]),
        time: 7,
        what: What::Refused,
        nonce: Some(Bytes([1; 32])),
        boot_id: Some(Bytes([2; 16])),
        records: vec![Bytes([6; 32])],
        volumes: vec![("weights".to_owned(), vec![1, 2])],
        document: Some(Bytes([3; 32])),
        sentence: Some("the volume is revoked".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_what_their_targets_read() {
        for seed in seeds("release_request") {
            ReleaseRequest::decode(&seed).unwrap();
        }
        for seed in seeds("release_answer") {
            ReleaseAnswer::decode(&seed).unwrap();
        }
        for seed in seeds("volume_secrets") {
            VolumeSecrets::decode(&seed).unwrap();
        }
        let [entry, head] = &seeds("audit_entry")[..] else { panic!("an entry and a head") };
        assert!(Entry::decode(entry).is_ok() && SignedHead::decode(head).is_ok());
        let [challenge, formatted, failure, refusal, key] = &seeds("release_message")[..] else {
            panic!("five")
        };
        assert!(Challenge::decode(challenge).is_ok() && Formatted::decode(formatted).is_ok());
        assert!(Failure::decode(failure).is_ok() && Refusal::from_json(refusal).is_some());
        assert!(IdentityKey::from_der(key).is_ok());
    }
}
