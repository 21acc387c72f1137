//! Device certificate chains: FMC leaf, BROM, provisioner, identity, root.

use thiserror::Error;

use super::fwid::{Fwid, FwidError};
use super::report::DeviceKind;
use crate::pem::{self, PemError};
use crate::x509::{Certificate, X509Error};

/// Number of certificates in a device chain, the root included.
pub const CHAIN_LENGTH: usize = 5;

/// First byte of a GPU's BROM serial number.
const GPU_SERIAL: u8 = 0x41;
/// First byte of a switch's BROM serial number.
const SWITCH_SERIAL: u8 = 0x50;

/// Why a device chain could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The PEM is broken.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A chain of another length.
    #[error("{0} certificates, a device chain has {CHAIN_LENGTH}")]
    Length(usize),
    /// A certificate cannot be read.
    #[error("certificate {index}: {source}")]
    Certificate {
        /// Its position, 0 for the leaf.
        index: usize,
        /// Why.
        source: X509Error,
    },
    /// The leaf's firmware id extension cannot be read.
    #[error(transparent)]
    Fwid(#[from] FwidError),
}

/// The chip family that a leaf certificate's common name begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Hopper.
    Gh100,
    /// Blackwell, data centre.
    Gb100,
    /// Blackwell, workstation.
    Gb20x,
    /// Third-generation NVSwitch.
    Ls10,
}

impl Family {
    /// The family of a leaf with this common name.
    fn of(common_name: &str) -> Option<Self> {
        match common_name.split_once(' ')?.0 {
            "GH100" => Some(Self::Gh100),
            "GB100" => Some(Self::Gb100),
            "GB20X" => Some(Self::Gb20x),
            "LS_10" => Some(Self::Ls10),
            _ => None,
        }
    }

    /// Whether devices of the family are GPUs or switches.
    #[must_use]
    pub fn kind(self) -> DeviceKind {
        match self {
            Self::Ls10 => DeviceKind::Switch,
            Self::Gh100 | Self::Gb100 | Self::Gb20x => DeviceKind::Gpu,
        }
    }

    /// NVIDIA's name in certificates.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gh100 => "GH100",
            Self::Gb100 => "GB100",
            Self::Gb20x => "GB20X",
            Self::Ls10 => "LS_10",
        }
    }
}

/// The five certificates of a device, leaf first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceChain {
    certificates: [Certificate; CHAIN_LENGTH],
    fwid: Option<Fwid>,
}

impl DeviceChain {
    /// Reads the chain that NVML gives: PEM, leaf first, exactly [`CHAIN_LENGTH`] certificates.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn parse(pem: &[u8]) -> Result<Self, ChainError> {
        let ders = pem::certificates(pem)?;
        if ders.len() != CHAIN_LENGTH {
            return Err(ChainError::Length(ders.len()));
        }
        let certificates = ders
            .iter()
            .enumerate()
            .map(|(index, der)| {
                Certificate::parse(der).map_err(|source| ChainError::Certificate { index, source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let certificates: [Certificate; CHAIN_LENGTH] =
            certificates.try_into().map_err(|found: Vec<_>| ChainError::Length(found.len()))?;
        let [leaf, ..] = &certificates;
        let fwid = Fwid::of(leaf)?;
        Ok(Self { certificates, fwid })
    }

    /// All certificates, leaf first.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate; CHAIN_LENGTH] {
        &self.certificates
    }

    /// The certificate whose key signs reports.
    #[must_use]
    pub fn leaf(&self) -> &Certificate {
        let [leaf, ..] = &self.certificates;
        leaf
    }

    /// The device's own CA, burnt in.
    #[must_use]
    pub fn brom(&self) -> &Certificate {
        let [_, brom, ..] = &self.certificates;
        brom
    }

    /// The root as the device gives it; only a pinned key makes it an anchor.
    #[must_use]
    pub fn root(&self) -> &Certificate {
        let [.., root] = &self.certificates;
        root
    }

    /// The leaf's firmware id extension.
    #[must_use]
    pub fn fwid(&self) -> Option<&Fwid> {
        self.fwid.as_ref()
    }

    /// The chip family that the leaf's common name begins with.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        Family::of(&self.leaf().common_name)
    }

    /// The device's PDI: the BROM's serial number behind the byte that says GPU or switch.
    #[must_use]
    pub fn pdi(&self) -> Option<(DeviceKind, [u8; 8])> {
        let (prefix, pdi) = self.brom().serial.split_first()?;
        let kind = match *prefix {
            GPU_SERIAL => DeviceKind::Gpu,
            SWITCH_SERIAL => DeviceKind::Switch,
            _ => return None,
        };
        Some((kind, pdi.try_into().ok()?))
    }
}
