//! The simulated TDX platform: a TD's report, quotes over it, and the collateral that endorses the platform.

mod collateral;
mod pck;
mod platform;
mod quote;
mod report;

pub use collateral::Collateral;
pub use platform::{
    FMSPC, ModuleIdentity, ModuleLevel, PCEID, PckProfile, PlatformOptions, QeOptions, QuoteForm, Revocable,
    SeamOptions, SimulatedPlatform, SvnLevel, TcbLevel, Window, Windows,
};
pub use quote::QuoteFlaw;
pub use report::{SimulatedTd, TdMeasurements, TdReport, simulated_measurement};
