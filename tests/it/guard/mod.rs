//! Guards, through the real program.

mod kill;
mod models;
