//! An amount of what a budget counts: money as a decimal string in JSON, everything else as a
//! number.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{
    base::money::Usd,
    call::line::grouped,
    policy::{Unit, amount_text},
};

/// An amount with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// What is counted.
    pub unit: Unit,
    /// How much; money in nano-dollars.
    pub count: i64,
}

impl Amount {
    /// Without the unit, where that is said elsewhere: `$4.50`, `1,204`.
    pub fn bare(self) -> String {
        match (self.unit, u64::try_from(self.count)) {
            (Unit::Usd, _) | (_, Err(_)) => self.to_string(),
            (_, Ok(count)) => grouped(count),
        }
    }
}

/// `$4.50`, `1,204 tokens`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&amount_text(self.unit, self.count))
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.unit {
            Unit::Usd => Usd::from_nanos(self.count).serialize(serializer),
            _ => serializer.serialize_i64(self.count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_a_string_and_counts_are_numbers() {
        let json = |unit, count| serde_json::to_string(&Amount { unit, count }).unwrap();
        assert_eq!(json(Unit::Usd, 1_500_000_000), r#""1.500000000""#);
        assert_eq!(json(Unit::Tokens, 1_500), "1500");
        let shown = |unit, count| Amount { unit, count }.to_string();
        assert_eq!(shown(Unit::Usd, 1_500_000_000), "$1.50");
        assert_eq!(shown(Unit::Tokens, 1_500), "1,500 tokens");
        assert_eq!(shown(Unit::Requests, 3), "3 calls");
        let bare = |unit, count| Amount { unit, count }.bare();
        assert_eq!(bare(Unit::Tokens, 1_500), "1,500");
        assert_eq!(bare(Unit::Usd, 1_500_000_000), "$1.50");
    }
}
