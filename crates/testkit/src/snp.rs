//! A simulated SEV-SNP report with everything that it is appraised with.

use anyhow::Result;
use confide_simulator::SimulatedSnp;
pub use confide_simulator::{SnpLevels, SnpOptions, SnpProduct, SnpSigningKey};

/// An honest report and its endorsements.
#[derive(Debug, Clone)]
pub struct SnpEvidence {
    /// The report, 1184 bytes.
    pub report: Vec<u8>,
    /// Certificates of signing key, issuer and root, DER.
    pub certificates: [Vec<u8>; 3],
    /// The root's revocation list, DER.
    pub list: Vec<u8>,
    /// Path and query of the VCEK's certificate at AMD's service, of a VCEK.
    pub vcek: Option<String>,
    /// The path there that the chain and the list lie below.
    pub folder: String,
}

impl SnpEvidence {
    /// That of a simulated Genoa chip at this time, Unix seconds.
    ///
    /// # Errors
    /// When the simulator refuses its options.
    pub fn at(time: u64) -> Result<Self> {
        Self::of(SnpOptions::at(time))
    }

    /// That of a platform of these options.
    ///
    /// # Errors
    /// When the simulator refuses them.
    pub fn of(options: SnpOptions) -> Result<Self> {
        let kind = match options.signing_key {
            SnpSigningKey::Vcek => "vcek",
            SnpSigningKey::Vlek => "vlek",
        };
        let folder = format!("/{kind}/v1/{}", options.product.name());
        let platform = SimulatedSnp::new(options.clone())?;
        let vcek = (options.signing_key == SnpSigningKey::Vcek)
            .then(|| format!("{folder}/{}", hardware_id_and_levels(&options, &platform.chip_id())));
        Ok(Self {
            report: platform.report(&platform.guest([7; 64])),
            certificates: platform.certificates()?,
            list: platform.revocation_list().sign()?,
            vcek,
            folder,
        })
    }
}

/// Hardware id and query of AMD publication 57230, section 4.1: of Turin 8 bytes, and the level of the FMC first.
fn hardware_id_and_levels(options: &SnpOptions, chip_id: &[u8; 64]) -> String {
    let SnpLevels { fmc, bootloader, tee, snp, microcode } = options.levels;
    let (length, first) = match options.product {
        SnpProduct::Turin => (8, format!("fmcSPL={fmc:02}&")),
        SnpProduct::Milan | SnpProduct::Genoa => (64, String::new()),
    };
    let id: String = chip_id.iter().take(length).map(|byte| format!("{byte:02x}")).collect();
    format!("{id}?{first}blSPL={bootloader:02}&teeSPL={tee:02}&snpSPL={snp:02}&ucodeSPL={microcode:02}")
}
