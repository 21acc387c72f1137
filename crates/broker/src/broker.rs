//! What a broker does, apart from HTTP: challenges, releases, and what guests report.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use confide_evidence::bytes::Bytes;
use confide_evidence::document::{Endorsements, NvidiaEndorsements};
use confide_evidence::hash::sha256;
use confide_policy::AppraisalPolicy;
use confide_release::{
    Challenge, Failure, Formatted, ReleaseAnswer, ReleaseRequest, SealedVolume, Version, VolumeId,
    VolumeSecrets, seal, signing_input,
};
use http::StatusCode;
use rustls_pki_types::UnixTime;
use tokio::sync::Semaphore;

use crate::appraisal::{self, Judge, Judged, Question, Recipient};
use crate::audit::{Note, What};
use crate::codes;
use crate::config::Config;
use crate::denial::Denial;
use crate::endorsements::{GpuSource, Source, SourceError};
use crate::error::BrokerError;
use crate::identity::Identity;
use crate::kek::{Kek, KekError};
use crate::notes::{MAX_STRANGERS_NAMES, Notes};
use crate::store::{Change, Consumed, Store, StoreError, StoredVersion, Volume};
use crate::terms::{Terms, open_secret};

/// What the log says of a release to a guest without hardware behind it.
const SIMULATED: &str = "SIMULATED: there is no hardware behind this guest";
/// What the log says where the records of a refusal are beyond what its peer's network may have kept in a day.
const RECORD_NOT_KEPT: &str = "; the record is not kept: this network has had as many in a day as it may";
/// How often a release begins anew where a volume is changed meanwhile.
const ATTEMPTS: u32 = 4;

/// Whether volumes may have danger policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DangerPolicies {
    /// They may, and whatever is released under them goes to simulated guests.
    Taken,
    /// Their volumes are not released.
    Refused,
}

/// A broker. Several may share one database.
pub struct Broker {
    pub(crate) store: Store,
    pub(crate) kek: Kek,
    pub(crate) identity: Identity,
    pub(crate) endorsements: Source,
    pub(crate) gpu_endorsements: GpuSource,
    pub(crate) danger: DangerPolicies,
    /// Seconds for which a challenge is open.
    pub(crate) challenge_seconds: u64,
    /// The most challenges that are open at a time.
    pub(crate) open_challenges: u32,
    /// Appraisals at a time.
    pub(crate) appraisals: Arc<Semaphore>,
    /// What strangers have had of the audit log.
    pub(crate) notes: Notes,
}

impl Broker {
    /// The broker of a configuration: its keys are read, its database is opened.
    ///
    /// # Errors
    /// [`BrokerError`]: also where the key-encryption key is not the one that the database was begun with.
    pub async fn open(config: &Config, danger: DangerPolicies) -> Result<Self, BrokerError> {
        let identity = Identity::read(&config.identity.path()?)?;
        let kek = config.kek.kek()?;
        let endorsements = Source::of(config.endorsements.as_ref())?;
        let gpu_endorsements = GpuSource::of(config.gpu_endorsements.as_ref())?;
        let store = Store::open(&config.storage.url()?, config.storage.connections.get()).await?;
        kek.check(&store).await?;
        let limits = config.limits;
        let appraisals = limits.appraisals.get().min(Semaphore::MAX_PERMITS);
        Ok(Self {
            store,
            kek,
            identity,
            endorsements,
            gpu_endorsements,
            danger,
            challenge_seconds: limits.challenge_seconds.get().into(),
            open_challenges: limits.challenges.get(),
            appraisals: Arc::new(Semaphore::new(appraisals)),
            notes: Notes::new(),
        })
    }

