//! How many tokens a text has at most, by what was learned of other texts.
//!
//! Certain is only that no text has more tokens than bytes. A tighter bound is learned from calls
//! whose provider reported its usage. Bytes that may each be a token (digits, capitals,
//! punctuation, rare scripts, emoji: [`Text::hard`]) count one each, always. What a call had beyond
//! them is put down to its prose, as so many tokens for a byte. The bound for the next call takes
//! the highest of the last [`WINDOW`] such ratios, moved towards one token a byte by one part in
//! `n + 1`, where `n` is how many there are.
//!
//! **What that guarantees.** If the next call is like those before it (any order of them is as
//! likely as any other; nothing is assumed of how ratios are distributed), then its ratio is above
//! all `n` with a probability of at most `1 / (n + 1)`: never with nothing learned, when the bound
//! is one token a byte, and below 0.8 % with a full window. The way towards one token a byte is a
//! margin on top. A call unlike the others can have more tokens than the bound says, though never
//! more than bytes; it is charged what it had, counted as missed, and moves the bound at once.
//! Texts made to be expensive mostly consist of hard bytes, to which nothing learned applies.

use std::collections::VecDeque;

use crate::call::text::Text;

/// The tokens of a text that nobody counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// What texts like it have on average.
    pub likely: u64,
    /// What it has at most, as the module says; never below `likely`, never above its bytes.
    pub most: u64,
}

/// What texts of one model and direction have for their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    plain: Share,
    wide: Share,
}

/// In tokens a byte; [`ONE`] is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    /// For any byte of a text that mostly consists of this.
    likely: u32,
    /// For a byte of this.
    most: u32,
}

/// One token a byte.
const ONE: u32 = 1 << 16;
/// No prose is taken to have fewer tokens a byte than English has with the largest vocabulary
/// (measured: 0.186 beyond its hard bytes, o200k): source code, whose small letters are mostly
/// parts of common words, would otherwise teach a bound that no prose keeps.
const LEANEST: u32 = ONE / 16 * 3;
/// What a message may have besides its text: delimiters, the frame of a call.
const FRAME: u64 = 16;

/// How many calls are looked back on.
pub(super) const WINDOW: usize = 128;

/// What was learned of one model and direction.
#[derive(Clone, Debug, Default)]
pub(super) struct Learned {
    plain: Seen,
    wide: Seen,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    /// Of the latest calls: tokens beyond those of hard bytes, for a byte.
    ratios: VecDeque<u32>,
    /// Of all calls, the later ones weighing more.
    tokens: u64,
    bytes: u64,
}

impl Rate {
    /// Of a model of which nothing is known: a token is likely four bytes, as in English.
    pub const UNKNOWN: Self = {
        let share = Share {
            likely: ONE / 4,
            most: ONE,
        };
        Self {
            plain: share,
            wide: share,
        }
    };

    /// The tokens of `text`.
    pub fn estimate(&self, text: Text) -> Estimate {
        let wide = tokens(text.wide, self.wide.most);
        // The spaces and foreign words of a text in another script were part of what was learned of
        // it; a foreign passage in plain text was not.
        let share = if is_wide(text) { self.wide } else { self.plain };
        let most = [FRAME, tokens(text.plain, share.most), wide];
        let most = most.into_iter().fold(text.hard(), u64::saturating_add);
        let most = most.min(text.bytes);
        Estimate {
            likely: tokens(text.bytes, share.likely).min(most),
            most,
        }
    }
}

