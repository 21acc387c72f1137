//! The engine in a process of its own.
//!
//! The guest starts `confide-guest engine` with one Unix socket as standard input, the environment that the claims name
//! (none) and nothing else: no keys, no TLS, no network. The child closes every descriptor that it was given beyond its
//! standard streams. Then it confines itself, by the function that it is given, hands the guest the descriptor at which the
//! kernel tells what it refuses the child, and lets its standard streams lead nowhere. [`EngineProcess`] is the guest's half,
//! [`run_child`] the child's. Text of prompts and completions crosses the socket and is logged by neither.

mod child;
mod handing;
mod inherited;
mod parent;

pub use child::{ChildError, run_child, serve};
pub use confide_service::close_to_debuggers;
pub use parent::{ChatStream, EngineClient, EngineCommand, EngineProcess, ProcessError};
