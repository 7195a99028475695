//! Tests of `src/pricing/`.

mod corpus;
