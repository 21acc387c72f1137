//! `confide rim`: manifests, OCSP answers and revocation lists of NVIDIA's devices, in a folder that can be carried on.

use crate::status::{Failure, Status};
use crate::{endorser, guest, input, render};
use clap::Subcommand;
use confide_endorser::{
    BaseUrl, Change, Endorser, Kept, KeptKind, Nvidia, NvidiaCrl, NvidiaObject, NvidiaStore, OcspSubject,
    Origin, Prune, Refreshed, RimId, StoreError, now, rim_ids,
};
use confide_evidence::hex;
use confide_evidence::nvidia::{DeviceChain, MAX_EVIDENCE_LIST, Report, Rim, evidence_list};
use confide_evidence::time::{format_seconds, seconds};
use confide_evidence::x509::Certificate;
use confide_verifier::rules;
use rustls_pki_types::UnixTime;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Fetch, take in, copy and list NVIDIA's reference integrity manifests (RIMs), OCSP answers and revocation lists
///
/// A store is a folder: rim/ID/SHA256.swidtag, ocsp/SERIAL/SHA256.ocsp, crl/ISSUER/SHA256.crl. `confide verify gpu` takes its
/// files, and the folder can be carried to a machine without a network. NVIDIA signs a manifest anew from time to time, also
/// with other values: all issues are kept, and a verdict rests on the one that fits.
///
/// Nothing is judged here: signatures are verified whenever what is kept is used.
// A variant's own comment would hide that of its arguments, whose further paragraphs are for `--help`.
#[derive(Debug, Subcommand)]
pub(crate) enum RimCommand {
    Fetch(Box<Fetch>),
    Import(Import),
    Export(Export),
    List(List),
    Prune(PruneCommand),
}

/// Where objects are to be kept.
#[derive(Debug, Clone, clap::Args)]
struct StoreFlag {
    /// Folder of the store; it is made where it is missing
    #[arg(long = "store", value_name = "DIR")]
    folder: PathBuf,
}

/// Where objects are kept.
#[derive(Debug, Clone, clap::Args)]
struct FilledFlag {
    /// Folder of the store; it must be there
    #[arg(long = "store", value_name = "DIR")]
    folder: PathBuf,
}

/// Fetch the manifests of devices from NVIDIA's service into a store
///
/// Which manifests those are, the devices' reports say; nothing of them is verified. What was fetched in the last 24 hours is
/// not asked for again; where the service does not answer, what is kept stays. NVIDIA learns which firmware versions are asked
/// about, with --ocsp which devices.
///
/// Services are asked through the proxy that HTTPS_PROXY names, as by `confide collateral`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "confide rim fetch [OPTIONS] (--evidence FILE... | --id ID...) --store DIR")]
pub(crate) struct Fetch {
    /// Evidence lists as NVIDIA's tools write them, JSON [{arch, nonce, evidence, certificate}]
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "ids")]
    evidence: Vec<PathBuf>,
    /// Manifests by their ids, such as NV_GPU_DRIVER_GH100_580.95.05
    #[arg(long = "id", value_name = "ID", num_args = 1..)]
    ids: Vec<RimId>,
    #[command(flatten)]
    store: StoreFlag,
    /// Also fetch OCSP answers about the certificates of the devices and of the manifests' signers
    #[arg(long)]
    ocsp: bool,
    /// Also fetch NVIDIA's revocation lists of the devices' authorities and of the manifests'
    #[arg(long)]
    crl: bool,
    /// Service to ask for manifests in place of NVIDIA's, https://HOST[:PORT]
    #[arg(long, value_name = "URL")]
    rim_service: Option<BaseUrl>,
    /// Responder to ask about certificates in place of NVIDIA's, https://HOST[:PORT]
    #[arg(long, value_name = "URL", requires = "ocsp")]
    ocsp_service: Option<BaseUrl>,
    /// Place of the revocation lists in place of NVIDIA's, https://HOST[:PORT]
    #[arg(long, value_name = "URL", requires = "crl")]
    crl_service: Option<BaseUrl>,
    /// Certificate that the services named here show, PEM: exactly this one is trusted, in place of the web authorities
    #[arg(long, value_name = "FILE")]
    service_certificate: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Take manifests, OCSP answers and revocation lists from files into a store
