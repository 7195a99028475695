//! Guards, through the real program.

mod breakers;
mod kill;
mod loops;
mod models;
