//! Connections to allowed destinations.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use confide_policy::egress::{Host, HostName};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::caps::{Metered, Use};
use crate::gate::{Permit, Refusal};
use crate::network::Network;
use crate::record::Reason;
use crate::resolver::{ResolveError, Resolver};

/// How long one address may take to accept a connection: TCP repeats its first segment after 1 and 3 seconds (RFC 6298).
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long all addresses of a destination may take together.
const REACH_LIMIT: Duration = Duration::from_secs(20);
/// How long a TLS handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);

/// What leads out.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) resolver: Resolver,
    pub(crate) network: Network,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Exit {
    /// A connection to what a permit is for.
    pub(crate) async fn connect(
        &self,
        permit: Permit,
        used: Arc<Use>,
    ) -> Result<Metered<TcpStream>, Refusal> {
        let addresses = match &permit.destination.host {
            Host::Ip(address) => vec![*address],
            Host::Name(name) => self.addresses(name, &permit).await?,
        };
        match timeout(REACH_LIMIT, self.reach(&addresses, permit.destination.port)).await {
            Ok(Some(stream)) => Ok(Metered::new(stream, permit.account, permit.place, used)),
            _ => Err(permit.refused(Reason::Unreachable)),
        }
    }

    /// The first of the addresses that takes a connection.
    async fn reach(&self, addresses: &[IpAddr], port: u16) -> Option<TcpStream> {
        for address in addresses {
            let connecting = self.network.connect(SocketAddr::new(*address, port));
            if let Ok(Ok(stream)) = timeout(CONNECT_LIMIT, connecting).await {
                return Some(stream);
            }
        }
        None
    }

    /// A connection on which the server has proved to be the host of the permit's name.
    pub(crate) async fn originate(
        &self,
        permit: Permit,
        used: Arc<Use>,
    ) -> Result<TlsStream<Metered<TcpStream>>, Refusal> {
        let refused = |reason| permit.refused(reason);
        let (unproved, unreachable) = (refused(Reason::CertificateRefused), refused(Reason::Unreachable));
        let Host::Name(name) = &permit.destination.host else { return Err(unproved) };
        let name = ServerName::try_from(name.as_str().to_owned()).map_err(|_| unproved.clone())?;
        let stream = self.connect(permit, used).await?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        match timeout(HANDSHAKE_LIMIT, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) if is_refusal(&error) => Err(unproved),
            _ => Err(unreachable),
        }
    }

    async fn addresses(&self, name: &HostName, permit: &Permit) -> Result<Vec<IpAddr>, Refusal> {
        let resolved = self.resolver.resolve(name).await.map_err(|error| {
            tracing::debug!(%error, "a name was not resolved");
            permit.refused(match error {
                ResolveError::NoAnswer | ResolveError::NoSuchName | ResolveError::NoAddress => {
                    Reason::NotResolved
                }
                ResolveError::Refused(_) => Reason::AnswerRefused,
                ResolveError::NotPublic(_) => Reason::AddressRefused,
            })
        })?;
        if !resolved.chain.iter().all(|alias| permit.admits_alias(alias)) {
            return Err(permit.refused(Reason::ChainNotListed));
        }
        Ok(resolved.addresses)
    }
}

/// Whether a handshake failed for what the server sent, and not for the connection.
fn is_refusal(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}