impl Default for Rate {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl Learned {
    /// Takes in that `text` had so many `tokens`. Says nothing if it is too short to tell: less than
    /// `least` bytes of prose.
    pub(super) fn learn(&mut self, text: Text, tokens: u64, least: u64) {
        let (seen, prose) = if is_wide(text) {
            (&mut self.wide, text.wide.saturating_add(text.plain))
        } else {
            (&mut self.plain, text.plain)
        };
        if prose < least.max(1) || tokens == 0 {
            return;
        }
        let tokens = tokens.min(text.bytes);
        let beyond = u128::from(tokens.saturating_sub(text.hard())) * u128::from(ONE);
        let ratio = u32::try_from(beyond.div_ceil(u128::from(prose))).unwrap_or(ONE);
        if seen.ratios.len() >= WINDOW {
            seen.ratios.pop_front();
        }
        seen.ratios.push_back(ratio.min(ONE));
        seen.tokens = seen.tokens.saturating_add(tokens);
        seen.bytes = seen.bytes.saturating_add(text.bytes);
        if seen.bytes > Seen::MEMORY {
            seen.tokens /= 2;
            seen.bytes /= 2;
        }
    }

    /// What follows from it.
    pub(super) fn rate(&self) -> Rate {
        Rate {
            plain: self.plain.share(),
            wide: self.wide.share(),
        }
    }
}

impl Seen {
    /// Bytes after which what was seen weighs half.
    const MEMORY: u64 = 1 << 24;
    /// How many bytes of experience it is worth that a token is likely four bytes.
    const DOUBT: u64 = 4_096;

