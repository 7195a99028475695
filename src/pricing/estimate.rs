//! The most that a request can cost, and what it likely does.
//!
//! Tokens of text are bounded by its bytes: the tokenizers of all providers fall back to one token
//! a byte and never make more; what was learned of a model ([`Rate`]) bounds them closer. What
//! surrounds messages costs tokens too; the names and punctuation that are counted as text though no
//! model reads them make up for it.

use super::{estimator::Rates, learned::Rate, models::Limits, tariff::Tariff, unit::Unit};
use crate::{
    base::money::{Bill, PerMillion, Usd},
    call::{facts::RequestFacts, text::Text, usage::Usage},
};

/// The most input tokens that a request can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputBound {
    /// Tokens that are text for certain.
    text: u64,
    /// Tokens that may be text, audio, images or video.
    other: u64,
    /// Some of them may be written to the provider's cache, at the price of that.
    cached: bool,
    /// What is billed by the piece, at most.
    pieces: Pieces,
}

/// How much a call can have, at most, of what is billed by the piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pieces {
    audio_seconds: u64,
    characters: u64,
    images: u64,
    search_units: u64,
}

impl Pieces {
    fn of(facts: &RequestFacts) -> Self {
        let most = facts.unsaid.map(|unsaid| unsaid.most).unwrap_or_default();
        Self {
            audio_seconds: most.audio_seconds.unwrap_or(0),
            characters: most.characters.unwrap_or(0),
            images: most.images.unwrap_or(0),
            search_units: most.search_units.unwrap_or(0),
        }
    }
}

/// What every request may have besides what is written in it: delimiters, a system prompt's head.
const OVERHEAD: u64 = 64;
/// What the mere presence of tools adds: Anthropic documents up to 804 tokens for a system prompt
/// of its own, and up to 735 for a tool that it defines itself.
const TOOLS_OVERHEAD: u64 = 2_048;
/// Tokens that a request can read from elsewhere, if not even the model's window is known.
const UNKNOWN_WINDOW: u64 = 1_048_576;

impl InputBound {
    /// The bound for a request to a model with these limits. `recorded` is what is known of the
    /// input that the request only refers to (the response it continues, cached content), in
    /// tokens; without it, that input can fill the context window, and so can a linked file.
    ///
    /// Media in the body count a token a byte: audio has at most 32 tokens a second and video some
    /// 300, far below their bytes; a document's text may be compressed, but then the window holds.
    pub fn of(facts: &RequestFacts, limits: &Limits, recorded: Option<u64>) -> Self {
        Self::learned(facts, limits, recorded, &Rate::UNKNOWN)
    }

    /// The same, where the text has no more tokens than `rate` says.
    pub fn learned(
        facts: &RequestFacts,
        limits: &Limits,
        recorded: Option<u64>,
        rate: &Rate,
    ) -> Self {
        let input = &facts.input;
        let window = limits.window.unwrap_or(UNKNOWN_WINDOW);
        let refers = facts.continues.is_some() || input.stored;
        let unseen = if input.linked > 0 {
            window
        } else if refers {
            recorded.unwrap_or(window)
        } else {
            0
        };
        let tools = if facts.tools.is_empty() {
            0
        } else {
            TOOLS_OVERHEAD
        };
        let images = u64::from(input.images).saturating_mul(limits.image);
        let text = rate.estimate(input.text_bytes).most;
        let text = text.saturating_add(OVERHEAD + tools);
        let other = images
            .saturating_add(input.media_bytes)
            .saturating_add(unseen);
        let cached = input.writes_cache || limits.caches_unasked;
        let bound = Self {
            text,
            other,
            cached,
            pieces: Pieces::of(facts),
        };
        // A request that exceeds the window is refused by the provider, at no cost. Embeddings are
        // not one context: each of their texts may fill the window.
        match limits.window {
            Some(window) if limits.output > 0 => bound.within(window),
            _ => bound,
        }
    }

