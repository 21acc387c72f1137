//! GPUs and NVSwitches to evidence, and to the ready state.
//!
//! [`Node`] is all that there is of both in this machine. It goes one way: found → collected → appraised → ready. NVML's
//! ready state, which lets the GPUs take work, is system-wide and is set in the last step alone; any failure on the way
//! sets it back. A [`Survey`] only looks.
//!
//! The driver's libraries are loaded at run time. What they answer is not trusted: every size is held against its buffer,
//! every number against its known values, and a call that does not return ends the node. What the devices sign is for
//! the appraisal, which this crate does not do.

mod environment;
mod error;
mod machine;
mod node;
mod nscq;
mod nvml;
mod survey;
mod worker;

pub use environment::{Environment, EnvironmentKind, MultiGpu, Settings};
pub use error::{AppraisalError, GpuError};
pub use machine::Libraries;
pub use node::{Appraised, Collected, Found, Node, Ready};
pub use survey::Survey;
pub use worker::Deadlines;
