//! The words everyone uses: time, money, identifiers, units, secrets. Depends on nothing of ours.

pub mod clock;
pub mod cpu;
pub mod directory;
pub mod escape;
pub mod glob;
pub mod id;
pub mod moment;
pub mod money;
pub mod protobuf;
pub mod recent;
pub mod secret;
pub mod stamp;
pub mod text;
pub mod units;
