//! Dialects, against real exchanges and against each other's promises.

mod contract;
mod corpus;
mod fixtures;
mod reading;
