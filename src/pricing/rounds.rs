//! What a call cost: by the tariff of the model that answered, or round by round.

use super::lookup::{Pricing, Query};
use crate::{
    base::money::{Bill, Usd},
    call::{facts::Round, usage::Usage},
};

impl Pricing {
    /// What a call with this usage cost. Where its answer took several rounds, each is billed by
    /// its own model and by its own length, and what is not tokens once beside them; the sum is
    /// rounded once. `None`: something of it has no known price, so that the whole has none.
    pub fn cost(&self, query: &Query<'_>, usage: &Usage, rounds: &[Round]) -> Option<Usd> {
        let own = self.tariff(query);
        if rounds.is_empty() {
            return own?.bill(usage).ok();
        }
        let mut bill = Bill::default();
        for round in rounds {
            let other = round.model.as_deref().map(|model| Query {
                response_model: Some(model),
                request_model: None,
                ..*query
            });
            let tariff = match &other {
                Some(query) => self.tariff(query),
                None => own.clone(),
            };
            bill = bill.plus(tariff?.exact(&round.usage, false).ok()?);
        }
        let beside = Usage {
            web_searches: usage.web_searches,
            file_searches: usage.file_searches,
            ..Usage::text(0, 0)
        };
        Some(bill.plus(own?.exact(&beside, true).ok()?).total())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::clock::Timestamp,
        pricing::{Book, Config},
    };

    fn round(model: Option<&str>, input: u64, output: u64) -> Round {
        Round {
            model: model.map(Box::from),
            usage: Usage::text(input, output),
        }
    }

    fn cost(yaml: &str, usage: &Usage, rounds: &[Round]) -> Option<i64> {
        let config: Config = serde_saphyr::from_str(yaml).unwrap();
        let pricing = Pricing::new(&config, Book::built_in(), &[]);
        let query = Query {
            provider: "anthropic",
            response_model: Some("main"),
            at: Timestamp::from_secs(1_795_000_000),
            ..Query::default()
        };
        pricing.cost(&query, usage, rounds).map(Usd::nanos)
    }

    const PRICES: &str = "main: {input: {base: 1, tiers: [[100, 2]]}, output: 10, requests: 5, web_searches: 10}\n\
                          advisor: {input: 3, output: 30}\n";

    #[test]
    fn each_round_is_billed_by_its_own_model_and_length() {
        let usage = Usage {
            web_searches: Some(2),
            ..Usage::text(270, 3)
        };
        let rounds = [
            round(None, 100, 1),
            round(Some("advisor"), 70, 1),
            round(None, 100, 1),
        ];
        // Neither round of the main model is long, though together they are; one call, two searches.
        let tokens = 200 * 1_000 + 2 * 10_000 + 70 * 3_000 + 30_000;
        let found = cost(PRICES, &usage, &rounds);
        assert_eq!(found, Some(tokens + 5_000_000 + 2 * 10_000_000));
    }

    #[test]
    fn a_round_of_a_model_without_a_price_leaves_the_cost_unknown() {
        let rounds = [round(None, 100, 1), round(Some("nobody-knows"), 70, 1)];
        assert_eq!(cost(PRICES, &Usage::text(170, 2), &rounds), None);
    }

    #[test]
    fn the_sum_of_the_rounds_is_rounded_once() {
        let yaml = "main: {input: 0.0005, output: 0}\nadvisor: {input: 0.0005, output: 0}\n";
        let half = |model| round(model, 1, 0);
        let rounds = [half(None), half(Some("advisor")), half(None)];
        assert_eq!(cost(yaml, &Usage::text(3, 0), &rounds), Some(2));
    }
}
