//! Tools that the provider runs and bills by the piece, besides tokens: which of them a cost holds.
//!
//! Sources, read in November 2026: `OpenAI`'s pricing page (built-in tools; a search has a fee, and
//! the opening of a page has none) and Anthropic's (server tools; code runs by the hour).

use super::{tariff::Tariff, unit::Unit};

/// How a tool is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fee {
    /// By the call, which usage counts.
    Counted(Unit),
    /// By what no answer tells: the time that a container is up, the tokens of another model.
    Untold,
}

/// By the tool's name on spans; every other tool costs nothing but tokens.
const FEES: &[(&str, Fee)] = &[
    ("web_search_call", Fee::Counted(Unit::WebSearches)),
    ("file_search_call", Fee::Counted(Unit::FileSearches)),
    ("code_interpreter_call", Fee::Untold),
    ("image_generation_call", Fee::Untold),
    ("web_search", Fee::Counted(Unit::WebSearches)),
    ("code_execution", Fee::Untold),
    ("bash_code_execution", Fee::Untold),
    ("text_editor_code_execution", Fee::Untold),
];

impl Tariff {
    /// Whether a call of this tool may have a fee that [`Tariff::bill`] does not hold.
    pub fn leaves_out(&self, tool: &str) -> bool {
        let fee = FEES.iter().find(|(name, _)| *name == tool);
        match fee.map(|(_, fee)| *fee) {
            Some(Fee::Counted(unit)) => self.prices().get(unit).is_none(),
            Some(Fee::Untold) => !self.is_free(),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::money::PerMillion,
        pricing::{
            price::{Price, Prices},
            tariff::Origin,
        },
    };

    #[test]
    fn a_fee_is_left_out_that_has_no_price_or_no_count() {
        let price = Price::flat(PerMillion::from_nanos(10));
        let with = |unit| Tariff::new(Prices::from_iter([(unit, price.clone())]), Origin::Unknown);
        let searches = with(Unit::WebSearches);
        assert!(!searches.leaves_out("web_search_call"));
        assert!(searches.leaves_out("file_search_call"));
        assert!(searches.leaves_out("code_interpreter_call"));
        assert!(!searches.leaves_out("mcp_call"));
        assert!(with(Unit::Input).leaves_out("web_search"));
        assert!(!Tariff::free().leaves_out("code_execution"));
    }
}
