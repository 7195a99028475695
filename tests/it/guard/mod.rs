//! Guards, through the real program.

mod breakers;
mod caps;
mod conversations;
mod kill;
mod loops;
mod models;
mod overhead;
mod retries;