    fn share(&self) -> Share {
        let most = match (self.ratios.iter().max(), u32::try_from(self.ratios.len())) {
            (Some(highest), Ok(count)) => {
                let highest = (*highest).max(LEANEST);
                highest + (ONE - highest).div_ceil(count + 1)
            },
            _ => ONE,
        };
        let tokens = u128::from(self.tokens + Self::DOUBT / 4) * u128::from(ONE);
        let likely = tokens / u128::from(self.bytes + Self::DOUBT);
        Share {
            likely: u32::try_from(likely).unwrap_or(ONE),
            most,
        }
    }
}

/// Whether most of the prose in it is not in plain letters.
const fn is_wide(text: Text) -> bool {
    text.wide > text.plain
}

fn tokens(bytes: u64, rate: u32) -> u64 {
    let tokens = (u128::from(bytes) * u128::from(rate)).div_ceil(u128::from(ONE));
    u64::try_from(tokens).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prose(bytes: u64) -> Text {
        Text {
            bytes,
            plain: bytes,
            wide: 0,
        }
    }

    fn after(calls: u64, text: Text, tokens: u64) -> Rate {
        let mut learned = Learned::default();
        for _ in 0..calls {
            learned.learn(text, tokens, 64);
        }
        learned.rate()
    }

    #[test]
    fn with_nothing_learned_every_byte_may_be_a_token() {
        let estimate = Rate::UNKNOWN.estimate(prose(1_000));
        assert_eq!((estimate.likely, estimate.most), (250, 1_000));
        assert_eq!(Learned::default().rate(), Rate::UNKNOWN);
    }

    #[test]
    fn the_bound_shrinks_with_every_call_towards_what_calls_had() {
        let bound = |calls| after(calls, prose(1_000), 200).estimate(prose(10_000)).most;
        assert!((0..200).all(|calls| bound(calls + 1) <= bound(calls)));
        assert_eq!(bound(0), 10_000);
        assert_eq!(bound(1), 6_001 + FRAME);
        assert_eq!(bound(9), 2_801 + FRAME);
        assert!(bound(128) < 2_000 * 104 / 100, "{}", bound(128));
        assert_eq!(
            bound(128),
            bound(1_000),
            "the window is full, and the margin stays"
        );
    }

    #[test]
    fn one_call_above_the_bound_widens_it_at_once_and_until_it_is_long_past() {
        let mut learned = Learned::default();
        let bound = |learned: &Learned| learned.rate().estimate(prose(1_000)).most;
        for _ in 0..WINDOW {
            learned.learn(prose(1_000), 200, 64);
        }
        learned.learn(prose(1_000), 700, 64);
        assert!(bound(&learned) > 700);
        for _ in 0..WINDOW - 1 {
            learned.learn(prose(1_000), 200, 64);
        }
        assert!(bound(&learned) > 700);
        learned.learn(prose(1_000), 200, 64);
        assert!(bound(&learned) < 230);
    }

    #[test]
    fn nothing_learned_of_prose_applies_to_what_may_be_spelt_out() {
        let rate = after(128, prose(1_000), 200);
        for text in [
            "31415926535897932384626433832795",
            "🦄🐙🪐🫠🦤",
            "ሰላም ለሁሉም",
            "QUJDREVGR0g=",
        ] {
            let text = Text::of(text.repeat(20).as_bytes());
            assert!(
                rate.estimate(text).most * 100 >= text.bytes * 75,
                "{text:?}"
            );
        }
        // Random base64 has 0.68 tokens a byte with o200k.
        let base64 = Text {
            bytes: 6_400,
            plain: 2_600,
            wide: 0,
        };
        assert!(rate.estimate(base64).most > 6_400 * 68 / 100);
    }

    #[test]
    fn scripts_are_learned_apart() {
        let russian = Text::of("мир труд май ".repeat(100).as_bytes());
        let rate = after(128, russian, russian.bytes / 6);
        let near = russian.bytes / 5 + FRAME;
        assert!(rate.estimate(russian).most < near);
        assert_eq!(rate.estimate(prose(1_000)).most, 1_000);
    }

    #[test]
    fn source_code_does_not_teach_a_bound_that_prose_breaks() {
        let code = Text {
            bytes: 10_000,
            plain: 8_000,
            wide: 0,
        };
        let rate = after(128, code, 2_300);
        assert!(rate.estimate(prose(1_000)).most >= 190);
        assert!(rate.estimate(code).most < 3_800);
    }

    #[test]
    fn what_is_too_short_or_was_not_counted_teaches_nothing() {
        let mut learned = Learned::default();
        learned.learn(prose(63), 10, 64);
        learned.learn(prose(1_000), 0, 64);
        learned.learn(Text::unknown(1_000), 200, 64);
        assert_eq!(learned.rate(), Rate::UNKNOWN);
    }

    proptest! {
        #[test]
        fn an_estimate_is_within_its_bounds(
            calls in proptest::collection::vec((0_u64..2_000, 0_u64..2_000, 0_u64..2_000, 0_u64..u64::MAX), 0..300),
            hard in 0_u64..1_000_000,
            plain in 0_u64..1_000_000,
            wide in 0_u64..1_000_000,
        ) {
            let mut learned = Learned::default();
            for (hard, plain, wide, tokens) in calls {
                learned.learn(Text { bytes: hard + plain + wide, plain, wide }, tokens, 64);
                prop_assert!(learned.plain.ratios.len() <= WINDOW && learned.wide.ratios.len() <= WINDOW);
            }
            let text = Text { bytes: hard + plain + wide, plain, wide };
            let estimate = learned.rate().estimate(text);
            prop_assert!(estimate.likely <= estimate.most && estimate.most <= text.bytes);
            prop_assert!(estimate.most >= hard);
        }

        /// The promise of the module, for calls drawn from one and the same distribution, which has
        /// a long tail: of many next calls hardly more than one in `n + 1` is above the bound.
        #[test]
        fn of_calls_like_those_before_few_are_above_the_bound(seed: u64) {
            let mut random = fastrand::Rng::with_seed(seed);
            // Forty more tokens with half the probability.
            let mut draw = || {
                let tail = u64::from(random.u16(..).leading_zeros());
                200 + 40 * tail + random.u64(0..40)
            };
            let (mut missed, mut learned) = (0, Learned::default());
            for _ in 0..WINDOW {
                learned.learn(prose(1_000), draw(), 64);
            }
            for _ in 0..2_000 {
                let tokens = draw();
                missed += usize::from(tokens > learned.rate().estimate(prose(1_000)).most);
                learned.learn(prose(1_000), tokens, 64);
            }
            prop_assert!(missed <= 2_000 / WINDOW * 3, "{missed}");
        }
    }
}