///
/// Files of manifests are named for their ids (ID.xml, ID.swidtag), or as NVIDIA published those of VBIOSes
/// (1010_0200_882_96005E0001_PROD.swidtag); of drivers and switches the document itself says it. Answers and lists are DER,
/// hexadecimal digits, base64 or PEM. Of folders the files *.swidtag, *.xml, *.ocsp, *.crl and *.der are taken, so that a
/// store can be taken into another one, with its dates.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// Files and folders
    #[arg(value_name = "FILE|DIR", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    store: StoreFlag,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Copy a store, or the manifests of some devices in it, into a folder that is carried on
///
/// With --evidence or --id the manifests of these alone are copied, all issues of each, and every answer and list; one that
/// the store does not have is an error. The folder is a store, with the dates of what it holds: a machine without a network
/// uses it as it is, or takes it into its own with `confide rim import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// Folder to copy into; it is made where it is missing
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Evidence lists of the devices whose manifests are copied
    #[arg(long, value_name = "FILE", num_args = 1..)]
    evidence: Vec<PathBuf>,
    /// Ids of manifests that are copied
    #[arg(long = "id", value_name = "ID", num_args = 1..)]
    ids: Vec<RimId>,
    #[command(flatten)]
    store: FilledFlag,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// List what a store holds: ids, versions, dates and digests
///
/// Of a manifest the dates are those of its signer's certificate. Nothing is verified.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    store: FilledFlag,
    /// Time to say it for, RFC 3339; without it, now
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    at: Option<UnixTime>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Remove from a store what is over: manifests whose signer's certificate is, answers and lists that have a successor
#[derive(Debug, clap::Args)]
pub(crate) struct PruneCommand {
    #[command(flatten)]
    store: FilledFlag,
    /// Remove everything
    #[arg(long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl RimCommand {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        match self {
            Self::Fetch(command) => command.run(),
            Self::Import(command) => command.run(),
            Self::Export(command) => command.run(),
            Self::List(command) => command.run(),
            Self::Prune(command) => command.run(),
        }
    }
}

impl StoreFlag {
    fn store(&self) -> NvidiaStore {
        NvidiaStore::at(self.folder.clone())
    }
}

impl FilledFlag {
    /// The store. A folder that is not there is a name mistyped, and no store that holds nothing.
    fn store(&self) -> Result<NvidiaStore, Failure> {
        match self.folder.try_exists() {
            Ok(false) => {
                let message = format!("{}: there is no such folder", self.folder.display());
                Err(Failure::new(Status::Internal, "store_missing", message))
            }
            // What else is wrong with it, reading it says.
            Ok(true) | Err(_) => Ok(NvidiaStore::at(self.folder.clone())),
        }
    }
}

/// What is fetched for: chains of devices, and ids.
#[derive(Default)]
struct Wanted {
    chains: Vec<DeviceChain>,
    ids: BTreeSet<RimId>,
}

impl Wanted {
    /// That of the devices of evidence lists, and these ids.
    fn of(evidence: &[PathBuf], ids: &[RimId]) -> Result<Self, Failure> {
        let mut wanted = Self { ids: ids.iter().cloned().collect(), ..Self::default() };
        for path in evidence {
            let bytes = input::read(path, MAX_EVIDENCE_LIST)?;
            let devices =
                evidence_list(&bytes).map_err(|error| unreadable(path, Status::Malformed, &error))?;
            for device in devices {
                let report = Report::parse(device.device.report.as_bytes()).map_err(|error| {
                    let status = if error.is_unsupported() { Status::Unsupported } else { Status::Malformed };
                    unreadable(path, status, &error)
                })?;
                let chain = DeviceChain::parse(device.device.chain.as_bytes())
                    .map_err(|error| unreadable(path, Status::Malformed, &error))?;
                let ids =
                    rim_ids(&report, &chain).map_err(|error| unreadable(path, Status::Malformed, &error))?;
                wanted.ids.extend(ids);
                wanted.chains.push(chain);
            }
        }
        Ok(wanted)
    }
}

