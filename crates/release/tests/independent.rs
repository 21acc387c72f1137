//! What is sealed, opened by another implementation: the key schedule of RFC 9180 section 5.1 written here over HMAC, and
//! X-Wing of the channel's keys over aws-lc.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use confide_channel_guest::{GuestKeys, KEM_CIPHERTEXT};
use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::document::{Build, EgressMode};
use confide_evidence::event::{
    Boot, Configuration, DevicesInUse, EventLog, LoadedModel, OpenVolumes, Released, RuntimeEvent,
};
use confide_evidence::hash::length_prefixed;
use confide_release::{Profile, Secret, Verity, Version, VolumeId, VolumeSecrets, seal};
use zeroize::Zeroizing;

/// KEM X-Wing (draft-connolly-cfrg-xwing-kem), KDF HKDF-SHA256, AEAD ChaCha20Poly1305 (RFC 9180 section 7).
const SUITE: &[u8] = b"HPKE\x64\x7a\x00\x01\x00\x03";

fn extract(salt: &[u8], label: &[u8], input: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, salt);
    hmac::sign(&key, &[b"HPKE-v1", SUITE, label, input].concat()).as_ref().to_vec()
}

/// One block is enough: no output here is longer than 32 bytes.
fn expand(secret: &[u8], label: &[u8], context: &[u8], length: u8) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let info = [&[0, length], b"HPKE-v1".as_slice(), SUITE, label, context, &[1]].concat();
    hmac::sign(&key, &info).as_ref()[..usize::from(length)].to_vec()
}

fn guest_keys() -> GuestKeys {
    let digest = Digest::from([0; 32]);
    let build = Build { image: None, version: "0".into(), revision: "0".into() };
    let mut log = EventLog::new();
    for event in [
        RuntimeEvent::Boot(Boot { build, boot_id: Bytes([0; 16]), broker_key: None }),
        RuntimeEvent::Configuration(Configuration { digest }),
        RuntimeEvent::Released(Released { volumes: vec![] }),
        RuntimeEvent::Volumes(OpenVolumes { volumes: vec![] }),
        RuntimeEvent::Model(LoadedModel { manifest: digest }),
        RuntimeEvent::Devices(DevicesInUse { devices: vec![] }),
        RuntimeEvent::Open,
    ] {
        log.push(event).unwrap();
    }
    GuestKeys::draw(&log.serving(EgressMode::Open).unwrap(), 0).unwrap()
}

fn secrets() -> VolumeSecrets {
    let secret = Secret::new(Zeroizing::new([0xab; 64]));
    VolumeSecrets {
        size: 1 << 20,
        verity: Some(Verity { root: Bytes([1; 32]), salt: Bytes([2; 32]), data_blocks: 200 }),
        profile: Profile::Model,
        versions: vec![Version { header: Some(Bytes([3; 32])), secret, generation: 1 }],
        format_token: None,
    }
}

#[test]
fn another_implementation_opens_what_is_sealed() {
    let keys = guest_keys();
    let (nonce, id) = (Bytes([7; 32]), "model".parse::<VolumeId>().unwrap());
    let sealed = seal(&keys.kem().public(), &nonce, &id, &secrets()).unwrap();
    let encapsulated: [u8; KEM_CIPHERTEXT] = sealed.encapsulated.as_bytes().try_into().unwrap();
    let shared = keys.kem().decapsulate(&encapsulated).unwrap();

    let base = [0];
    let context =
        [&base[..], &extract(&[], b"psk_id_hash", &[]), &extract(&[], b"info_hash", b"confide/release/v1")]
            .concat();
    let secret = extract(shared.as_slice(), b"secret", &[]);
    let key = UnboundKey::new(&CHACHA20_POLY1305, &expand(&secret, b"key", &context, 32)).unwrap();
    let first = expand(&secret, b"base_nonce", &context, 12);
    let mut bytes = sealed.ciphertext.as_bytes().to_vec();
    let aad = length_prefixed(&[nonce.as_bytes(), b"model"]);
    let opened = LessSafeKey::new(key)
        .open_in_place(Nonce::try_assume_unique_for_key(&first).unwrap(), Aad::from(&aad), &mut bytes)
        .unwrap();
    assert_eq!(opened, confide_evidence::cbor::to_canonical(&secrets()).unwrap());
}
