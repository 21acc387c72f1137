//! Why there are no endorsements.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use confide_evidence::nvidia::RimError;
use confide_evidence::ocsp::{OcspError, ResponseStatus};
use confide_evidence::snp::EndorsementError;
use confide_evidence::tdx::{CollateralError, IssuerChainError};
use confide_evidence::time::format_seconds;
use confide_evidence::x509::X509Error;

use crate::RimId;
use crate::codes;
use crate::url::UrlError;

/// Why there are no endorsements.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndorserError {
    /// Not in the cache, and the network may not be asked.
    #[error("{object}: not in the cache, and the network may not be used")]
    Offline {
        /// What was asked for.
        object: String,
    },
    /// The service did not give it.
    #[error("{object} from {from}: {fault}")]
    Fetch {
        /// What was asked for.
        object: String,
        /// The service's host and port.
        from: String,
        /// Why.
        fault: Fault,
    },
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a store could not be used, or a file not be taken into one.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The file holds neither a RIM nor an OCSP answer nor a revocation list.
    #[error("{path}: neither a RIM nor an OCSP answer nor a revocation list")]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// The RIM in the file cannot be read, or is another one than the file's name says.
    #[error("{path}: {fault}")]
    Object {
        /// The file.
        path: PathBuf,
        /// Why.
        fault: Fault,
    },
    /// The RIM of a VBIOS whose file is not named for its id: nothing in the document says the board.
    #[error("{path}: the file of a VBIOS RIM is not named for its id")]
    Unnamed {
        /// The file.
        path: PathBuf,
    },
    /// The store has no issue of a RIM that was to be copied.
    #[error("{path}: no RIM {id}")]
    Missing {
        /// The folder of the store.
        path: PathBuf,
        /// The id.
        id: RimId,
    },
    /// More files than [`MAX_IMPORT_FILES`](crate::MAX_IMPORT_FILES).
    #[error("{path}: more files than one import takes")]
    TooMany {
        /// The folder at which there were too many.
        path: PathBuf,
    },
}

