//! The command line, driven as a program.

mod ca;
mod check;
mod demo;
mod doctor;
mod exec;
mod keys;
mod kill;
mod mock;
pub(crate) mod program;
mod reading;
