//! Client keys: how they are made, kept in a file, and recognised.
//!
//! A key is 256 random bits, so that its plain SHA-256 gives nothing away and is all that is kept.
//! Its name says who has it, and several keys may share one: whoever changes a key makes the new one,
//! hands it out, and then revokes the old one by its id.

mod file;
mod keys;
mod record;
mod token;
mod watched;

pub use self::{
    file::{FileError, create, read, revoke},
    keys::{Keys, Problem, Unfit},
    record::{ClientKey, Name, State},
    token::{Digest, is_in, is_like_one, mint},
    watched::{KeysFile, Refreshed},
};
