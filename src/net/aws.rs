//! Signing requests to AWS with credentials of our own (Signature Version 4).
//!
//! Written by hand: the algorithm is a page, and the crate for it brings thirty others, a second
//! calendar among them.

mod identity;
mod keyring;
mod profile;
mod signature;

pub use identity::WebIdentity;
pub use keyring::{Keyring, Source};
pub use signature::{Keys, Scope, hash, sign, verify};
