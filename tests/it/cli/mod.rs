//! The command line, driven as a program.

mod check;
mod mock;
mod program;
