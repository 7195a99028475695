//! Guards, through the real program.

mod models;
