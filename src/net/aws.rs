//! Signing requests to AWS with credentials of our own (Signature Version 4).
//!
//! Written by hand: the algorithm is a page, and the crate for it brings thirty others, a second
//! calendar among them.

mod identity;
mod keyring;
mod profile;
mod signature;
mod source;

pub use identity::WebIdentity;
pub(super) use identity::code;
pub use keyring::{Keyring, Source};
pub use signature::{Keys, Scope, encoded, hash, sign, verify};
pub use source::{Named, Variable, region_of};