    /// A known number of tokens of text.
    pub const fn exactly(tokens: u64) -> Self {
        Self {
            text: tokens,
            other: 0,
            cached: true,
            pieces: Pieces {
                audio_seconds: 0,
                characters: 0,
                images: 0,
                search_units: 0,
            },
        }
    }

    /// The bound, in tokens.
    pub const fn tokens(self) -> u64 {
        self.text.saturating_add(self.other)
    }

    /// At most `window` tokens; those of unknown kind, which may cost more, are kept first.
    fn within(self, window: u64) -> Self {
        let other = self.other.min(window);
        Self {
            text: self.text.min(window - other),
            other,
            ..self
        }
    }
}

/// The usage of a call whose provider never said it, or not all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guess {
    /// What is the most likely.
    pub likely: Usage,
    /// The most that it can have been, as far as [`Rate`] knows.
    pub most: Usage,
}

impl Guess {
    /// How far the truth can be above what is likely, in tokens.
    pub fn error_bound(&self) -> u64 {
        self.most.total().saturating_sub(self.likely.total())
    }
}

/// The usage of a call with this request to a model with these limits and rates, of which `output`
/// was read.
pub fn guess(facts: &RequestFacts, limits: &Limits, rates: &Rates, output: Text) -> Guess {
    const IMAGE: u64 = 1_000;
    const BYTES_OF_MEDIA: u64 = 100; // a page of PDF, a second of speech: hundreds of bytes a token
    let text = rates.input.estimate(facts.input.text_bytes).likely;
    let images = u64::from(facts.input.images).saturating_mul(IMAGE);
    let media = facts.input.media_bytes / BYTES_OF_MEDIA;
    let input = text.saturating_add(images).saturating_add(media);
    let most = InputBound::learned(facts, limits, None, &rates.input).tokens();
    let output = rates.output.estimate(output);
    Guess {
        likely: Usage::text(input.min(most), output.likely),
        most: Usage::text(most, output.most),
    }
}

impl Tariff {
    /// The most that a call can cost with at most this input and `output` tokens of output (of all
    /// choices together), rounded up. Never below [`Tariff::bill`] of any usage within them, but for
    /// tools that the provider runs and bills by the piece, which nothing in a request bounds.
    pub fn worst(&self, input: &InputBound, output: u64) -> Usd {
        let total = input.tokens();
        let text = self.dearest(total, |unit| match unit {
            Unit::CacheWrite | Unit::CacheWrite1h => input.cached,
            other => matches!(other, Unit::Input | Unit::CacheRead),
        });
        let other = self.dearest(total, |unit| match unit {
            Unit::CacheWrite | Unit::CacheWrite1h => input.cached,
            other => other.is_input(),
        });
        let piece = |wanted| self.dearest(total, |unit| unit == wanted);
        Bill::default()
            .with(input.text, text)
            .with(input.other, other)
            .with(output, self.dearest(total, Unit::is_output))
            .with(input.pieces.audio_seconds, piece(Unit::AudioSeconds))
            .with(input.pieces.characters, piece(Unit::Characters))
            .with(input.pieces.images, piece(Unit::Images))
            .with(input.pieces.search_units, piece(Unit::SearchUnits))
            .with(1, piece(Unit::Requests))
            .ceiling()
    }

    /// How many output tokens `budget` buys besides the most that the input can cost, rounded down;
    /// `u64::MAX` if output costs nothing. [`Tariff::worst`] of that many is within the budget,
    /// unless the input alone is not: then it is zero.
    pub fn affordable_output(&self, input: &InputBound, budget: Usd) -> u64 {
        let left = i128::from(budget.nanos()) - i128::from(self.worst(input, 0).nanos());
        let price = i128::from(self.dearest(input.tokens(), Unit::is_output).nanos());
        if left < 0 {
            0
        } else if price == 0 {
            u64::MAX
        } else {
            u64::try_from(left * 1_000_000 / price).unwrap_or(u64::MAX)
        }
    }

