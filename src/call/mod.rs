//! What one call to a model is: plain data, in the order a call meets it.

pub mod billed;
pub mod brief;
pub mod content;
pub mod facts;
mod json;
pub mod json_path;
pub mod labels;
mod layout;
pub mod line;
pub mod model;
pub mod outcome;
pub mod refusal;
pub mod reported;
pub mod span;
pub mod steps;
pub mod stored;
pub mod tally;
pub mod text;
pub mod usage;
pub mod workload;