impl Fetch {
    fn run(self) -> Result<Status, Failure> {
        let wanted = Wanted::of(&self.evidence, &self.ids)?;
        let endorser = Endorser::builder().nvidia(self.nvidia()?).build();
        let mut fetching = Fetching { endorser, store: self.store.store(), at: now(), done: Done::default() };
        let work = fetching.all(&self, &wanted);
        guest::block_on(render::with_progress("asking NVIDIA's services", work))?;
        fetching.done.tell(self.json, fetching.at)
    }

    fn nvidia(&self) -> Result<Nvidia, Failure> {
        let trust = endorser::trust(self.service_certificate.as_deref())?;
        let origin = |base: &BaseUrl| Origin { base: base.clone(), trust: trust.clone() };
        let mut nvidia = Nvidia::public();
        if let Some(base) = &self.rim_service {
            nvidia = nvidia.rims_at(origin(base));
        }
        if let Some(base) = &self.ocsp_service {
            nvidia = nvidia.ocsp_at(origin(base));
        }
        if let Some(base) = &self.crl_service {
            nvidia = nvidia.crls_at(origin(base));
        }
        Ok(nvidia)
    }
}

/// Fetches, and goes on where one object is not to be had.
struct Fetching {
    endorser: Endorser,
    store: NvidiaStore,
    at: UnixTime,
    done: Done,
}

impl Fetching {
    async fn all(&mut self, fetch: &Fetch, wanted: &Wanted) -> Result<(), Failure> {
        for id in &wanted.ids {
            self.one(NvidiaObject::Rim(id)).await;
        }
        let mut rims: Vec<Rim> = Vec::new();
        for id in &wanted.ids {
            rims.extend(self.store.rims(id).map_err(|error| failed(&error))?);
        }
        if fetch.ocsp {
            let devices = wanted.chains.iter().flat_map(OcspSubject::of_device);
            let mut asked: BTreeSet<(&Vec<u8>, &Vec<u8>)> = BTreeSet::new();
            for subject in devices.chain(rims.iter().flat_map(OcspSubject::of_rim)) {
                let Certificate { issuer, serial, .. } = subject.certificate;
                if asked.insert((issuer, serial)) {
                    self.one(NvidiaObject::Ocsp(subject)).await;
                }
            }
        }
        if fetch.crl {
            let families = wanted.chains.iter().filter_map(DeviceChain::family);
            let mut lists: BTreeSet<NvidiaCrl> = families.flat_map(NvidiaCrl::of_family).copied().collect();
            lists.insert(NvidiaCrl::RimRoot);
            for list in lists {
                self.one(NvidiaObject::Crl(list)).await;
            }
        }
        Ok(())
    }

    async fn one(&mut self, object: NvidiaObject<'_>) {
        match self.endorser.refresh(&self.store, object, self.at).await {
            Ok(refreshed) => self.done.add(&refreshed, self.at),
            Err(error) => self.done.failures.push(endorser::failure(&error)),
        }
    }
}

/// What became of several objects.
#[derive(Default)]
struct Done {
    objects: Vec<Told>,
    failures: Vec<Failure>,
}

/// An object and what became of it.
#[derive(Serialize)]
struct Told {
    /// `added`, `known`, `fresh` or `kept`.
    state: &'static str,
    /// Why the service did not give it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    #[serde(flatten)]
    object: Shown,
}

impl Done {
    fn add(&mut self, refreshed: &Refreshed, at: UnixTime) {
        let (state, fault) = match refreshed {
            Refreshed::Fetched(_, change) => (word(*change), None),
            Refreshed::Instead(_, fault) => ("kept", Some(fault.to_string())),
            _ => ("fresh", None),
        };
        self.objects.push(Told { state, fault, object: Shown::of(refreshed.object(), at) });
    }

