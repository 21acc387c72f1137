//! One whole release: a guest's request, the answer to it, and the secrets that its guest opens.
//!
//! Keys that are drawn elsewhere are fixed here, so that the vectors are the same each time they are made.

use std::convert::Infallible;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::{
    CpuEvidence, EvidenceDocument, KemAlgorithm, KemKey, KeySet, Platform, devices_digest,
};
use confide_evidence::event::{Boot, RuntimeEvent};
use confide_evidence::hash::length_prefixed;
use confide_evidence::transcript::{Binding, Transcript};
use confide_release::{
    IdentityKey, ReleaseAnswer, ReleaseRequest, SealedVolume, VolumeId, VolumeSecrets, signing_input,
};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, Kem, OpModeS, Serializable as _, single_shot_seal_with_rng};
use serde_json::{Value, json};

use super::documents::{boot_id, claims, devices, document, fill, locked_events, log, text};
use super::forms::{bytes, encoding, report_data, value, vector};

/// X-Wing's private key, from which both halves follow (draft-connolly-cfrg-xwing-kem, section 5.2).
const RECIPIENT_SEED: [u8; 32] = [0x21; 32];
/// The broker's private key (RFC 8032 section 5.1.5).
const IDENTITY_SEED: [u8; 32] = [0x22; 32];
/// The broker's time.
const TIME: u64 = 1_750_000_063;

/// What encapsulations draw: one byte after the other.
struct Counting(u8);

impl TryRng for Counting {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
        Ok(())
    }
}

impl TryCryptoRng for Counting {}

/// The vectors of a release of these secrets.
pub(super) fn vectors(secrets: &[(VolumeId, VolumeSecrets)]) -> Vec<Value> {
    let identity = Ed25519KeyPair::from_seed_unchecked(&IDENTITY_SEED).expect("32 bytes are a private key");
    let public = identity.public_key().as_ref().try_into().expect("a public key has 32 bytes");
    let (nonce, recipient) = (fill("nonce"), recipient());
    let document = evidence(&IdentityKey::from_raw(public).to_der(), &recipient);
    let transcript = Transcript {
        binding: Binding::KeyRelease { nonce },
        keyset: document.key_set.digest(),
        devices: devices_digest(&document.devices),
        claims: document.claims.digest(),
        boot_id: document.boot_id,
    };
    let request = ReleaseRequest {
        nonce,
        volumes: secrets.iter().map(|(id, _)| id.clone()).collect(),
        document: document.encode().expect("a valid sample").into(),
    };
    let mut drawn = Counting(0);
    let volumes: Vec<_> =
        secrets.iter().map(|(id, secrets)| sealed(&recipient, &nonce, id, secrets, &mut drawn)).collect();
    let signed = signing_input(request.document.as_bytes(), &nonce, &recipient, TIME, &volumes);
    let signature = Bytes::try_from(identity.sign(&signed).as_ref()).expect("a signature has 64 bytes");
    let answer = ReleaseAnswer { time: TIME, volumes, signature, endorsements: None };
    let inputs = json!({
        "request": value(&request),
        "answer": value(&answer),
        "secrets": secrets.iter().map(|(_, secrets)| value(secrets)).collect::<Vec<_>>(),
        "identity_key": bytes(public),
        "recipient_seed": bytes(RECIPIENT_SEED),
    });
    vec![
        encoding("release: the request", "release-request", &request),
        report_data("release: report data of the request's document", &transcript),
        encoding("release: the answer", "release-answer", &answer),
        vector("release", "release: what the answer's signature covers, and what opens", inputs, &signed),
    ]
}

fn recipient() -> KemKey {
    let private =
        <XWing as Kem>::PrivateKey::from_bytes(&RECIPIENT_SEED).expect("32 bytes are a private key");
    let public = XWing::sk_to_pk(&private).to_bytes();
    KemKey { alg: KemAlgorithm::XWing, public: Bytes::try_from(public.as_slice()).expect("1216 bytes") }
}

/// Evidence of the role `key-release`: exactly two events, of which the first names the broker.
fn evidence(broker: &ByteString, recipient: &KemKey) -> EvidenceDocument {
    let mut events: Vec<_> = locked_events().into_iter().take(2).collect();
    for event in &mut events {
        if let RuntimeEvent::Boot(Boot { broker_key, .. }) = event {
            *broker_key = Some(broker.clone());
        }
    }
    EvidenceDocument {
        cpu: CpuEvidence::Tdx { quote: text("quote") },
        batch: None,
        claims: claims(),
        events: log(events),
        boot_id: boot_id(),
        devices: devices(),
        key_set: KeySet::Recipient(recipient.clone()),
        boot_log: None,
        platform: Platform::Tdx,
        endorsements: None,
        ..document()
    }
}

/// What [`confide_release::seal`] makes of numbers that are drawn.
fn sealed(
    recipient: &KemKey,
    nonce: &Bytes<32>,
    id: &VolumeId,
    secrets: &VolumeSecrets,
    drawn: &mut Counting,
) -> SealedVolume {
    let key = <XWing as Kem>::PublicKey::from_bytes(recipient.public.as_bytes()).expect("a public key");
    let aad = length_prefixed(&[nonce.as_bytes(), id.as_str().as_bytes()]);
    let (encapsulated, ciphertext) = single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeS::Base,
        &key,
        b"confide/release/v1",
        &secrets.encode(),
        &aad,
        drawn,
    )
    .expect("a good key");
    SealedVolume {
        id: id.clone(),
        ciphertext: ciphertext.into(),
        encapsulated: encapsulated.to_bytes().to_vec().into(),
    }
}
