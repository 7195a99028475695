//! What lies under every dialect: JSON read in place, events in each framing, WebSocket frames,
//! forms, compressed bodies, bodies too large to hold.

mod array;
pub mod canonical;
mod cursor;
pub mod encoding;
mod event_stream;
pub mod form;
pub mod framing;
pub mod items;
pub mod json;
mod lines;
pub mod media;
pub mod percent;
mod quoted;
pub mod scan;
pub mod sse;
pub mod template;
pub mod websocket;
