//! Tests of `src/pricing/`.

mod corpus;
mod fetch;
mod refresh;
mod rounds;
mod tiers;
