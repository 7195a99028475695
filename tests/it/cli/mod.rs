//! The command line, driven as a program.

mod check;
mod demo;
mod doctor;
mod exec;
mod keys;
mod kill;
mod mock;
mod program;
mod reading;