    /// Tells of all, and of failures as of one, with the code of the first.
    fn tell(self, as_json: bool, at: UnixTime) -> Result<Status, Failure> {
        let Self { objects, failures } = self;
        if as_json {
            let messages = failures.iter().map(|failure| failure.message().to_owned()).collect();
            let done = DoneShown { at: format_seconds(seconds(at)), objects, failures: messages };
            render::line(&json(&done));
        } else {
            for Told { state, fault, object } in &objects {
                let fault = fault.as_ref().map(|fault| format!(" ({})", render::harmless(fault)));
                render::line(&format!("{state}{}: {}", fault.unwrap_or_default(), object.sentence()));
            }
        }
        let Some(first) = failures.first() else { return Ok(Status::Accepted) };
        let messages: Vec<&str> = failures.iter().map(Failure::message).collect();
        let told = Failure::new(first.status(), first.code(), messages.join("; "));
        Err(match first.what_to_do() {
            Some(hint) => told.hint(hint.to_owned()),
            None => told,
        })
    }
}

#[derive(Serialize)]
struct DoneShown {
    at: String,
    objects: Vec<Told>,
    failures: Vec<String>,
}

impl Import {
    fn run(self) -> Result<Status, Failure> {
        let (store, at) = (self.store.store(), now());
        let mut done = Done::default();
        for path in &self.paths {
            let found = store.import(path).map_err(|error| failed(&error))?;
            if found.is_empty() {
                let message =
                    format!("{}: no file with an extension of those that are taken", path.display());
                let failure = Failure::new(Status::Malformed, "store_file_unknown", message);
                done.failures.push(failure.hint(
                    "files of a folder are taken by their extensions swidtag, xml, ocsp, crl and der; name others one by one",
                ));
            }
            for imported in found {
                match imported.outcome {
                    Ok((kept, change)) => {
                        let object = Shown::of(&kept, at);
                        done.objects.push(Told { state: word(change), fault: None, object });
                    }
                    Err(error) => done.failures.push(failed(&error)),
                }
            }
        }
        done.tell(self.json, at)
    }
}

impl Export {
    fn run(self) -> Result<Status, Failure> {
        let (store, to, at) = (self.store.store()?, NvidiaStore::at(self.to), now());
        let wanted = Wanted::of(&self.evidence, &self.ids)?.ids;
        let all = self.evidence.is_empty() && self.ids.is_empty();
        let is_chosen = |kept: &Kept| match &kept.kind {
            KeptKind::Rim { id, .. } => all || wanted.contains(id),
            KeptKind::Ocsp { .. } | KeptKind::Crl { .. } => true,
        };
        let mut done = Done::default();
        let mut missing = wanted.clone();
        for (kept, change) in store.export(&to, is_chosen).map_err(|error| failed(&error))? {
            if let KeptKind::Rim { id, .. } = &kept.kind {
                missing.remove(id);
            }
            let object = Shown::of(&kept, at);
            done.objects.push(Told { state: word(change), fault: None, object });
        }
        if !self.json {
            let added = done.objects.iter().filter(|told| told.state == word(Change::Added)).count();
            let folder = to.folder().display();
            render::line(&format!("{folder}: {} objects, {added} of them added", done.objects.len()));
        }
        let path = store.folder();
        let missing = missing.into_iter().map(|id| StoreError::Missing { path: path.to_owned(), id });
        done.failures.extend(missing.map(|error| failed(&error)));
        done.tell(self.json, at)
    }
}

impl List {
    fn run(self) -> Result<Status, Failure> {
        let (store, at) = (self.store.store()?, self.at.unwrap_or_else(now));
        let entries = store.entries().map_err(|error| failed(&error))?;
        let objects: Vec<Shown> = entries.iter().map(|kept| Shown::of(kept, at)).collect();
        if self.json {
            let listed = Listed {
                store: store.folder().display().to_string(),
                at: format_seconds(seconds(at)),
                objects,
            };
            render::line(&json(&listed));
            return Ok(Status::Accepted);
        }
        render::line(&format!("{}: {} objects", store.folder().display(), objects.len()));
        objects.iter().for_each(|object| render::line(&object.sentence()));
        Ok(Status::Accepted)
    }
}

