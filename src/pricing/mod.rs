//! Tokens to money, and the most that a request can cost. Pure.

mod book;
mod config;
mod lookup;
mod overrides;
mod tariff;
mod unit;
mod written;

pub use book::{Book, BookError, Context};
pub use config::{Config, UnknownModel};
pub use lookup::{Pricing, Query};
pub use tariff::{BillError, Origin, Price, Prices, Tariff};
pub use unit::Unit;
