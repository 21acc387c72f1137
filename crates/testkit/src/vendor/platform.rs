//! A simulated platform, and what endorses it.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use confide_evidence::document::TdxCollateral;
use confide_evidence::tdx::collateral_from_json;
use confide_simulator::{PlatformOptions, SimulatedPlatform, SimulatedTd};

/// A quote of a simulated platform, and what endorses it.
pub struct Platform {
    /// The quote, over report data of zeros.
    pub quote: Vec<u8>,
    /// Its collateral, with the PCK chain.
    pub collateral: TdxCollateral,
}

impl Platform {
    /// A platform that is up to date now, but for what `change` does to it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(change: impl FnOnce(&mut PlatformOptions)) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut options = PlatformOptions::at(now);
        change(&mut options);
        let platform = SimulatedPlatform::new(options)?;
        let quote = platform.quote(&SimulatedTd::default().report([0; 64]));
        Ok(Self { quote, collateral: collateral_from_json(platform.collateral_json().as_bytes())? })
    }

    /// Its collateral as services give it: without the PCK chain, which stands in the quote.
    #[must_use]
    pub fn served(&self) -> TdxCollateral {
        TdxCollateral { pck_certificate_chain: None, ..self.collateral.clone() }
    }
}