/// Why a service did not give what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The environment names a proxy that is not spoken to.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// No connection, or one that broke.
    #[error("the connection failed: {}", chain(.0))]
    Connection(Arc<dyn Error + Send + Sync>),
    /// The proxy does not let the connection through.
    #[error("the proxy {proxy} answered {status}")]
    Proxy {
        /// Host and port of the proxy.
        proxy: String,
        /// HTTP status.
        status: u16,
    },
    /// The service's certificate is not trusted, or TLS failed otherwise.
    #[error("TLS failed: {}", chain(.0))]
    Tls(Arc<dyn Error + Send + Sync>),
    /// No program of this machine says whom to trust on the web.
    #[error("this machine has no certificates of web authorities")]
    NoRoots,
    /// The answer did not arrive in time.
    #[error("no answer within {} seconds", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The service asks to come back later than this program waits.
    #[error("too many requests{}", later(.0))]
    Busy(Option<Duration>),
    /// The service does not have the object.
    #[error("the service has none (status {0})")]
    NotFound(u16),
    /// Another place: it is not followed.
    #[error("a redirect (status {0}), which is not followed")]
    Redirected(u16),
    /// Any other status than 200.
    #[error("status {0}")]
    Status(u16),
    /// An answer of another media type, for example a page of a captive portal.
    #[error("an answer of the type {0:?}")]
    MediaType(String),
    /// An answer under a content encoding, which nobody asked for.
    #[error("an answer in the encoding {0:?}")]
    ContentEncoding(String),
    /// An answer larger than any genuine one.
    #[error("an answer of more than {0} bytes")]
    TooLarge(usize),
    /// A header field is missing, or stands there twice.
    #[error("an answer without exactly one header field {0}")]
    Header(&'static str),
    /// The issuer chain in a header field.
    #[error("header field {field}: {source}")]
    IssuerChain {
        /// The field.
        field: &'static str,
        /// Why.
        source: IssuerChainError,
    },
    /// The object itself.
    #[error(transparent)]
    Collateral(#[from] CollateralError),
    /// A certificate.
    #[error("{0}")]
    Certificate(#[from] X509Error),
    /// What the certificate of a VCEK says of it.
    #[error("the VCEK certificate: {0}")]
    Vcek(#[from] EndorsementError),
    /// Not the JSON of the service's answers.
    #[error("an answer that cannot be read: {0}")]
    Json(String),
    /// A RIM of another form than SWID tags.
    #[error("a RIM of the form {0:?}, which is not supported")]
    RimFormat(String),
    /// Another object than the one whose digest the answer has: a part of it is lost or changed.
    #[error("the RIM has the SHA-256 {found}, not {said} as the answer says")]
    Digest {
        /// What the answer says.
        said: String,
        /// What the RIM has.
        found: String,
    },
    /// A RIM.
    #[error(transparent)]
    Rim(#[from] RimError),
    /// An OCSP answer.
    #[error(transparent)]
    Ocsp(#[from] OcspError),
    /// Another object than the one that was asked for.
    #[error("the answer is about {found}, not about {asked}")]
    Other {
        /// What was asked for.
        asked: String,
        /// What the answer is about.
        found: String,
    },
    /// A signature that its own certificates do not verify.
    #[error("not signed by the certificates that it came with: the signature {0}")]
    Signature(&'static str),
    /// An edition before one that is known.
    #[error("the answer is {found}, older than {known}, which is known")]
    Older {
        /// The answer's number and date.
        found: String,
        /// Those of the edition in the cache.
        known: String,
    },
    /// The object is of another time.
    #[error("valid from {} to {}, not at {}", format_seconds(*from), format_seconds(*until), format_seconds(*at))]
    NotValid {
        /// Start of its window, seconds since the Unix epoch.
        from: i64,
        /// End of its window.
        until: i64,
        /// The time for which it was asked.
        at: i64,
    },
}

/// Why an endorser cannot be set up as it was asked to.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The address of a service.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The proxy of the environment.
    #[error("the environment's proxy {variable}: {reason}")]
    Proxy {
        /// The environment variable.
        variable: &'static str,
        /// What is wrong with it. The value may hold a password and is not shown.
        reason: &'static str,
    },
    /// The certificate to be pinned.
    #[error("{path}: {reason}")]
    Pin {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

impl EndorserError {
    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Offline { .. } => "endorsement_offline",
            Self::Fetch { fault, .. } => fault.code(),
            Self::Store(error) => error.code(),
        }
    }

    /// What the person at the terminal can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        codes::what_to_do(self.code())
    }
}

impl Fault {
    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Setup(error) => error.code(),
            Self::Connection(_) => "endorsement_unreachable",
            Self::Proxy { .. } => "endorsement_proxy",
            Self::Tls(_) | Self::NoRoots => "endorsement_tls",
            Self::TimedOut(_) => "endorsement_timed_out",
            Self::Busy(_) => "endorsement_busy",
            Self::NotFound(_) => "endorsement_not_found",
            Self::Redirected(_) => "endorsement_redirected",
            Self::Status(500..) => "endorsement_unavailable",
            Self::Status(_) => "endorsement_refused",
            Self::TooLarge(_) => "endorsement_too_large",
            Self::MediaType(_)
            | Self::ContentEncoding(_)
            | Self::Header(_)
            | Self::IssuerChain { .. }
            | Self::Collateral(_)
            | Self::Certificate(_)
            | Self::Vcek(_)
            | Self::Json(_) => "endorsement_malformed",
            Self::RimFormat(_) => "endorsement_unsupported",
            Self::Digest { .. } => "endorsement_digest",
            Self::Rim(error) if error.is_unsupported() => "endorsement_unsupported",
            Self::Ocsp(OcspError::Unsuccessful(ResponseStatus::TryLater | ResponseStatus::InternalError)) => {
                "endorsement_unavailable"
            }
            Self::Ocsp(OcspError::Unsuccessful(_)) => "endorsement_ocsp_refused",
            Self::Rim(_) | Self::Ocsp(_) => "endorsement_malformed",
            Self::Other { .. } => "endorsement_other_object",
            Self::Signature(_) => "endorsement_signature",
            Self::Older { .. } => "endorsement_older",
            Self::NotValid { until, at, .. } if until < at => "endorsement_expired",
            Self::NotValid { .. } => "endorsement_not_yet_valid",
        }
    }

    /// Whether the same request can be answered otherwise a little later.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Connection(_) | Self::TimedOut(_) | Self::Busy(_) => true,
            Self::Status(status) | Self::Proxy { status, .. } => *status >= 500,
            _ => false,
        }
    }

    pub(crate) fn connection(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Connection(Arc::new(error))
    }

    /// A fault of the TLS handshake: of TLS itself, or of the connection beneath it.
    pub(crate) fn handshake(error: io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
            Self::Tls(Arc::new(error))
        } else {
            Self::connection(error)
        }
    }
}

impl StoreError {
    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "store_failed",
            Self::Unknown { .. } => "store_file_unknown",
            Self::Object { fault, .. } => fault.code(),
            Self::Unnamed { .. } => "store_rim_unnamed",
            Self::Missing { .. } => "store_rim_missing",
            Self::TooMany { .. } => "store_too_many_files",
        }
    }

    /// What the person at the terminal can do about it. Of a file nobody was asked: no address is at fault.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Object { .. } => codes::AS_SERVED,
            _ => codes::what_to_do(self.code()),
        }
    }
}

impl SetupError {
    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Url(_) => "endorser_url",
            Self::Proxy { .. } => "endorser_proxy",
            Self::Pin { .. } => "endorser_certificate",
            Self::Tls(_) => "endorser_tls",
        }
    }
}

fn later(after: &Option<Duration>) -> String {
    after.map(|after| format!(": come back after {} seconds", after.as_secs())).unwrap_or_default()
}

/// An error with its causes: those of HTTP and TLS say little without them.
fn chain(error: &Arc<dyn Error + Send + Sync>) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !sentence.contains(&text) {
            sentence.push_str(": ");
            sentence.push_str(&text);
        }
        cause = error.source();
    }
    sentence
}
