//! The command line, driven as a program.

mod check;
mod demo;
mod exec;
mod mock;
mod program;
mod reading;
