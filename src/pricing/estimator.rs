//! What is known of the tokens of each model, learned from calls as they end.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use foldhash::quality::RandomState;
use parking_lot::{Mutex, RwLock};

use super::learned::{Learned, Rate};
use crate::call::text::Text;

/// What each model's texts have in tokens. It lives as long as the process, and starts from nothing:
/// what it knows is rather learned anew than believed of a model that has changed meanwhile.
///
/// Of at most [`Estimator::MAX_MODELS`] models, about 2 kB each; calls of further ones are estimated
/// as if nothing were known, and counted. Reading is one look-up and a short lock of that model.
#[derive(Debug, Default)]
pub struct Estimator {
    models: RwLock<HashMap<Box<str>, Models, RandomState>>,
    left_out: AtomicU64,
    missed: AtomicU64,
}

/// By name, those of one provider.
type Models = HashMap<Box<str>, Arc<Mutex<Model>>, RandomState>;

/// What a model's texts have in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of requests.
    pub input: Rate,
    /// Of answers.
    pub output: Rate,
}

/// What a call had, as its provider reports; `None`: nothing that can be told from its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// The request's text and its tokens.
    pub input: Option<(Text, u64)>,
    /// The answer's text and its tokens.
    pub output: Option<(Text, u64)>,
}

/// The least prose that tells anything, in bytes. A request also has names and settings in it that
/// no model reads.
const LEAST_INPUT: u64 = 512;
const LEAST_OUTPUT: u64 = 64;

#[derive(Debug, Default)]
struct Model {
    input: Learned,
    output: Learned,
    /// What follows from them.
    rates: Rates,
}

impl Estimator {
    /// The most models that are told apart.
    pub const MAX_MODELS: usize = 512;
    /// The longest name of one, in bytes.
    const MAX_NAME: usize = 256;

    /// What is known of `model`.
    pub fn rates(&self, provider: &str, model: &str) -> Rates {
        let known = self.known(provider, model);
        known.map_or_else(Rates::default, |known| known.lock().rates)
    }

    /// Learns from a call that has ended.
    pub fn learn(&self, provider: &str, model: &str, counted: Counted) {
        if counted == Counted::default() {
            return;
        }
        let Some(known) = self
            .known(provider, model)
            .or_else(|| self.begin(provider, model))
        else {
            self.left_out.fetch_add(1, Relaxed);
            return;
        };
        let missed = known.lock().learn(counted);
        self.missed.fetch_add(missed, Relaxed);
    }

    /// How many models are known.
    pub fn models(&self) -> usize {
        self.models.read().values().map(HashMap::len).sum()
    }

    /// How many calls nothing was learned from, since there were too many models.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Relaxed)
    }

    /// How many reported counts were above the bound of that moment.
    pub fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }

    fn known(&self, provider: &str, model: &str) -> Option<Arc<Mutex<Model>>> {
        self.models.read().get(provider)?.get(model).cloned()
    }

    fn begin(&self, provider: &str, model: &str) -> Option<Arc<Mutex<Model>>> {
        let mut models = self.models.write();
        let count: usize = models.values().map(HashMap::len).sum();
        if count >= Self::MAX_MODELS || model.len() > Self::MAX_NAME {
            return None;
        }
        let of_provider = models.entry(Box::from(provider)).or_default();
        let new = Arc::clone(of_provider.entry(Box::from(model)).or_default());
        drop(models);
        Some(new)
    }
}

impl Model {
    /// Returns how many of the counts were above their bound.
    fn learn(&mut self, counted: Counted) -> u64 {
        let mut missed = 0;
        let mut learn = |of: &mut Learned, rate: &mut Rate, counted, least| {
            if let Some((text, tokens)) = counted {
                let is_missed = tokens > rate.estimate(text).most && *rate != Rate::UNKNOWN;
                missed += u64::from(is_missed);
                of.learn(text, tokens, least);
                *rate = of.rate();
            }
        };
        let Self {
            input,
            output,
            rates,
        } = self;
        learn(input, &mut rates.input, counted.input, LEAST_INPUT);
        learn(output, &mut rates.output, counted.output, LEAST_OUTPUT);
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROSE: Text = Text {
        bytes: 1_000,
        plain: 1_000,
        wide: 0,
    };

    fn output(tokens: u64) -> Counted {
        Counted {
            output: Some((PROSE, tokens)),
            ..Counted::default()
        }
    }

    #[test]
    fn models_providers_and_directions_are_learned_apart() {
        let estimator = Estimator::default();
        for _ in 0..20 {
            estimator.learn("openai", "gpt-4o", output(200));
        }
        let most = |rate: Rate| rate.estimate(PROSE).most;
        let rates = estimator.rates("openai", "gpt-4o");
        assert!(most(rates.output) < 300);
        assert_eq!(most(rates.input), 1_000);
        assert_eq!(estimator.rates("openai", "gpt-4.1"), Rates::default());
        assert_eq!(estimator.rates("azure", "gpt-4o"), Rates::default());
        assert_eq!((estimator.models(), estimator.missed()), (1, 0));
    }

    #[test]
    fn a_count_above_the_bound_is_counted_and_the_next_bound_is_above_it() {
        let estimator = Estimator::default();
        for _ in 0..20 {
            estimator.learn("openai", "gpt-4o", output(200));
        }
        estimator.learn("openai", "gpt-4o", output(800));
        assert_eq!(estimator.missed(), 1);
        let rates = estimator.rates("openai", "gpt-4o");
        assert!(rates.output.estimate(PROSE).most >= 800);
    }

    #[test]
    fn too_many_models_are_counted_and_change_nothing_for_those_known() {
        let estimator = Estimator::default();
        for number in 0..Estimator::MAX_MODELS + 3 {
            estimator.learn("openai", &format!("model-{number}"), output(200));
        }
        estimator.learn("openai", &"long".repeat(100), output(200));
        assert_eq!(estimator.models(), Estimator::MAX_MODELS);
        assert_eq!(estimator.left_out(), 4);
        let known = estimator.rates("openai", "model-0");
        assert_ne!(known, Rates::default());
    }
}