    /// The highest price, in any call with at most `input` input tokens, of the units that `wanted`
    /// picks.
    fn dearest(&self, input: u64, wanted: impl Fn(Unit) -> bool) -> PerMillion {
        let wanted = self.prices().iter().filter(|(unit, _)| wanted(*unit));
        let prices = wanted.map(|(_, price)| price.highest_up_to(input));
        prices.max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        call::facts::{Continued, InputSize},
        pricing::{
            models,
            price::{Price, Prices},
            tariff::Origin,
        },
    };

    fn facts(input: InputSize) -> RequestFacts {
        RequestFacts {
            input,
            ..RequestFacts::default()
        }
    }

    fn tariff(written: &[(Unit, i64)]) -> Tariff {
        let prices: Prices = written
            .iter()
            .map(|(unit, dollars)| {
                (
                    *unit,
                    Price::flat(PerMillion::from_nanos(dollars * 1_000_000_000)),
                )
            })
            .collect();
        Tariff::new(prices, Origin::Unknown)
    }

    #[test]
    fn text_is_bounded_by_its_bytes_and_the_window() {
        let limits = Limits::of("gpt-4o");
        let text = |bytes| {
            facts(InputSize {
                text_bytes: Text::unknown(bytes),
                ..InputSize::default()
            })
        };
        assert_eq!(InputBound::of(&text(1_000), &limits, None).tokens(), 1_064);
        assert_eq!(
            InputBound::of(&text(1_000_000), &limits, None).tokens(),
            128_000
        );
        let unknown = InputBound::of(&text(2_000_000), &models::UNKNOWN, None);
        assert_eq!(unknown.tokens(), 2_000_064);
        let embedding = Limits::of("text-embedding-3-small").with_window(Some(8_192));
        assert_eq!(
            InputBound::of(&text(100_000), &embedding, None).tokens(),
            100_064
        );
        let with_tools = RequestFacts {
            tools: vec![Box::from("lookup")],
            ..text(0)
        };
        assert!(InputBound::of(&with_tools, &limits, None).tokens() > 2_000);
    }

    #[test]
    fn input_that_is_elsewhere_is_what_was_recorded_or_fills_the_window() {
        let limits = Limits::of("gpt-4o");
        let continues = RequestFacts {
            continues: Some(Continued::Response("resp_1".into())),
            ..RequestFacts::default()
        };
        assert_eq!(InputBound::of(&continues, &limits, Some(500)).tokens(), 564);
        assert_eq!(InputBound::of(&continues, &limits, None).tokens(), 128_000);
        let unknown = InputBound::of(&continues, &models::UNKNOWN, None).tokens();
        assert_eq!(unknown, UNKNOWN_WINDOW + OVERHEAD);
        let plain = InputBound::of(&RequestFacts::default(), &limits, Some(500));
        assert_eq!(plain.tokens(), OVERHEAD);
        let linked = facts(InputSize {
            linked: 1,
            ..InputSize::default()
        });
        assert_eq!(InputBound::of(&linked, &limits, Some(1)).tokens(), 128_000);
    }

    #[test]
    fn an_image_counts_what_the_model_counts_at_most() {
        let picture = facts(InputSize {
            images: 2,
            ..InputSize::default()
        });
        let tokens = |model| InputBound::of(&picture, &Limits::of(model), None).tokens();
        assert_eq!(tokens("gpt-4o"), 2 * 1_445 + OVERHEAD);
        assert_eq!(tokens("gpt-4o-mini"), 2 * 48_169 + OVERHEAD);
    }

    #[test]
    fn the_cache_write_price_is_reserved_unless_the_model_only_writes_when_asked() {
        let prices = tariff(&[
            (Unit::Input, 3),
            (Unit::CacheWrite, 4),
            (Unit::CacheWrite1h, 6),
        ]);
        let plain = facts(InputSize {
            text_bytes: Text::unknown(1_000_000 - OVERHEAD),
            ..InputSize::default()
        });
        let asking = facts(InputSize {
            writes_cache: true,
            ..plain.input
        });
        let worst = |facts, model| {
            let bound = InputBound::of(facts, &Limits::of(model), None);
            prices.worst(&bound, 0).nanos() / 1_000_000_000
        };
        assert_eq!(worst(&plain, "claude-sonnet-4-5"), 3);
        assert_eq!(worst(&asking, "claude-sonnet-4-5"), 6);
        assert_eq!(worst(&plain, "gpt-6-sol"), 6);
    }

