//! Spans in, reports out. Pure: it is given rows and gives text.

pub mod report;
pub mod table;
pub mod tree;
