//! Attacks on the built program `confide`: each must fail, and none may get a byte of a request before a verdict.
//!
//! Whoever plays the peer writes down every byte after TLS. Where the same set-up works with an honest peer, a control
//! shows it: a counter that never counts would prove nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]

mod answers;
mod built;
mod evidence;
mod rig;
mod routes;
