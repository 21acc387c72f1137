//! Intel TDX: quotes, PCK certificates and DCAP collateral.

mod answer;
mod attributes;
mod collateral;
mod pck;
mod quote;
mod show;
mod window;

pub use answer::*;
pub use attributes::*;
pub use collateral::*;
pub use pck::*;
pub use quote::*;
pub use window::*;
