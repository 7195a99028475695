//! The data plane: its files are verbs, in the order a call meets them.

pub mod config;
