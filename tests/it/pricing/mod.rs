//! Tests of `src/pricing/`.

mod corpus;
mod refresh;
mod rounds;