    /// Opens a challenge for a peer.
    ///
    /// # Errors
    /// [`Denial`].
    pub async fn challenge(&self, peer: IpAddr) -> Result<Challenge, Denial> {
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|error| Denial::fault(&BrokerError::Random(error)))?;
        let (nonce, now) = (Bytes(nonce), now());
        let expires_at = now.saturating_add(self.challenge_seconds);
        self.store.issue(&nonce, expires_at, now, self.open_challenges, peer).await?;
        Ok(Challenge { nonce, expires_at })
    }

    /// Answers a request for keys, the body of `POST /v1/release`, with the canonical encoding of the answer. The decision is in
    /// the audit log before this returns, or counted where nothing vouches for who asks and many have asked.
    ///
    /// # Errors
    /// [`Denial`].
    pub async fn release(&self, body: &[u8], peer: IpAddr) -> Result<Vec<u8>, Denial> {
        let request = ReleaseRequest::decode(body).map_err(|error| {
            let message = format!("the request for keys cannot be read: {error}");
            Denial::new(StatusCode::BAD_REQUEST, codes::RELEASE_REQUEST_MALFORMED, message)
        })?;
        let now = now();
        let note = Note {
            peer: Some(peer.to_string()),
            nonce: Some(request.nonce),
            document: Some(appraisal::digest(request.document.as_bytes())),
            ..Note::new(What::Refused, now)
        };
        let mut records = Vec::new();
        match self.decide(&request, now, &note, &mut records).await {
            Ok(answer) => Ok(answer.encode()),
            Err(denial) if denial.is_decision() => {
                let error = &denial.refusal.error;
                tracing::warn!(%peer, code = error.code, "keys refused");
                let note = Note {
                    code: Some(error.code.clone()),
                    sentence: Some(short(&error.message)),
                    volumes: request.volumes.iter().map(|id| (id.to_string(), Vec::new())).collect(),
                    ..note
                };
                self.note_refusal(note, &records, peer).await?;
                Err(denial)
            }
            Err(denial) => Err(denial),
        }
    }

    /// Takes the report of a guest that has formatted a volume. The same report may come again.
    ///
    /// # Errors
    /// [`Denial`].
    pub async fn formatted(&self, body: &[u8], peer: IpAddr) -> Result<(), Denial> {
        let report = Formatted::decode(body).map_err(|error| malformed(&error))?;
        for _ in 0..ATTEMPTS {
            let denial = match self.note_formatted(&report, peer).await {
                Err(KekError::Store(StoreError::Conflict)) => continue,
                Err(error) => return Err(error.into()),
                Ok(Ok(())) => return Ok(()),
                Ok(Err(denial)) => denial,
            };
            let note = Note {
                code: Some(denial.refusal.error.code.clone()),
                peer: Some(peer.to_string()),
                volumes: vec![(report.volume.to_string(), Vec::new())],
                sentence: Some(short(&denial.refusal.error.message)),
                ..Note::new(What::Refused, now())
            };
            self.note_refusal(note, &[], peer).await?;
            return Err(denial);
        }
        Err(busy())
    }

    /// Notes a refusal with the records that explain it, as far as what strangers may have of the log goes.
    async fn note_refusal(&self, note: Note, records: &[Vec<u8>], peer: IpAddr) -> Result<(), StoreError> {
        let mut note = note;
        let mut records = records;
        if !records.is_empty() && !self.notes.takes_records(peer, records) {
            records = &[];
            note.sentence.get_or_insert_default().push_str(RECORD_NOT_KEPT);
        }
        if records.is_empty() {
            if !self.notes.takes_entry(peer, note.code.as_deref().unwrap_or(note.what.name())) {
                return Ok(());
            }
            note.volumes.truncate(MAX_STRANGERS_NAMES);
        }
        self.store.append(note, records, &Change::None).await?;
        Ok(())
    }

    /// Notes how much was refused or reported that was not noted by itself. Whoever serves calls it each minute, and at the end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_counted(&self) -> Result<(), StoreError> {
        if let Some(sentence) = self.notes.counted() {
            let note = Note { sentence: Some(short(&sentence)), ..Note::new(What::Refused, now()) };
            self.store.append(note, &[], &Change::None).await?;
        }
        Ok(())
    }

    /// Notes why a boot has failed. Nothing vouches for it.
    ///
    /// # Errors
    /// [`Denial`].
    pub async fn failure(&self, body: &[u8], peer: IpAddr) -> Result<(), Denial> {
        let failure = Failure::decode(body).map_err(|error| malformed(&error))?;
        tracing::warn!(%peer, code = failure.code, "somebody reports that a boot failed");
        if !self.notes.takes_entry(peer, What::FailureReported.name()) {
            return Ok(());
        }
        let note = Note {
            code: Some(failure.code),
            peer: Some(peer.to_string()),
            boot_id: Some(failure.boot_id),
            sentence: Some(failure.sentence),
            ..Note::new(What::FailureReported, now())
        };
        self.store.append(note, &[], &Change::None).await?;
        Ok(())
    }

    /// Whether database and key-encryption key do their work.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn ready(&self) -> Result<(), BrokerError> {
        self.store.ping().await?;
        Ok(self.kek.check(&self.store).await?)
    }

    /// Logs every rotation that is overdue: until it is ended, two generations open.
    pub(crate) async fn tell_overdue(&self) {
        if let Err(error) = self.look_for_overdue().await {
            tracing::error!(%error, "cannot look for rotations that are overdue");
        }
    }

    async fn look_for_overdue(&self) -> Result<(), StoreError> {
        for id in self.store.volume_ids().await? {
            let Some(volume) = self.store.volume(&id).await? else { continue };
            if let Some(StoredVersion { generation, since, .. }) = volume.overdue(now()) {
                tracing::warn!(volume = id.as_str(), generation, since, "a rotation is overdue");
            }
        }
        Ok(())
    }

    async fn decide(
        &self,
        request: &ReleaseRequest,
        now: u64,
        note: &Note,
        records: &mut Vec<Vec<u8>>,
    ) -> Result<ReleaseAnswer, Denial> {
        // First of all: whatever becomes of the request, its challenge is used up.
        match self.store.consume(&request.nonce, now).await? {
            Consumed::Now => {}
            Consumed::Expired => {
                return Err(Denial::refused(codes::CHALLENGE_EXPIRED, "the time of the challenge is over"));
            }
            Consumed::Unknown => {
                let message = "the challenge was never drawn here, or has been used";
                return Err(Denial::refused(codes::CHALLENGE_UNKNOWN, message));
            }
        }
        let (volumes, lacking) = self.asked_for(&request.volumes).await?;
        let (judged, endorsements) = self.appraise(request, &volumes, now).await?;
        *records = judged.records;
        // Which volumes there are is for guests to know: everybody else is told the same, whatever they ask for.
        let recipient = match (lacking, judged.outcome) {
            (Some(denial), outcome) if judged.attested || outcome.is_ok() => return Err(denial),
            (_, outcome) => outcome.map_err(Denial::of)?,
        };
        let answer = self.hand_over(request, volumes, &recipient, now, note, records).await?;
        // The signature does not cover them: they are as untrusted as from anywhere, and the guest appraises with them.
        Ok(ReleaseAnswer { endorsements, ..answer })
    }

    /// The volumes that a request is appraised by: those of its volumes that there are, or another one where there is none of them.
    /// Beside them, why it is refused even so.
    async fn asked_for(&self, ids: &[VolumeId]) -> Result<(Vec<Volume>, Option<Denial>), Denial> {
        let (mut volumes, mut lacking) = (Vec::with_capacity(ids.len()), None);
        for id in ids {
            let volume = self.store.volume(id).await?;
            let denial = match &volume {
                None => Some(Denial::refused(codes::VOLUME_UNKNOWN, format!("there is no volume {id}"))),
                Some(volume) if volume.revoked_at.is_some() => {
                    Some(Denial::refused(codes::VOLUME_REVOKED, format!("the volume {id} is revoked")))
                }
                Some(_) => None,
            };
            lacking = lacking.or(denial);
            volumes.extend(volume);
        }
        let Some(lacking) = lacking else { return Ok((volumes, None)) };
        if volumes.is_empty()
            && let Some(id) = self.store.volume_ids().await?.first()
        {
            volumes.extend(self.store.volume(id).await?);
        }
        if volumes.is_empty() { Err(lacking) } else { Ok((volumes, Some(lacking))) }
    }

    /// The volumes of a request, in its order.
    async fn volumes(&self, ids: &[VolumeId]) -> Result<Vec<Volume>, Denial> {
        match self.asked_for(ids).await? {
            (volumes, None) => Ok(volumes),
            (_, Some(denial)) => Err(denial),
        }
    }

    /// What the policies say, and the endorsements of the guest's GPUs that it did not staple.
    async fn appraise(
        &self,
        request: &ReleaseRequest,
        volumes: &[Volume],
        now: u64,
    ) -> Result<(Judged, Option<NvidiaEndorsements>), Denial> {
        let _place = Arc::clone(&self.appraisals)
            .try_acquire_owned()
            .map_err(|_| Denial::busy(codes::BROKER_BUSY, "as many appraisals run as may", 2))?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let document = Arc::new(request.document.as_bytes().to_vec());
        let nvidia = self.of_gpus(&document).await?;
        let mut judges = Vec::new();
        // Each policy once, in the order of the volumes that have it first.
        let mut known = BTreeSet::new();
        for volume in volumes {
            if !known.insert(volume.policy.as_str()) {
                continue;
            }
            let policy = self.policy(volume)?;
            let tdx = self.endorsements.for_document(&document, &policy, time).await.map_err(unendorsed)?;
            let endorsements = Endorsements { tdx, nvidia: nvidia.clone(), ..Endorsements::default() };
            judges.push(Judge { text: volume.policy.clone(), policy, endorsements });
        }
        let (identity, nonce) = (*self.identity.public(), request.nonce);
        let work = tokio::task::spawn_blocking(move || {
            let question = Question { document: &document, nonce, identity: &identity, now: time };
            appraisal::appraise(&question, &judges)
        });
        let judged =
            work.await.map_err(|error| Denial::fault(&BrokerError::Runtime(std::io::Error::other(error))))?;
        Ok((judged, nvidia))
    }

    async fn of_gpus(&self, document: &Arc<Vec<u8>>) -> Result<Option<NvidiaEndorsements>, Denial> {
        let (source, document) = (self.gpu_endorsements.clone(), Arc::clone(document));
        let work = tokio::task::spawn_blocking(move || source.for_document(&document));
        let found =
            work.await.map_err(|error| Denial::fault(&BrokerError::Runtime(std::io::Error::other(error))))?;
        found.map_err(|error| unendorsed(error.into()))
    }

    fn policy(&self, volume: &Volume) -> Result<AppraisalPolicy, Denial> {
        let policy = AppraisalPolicy::parse_recorded(&volume.policy).map_err(|source| {
            Denial::fault(&BrokerError::Policy { name: format!("volume {}", volume.id), source })
        })?;
        if policy.danger.is_some() && self.danger == DangerPolicies::Refused {
            let message = "a volume has a danger policy, and this broker takes none";
            return Err(Denial::refused(codes::DANGER_POLICY, message));
        }
        Ok(policy)
    }

    /// Seals the keys, and notes that in the same moment in which the volumes are seen to be what was sealed.
    async fn hand_over(
        &self,
        request: &ReleaseRequest,
        mut volumes: Vec<Volume>,
        recipient: &Recipient,
        now: u64,
        note: &Note,
        records: &[Vec<u8>],
    ) -> Result<ReleaseAnswer, Denial> {
        for _ in 0..ATTEMPTS {
            let mut sealed = Vec::with_capacity(volumes.len());
            for volume in &volumes {
                sealed.push(self.seal(volume, request, recipient).await?);
            }
            let released = |volume: &Volume| (volume.id.to_string(), generations(volume));
            let note = Note {
                what: What::Released,
                boot_id: Some(recipient.boot_id()),
                volumes: volumes.iter().map(released).collect(),
                sentence: recipient.is_simulated().then(|| SIMULATED.to_owned()),
                ..note.clone()
            };
            match self.store.append(note, records, &Change::Unchanged(&volumes)).await {
                Ok(entry) => {
                    let (volumes, simulated) = (names(&request.volumes), recipient.is_simulated());
                    tracing::info!(entry = entry.seq, volumes, simulated, "keys released");
                    return Ok(self.sign(request, recipient, now, sealed));
                }
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
            let policies: Vec<String> = volumes.into_iter().map(|volume| volume.policy).collect();
            volumes = self.volumes(&request.volumes).await?;
            if volumes.iter().zip(&policies).any(|(volume, policy)| volume.policy != *policy) {
                // What was appraised is not what holds now.
                break;
            }
        }
        Err(busy())
    }

    async fn seal(
        &self,
        volume: &Volume,
        request: &ReleaseRequest,
        recipient: &Recipient,
    ) -> Result<SealedVolume, Denial> {
        let secrets = self.secrets(volume).await?;
        seal(recipient.key(), &request.nonce, &volume.id, &secrets).map_err(|error| {
            tracing::error!(volume = volume.id.as_str(), %error, "cannot seal");
            Denial::fault(&StoreError::Corrupt("a volume that breaks a rule").into())
        })
    }

    async fn secrets(&self, volume: &Volume) -> Result<VolumeSecrets, Denial> {
        let committed = volume.committed()?;
        let mut versions = Vec::with_capacity(2);
        for version in [Some(committed), volume.prepared()].into_iter().flatten() {
            let (generation, header) = (version.generation, version.header);
            let secret = open_secret(&self.kek, volume, version).await?;
            versions.push(Version { header, secret, generation });
        }
        let token = volume.format.as_ref().and_then(|format| format.token.as_ref());
        let format_token = match (committed.header, token) {
            (None, Some(token)) => {
                let place = Terms::of(volume).token(committed.generation);
                let bytes = self.kek.open(place, token).await?;
                let wrong = |_| StoreError::Corrupt("a token of another length");
                Some(Bytes::try_from(bytes.as_slice()).map_err(wrong)?)
            }
            _ => None,
        };
        let (size, verity, profile) = (volume.size, volume.verity, volume.profile);
        Ok(VolumeSecrets { size, verity, profile, versions, format_token })
    }

    fn sign(
        &self,
        request: &ReleaseRequest,
        recipient: &Recipient,
        time: u64,
        volumes: Vec<SealedVolume>,
    ) -> ReleaseAnswer {
        let document = request.document.as_bytes();
        let input = signing_input(document, &request.nonce, recipient.key(), time, &volumes);
        ReleaseAnswer { time, volumes, signature: self.identity.sign(&input), endorsements: None }
    }

    /// The inner error is what the guest is told.
    async fn note_formatted(&self, report: &Formatted, peer: IpAddr) -> Result<Result<(), Denial>, KekError> {
        let digest = sha256(&report.token.0);
        let released_with = |volume: &Volume| {
            let format = volume.format.as_ref();
            format.is_some_and(|format| verify_slices_are_equal(&format.digest.0, &digest.0).is_ok())
        };
        // Only who has a token learns which volumes there are.
        let Some(volume) = self.store.volume(&report.volume).await?.filter(released_with) else {
            let message = "there is no volume of this name that was released with this token";
            return Ok(Err(Denial::refused(codes::FORMAT_TOKEN, message)));
        };
        if volume.revoked_at.is_some() {
            let message = format!("the volume {} is revoked", volume.id);
            return Ok(Err(Denial::refused(codes::VOLUME_REVOKED, message)));
        }
        let committed = volume.committed()?;
        match committed.header {
            None => {
                let note = Note {
                    peer: Some(peer.to_string()),
                    volumes: vec![(volume.id.to_string(), vec![committed.generation])],
                    ..Note::new(What::Formatted, now())
                };
                let secret = open_secret(&self.kek, &volume, committed).await?;
                let place = Terms::of(&volume).secret(committed.generation, Some(&report.header));
                let sealed = self.kek.seal(place, secret.expose()).await?;
                let change = Change::Formatted(&volume, report.header, &sealed, note.time);
                self.store.append(note, &[], &change).await?;
                Ok(Ok(()))
            }
            // The answer to the first report was lost.
            Some(_) if volume.versions.first().is_some_and(|first| first.header == Some(report.header)) => {
                Ok(Ok(()))
            }
            Some(_) => {
                let message = format!("the volume {} is formatted already, with another header", volume.id);
                Ok(Err(Denial::new(StatusCode::CONFLICT, codes::FORMATTED_OTHERWISE, message)))
            }
        }
    }
}

