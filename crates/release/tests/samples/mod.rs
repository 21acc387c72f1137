//! The test vectors of `docs/protocol/release-vectors.json`, with the inputs from which anyone can recompute every output.
//!
//! In inputs, `{"hex": …}` is a byte string; all else stands for itself.

use confide_evidence::bytes::{ByteString, Bytes, Digest};
use confide_evidence::document::NvidiaEndorsements;
use confide_release::audit::{Entry, SignedHead, What};
use confide_release::{
    Challenge, Failure, Formatted, Profile, ReleaseAnswer, SealedVolume, Secret, Verity, Version, VolumeId,
    VolumeSecrets,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use forms::{encoding, value, vector};

#[path = "../../../evidence/tests/samples/mod.rs"]
#[allow(dead_code, reason = "the samples of all formats, of which a release has some")]
mod documents;
mod exchange;
#[path = "../../../evidence/tests/samples/forms.rs"]
mod forms;
mod header;

/// The whole file, as committed.
pub fn file() -> String {
    let secrets = [(id("weights"), model()), (id("state"), state())];
    let vectors: Vec<Value> =
        [messages(), exchange::vectors(&secrets), header::vectors(), log(), vec![head()]].concat();
    forms::file(&vectors)
}

fn id(name: &str) -> VolumeId {
    name.parse().expect("a name")
}

fn version(generation: u64, header: Option<Digest>) -> Version {
    Version { header, secret: Secret::new(Zeroizing::new([9; 64])), generation }
}

/// While it is rotated.
fn model() -> VolumeSecrets {
    VolumeSecrets {
        size: 4096,
        verity: Some(Verity { root: Bytes([1; 32]), salt: Bytes([2; 32]), data_blocks: 3 }),
        profile: Profile::Model,
        versions: vec![version(1, Some(Bytes([3; 32]))), version(2, Some(Bytes([4; 32])))],
        format_token: None,
    }
}

/// Before its guest formats it.
fn state() -> VolumeSecrets {
    VolumeSecrets {
        size: 1 << 30,
        verity: None,
        profile: Profile::State,
        versions: vec![version(1, None)],
        format_token: Some(Bytes([5; 32])),
    }
}

fn messages() -> Vec<Value> {
    let answer = ReleaseAnswer {
        time: 1_750_000_063,
        volumes: sealed(),
        signature: Bytes([6; 64]),
        endorsements: Some(NvidiaEndorsements {
            crls: vec![b"a list".to_vec().into()],
            ocsp: vec![b"an answer".to_vec().into()],
            rims: vec![b"a manifest".to_vec().into()],
        }),
    };
    let bare = ReleaseAnswer { endorsements: None, ..answer.clone() };
    vec![
        encoding("challenge", "challenge", &Challenge { nonce: Bytes([7; 32]), expires_at: 1_750_000_120 }),
        encoding("release answer: with endorsements", "release-answer", &answer),
        encoding("release answer: without endorsements", "release-answer", &bare),
        encoding("volume secrets: a model while it is rotated", "volume-secrets", &model()),
        encoding("volume secrets: a state to be formatted", "volume-secrets", &state()),
        encoding(
            "formatted",
            "formatted",
            &Formatted { token: Bytes([5; 32]), header: Bytes([8; 32]), volume: id("state") },
        ),
        encoding("failure", "failure", &Failure::new("volume_rolled_back", Bytes([1; 16]), "an old header")),
    ]
}

fn sealed() -> Vec<SealedVolume> {
    let sealed = |name: &str, byte| SealedVolume {
        id: id(name),
        ciphertext: ByteString(vec![byte; 40]),
        encapsulated: ByteString(vec![byte; 1120]),
    };
    vec![sealed("weights", 10), sealed("state", 11)]
}

/// An entry of every kind, each after the one before it.
fn entries() -> Vec<Entry> {
    let whats = [
        What::VolumeAdded,
        What::PolicyChanged,
        What::Released,
        What::Refused,
        What::Formatted,
        What::FailureReported,
        What::RotationPrepared,
        What::RotationCommitted,
        What::RotationAbandoned,
        What::VolumeRevoked,
    ];
    let mut entries: Vec<Entry> = Vec::new();
    for (seq, what) in (0_u64..).zip(whats) {
        let guest = matches!(what, What::Released | What::Refused | What::FailureReported);
        let refused = matches!(what, What::Refused | What::FailureReported);
        entries.push(Entry {
            seq,
            code: refused.then(|| "volume_rolled_back".to_owned()),
            peer: guest.then(|| "192.0.2.1".to_owned()),
            prev: entries.last().map_or(Bytes([0; 32]), Entry::hash),
            time: 1_750_000_000 + seq,
            what,
            nonce: guest.then_some(Bytes([7; 32])),
            boot_id: guest.then_some(Bytes([1; 16])),
            records: if guest { vec![Bytes([13; 32]), Bytes([14; 32])] } else { vec![] },
            volumes: vec![("weights".to_owned(), vec![1, 2]), ("state".to_owned(), vec![])],
            document: guest.then_some(Bytes([15; 32])),
            sentence: refused.then(|| "the header is an old one".to_owned()),
        });
    }
    entries
}

fn log() -> Vec<Value> {
    let entries = entries();
    let last = entries.last().map(Entry::hash).expect("there are entries");
    let chain = vector(
        "audit-chain",
        "audit log: hash of the last entry",
        json!({ "entries": entries.iter().map(value).collect::<Vec<_>>() }),
        last.as_ref(),
    );
    let named =
        |entry: &Entry| encoding(&format!("audit entry: {}", entry.what.name()), "audit-entry", entry);
    entries.iter().map(named).chain([chain]).collect()
}

fn head() -> Value {
    let (last, time, count) = (Bytes([16; 32]), 1_750_000_100, 10);
    let head = SignedHead { last, time, count, signature: Bytes([17; 64]) };
    let inputs = json!({ "rule": "audit-head", "value": value(&head) });
    let output = SignedHead::signing_input(&last, time, count);
    vector("audit-head-signing-input", "audit log: what a head's signature covers", inputs, &output)
}
