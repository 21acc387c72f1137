//! Endorsements from the cache, else from the service, asked once for all who want the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use confide_evidence::bytes::ByteString;
use confide_evidence::document::{EarlyTcb, SnpEndorsements, TdxCollateral};
use confide_evidence::tdx::{CollateralError, CollateralWindow};
use confide_evidence::time::seconds;
use confide_evidence::x509::Certificate;
use rustls_pki_types::UnixTime;
use tokio::sync::OnceCell;

use crate::amd::{Amd, Services, SnpKey, SnpPlatform};
use crate::cache::{Anchor, Cache, Kept};
use crate::edition::Edition;
use crate::error::{EndorserError, Fault};
use crate::fetch::{Fetcher, ServiceTime};
use crate::intel::{Intel, Set, Update};
use crate::limits::Limits;
use crate::nvidia::Nvidia;
use crate::object::{Object, Wanted};
use crate::platform::TdxPlatform;
use crate::proxy::ProxySettings;

/// How old an object of the cache may be before the service is asked again. Its vendor may publish a TCB recovery or a
/// revocation on any day, long before the next update that it announced.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// Fetches endorsements and keeps them. Calls may come from several tasks; those for the same object share one request.
#[derive(Debug)]
pub struct Endorser {
    pub(crate) services: Services,
    pub(crate) fetcher: Fetcher,
    cache: Option<Cache>,
    pub(crate) network: Network,
    pub(crate) fresh: Duration,
    roots: Vec<[u8; 32]>,
    flights: Mutex<HashMap<Wanted, Weak<Flight>>>,
}

/// One request under way, and what came of it.
type Flight = OnceCell<Result<Arc<Found>, Fault>>;

/// Settings of an [`Endorser`].
#[derive(Debug)]
pub struct EndorserBuilder {
    services: Services,
    limits: Limits,
    proxies: Option<ProxySettings>,
    cache: Option<Cache>,
    network: Network,
    fresh: Duration,
    roots: Vec<[u8; 32]>,
}

/// Whether services may be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// They may.
    #[default]
    Online,
    /// The cache must do.
    Offline,
}

/// An object that is what was asked for.
#[derive(Clone, Debug)]
struct Found {
    object: Object,
    window: CollateralWindow,
    /// What is wrong with its signatures. It is not kept then, and what is kept is used in its place; where there is nothing
    /// kept, the verifier says what it is worth.
    doubt: Option<Fault>,
}

/// The time of this machine's clock.
#[must_use]
pub fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime::since_unix_epoch(since)
}

impl Endorser {
    /// An endorser that asks the vendors' own services, through the proxy of the environment, and keeps nothing.
    #[must_use]
    pub fn builder() -> EndorserBuilder {
        EndorserBuilder {
            services: Services { intel: Intel::pcs(), amd: Amd::kds(), nvidia: Nvidia::public() },
            limits: Limits::default(),
            proxies: None,
            cache: None,
            network: Network::Online,
            fresh: FRESH,
            roots: confide_policy::vendor_roots().to_vec(),
        }
    }

    /// What the last service that was asked said of the time. `None` while none was, or none said it.
    #[must_use]
    pub fn service_time(&self) -> Option<ServiceTime> {
        self.fetcher.service_time()
    }

