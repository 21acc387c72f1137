//! The broker's answer: sealed secrets, and the signature over them.

use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::cbor;
use confide_evidence::document::{KemKey, NvidiaEndorsements};
use confide_evidence::hash::{length_prefixed, sha256};
use serde::{Deserialize, Serialize};

use crate::error::ReleaseError;
use crate::identity::IdentityKey;
use crate::message::{MAX_ANSWER, ReleaseRequest, distinct, own};
use crate::recipient::{self, RecipientKey};
use crate::volume::{VolumeId, VolumeSecrets};

/// First field of what the signature covers.
const DOMAIN: &[u8] = b"confide/release/v1";

/// The keys of one boot, binding.md section 6.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseAnswer {
    /// The broker's time, Unix seconds: the guest's clock starts with it.
    pub time: u64,
    /// What was asked for, in the order of the request.
    pub volumes: Vec<SealedVolume>,
    /// Ed25519 (RFC 8032) of the identity key over [`signing_input`].
    pub signature: Bytes<64>,
    /// Endorsements of the guest's GPUs, where the broker has them. As untrusted as any other input: NVIDIA signed them.
    pub endorsements: Option<NvidiaEndorsements>,
}

/// The secrets of one volume, sealed to the recipient key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedVolume {
    /// The volume.
    pub id: VolumeId,
    /// The AEAD's output: the canonical [`VolumeSecrets`] and 16 bytes.
    pub ciphertext: ByteString,
    /// HPKE's `enc`: an X-Wing ciphertext of 1120 bytes.
    pub encapsulated: ByteString,
}

/// Seals one volume's secrets for the evidence that answered `nonce`.
///
/// # Errors
/// [`ReleaseError::Rule`] for secrets that break a rule; [`ReleaseError::Seal`] for a recipient key that is none.
pub fn seal(
    recipient: &KemKey,
    nonce: &Bytes<32>,
    id: &VolumeId,
    secrets: &VolumeSecrets,
) -> Result<SealedVolume, ReleaseError> {
    secrets.check()?;
    let sealed = recipient::seal(recipient, &secrets.encode(), &associated_data(nonce, id));
    let (encapsulated, ciphertext) = sealed.ok_or(ReleaseError::Seal)?;
    Ok(SealedVolume { id: id.clone(), ciphertext: ciphertext.into(), encapsulated: encapsulated.into() })
}

/// Ties a ciphertext to its challenge and volume: length-prefixed (nonce, volume id).
fn associated_data(nonce: &Bytes<32>, id: &VolumeId) -> Vec<u8> {
    length_prefixed(&[nonce.as_bytes(), id.as_str().as_bytes()])
}

/// What the broker signs: length-prefixed (`confide/release/v1`, SHA-256 of the evidence document, nonce, recipient key (1216
/// bytes), time (u64 big-endian), and for each volume its associated data, encapsulated key and ciphertext).
#[must_use]
pub fn signing_input(
    document: &[u8],
    nonce: &Bytes<32>,
    recipient: &KemKey,
    time: u64,
    volumes: &[SealedVolume],
) -> Vec<u8> {
    let document = sha256(document);
    let time = time.to_be_bytes();
    let data: Vec<_> = volumes.iter().map(|volume| associated_data(nonce, &volume.id)).collect();
    let mut fields = vec![DOMAIN, document.as_ref(), nonce.as_ref(), recipient.public.as_ref(), &time];
    for (volume, data) in volumes.iter().zip(&data) {
        fields.extend([data.as_slice(), volume.encapsulated.as_ref(), volume.ciphertext.as_ref()]);
    }
    length_prefixed(&fields)
}

