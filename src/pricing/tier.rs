//! Service tiers that are not billed by the usual prices, where the book has no price of them.

use std::sync::Arc;

use super::{book::Found, lookup::Query, tariff::Tariff};

/// What is known of such a tier where the book has no price of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It costs more than the usual one.
    Dearer,
    /// It costs less, so that the usual price is never below the bill.
    Cheaper,
    /// It was paid for beforehand, by the hour or the month.
    Prepaid,
}

/// The names of such tiers, as requests and answers have them. Google's provisioned throughput:
/// cloud.google.com/vertex-ai/generative-ai/docs/deploy/consumption-options; Groq's performance
/// tier: console.groq.com/docs/performance-tier; Bedrock's: aws.amazon.com/bedrock/service-tiers.
/// Anthropic's priority tier is a commitment (platform.claude.com/docs/en/api/service-tiers), and
/// cannot be asked for by that name.
const TIERS: [(&str, Kind); 7] = [
    ("priority", Kind::Dearer),
    ("fast", Kind::Dearer),
    ("flex", Kind::Cheaper),
    ("scale", Kind::Prepaid),
    ("performance", Kind::Prepaid),
    ("reserved", Kind::Prepaid),
    ("PROVISIONED_THROUGHPUT", Kind::Prepaid),
];

/// Providers at which a tier costs what the usual one does: console.groq.com/docs/flex-processing.
const SAME: [(&str, &str); 1] = [("groq", "flex")];

/// The prices of a call served as `query` says. `None`: they are unknown.
pub(super) fn as_served(book: &Found, query: &Query<'_>) -> Option<Arc<Tariff>> {
    let usual = || book.tariff(query.at, &query.context);
    match unpriced(book, query) {
        None => usual(),
        Some(Kind::Cheaper) => {
            let note = "no price of that tier in the book: the usual one, which is no lower";
            let noted = Tariff::clone(&*usual()?).noting([note.into()]);
            Some(Arc::new(noted))
        },
        Some(Kind::Dearer | Kind::Prepaid) => None,
    }
}

/// Prices that the call cannot exceed. `None`: it may be served by dearer ones that are unknown.
pub(super) fn at_most(book: &Found, query: &Query<'_>) -> Option<Arc<Tariff>> {
    let is_bound = unpriced(book, query) != Some(Kind::Dearer);
    is_bound.then(|| book.highest(query.at, &query.context))?
}

/// What is known of the call's tier, if it is not billed by the usual prices and the book has none
/// of it.
fn unpriced(book: &Found, query: &Query<'_>) -> Option<Kind> {
    let tier = query.context.service_tier?;
    let (_, kind) = TIERS.iter().find(|(name, _)| *name == tier)?;
    let is_priced = SAME.contains(&(query.provider, tier)) || book.has_tier(&query.context);
    (!is_priced).then_some(*kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::clock::Timestamp,
        pricing::{Book, Config, Context, Pricing, Unit},
    };

    #[test]
    fn each_tier_has_its_own_price_or_none_below_the_bill() {
        let config = "bedrock/own-model: {input: 7, output: 7}";
        let config: Config = serde_saphyr::from_str(config).unwrap();
        let pricing = Pricing::new(&config, Book::built_in(), &[]);
        let input = |tariff: Option<Arc<Tariff>>| {
            let price = tariff?.prices().get(Unit::Input)?.base();
            Some(price.nanos() / 1_000_000)
        };
        let nova = "amazon.nova-lite-v1:0";
        let claude = "claude-sonnet-4-5";
        let llama = "llama-3.3-70b-versatile";
        // Thousandths of a dollar: as billed, and at most (for Anthropic, in the dearest region).
        for (provider, model, tier, billed, most) in [
            ("openai", "gpt-5", "default", Some(1_250), Some(1_250)),
            ("openai", "gpt-5", "flex", Some(625), Some(1_250)),
            ("openai", "gpt-5", "priority", Some(2_500), Some(2_500)),
            ("openai", "gpt-5", "scale", None, Some(1_250)),
            ("openai", "gpt-4-turbo", "priority", None, None),
            ("azure", "gpt-5", "priority", None, None),
            ("anthropic", claude, "standard", Some(3_000), Some(3_300)),
            ("anthropic", claude, "priority", None, None),
            (
                "gemini",
                "gemini-2.5-pro",
                "standard",
                Some(1_250),
                Some(1_250),
            ),
            (
                "vertex",
                "gemini-2.5-pro",
                "PROVISIONED_THROUGHPUT",
                None,
                Some(1_250),
            ),
            ("bedrock", nova, "default", Some(60), Some(60)),
            ("bedrock", nova, "flex", Some(60), Some(60)),
            ("bedrock", nova, "priority", None, None),
            ("bedrock", nova, "reserved", None, Some(60)),
            ("bedrock", "own-model", "priority", Some(7_000), Some(7_000)),
            ("groq", llama, "on_demand", Some(590), Some(590)),
            ("groq", llama, "flex", Some(590), Some(590)),
            ("groq", llama, "performance", None, Some(590)),
        ] {
            let query = Query {
                provider,
                request_model: Some(model),
                at: Timestamp::from_secs(1_795_000_000),
                context: Context {
                    service_tier: Some(tier),
                    ..Context::default()
                },
                ..Query::default()
            };
            let found = (
                input(pricing.tariff(&query)),
                input(pricing.highest(&query)),
            );
            assert_eq!(found, (billed, most), "{provider} {model} {tier}");
        }
    }
}
