//! Intel TDX: quotes, PCK certificates and DCAP collateral.

mod collateral;
mod pck;
mod quote;

pub use collateral::*;
pub use pck::*;
pub use quote::*;
