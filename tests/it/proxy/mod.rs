//! The data path: calls through the whole program, their bytes, their spans, what they are charged.

mod passing;
