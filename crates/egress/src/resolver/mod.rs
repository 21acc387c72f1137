//! Names to addresses, by the DNS upstreams of the policy and nobody else.
//!
//! A name is asked for when an allowed connection is opened, never because the workload asks a question. An answer is taken
//! as a whole or not at all, and lives as long as its records do. Connections that are open stay when it ends.

mod upstream;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use confide_policy::egress::{DnsUpstream, HostName};
use thiserror::Error;
use tokio::time::{Duration, Instant, timeout};

use crate::address::is_public;
use crate::dns::{Answer, AnswerError, Family};
use crate::network::Network;
use crate::tls::Roots;
use upstream::{Upstream, UpstreamError};

/// The most names whose addresses are kept. Policies have at most 128 rules a phase; wildcards bring more names.
pub(crate) const MAX_RESOLVED: usize = 1024;
/// The most names that are asked for at a time. One that many connections wait for is asked for once.
pub(crate) const MAX_QUESTIONS: usize = 16;
/// How long a name may take, however many upstreams there are: two of them may be out of reach.
const RESOLVE_LIMIT: Duration = Duration::from_secs(25);
/// How long an answer is used at most, whatever its records say.
const LONGEST_LIFE: Duration = Duration::from_secs(3600);
/// How long an answer is used at least. Records without a life of their own would be asked for with each connection.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);
/// The most addresses of a name that are used, of each family. The time for a destination is over after four that are silent.
pub(crate) const MAX_ADDRESSES: usize = 8;

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// One at least, IPv4 first; all of the public internet.
    pub(crate) addresses: Vec<IpAddr>,
    /// The names that it is an alias of, of both families.
    pub(crate) chain: Vec<String>,
}

/// Why a name leads nowhere.
#[derive(Debug, Error)]
pub(crate) enum ResolveError {
    #[error("no upstream answered")]
    NoAnswer,
    #[error("there is no such name")]
    NoSuchName,
    #[error("the name has no addresses")]
    NoAddress,
    #[error(transparent)]
    Refused(AnswerError),
    #[error("the name leads to {0}, which is not of the public internet")]
    NotPublic(IpAddr),
}

/// Resolves names.
#[derive(Debug)]
pub(crate) struct Resolver {
    upstreams: Vec<Upstream>,
    kept: Mutex<HashMap<HostName, (Resolved, Instant)>>,
    /// A name's hash picks the one under which it is asked for: who wants the same name waits for the answer.
    asking: [tokio::sync::Mutex<()>; MAX_QUESTIONS],
}

impl Resolver {
    pub(crate) fn new(upstreams: &[DnsUpstream], network: &Network, roots: &Roots) -> Self {
        Self {
            upstreams: upstreams
                .iter()
                .flat_map(|upstream| Upstream::each(upstream, network, roots))
                .collect(),
            kept: Mutex::default(),
            asking: Default::default(),
        }
    }

    /// The addresses of a name, which a rule allows.
    pub(crate) async fn resolve(&self, name: &HostName) -> Result<Resolved, ResolveError> {
        if let Some(kept) = self.kept(name) {
            return Ok(kept);
        }
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let drawn = usize::try_from(hasher.finish()).unwrap_or_default();
        let place = drawn.checked_rem(self.asking.len()).unwrap_or_default();
        let _asking = match self.asking.get(place) {
            Some(asking) => Some(asking.lock().await),
            None => None,
        };
        match self.kept(name) {
            Some(kept) => Ok(kept),
            None => self.ask(name).await,
        }
    }

    async fn ask(&self, name: &HostName) -> Result<Resolved, ResolveError> {
        let answers = timeout(RESOLVE_LIMIT, self.answers(name)).await;
        let [v4, v6] = answers.map_err(|_| ResolveError::NoAnswer)??;
        let life = match (v4.addresses.is_empty(), v6.addresses.is_empty()) {
            (false, false) => v4.ttl.min(v6.ttl),
            (false, true) => v4.ttl,
            _ => v6.ttl,
        };
        let resolved = resolved(v4, v6)?;
        self.keep(name, &resolved, life.clamp(SHORTEST_LIFE, LONGEST_LIFE));
        Ok(resolved)
    }

    /// The first answer of an upstream. One that cannot be reached or fails makes way for the next; an answer that is refused
    /// does not: who forges one would be given further tries.
    async fn answers(&self, name: &HostName) -> Result<[Answer; 2], ResolveError> {
        for upstream in &self.upstreams {
            match upstream.ask(name.as_str()).await {
                Ok(answers) => return Ok(answers),
                Err(UpstreamError::Answer(AnswerError::NoSuchName)) => return Err(ResolveError::NoSuchName),
                Err(UpstreamError::Answer(error)) if !matches!(error, AnswerError::Failed(_)) => {
                    return Err(ResolveError::Refused(error));
                }
                Err(error) => tracing::warn!(%error, upstream = %upstream.address(), "a DNS upstream failed"),
            }
        }
        Err(ResolveError::NoAnswer)
    }

    fn kept(&self, name: &HostName) -> Option<Resolved> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(name).filter(|(_, until)| Instant::now() < *until).map(|(resolved, _)| resolved.clone())
    }

    fn keep(&self, name: &HostName, resolved: &Resolved, life: Duration) {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_RESOLVED {
            kept.retain(|_, (_, until)| now < *until);
        }
        let until = now.checked_add(life).unwrap_or(now);
        if kept.len() < MAX_RESOLVED {
            kept.insert(name.clone(), (resolved.clone(), until));
        }
    }
}

/// Both families' addresses, if every one of them may be led to: an answer that mixes them is an attack's as well.
fn resolved(v4: Answer, v6: Answer) -> Result<Resolved, ResolveError> {
    let every = || v4.addresses.iter().chain(&v6.addresses);
    if let Some(address) = every().find(|address| !is_public(**address)) {
        return Err(ResolveError::NotPublic(*address));
    }
    let each = [&v4, &v6];
    let addresses: Vec<IpAddr> =
        each.iter().flat_map(|answer| answer.addresses.iter().take(MAX_ADDRESSES)).copied().collect();
    if addresses.is_empty() {
        return Err(ResolveError::NoAddress);
    }
    let mut chain = v4.chain;
    chain.extend(v6.chain);
    chain.sort_unstable();
    chain.dedup();
    Ok(Resolved { addresses, chain })
}

/// Both families are asked for: each has its question.
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