    /// The collateral of a platform that is valid at `at`: the present, as services have no past.
    ///
    /// What the cache holds is used while it is fresh. After that the service is asked; where it does not answer, what
    /// the cache holds is used to the end of its window.
    ///
    /// # Errors
    /// [`EndorserError`], of the first object that there is not.
    pub async fn tdx(
        &self,
        platform: TdxPlatform,
        update: Update,
        at: UnixTime,
    ) -> Result<TdxCollateral, EndorserError> {
        let at = seconds(at);
        let set = update.set();
        let (tcb_info, qe_identity, pck_crl) = tokio::try_join!(
            self.object(Wanted::TcbInfo(platform.fmspc, set), at, &[]),
            self.object(Wanted::QeIdentity(set), at, &[]),
            self.object(Wanted::PckCrl(platform.ca), at, &[]),
        )?;
        // It comes without the certificate of the root that signs it.
        let above = pck_crl.issuers().unwrap_or_default();
        let root_ca_crl = self.object(Wanted::RootCaCrl, at, &above).await?;
        let early = match update {
            Update::Both => self.early(platform.fmspc, &tcb_info, &qe_identity, at).await,
            _ => None,
        };
        let signed = self.signed(platform.fmspc, set, &tcb_info, &qe_identity)?;
        Ok(TdxCollateral {
            early,
            pck_crl: ByteString(pck_crl.body.clone()),
            tcb_info: signed.tcb_info,
            qe_identity: signed.qe_identity,
            root_ca_crl: ByteString(root_ca_crl.body.clone()),
            tcb_info_signature: signed.tcb_info_signature,
            pck_crl_issuer_chain: pck_crl.chain().to_owned(),
            pck_certificate_chain: None,
            qe_identity_signature: signed.qe_identity_signature,
            tcb_info_issuer_chain: tcb_info.chain().to_owned(),
            qe_identity_issuer_chain: qe_identity.chain().to_owned(),
        })
    }

    /// AMD's endorsements of the key that signs a report, valid at `at`: the VCEK certificate, but no VLEK's, which is the
    /// cloud provider's to give; ASK or ASVK, ARK, and the ARK's revocation list.
    ///
    /// The cache is used as for [`tdx`](Self::tdx).
    ///
    /// # Errors
    /// [`EndorserError`], of the first object that there is not.
    pub async fn snp(&self, platform: SnpPlatform, at: UnixTime) -> Result<SnpEndorsements, EndorserError> {
        let SnpPlatform { product, key } = platform;
        let (at, kind) = (seconds(at), key.kind());
        let chain = Wanted::AmdChain(product, kind);
        let above = self.object(chain, at, &[]).await?;
        let chain = above.amd_chain().map_err(|error| self.failed(chain, error.into()))?;
        let vcek = async {
            match key {
                SnpKey::Vcek { chip_id, tcb } => {
                    self.object(Wanted::Vcek(product, chip_id, tcb), at, &chain).await.map(Some)
                }
                SnpKey::Vlek => Ok(None),
            }
        };
        let list = self.object(Wanted::AmdCrl(product, kind), at, &chain);
        let (vcek, list) = tokio::try_join!(vcek, list)?;
        let certificates = vcek.map(|vcek| vcek.body).into_iter().chain(chain.into_iter().map(|one| one.der));
        Ok(SnpEndorsements {
            certificates: certificates.map(ByteString).collect(),
            crls: vec![ByteString(list.body)],
        })
    }

