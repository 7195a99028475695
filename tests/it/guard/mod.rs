//! Guards, through the real program.

mod breakers;
mod kill;
mod models;