impl PruneCommand {
    fn run(self) -> Result<Status, Failure> {
        let store = self.store.store()?;
        let which = if self.all { Prune::All } else { Prune::Expired(seconds(now())) };
        let pruned = store.prune(which).map_err(|error| failed(&error))?;
        let folder = store.folder().display().to_string();
        if self.json {
            let removed = json!({ "objects": pruned.objects, "bytes": pruned.bytes });
            render::line(&json(&json!({ "store": folder, "removed": removed })));
            return Ok(Status::Accepted);
        }
        let objects = render::counted(pruned.objects, "object");
        render::line(&format!("{folder}: {objects} of {} bytes removed", pruned.bytes));
        Ok(Status::Accepted)
    }
}

#[derive(Serialize)]
struct Listed {
    store: String,
    at: String,
    objects: Vec<Shown>,
}

/// What is said of an object.
#[derive(Serialize)]
struct Shown {
    /// `rim`, `ocsp` or `crl`.
    kind: &'static str,
    /// Id of a manifest, serial number of an answer, issuer of a list.
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<String>,
    from: String,
    until: String,
    /// `valid`, `over` or `not yet valid`.
    validity: &'static str,
    sha256: String,
    /// When it was fetched last; absent where nothing says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fetched: Option<String>,
    /// Seconds since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    age: Option<i64>,
    file: String,
}

impl Shown {
    fn of(kept: &Kept, at: UnixTime) -> Self {
        let Kept { kind, path, sha256, window, fetched } = kept;
        let at = seconds(at);
        let validity = match () {
            () if at > window.until => "over",
            () if at < window.from => "not yet valid",
            () => "valid",
        };
        let (kind, id, rim) = match kind {
            KeptKind::Rim { id, product, version, signer } => {
                ("rim", id.to_string(), Some((product.clone(), version.clone(), signer.clone())))
            }
            KeptKind::Ocsp { serial } => ("ocsp", serial.clone(), None),
            KeptKind::Crl { issuer } => ("crl", issuer.clone(), None),
        };
        let (product, version, signer) = match rim {
            Some((product, version, signer)) => (Some(product), Some(version), Some(signer)),
            None => (None, None, None),
        };
        Self {
            kind,
            id,
            product,
            version,
            signer,
            from: format_seconds(window.from),
            until: format_seconds(window.until),
            validity,
            sha256: hex::encode(sha256),
            fetched: fetched.as_ref().map(|(fetched, _)| format_seconds(*fetched)),
            age: fetched.as_ref().map(|(fetched, _)| at.saturating_sub(*fetched)),
            file: path.display().to_string(),
        }
    }

    fn sentence(&self) -> String {
        let Self { kind, id, product, version, signer, from, until, validity, sha256, .. } = self;
        let mut words = format!("{kind} {id}");
        if let (Some(product), Some(version), Some(signer)) = (product, version, signer) {
            words.push_str(&format!(": {product} {version}, signer {signer}"));
        }
        let age = match (&self.fetched, self.age) {
            (Some(fetched), Some(age)) => format!("fetched {fetched}, {} days ago", age / DAY),
            _ => "of unknown age".to_owned(),
        };
        let short = sha256.get(..16).unwrap_or(sha256);
        render::harmless(&format!("{words}: {validity}, from {from} to {until}, {age}, SHA-256 {short}…"))
    }
}

/// Seconds of a day.
const DAY: i64 = 86_400;

fn word(change: Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Known => "known",
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers always serialise")
}

fn unreadable(path: &Path, status: Status, error: &impl std::fmt::Display) -> Failure {
    Failure::new(status, rules::GPU_EVIDENCE_FILE.code, format!("{}: {error}", path.display()))
}

/// A file that is no object is malformed input, like any other file.
fn failed(error: &StoreError) -> Failure {
    let status = match error {
        StoreError::Unknown { .. } | StoreError::Unnamed { .. } => Status::Malformed,
        StoreError::Object { fault, .. } if fault.code() == "endorsement_unsupported" => Status::Unsupported,
        StoreError::Object { .. } => Status::Malformed,
        _ => Status::Internal,
    };
    Failure::new(status, error.code(), error.to_string()).hint(error.hint())
}
