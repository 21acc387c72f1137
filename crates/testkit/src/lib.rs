//! What tests and the demo hold against the product: attackers that do what a hostile operator would do, guests and
//! vendors' services that are honest or misbehave.
//!
//! A development crate. Nothing that ships depends on it.

pub mod attacker;
pub mod disk;
pub mod fixtures;
pub mod gpu;
pub mod guest;
pub mod quoting;
pub mod replay;
pub mod snp;
pub mod swapped;
pub mod vendor;

/// The examples of the README, as doctests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}