    /// What the next TCB recovery brings, where it differs from the set in force and was signed by the same certificates.
    /// It is a warning: without it the collateral is whole.
    async fn early(
        &self,
        fmspc: [u8; 6],
        tcb_info: &Object,
        qe_identity: &Object,
        at: i64,
    ) -> Option<EarlyTcb> {
        let found = tokio::try_join!(
            self.object(Wanted::TcbInfo(fmspc, Set::Early), at, &[]),
            self.object(Wanted::QeIdentity(Set::Early), at, &[]),
        );
        let (early_tcb_info, early_qe_identity) = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(code = error.code(), %error, "no early TCB levels");
                return None;
            }
        };
        let same_signers =
            early_tcb_info.chain == tcb_info.chain && early_qe_identity.chain == qe_identity.chain;
        let differs = early_tcb_info.body != tcb_info.body || early_qe_identity.body != qe_identity.body;
        (same_signers && differs)
            .then(|| self.signed(fmspc, Set::Early, &early_tcb_info, &early_qe_identity).ok())
            .flatten()
    }

    /// The signed objects of one set.
    fn signed(
        &self,
        fmspc: [u8; 6],
        set: Set,
        tcb_info: &Object,
        qe_identity: &Object,
    ) -> Result<EarlyTcb, EndorserError> {
        let failed = |wanted, error: CollateralError| self.failed(wanted, error.into());
        let tcb_info = tcb_info.tcb_info().map_err(|error| failed(Wanted::TcbInfo(fmspc, set), error))?;
        let qe_identity =
            qe_identity.qe_identity().map_err(|error| failed(Wanted::QeIdentity(set), error))?;
        Ok(EarlyTcb {
            tcb_info: tcb_info.text,
            qe_identity: qe_identity.text,
            tcb_info_signature: tcb_info.signature,
            qe_identity_signature: qe_identity.signature,
        })
    }

    /// One object, valid at `at`, signed under the certificates `above` where it comes without its own.
    async fn object(&self, wanted: Wanted, at: i64, above: &[Certificate]) -> Result<Object, EndorserError> {
        let kept = self.kept(wanted, above).await.filter(|kept| kept.window.contains(at));
        match (kept, self.network) {
            (Some(kept), Network::Offline) => Ok(kept.object),
            (Some(kept), _) if self.is_fresh(&kept) => Ok(kept.object),
            (None, Network::Offline) => Err(EndorserError::Offline { object: wanted.to_string() }),
            (kept, Network::Online) => {
                let (fault, otherwise) = match self.fetched(wanted, at, above).await {
                    Ok(Found { object, doubt: None, .. }) => return Ok(object),
                    Ok(Found { object, doubt: Some(fault), .. }) => (fault, Ok(object)),
                    Err(fault) => (fault.clone(), Err(self.failed(wanted, fault))),
                };
                let code = fault.code();
                if let Some(kept) = kept {
                    tracing::warn!(object = %wanted, code, %fault, "kept endorsement used");
                    return Ok(kept.object);
                }
                otherwise.inspect(|_| tracing::warn!(object = %wanted, code, %fault, "endorsement not kept"))
            }
        }
    }

    /// Joins the request for this object that is under way, or begins one.
    async fn fetched(&self, wanted: Wanted, at: i64, above: &[Certificate]) -> Result<Found, Fault> {
        let flight = {
            let mut flights = self.flights();
            flights.retain(|_, flight| flight.strong_count() > 0);
            match flights.get(&wanted).and_then(Weak::upgrade) {
                Some(flight) => flight,
                None => {
                    let flight = Arc::new(Flight::new());
                    flights.insert(wanted, Arc::downgrade(&flight));
                    flight
                }
            }
        };
        let found = flight
            .get_or_init(|| async { self.fetch(wanted, at, above).await.map(Arc::new) })
            .await
            .clone()?;
        if found.window.contains(at) { Ok(Found::clone(&found)) } else { Err(not_valid(&found.window, at)) }
    }

    /// Asks the service, unless another process has meanwhile.
    async fn fetch(&self, wanted: Wanted, at: i64, above: &[Certificate]) -> Result<Found, Fault> {
        let service = wanted.cache_name(&self.services);
        let _held = match &self.cache {
            Some(cache) => Some(cache.lock(&service, wanted).await),
            None => None,
        };
        let kept = self.kept(wanted, above).await;
        if let Some(kept) = &kept
            && self.is_fresh(kept)
            && kept.window.contains(at)
        {
            return Ok(Found { object: kept.object.clone(), window: kept.window.clone(), doubt: None });
        }
        let answer = self.fetcher.ask(&wanted.request(&self.services)).await?;
        let object = wanted.read(&answer)?;
        let window = wanted.check(&object)?;
        let signers = wanted.signers(&object, above)?;
        if let Err(doubt) = wanted.verify(&object, &signers) {
            return Ok(Found { object, window, doubt: Some(doubt) });
        }
        let anchor = Anchor::of(&signers, &self.roots);
        if anchor == Anchor::Other && kept.as_ref().is_some_and(|kept| kept.anchor == Anchor::Named) {
            let doubt = Some(Fault::Signature("ends in another root than what is kept"));
            return Ok(Found { object, window, doubt });
        }
        let known = kept.and_then(|kept| kept.edition);
        not_older(Edition::of(wanted, &object, &signers), known)?;
        // What is over already is no use to anybody, and would hide what the service has tomorrow.
        let present = seconds(now());
        if window.contains(present) {
            self.keep(wanted, anchor, &object, present).await;
        }
        Ok(Found { object, window, doubt: None })
    }

    /// What the cache holds, where its signatures hold.
    async fn kept(&self, wanted: Wanted, above: &[Certificate]) -> Option<Kept> {
        let (cache, service) = (self.cache.clone()?, wanted.cache_name(&self.services));
        let above = above.to_vec();
        let roots = self.roots.clone();
        let reading = tokio::task::spawn_blocking(move || cache.load(&service, wanted, &above, &roots));
        reading.await.ok().flatten()
    }

    /// A cache that cannot be written is slower and no less right.
    async fn keep(&self, wanted: Wanted, anchor: Anchor, object: &Object, fetched: i64) {
        let Some(cache) = self.cache.clone() else { return };
        let (service, object) = (wanted.cache_name(&self.services), object.clone());
        let path = cache.folder().display().to_string();
        let storing = move || cache.store(&service, wanted, anchor, &object, fetched);
        let writing = tokio::task::spawn_blocking(storing);
        if let Ok(Err(error)) = writing.await {
            tracing::warn!(%error, folder = path, "the cache of endorsements cannot be written");
        }
    }

    /// Whether an object was fetched so lately that its service is not asked again. One of the future is not.
    fn is_fresh(&self, kept: &Kept) -> bool {
        let age = seconds(now()).saturating_sub(kept.fetched);
        u64::try_from(age).is_ok_and(|age| age < self.fresh.as_secs())
    }

    fn failed(&self, wanted: Wanted, fault: Fault) -> EndorserError {
        let from = wanted.request(&self.services).origin.base.authority().to_string();
        EndorserError::Fetch { object: wanted.to_string(), from, fault }
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Wanted, Weak<Flight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_older(found: Option<Edition>, known: Option<Edition>) -> Result<(), Fault> {
    match (found, known) {
        (Some(found), Some(known)) if found.is_older_than(&known) => {
            Err(Fault::Older { found: found.to_string(), known: known.to_string() })
        }
        _ => Ok(()),
    }
}

fn not_valid(window: &CollateralWindow, at: i64) -> Fault {
    Fault::NotValid { from: window.from, until: window.until, at }
}

impl EndorserBuilder {
    /// Asks this service for Intel's collateral.
    #[must_use]
    pub fn intel(self, intel: Intel) -> Self {
        Self { services: Services { intel, ..self.services }, ..self }
    }

    /// Asks this service for AMD's certificates and lists.
    #[must_use]
    pub fn amd(self, amd: Amd) -> Self {
        Self { services: Services { amd, ..self.services }, ..self }
    }

    /// Asks these services for what endorses NVIDIA's devices.
    #[must_use]
    pub fn nvidia(self, nvidia: Nvidia) -> Self {
        Self { services: Services { nvidia, ..self.services }, ..self }
    }

    /// Keeps what it fetches there.
    #[must_use]
    pub fn cache(self, cache: Option<Cache>) -> Self {
        Self { cache, ..self }
    }

    /// Whether services may be asked.
    #[must_use]
    pub fn network(self, network: Network) -> Self {
        Self { network, ..self }
    }

    /// How old what is kept may be before the service is asked again; 24 hours unless it is said otherwise.
    #[must_use]
    pub fn fresh(self, fresh: Duration) -> Self {
        Self { fresh, ..self }
    }

    /// The roots whose objects give way to no others, as SHA-256 of their keys' DER SubjectPublicKeyInfo; Intel's and AMD's
    /// unless it is said otherwise. What ends in another root is kept beside them.
    #[must_use]
    pub fn roots(self, roots: Vec<[u8; 32]>) -> Self {
        Self { roots, ..self }
    }

    /// How long services may take.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The proxy, in place of the environment's.
    #[must_use]
    pub fn proxies(self, proxies: ProxySettings) -> Self {
        Self { proxies: Some(proxies), ..self }
    }

    /// The endorser. It asks nobody yet, and an environment with a proxy that it does not speak to is told of only when
    /// it must.
    #[must_use]
    pub fn build(self) -> Endorser {
        let proxies = self.proxies.map_or_else(ProxySettings::from_environment, Ok);
        Endorser {
            services: self.services,
            fetcher: Fetcher::new(self.limits, proxies),
            cache: self.cache,
            network: self.network,
            fresh: self.fresh,
            roots: self.roots,
            flights: Mutex::default(),
        }
    }
}
