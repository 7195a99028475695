//! What lies under every dialect: JSON read in place, events, compressed bodies, bodies too large
//! to hold.

pub mod encoding;
pub mod json;
pub mod media;
pub mod scan;
pub mod sse;
pub mod template;