impl ReleaseAnswer {
    /// The canonical encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        own(self)
    }

    /// Reads an answer, and vouches for nothing in it.
    ///
    /// # Errors
    /// [`ReleaseError::Malformed`]; [`ReleaseError::Rule`] for no volume, too many, or one that is there twice.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReleaseError> {
        let answer: Self = cbor::from_canonical_within(bytes, MAX_ANSWER)?;
        distinct(answer.volumes.iter().map(|volume| &volume.id))?;
        Ok(answer)
    }

    /// Holds the answer against the request and the key that the guest measured. Nothing is decrypted before this.
    ///
    /// # Errors
    /// [`ReleaseError::Signature`]; [`ReleaseError::Volumes`] where it is about other volumes than the request, or in another
    /// order.
    pub fn verify(
        self,
        identity: &IdentityKey,
        request: &ReleaseRequest,
        recipient: &RecipientKey,
    ) -> Result<VerifiedAnswer, ReleaseError> {
        let document = request.document.as_bytes();
        let signed = signing_input(document, &request.nonce, recipient.public(), self.time, &self.volumes);
        if !identity.signed(&signed, &self.signature.0) {
            return Err(ReleaseError::Signature);
        }
        if !self.volumes.iter().map(|volume| &volume.id).eq(&request.volumes) {
            let named = |ids: Vec<&VolumeId>| ids.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", ");
            let found = self.volumes.iter().map(|volume| &volume.id).collect();
            return Err(ReleaseError::Volumes {
                expected: named(request.volumes.iter().collect()),
                found: named(found),
            });
        }
        Ok(VerifiedAnswer { answer: self, nonce: request.nonce })
    }
}

/// An answer that the measured broker signed for this very request. Nothing but [`ReleaseAnswer::verify`] makes one.
///
/// ```compile_fail
/// use confide_release::{ReleaseAnswer, VerifiedAnswer};
/// fn forge(answer: ReleaseAnswer) -> VerifiedAnswer {
///     VerifiedAnswer { answer, nonce: [0; 32].into() }
/// }
/// ```
/// ```
/// use confide_release::{ReleaseAnswer, VerifiedAnswer};
/// fn forge(answer: ReleaseAnswer) -> VerifiedAnswer {
///     unimplemented!("no signature was verified: {answer:?}")
/// }
/// ```
///
/// ```compile_fail
/// fn copy<T: Clone>(_: T) {}
/// fn twice(answer: confide_release::VerifiedAnswer) {
///     copy(answer);
/// }
/// ```
/// ```
/// fn copy<T: Clone>(_: T) {}
/// fn twice(answer: confide_release::VerifiedAnswer) {
///     copy(&answer);
/// }
/// ```
#[derive(Debug)]
pub struct VerifiedAnswer {
    answer: ReleaseAnswer,
    nonce: Bytes<32>,
}

impl VerifiedAnswer {
    /// The broker's time, Unix seconds.
    #[must_use]
    pub const fn time(&self) -> u64 {
        self.answer.time
    }

    /// Endorsements of the guest's GPUs, to be appraised as any others.
    #[must_use]
    pub const fn endorsements(&self) -> Option<&NvidiaEndorsements> {
        self.answer.endorsements.as_ref()
    }

