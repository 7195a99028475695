//! Tokens to money, and the most that a request can cost. Pure.
//!
//! [`Pricing`] finds the [`Tariff`] of a call; [`Tariff::bill`] says what its usage cost, and
//! [`Tariff::worst`] what a request with an [`InputBound`] can cost at most. The prices are those
//! of the [`Book`], under those of the configuration ([`Config`]).

mod book;
mod config;
mod estimate;
mod estimator;
mod factor;
mod learned;
mod lists;
mod lookup;
mod models;
mod overrides;
mod price;
mod rounds;
mod tariff;
mod tier;
mod tools;
mod unit;
mod written;

pub use book::{Book, BookError, Context};
pub use config::{Config, UnknownModel};
pub use estimate::{Guess, InputBound, guess};
pub use estimator::{Counted, Estimator, Rates};
pub use factor::Factor;
pub use learned::{Estimate, Rate};
pub use lookup::{Explanation, Pricing, Query};
pub use models::Limits;
pub use price::{Price, Prices};
pub use tariff::{BillError, Origin, Tariff};
pub use unit::Unit;