    #[test]
    fn what_a_budget_buys_is_rounded_down_and_may_be_nothing() {
        let prices = tariff(&[(Unit::Input, 1), (Unit::Output, 10)]);
        let input = InputBound::exactly(1_000);
        let nanos = |nanos| prices.affordable_output(&input, Usd::from_nanos(nanos));
        assert_eq!(nanos(1_000_000), 0);
        assert_eq!(nanos(1_009_999), 0);
        assert_eq!(nanos(1_010_000), 1);
        assert_eq!(nanos(999_999), 0);
        assert_eq!(
            Tariff::free().affordable_output(&input, Usd::ZERO),
            u64::MAX
        );
    }

    #[test]
    fn a_guess_takes_four_bytes_for_a_token_and_says_how_wrong_it_can_be() {
        let request = facts(InputSize {
            text_bytes: Text::unknown(401),
            ..InputSize::default()
        });
        let limits = Limits::of("gpt-4o");
        let guess = guess(&request, &limits, &Rates::default(), Text::unknown(80));
        assert_eq!(guess.likely, Usage::text(101, 20));
        assert_eq!(guess.most, Usage::text(401 + OVERHEAD, 80));
        assert_eq!(guess.error_bound(), 300 + OVERHEAD + 60);
    }

    prop_compose! {
        fn some_tariff()(
            priced in proptest::collection::vec((0_usize..15, 0_i64..1_000_000_000_000, 0_u64..4_000, 0_i64..1_000_000_000_000), 0..10),
        ) -> Tariff {
            let prices = priced.into_iter().map(|(unit, base, above, over)| {
                let tiers = vec![(above, PerMillion::from_nanos(over))];
                (Unit::ALL[unit], Price::tiered(PerMillion::from_nanos(base), tiers))
            });
            Tariff::new(prices.collect(), Origin::Unknown)
        }
    }

    proptest! {
        #[test]
        fn no_usage_within_the_bounds_costs_more_than_the_worst(
            tariff in some_tariff(),
            [fresh, read, written, hour, audio, slack] in proptest::array::uniform6(0_u64..1_000),
            [plain, thought, spoken, more] in proptest::array::uniform4(0_u64..1_000),
        ) {
            let text = fresh + read + written + hour;
            let usage = Usage {
                cache_read: Some(read),
                cache_write: Some(written + hour),
                cache_write_1h: Some(hour),
                input_audio: Some(audio),
                reasoning: Some(thought),
                output_audio: Some(spoken),
                ..Usage::text(text + audio, plain + thought + spoken)
            };
            let input = InputBound { text: text + slack, other: audio, cached: true, pieces: Pieces::default() };
            let worst = tariff.worst(&input, plain + thought + spoken + more);
            prop_assert!(tariff.bill(&usage).unwrap() <= worst);
        }

        #[test]
        fn what_a_budget_buys_fits_and_one_token_more_does_not(
            tariff in some_tariff(),
            text in 0_u64..5_000,
            budget in 0_i64..10_000_000_000,
        ) {
            let (input, budget) = (InputBound::exactly(text), Usd::from_nanos(budget));
            let output = tariff.affordable_output(&input, budget);
            if tariff.worst(&input, 0) <= budget {
                prop_assert!(tariff.worst(&input, output) <= budget || output == u64::MAX);
                // The input's cost is rounded up, at the cost of less than a nano-dollar of output.
                let price = tariff.dearest(text, Unit::is_output).nanos().max(1).unsigned_abs();
                let next = output.saturating_add(1 + 1_000_000_u64.div_ceil(price));
                prop_assert!(tariff.worst(&input, next) > budget || output == u64::MAX);
            } else {
                prop_assert_eq!(output, 0);
            }
        }
    }
}
