//! The command line, driven as a program.

mod check;
mod exec;
mod mock;
mod program;
