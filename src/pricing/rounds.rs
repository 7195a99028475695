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
    use proptest::prelude::*;

    use super::*;
    use crate::{
        base::{clock::Timestamp, money::PerMillion},
        pricing::{Book, Config, Context, InputBound, Price, Prices, Unit},
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

    /// What so many units cost in millionths of a nano-dollar, counted in integers that hold any of it.
    fn exact(count: u64, tiers: (i64, u64, i64), length: u64) -> i128 {
        let (base, above, over) = tiers;
        i128::from(count) * i128::from(if length > above { over } else { base })
    }

    fn tiered((base, above, over): (i64, u64, i64)) -> Price {
        let tiers = vec![(above, PerMillion::from_nanos(over))];
        Price::tiered(PerMillion::from_nanos(base), tiers)
    }

    prop_compose! {
        fn some_tiers()(base in 0_i64..100_000_000_000, above in 1_u64..1_000, over in 0_i64..100_000_000_000) -> (i64, u64, i64) {
            (base, above, over)
        }
    }

    proptest! {
        #[test]
        fn rounds_at_the_edges_of_tiers_are_billed_exactly_and_rounded_once(
            own in [some_tiers(), some_tiers()],
            others in [some_tiers(), some_tiers()],
            // A round's model, its length beside the edge (one below, at, one above), its output.
            rounds in proptest::collection::vec((any::<bool>(), 0_u64..3, 0_u64..2_000), 1..20),
        ) {
            let prices = |[input, output]: [(i64, u64, i64); 2]| -> Prices {
                [(Unit::Input, tiered(input)), (Unit::Output, tiered(output))].into_iter().collect()
            };
            let models = [("main", prices(own)), ("advisor", prices(others))];
            let models = models.into_iter().map(|(name, prices)| (Box::from(name), prices)).collect();
            let pricing = Pricing::new(&Config { models, ..Config::default() }, Book::built_in(), &[]);
            let mut wanted = 0_i128;
            let mut sum = Usage::NONE;
            let rounds: Vec<Round> = rounds.into_iter().map(|(advised, beside, output)| {
                let [input_price, output_price] = if advised { others } else { own };
                let length = input_price.1 + beside - 1;
                wanted += exact(length, input_price, length) + exact(output, output_price, length);
                let one = round(advised.then_some("advisor"), length, output);
                sum.add(&one.usage);
                one
            }).collect();
            let query = Query { provider: "anthropic", response_model: Some("main"), ..Query::default() };
            let found = i128::from(pricing.cost(&query, &sum, &rounds).unwrap().nanos());
            let off = (found * 1_000_000 - wanted).abs();
            prop_assert!(off < 500_000 || (off == 500_000 && found % 2 == 0), "{}", off);
        }

        #[test]
        fn what_is_set_aside_covers_rounds_factors_and_a_region_that_the_request_does_not_name(
            rounds in proptest::collection::vec(proptest::array::uniform4(0_u64..150_000), 1..6),
            hundredths in 1_u32..300,
            region in proptest::option::of(prop_oneof!["us", "global"]),
            model in proptest::sample::select(vec!["claude-sonnet-4-5", "claude-sonnet-4-6", "claude-opus-4-8"]),
        ) {
            let factors = format!("factors: {{anthropic: {}.{:02}}}", hundredths / 100, hundredths % 100);
            let config: Config = serde_saphyr::from_str(&factors).unwrap();
            let pricing = Pricing::new(&config, Book::built_in(), &[]);
            let asked = Query {
                provider: "anthropic",
                request_model: Some(model),
                at: Timestamp::from_secs(1_795_000_000),
                ..Query::default()
            };
            let served = Query {
                response_model: Some(model),
                context: Context { region: region.as_deref(), ..Context::default() },
                ..asked
            };
            let mut sum = Usage::NONE;
            let rounds: Vec<Round> = rounds.iter().map(|[fresh, read, hour, output]| {
                let usage = Usage {
                    cache_read: Some(*read),
                    cache_write: Some(*hour),
                    cache_write_1h: Some(*hour),
                    ..Usage::text(fresh + read + hour, *output)
                };
                sum.add(&usage);
                Round { model: None, usage }
            }).collect();
            let bound = InputBound::exactly(sum.input.unwrap());
            let worst = pricing.highest(&asked).unwrap().worst(&bound, sum.output.unwrap());
            for rounds in [&rounds[..], &[]] {
                let bill = pricing.cost(&served, &sum, rounds).unwrap();
                prop_assert!(bill <= worst, "{bill} above {worst}");
            }
        }
    }
}
