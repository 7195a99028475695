//! The command line, driven as a program.

mod ca;
mod check;
mod demo;
mod doctor;
mod exec;
mod inject;
mod keys;
mod kill;
mod mock;
mod opened;
pub(crate) mod program;
mod reading;
mod redirect;
mod wait;
