//! The words everyone uses: time, money, identifiers, secrets. Depends on nothing of ours.

pub mod clock;
pub mod id;
pub mod money;
