//! Vendor services to endorsements.
//!
//! Layer 5. An [`Endorser`] fetches what a verifier needs beside the evidence: the collateral of Intel TDX from Intel's
//! Provisioning Certification Service or from a cache that speaks its language (PCCS), and the certificates of AMD
//! SEV-SNP from AMD's Key Distribution Service. It keeps what it fetched on disk until the vendor's own date. From NVIDIA's
//! services it fills an [`NvidiaStore`] with manifests, OCSP answers and revocation lists.
//!
//! ```no_run
//! use confide_endorser::{Endorser, PckCa, TdxPlatform, Update};
//! use confide_evidence::tdx::collateral_to_json;
//!
//! # async fn fetch() -> Result<(), Box<dyn std::error::Error>> {
//! let platform = TdxPlatform { fmspc: [0x90, 0xc0, 0x6f, 0, 0, 0], ca: PckCa::Platform };
//! let endorser = Endorser::builder().build();
//! let collateral = endorser.tdx(platform, Update::Standard, confide_endorser::now()).await?;
//! std::fs::write("collateral.json", collateral_to_json(&collateral))?;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here judges: what a service, a cache or a file gives is as untrusted as any other input, and only the
//! verifier says what it is worth. What is checked is what keeps a fault from looking like a verdict: that an answer
//! is of the asked object, in its form, of its platform, and of the asked time. What is kept is also signed by the
//! certificates that it came with, and gives way to nothing older.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod amd;
mod cache;
mod codes;
mod edition;
mod endorser;
mod error;
mod fetch;
mod gpu_folder;
mod intel;
mod limits;
mod nvidia;
mod object;
mod platform;
mod proxy;
mod signed;
mod staple;
mod trust;
mod url;

pub use amd::{Amd, SnpKey, SnpPlatform, SnpPlatformError};
pub use cache::{Cache, CacheEntry, Prune, Pruned};
pub use codes::CODES;
pub use endorser::{Endorser, EndorserBuilder, Network, now};
pub use error::{EndorserError, Fault, SetupError, StoreError};
pub use fetch::ServiceTime;
pub use gpu_folder::{GpuFolderError, MAX_GPU_FILES, MAX_GPU_STAPLE, gpu_endorsements};
pub use intel::{Intel, Origin, Update};
pub use limits::Limits;
pub use nvidia::{
    Change, Imported, Kept, KeptKind, MAX_IMPORT_DEPTH, MAX_IMPORT_FILES, MAX_RIM_ANSWER, MAX_RIM_ID,
    MAX_RIM_LIST, Nvidia, NvidiaCrl, NvidiaObject, NvidiaStore, OcspSubject, Refreshed, RimId, RimIdError,
    rim_document, rim_ids,
};
pub use platform::{PckCa, PlatformError, TdxPlatform};
pub use proxy::ProxySettings;
pub use staple::{FindPlatform, MAX_STAPLE, Pace, Source, Staple, StapleError, Stapler};
pub use trust::Trust;
pub use url::{BaseUrl, UrlError};