/// The time of this machine's clock, Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Those that are released: the committed one and the prepared one.
fn generations(volume: &Volume) -> Vec<u64> {
    let released = [volume.committed().ok(), volume.prepared()];
    released.into_iter().flatten().map(|version| version.generation).collect()
}

fn names(ids: &[VolumeId]) -> String {
    ids.iter().map(VolumeId::as_str).collect::<Vec<_>>().join(",")
}

/// As much of a sentence as an entry keeps.
fn short(sentence: &str) -> String {
    let end = sentence.floor_char_boundary(1024);
    sentence.get(..end).unwrap_or_default().to_owned()
}

fn unendorsed(error: SourceError) -> Denial {
    tracing::warn!(%error, "cannot get endorsements");
    let message = "the broker could not get the endorsements that the evidence lacks";
    Denial {
        retry_after: Some(30),
        ..Denial::new(StatusCode::BAD_GATEWAY, codes::ENDORSEMENTS_FAILED, message)
    }
}

fn malformed(error: &confide_release::ReleaseError) -> Denial {
    Denial::new(
        StatusCode::BAD_REQUEST,
        codes::MESSAGE_MALFORMED,
        format!("the message cannot be read: {error}"),
    )
}

fn busy() -> Denial {
    StoreError::Conflict.into()
}
