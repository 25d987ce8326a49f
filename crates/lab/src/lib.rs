//! Checks waymesh without a network: nobody imports this crate.
//!
//! - [`conformance`]: what every implementation of links must do, as a suite.
//! - [`fake_link`]: links in virtual time, with any weather.
//! - [`world`]: whole nodes and a registry in trouble, against a reference model.
//! - [`dice`]: the seeded randomness of all.

pub mod conformance;
pub mod dice;
pub mod fake_link;
pub mod world;
