//! Guards, through the real program.

mod breakers;
mod caps;
mod conversations;
mod kill;
mod last_event;
mod loops;
mod models;
mod overhead;
mod retries;
