//! The simulated TDX platform: a TD's report, quotes over it, and the collateral that endorses the platform.

mod boot_log;
mod collateral;
mod pck;
mod platform;
mod quote;
mod report;

pub use boot_log::{BootEvent, SimulatedBootLog};
pub use collateral::Collateral;
pub use pck::PckCa;
pub use platform::{
    FMSPC, ModuleIdentity, ModuleLevel, PCEID, PckFlags, PckProfile, PlatformOptions, QeOptions, QuoteForm,
    Revocable, RevocationList, SeamOptions, SimulatedPlatform, SvnLevel, TcbLevel, Window, Windows,
};
pub use quote::QuoteFlaw;
pub use report::{ExtendedMeasurements, SimulatedTd, TdMeasurements, TdReport, simulated_measurement};
