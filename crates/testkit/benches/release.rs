//! What a boot does itself between its two events `configuration` and `volumes`, without network, quoting service and
//! device-mapper: a recipient key, the evidence, the broker's answer verified and opened, a volume's header checked and unlocked.
//!
//! `cargo xtask bench` runs it, and reads one line for each step and for all of them: name, median, 10th and 90th percentile in
//! microseconds, separated by tabs.
#![expect(clippy::print_stdout, reason = "a program that measures")]

use std::fs::File;
use std::hint::black_box;
use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use confide_attester::{Attester, SimulatedMachine};
use confide_evidence::bytes::Bytes;
use confide_evidence::document::{Build, Changing, Claims, Egress, Engine, Gpus, KemKey, KeySet, Model};
use confide_evidence::event::{Boot, Configuration, RuntimeEvent};
use confide_evidence::transcript::Binding;
use confide_release::{
    IdentityKey, Profile, RecipientKey, ReleaseAnswer, ReleaseRequest, Secret, Version, VolumeId,
    VolumeSecrets, seal, signing_input,
};
use confide_volume::pack::{self, Pack, Packed};
use confide_volume::{Draw, HEADER_BYTES, HeaderCopy};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use zeroize::Zeroizing;

const WARM_UP: usize = 5;
const ROUNDS: usize = 100;
const NONCE: Bytes<32> = Bytes([7; 32]);
/// 2026-10-01.
const NOW: u64 = 1_790_812_800;

fn main() -> Result<()> {
    let scene = Scene::new()?;
    let mut samples: Vec<(&str, Vec<Duration>)> = Vec::new();
    for round in 0..WARM_UP + ROUNDS {
        let steps = scene.boot()?;
        let all = steps.iter().map(|(_, took)| *took).sum();
        for (place, (name, took)) in steps.into_iter().chain([("all of these steps", all)]).enumerate() {
            if round == 0 {
                samples.push((name, Vec::with_capacity(ROUNDS)));
            } else if round >= WARM_UP {
                samples[place].1.push(took);
            }
        }
    }
    for (name, mut samples) in samples {
        samples.sort_unstable();
        let percentile = |percent: usize| samples[samples.len() * percent / 100].as_secs_f64() * 1e6;
        println!("{name}\t{:.1}\t{:.1}\t{:.1}", percentile(50), percentile(10), percentile(90));
    }
    Ok(())
}

/// A packed volume, the broker that has its key, and a machine whose configuration is measured.
struct Scene {
    broker: KeyPair,
    identity: IdentityKey,
    attester: Attester,
    claims: Claims,
    volume: VolumeId,
    packed: Packed,
    image: File,
    _folder: tempfile::TempDir,
}

/// A step and how long it took.
type Step = (&'static str, Duration);

impl Scene {
    fn new() -> Result<Self> {
        let broker = KeyPair::generate_for(&PKCS_ED25519)?;
        let identity = IdentityKey::from_der(&broker.subject_public_key_info())?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("model.img");
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/tiny");
        let packed = pack::create(Pack {
            from: &from,
            file: &file,
            hint: None,
            draw: &mut Draw::danger_seeded([1; 32]),
        })?;
        let attester =
            Attester::simulated(SimulatedMachine { seed: 0, gpus: 0, quote_time: Duration::ZERO })?;
        let claims = claims();
        let build = claims.build.clone();
        let der = identity.to_der();
        let boot = Boot { build, boot_id: Bytes([1; 16]), broker_key: Some(der) };
        attester.measure(RuntimeEvent::Boot(boot))?;
        attester.measure(RuntimeEvent::Configuration(Configuration { digest: claims.configuration }))?;
        let (volume, image) = ("model".parse()?, File::open(&file)?);
        Ok(Self { broker, identity, attester, claims, volume, packed, image, _folder: folder })
    }

    fn boot(&self) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let recipient = timed(&mut steps, "recipient key", || Ok(RecipientKey::draw()))?;
        let document = timed(&mut steps, "evidence document, with a SIMULATED quote", || {
            let keys = KeySet::Recipient(recipient.public().clone());
            let document =
                self.attester.attest(&Binding::KeyRelease { nonce: NONCE }, &keys, &self.claims)?;
            Ok(document.encode()?)
        })?;
        let request =
            ReleaseRequest { nonce: NONCE, volumes: vec![self.volume.clone()], document: document.into() };
        let answer = self.answer(&request, recipient.public())?;
        let secrets = timed(&mut steps, "answer: signature, HPKE", || {
            let answer = ReleaseAnswer::decode(&answer)?.verify(&self.identity, &request, &recipient)?;
            Ok(answer.open(&recipient)?.pop().context("a volume")?.1)
        })?;
        let version = secrets.versions.first().context("a version")?;
        let header = timed(&mut steps, "header: read and checked", || {
            let mut bytes = vec![0; HEADER_BYTES.try_into()?];
            std::os::unix::fs::FileExt::read_exact_at(&self.image, &mut bytes, 0)?;
            let copy = HeaderCopy::read(&mut Cursor::new(bytes))?;
            Ok(copy.check(Profile::Model, &[version.header.context("a header")?])?)
        })?;
        let key = timed(&mut steps, "keyslot: unlocked", || Ok(header.unlock(&version.secret)?))?;
        black_box(key);
        Ok(steps)
    }

    fn answer(&self, request: &ReleaseRequest, recipient: &KemKey) -> Result<Vec<u8>> {
        let secret = Secret::new(Zeroizing::new(*self.packed.secret.expose()));
        let secrets = VolumeSecrets {
            size: self.packed.size,
            verity: Some(self.packed.verity),
            profile: Profile::Model,
            versions: vec![Version { header: Some(self.packed.header), secret, generation: 1 }],
            format_token: None,
        };
        let volumes = vec![seal(recipient, &request.nonce, &self.volume, &secrets)?];
        let signed = signing_input(request.document.as_bytes(), &request.nonce, recipient, NOW, &volumes);
        let signature = Bytes::try_from(self.broker.sign(&signed)?).ok().context("64 bytes")?;
        Ok(ReleaseAnswer { time: NOW, volumes, signature, endorsements: None }.encode())
    }
}

fn timed<T>(steps: &mut Vec<Step>, name: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let outcome = step()?;
    steps.push((name, begun.elapsed()));
    Ok(outcome)
}

fn claims() -> Claims {
    Claims {
        gpus: Gpus { count: 0, ready: false, dev_tools: false, environment: String::new() },
        build: Build { image: None, version: "0".into(), revision: "bench".into() },
        model: Model { name: "tiny".into(), manifest: Bytes([5; 32]) },
        egress: Egress::open(),
        configuration: Bytes([6; 32]),
        engine: Engine { kind: "builtin".into(), flags: Vec::new(), environment: Vec::new() },
        volumes: Vec::new(),
        changing: Changing { drops: 0, locked_at: None, guest_time: NOW },
    }
}
