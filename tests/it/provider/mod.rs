//! Dialects, against real exchanges and against each other's promises.

mod corpus;
mod reading;
