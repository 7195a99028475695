//! Dialects, against real exchanges and against each other's promises.

mod bodies;
mod content;
mod contract;
mod corpus;
mod coverage;
mod drives;
mod fixtures;
mod reading;
mod sockets;