    /// Decrypts the secrets of every volume, in the order of the request. They open once: the answer is consumed.
    ///
    /// # Errors
    /// [`ReleaseError::Open`] and [`ReleaseError::Rule`], where the broker sealed what it should not have.
    pub fn open(self, recipient: &RecipientKey) -> Result<Vec<(VolumeId, VolumeSecrets)>, ReleaseError> {
        let Self { answer, nonce } = self;
        let open = |volume: SealedVolume| {
            let data = associated_data(&nonce, &volume.id);
            match recipient.open(volume.encapsulated.as_bytes(), volume.ciphertext.as_bytes(), &data) {
                Some(plaintext) => Ok((volume.id, VolumeSecrets::decode(&plaintext)?)),
                None => Err(ReleaseError::Open(volume.id)),
            }
        };
        answer.volumes.into_iter().map(open).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::tests::model;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use confide_evidence::document::{EvidenceDocument, KeySet};
    use confide_evidence::hex;
    use confide_evidence::transcript::Role;

    struct Broker {
        keys: Ed25519KeyPair,
    }

    impl Broker {
        fn new() -> Self {
            Self { keys: Ed25519KeyPair::generate().unwrap() }
        }

        fn identity(&self) -> IdentityKey {
            IdentityKey::from_raw(self.keys.public_key().as_ref().try_into().unwrap())
        }

        fn answer(&self, request: &ReleaseRequest, recipient: &KemKey) -> ReleaseAnswer {
            let sealed = |id| seal(recipient, &request.nonce, id, &model()).unwrap();
            let volumes = request.volumes.iter().map(sealed).collect();
            self.sign(request, recipient, volumes)
        }

        fn sign(
            &self,
            request: &ReleaseRequest,
            recipient: &KemKey,
            volumes: Vec<SealedVolume>,
        ) -> ReleaseAnswer {
            let input = signing_input(request.document.as_bytes(), &request.nonce, recipient, 77, &volumes);
            let signature = Bytes::try_from(self.keys.sign(&input).as_ref()).unwrap();
            ReleaseAnswer { time: 77, volumes, signature, endorsements: None }
        }
    }

    fn request() -> ReleaseRequest {
        let volumes = ["model", "state"].map(|name| name.parse().unwrap()).to_vec();
        ReleaseRequest { nonce: Bytes([1; 32]), volumes, document: vec![2; 100].into() }
    }

    #[test]
    fn released_secrets_are_those_that_were_sealed() {
        let (broker, recipient, request) = (Broker::new(), RecipientKey::draw(), request());
        let answer = broker.answer(&request, recipient.public());
        let answer = ReleaseAnswer::decode(&answer.encode()).unwrap();
        let verified = answer.verify(&broker.identity(), &request, &recipient).unwrap();
        assert_eq!(verified.time(), 77);
        let opened = verified.open(&recipient).unwrap();
        let names: Vec<_> = opened.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(names, ["model", "state"]);
        for (_, secrets) in opened {
            assert_eq!(secrets.versions[1].secret.expose(), &[9; 64]);
            assert_eq!((secrets.size, secrets.verity), (4096, model().verity));
        }
    }

    /// The answer of the committed vectors, which `check_vectors.py` opens without our code, opens here to the same secrets.
    #[test]
    fn the_release_of_the_committed_vectors_opens() {
        let file = include_str!("../../../docs/protocol/release-vectors.json");
        let file: serde_json::Value = serde_json::from_str(file).unwrap();
        let vector = |name: &str| {
            let vectors = file["vectors"].as_array().unwrap();
            vectors.iter().find(|vector| vector["name"] == name).unwrap_or_else(|| panic!("{name}"))
        };
        let bytes = |value: &serde_json::Value| hex::decode(value.as_str().unwrap()).unwrap();
        let request = ReleaseRequest::decode(&bytes(&vector("release: the request")["output"])).unwrap();
        let answer = ReleaseAnswer::decode(&bytes(&vector("release: the answer")["output"])).unwrap();
        let whole = vector("release: what the answer's signature covers, and what opens");
        let key = |name: &str| bytes(&whole["inputs"][name]["hex"]);
        let identity = IdentityKey::from_raw(key("identity_key").try_into().unwrap());
        let recipient = RecipientKey::of_seed(&key("recipient_seed"));
        let document = EvidenceDocument::decode(request.document.as_bytes()).unwrap();
        assert_eq!(document.key_set, KeySet::Recipient(recipient.public().clone()));
        assert_eq!(document.events.boot().unwrap().broker_key, Some(identity.to_der()));
        document.check_events(Role::KeyRelease).unwrap();
        let opened = answer.verify(&identity, &request, &recipient).unwrap().open(&recipient).unwrap();
        let names =
            ["volume secrets: a model while it is rotated", "volume secrets: a state to be formatted"];
        for ((id, secrets), (name, asked)) in opened.iter().zip(names.into_iter().zip(&request.volumes)) {
            assert_eq!((id, secrets.encode().to_vec()), (asked, bytes(&vector(name)["output"])));
        }
        assert_eq!(opened.len(), 2);
    }

    #[test]
    fn an_answer_to_another_request_or_of_another_broker_is_refused() {
        let (broker, recipient, request) = (Broker::new(), RecipientKey::draw(), request());
        let answer = broker.answer(&request, recipient.public());
        let refused =
            |answer: &ReleaseAnswer, identity: &IdentityKey, asked: &ReleaseRequest, key: &RecipientKey| {
                answer.clone().verify(identity, asked, key).unwrap_err()
            };
        let identity = broker.identity();
        assert_eq!(
            refused(&answer, &Broker::new().identity(), &request, &recipient),
            ReleaseError::Signature
        );
        let other = ReleaseRequest { nonce: Bytes([9; 32]), ..request.clone() };
        assert_eq!(refused(&answer, &identity, &other, &recipient), ReleaseError::Signature);
        let other = ReleaseRequest { document: vec![3; 100].into(), ..request.clone() };
        assert_eq!(refused(&answer, &identity, &other, &recipient), ReleaseError::Signature);
        assert_eq!(refused(&answer, &identity, &request, &RecipientKey::draw()), ReleaseError::Signature);
        let mut late = answer.clone();
        late.time += 1;
        assert_eq!(refused(&late, &identity, &request, &recipient), ReleaseError::Signature);
        let mut swapped = answer.clone();
        swapped.volumes.swap(0, 1);
        assert_eq!(refused(&swapped, &identity, &request, &recipient), ReleaseError::Signature);
        let mut changed = answer;
        changed.volumes[0].ciphertext.0[0] ^= 1;
        assert_eq!(refused(&changed, &identity, &request, &recipient), ReleaseError::Signature);
    }

    #[test]
    fn an_answer_about_other_volumes_is_refused_although_it_is_signed() {
        let (broker, recipient, request) = (Broker::new(), RecipientKey::draw(), request());
        let mut one = request.clone();
        one.volumes.pop();
        let answer = broker.answer(&one, recipient.public());
        let refused = answer.verify(&broker.identity(), &request, &recipient).unwrap_err();
        let expected = ReleaseError::Volumes { expected: "model, state".into(), found: "model".into() };
        assert_eq!(refused, expected);
    }

    #[test]
    fn secrets_open_for_their_key_challenge_and_volume_alone() {
        let (broker, recipient, request) = (Broker::new(), RecipientKey::draw(), request());
        let id: VolumeId = "model".parse().unwrap();
        let sealed = |key: &KemKey, nonce: [u8; 32], name: &str| {
            let sealed = seal(key, &Bytes(nonce), &name.parse().unwrap(), &model()).unwrap();
            SealedVolume { id: id.clone(), ..sealed }
        };
        let one = ReleaseRequest { volumes: vec![id.clone()], ..request };
        let opened = |volume| {
            let answer = broker.sign(&one, recipient.public(), vec![volume]);
            answer.verify(&broker.identity(), &one, &recipient).unwrap().open(&recipient).map(|_| ())
        };
        assert_eq!(opened(sealed(recipient.public(), [1; 32], "model")), Ok(()));
        let wrong = Err(ReleaseError::Open(id.clone()));
        assert_eq!(opened(sealed(RecipientKey::draw().public(), [1; 32], "model")), wrong);
        assert_eq!(opened(sealed(recipient.public(), [2; 32], "model")), wrong);
        assert_eq!(opened(sealed(recipient.public(), [1; 32], "state")), wrong);
        let mut cut = sealed(recipient.public(), [1; 32], "model");
        cut.encapsulated.0.pop();
        assert_eq!(opened(cut), wrong);
    }

    #[test]
    fn nothing_is_sealed_that_breaks_a_rule_or_to_what_is_no_key() {
        let recipient = RecipientKey::draw();
        let id: VolumeId = "model".parse().unwrap();
        let broken = VolumeSecrets { verity: None, ..model() };
        let sealed = seal(recipient.public(), &Bytes([1; 32]), &id, &broken);
        assert!(matches!(sealed, Err(ReleaseError::Rule(_))));
        // FIPS 203 section 7.2: coefficients are below 3329.
        let none = KemKey { public: Bytes([0xff; 1216]), ..recipient.public().clone() };
        assert_eq!(seal(&none, &Bytes([1; 32]), &id, &model()), Err(ReleaseError::Seal));
    }
}
