//! Which tariff a call has: the configuration's prices, then a free provider, then the price book;
//! each by the model that answered, then by the one asked for.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::{Arc, atomic},
};

use foldhash::quality::RandomState;
use parking_lot::RwLock;

use super::{
    book::{Book, Context, Found},
    config::{Config, UnknownModel},
    factor::{self, Factor},
    lists::list_of,
    models::{self, Limits},
    overrides::Overrides,
    price::Prices,
    tariff::{Origin, Tariff},
    tier,
};
use crate::base::clock::Timestamp;

/// What the price of a call depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a> {
    /// The provider, as Tollgate names it.
    pub provider: &'a str,
    /// The path of the request at the provider; only Hugging Face's router needs it, which names
    /// the host that answers there (`/together/v1/chat/completions`).
    pub path: &'a str,
    /// The model that answered, where the response says so.
    pub response_model: Option<&'a str>,
    /// The model asked for.
    pub request_model: Option<&'a str>,
    /// When the call was made.
    pub at: Timestamp,
    /// How it was served; for a reservation, how it asks to be.
    pub context: Context<'a>,
}

/// All prices: the book, and what the configuration puts over it.
#[derive(Debug)]
pub struct Pricing {
    book: Arc<Book>,
    overrides: Overrides,
    free: HashSet<Box<str>>,
    /// By provider, each with what is said of it.
    factors: HashMap<Box<str>, (Factor, Arc<str>)>,
    free_tariff: Arc<Tariff>,
    unknown_model: UnknownModel,
    unknown_tariff: Arc<Tariff>,
    cache: Cache,
}

/// What is known about the price of a call.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The prices that hold, and where they come from; `None`: unknown.
    pub tariff: Option<Arc<Tariff>>,
    /// What the model can produce and read at most.
    pub limits: Limits,
    /// Everything that the book's entry says, each with when it holds: earlier and later prices,
    /// hours, service tiers. `None`: the book has no such model; empty: it is not billed by counts.
    pub in_book: Option<Vec<(String, Prices)>>,
}

/// What was found for names asked before. At most [`Cache::MAX`] names; when it is full it is
/// emptied, which costs one slow look-up a name and is counted.
#[derive(Debug, Default)]
struct Cache {
    names: RwLock<Names>,
    emptied: atomic::AtomicU64,
}

/// By provider, then by model.
type Names = HashMap<Box<str>, HashMap<Box<str>, Match, RandomState>, RandomState>;

/// What is known of one model of one provider.
#[derive(Clone, Debug)]
struct Match {
    own: Option<Arc<Tariff>>,
    book: Option<Found>,
    limits: Limits,
}

/// Whose prices are wanted: those that hold, or those that cannot be exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Bill,
    Bound,
}

impl Pricing {
    /// With the prices of `config` over those of `book`. Calls to `free` providers cost nothing,
    /// unless `config` prices the model.
    pub fn new(config: &Config, book: impl Into<Arc<Book>>, free: &[&str]) -> Self {
        Self {
            book: book.into(),
            overrides: Overrides::new(&config.models),
            free: free.iter().map(|name| Box::from(*name)).collect(),
            factors: config
                .factors
                .iter()
                .map(|(provider, factor)| (provider.clone(), factor::agreed(provider, *factor)))
                .collect(),
            free_tariff: Arc::new(Tariff::free()),
            unknown_model: config.unknown_model,
            unknown_tariff: Arc::new(Tariff::new(config.unknown_price.clone(), Origin::Unknown)),
            cache: Cache::default(),
        }
    }

    /// The prices by which the call is billed. `None`: they are unknown, which is not zero.
    pub fn tariff(&self, query: &Query<'_>) -> Option<Arc<Tariff>> {
        self.find(query, Want::Bill)
    }

    /// Prices that the call cannot exceed, if it is served as it asks or as usual: for its
    /// reservation. `None`: they are unknown; [`Pricing::unknown_model`] says what then.
    pub fn highest(&self, query: &Query<'_>) -> Option<Arc<Tariff>> {
        self.find(query, Want::Bound)
    }

    /// What the model asked for (else the one that answered) can produce and read at most.
    pub fn limits(&self, query: &Query<'_>) -> Limits {
        let model = query.request_model.or(query.response_model);
        model.map_or(models::UNKNOWN, |model| self.look_up(query, model).limits)
    }

    /// What to do with a call that a budget in dollars matches and whose price is unknown.
    pub const fn unknown_model(&self) -> UnknownModel {
        self.unknown_model
    }

    /// The prices that [`UnknownModel::Ceiling`] charges.
    pub const fn unknown_tariff(&self) -> &Arc<Tariff> {
        &self.unknown_tariff
    }

    /// Name and version of the book.
    pub fn book(&self) -> &str {
        self.book.name()
    }

    /// How often the cache of names was full and was emptied.
    pub fn cache_emptied(&self) -> u64 {
        self.cache.emptied.load(atomic::Ordering::Relaxed)
    }

    /// What is known about the price of a call, for people.
    pub fn explain(&self, query: &Query<'_>) -> Explanation {
        let book = self.matches(query).find_map(|found| found.book);
        Explanation {
            tariff: self.tariff(query),
            limits: self.limits(query),
            in_book: book.as_ref().map(Found::all),
        }
    }

    /// The providers of the book, by its own ids, whose lists have `model`; sorted. For people who
    /// ask for a model without saying whose.
    pub fn sold_by(&self, model: &str) -> Vec<&str> {
        let sells = |id: &&str| self.book.find(id, model).is_some();
        self.book.providers().into_iter().filter(sells).collect()
    }

    fn find(&self, query: &Query<'_>, want: Want) -> Option<Arc<Tariff>> {
        let mut book = None;
        for found in self.matches(query) {
            if found.own.is_some() {
                return found.own;
            }
            book = book.or(found.book);
        }
        if self.free.contains(query.provider) {
            return Some(Arc::clone(&self.free_tariff));
        }
        let tariff = match want {
            Want::Bill => tier::as_served(&book?, query)?,
            Want::Bound => tier::at_most(&book?, query)?,
        };
        let tariff = factor::in_batch(query.provider, query.context.batch, tariff);
        let agreed = self.factors.get(query.provider).cloned();
        let there = factor::there(query.provider, query.context.region, want == Want::Bound);
        let factors = there.into_iter().chain(agreed);
        Some(factors.fold(tariff, |tariff, (factor, why)| {
            Arc::new(tariff.times(factor, why))
        }))
    }

    /// What is known of the model that answered and of the one asked for, in this order.
    fn matches<'a>(&'a self, query: &'a Query<'a>) -> impl Iterator<Item = Match> + 'a {
        let asked = query.request_model;
        let asked = asked.filter(|asked| query.response_model != Some(*asked));
        let names = query.response_model.into_iter().chain(asked);
        names.map(|model| self.look_up(query, model))
    }

    fn look_up(&self, query: &Query<'_>, model: &str) -> Match {
        if model.len() > Cache::LONGEST {
            return Match {
                own: None,
                book: None,
                limits: models::UNKNOWN,
            };
        }
        let (list, model) = list_of(query.provider, query.path, model);
        // Gemini and Vertex AI share a list and still have prices of one's own apart; the router's
        // hosts have lists of their own under one provider.
        let whose = match list {
            Cow::Borrowed(_) => query.provider,
            Cow::Owned(ref host) => host,
        };
        self.cache.get(whose, model).unwrap_or_else(|| {
            let book = self.book.find(&list, model);
            let window = book.as_ref().and_then(Found::window);
            let found = Match {
                own: self.overrides.find(query.provider, model).cloned(),
                book,
                limits: Limits::of(model).with_window(window),
            };
            self.cache.put(whose, model, found.clone());
            found
        })
    }
}

impl Cache {
    /// The most names that are kept.
    const MAX: usize = 4_096;
    /// The longest model name that is looked up, in bytes: longer ones are no model's.
    const LONGEST: usize = 512;

    fn get(&self, whose: &str, model: &str) -> Option<Match> {
        self.names.read().get(whose)?.get(model).cloned()
    }

    fn put(&self, whose: &str, model: &str, found: Match) {
        let mut names = self.names.write();
        if names.values().map(HashMap::len).sum::<usize>() >= Self::MAX {
            names.clear();
            self.emptied.fetch_add(1, atomic::Ordering::Relaxed);
        }
        let models = names.entry(Box::from(whose)).or_default();
        models.insert(Box::from(model), found);
        drop(names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::money::Usd,
        call::usage::Usage,
        pricing::{tariff::BillError, unit::Unit},
    };

    const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

    fn pricing(yaml: &str) -> Pricing {
        let config: Config = serde_saphyr::from_str(yaml).unwrap();
        Pricing::new(&config, Book::built_in(), &["ollama", "my-vllm"])
    }

    fn query<'a>(
        provider: &'a str,
        response: Option<&'a str>,
        request: Option<&'a str>,
    ) -> Query<'a> {
        Query {
            provider,
            response_model: response,
            request_model: request,
            at: NOW,
            ..Query::default()
        }
    }

    fn input(pricing: &Pricing, query: &Query<'_>) -> Option<String> {
        let tariff = pricing.tariff(query)?;
        let price = tariff.prices().get(Unit::Input)?.base();
        Some(Usd::from_nanos(price.nanos()).short().to_string())
    }

    #[test]
    fn every_built_in_provider_with_a_list_finds_its_own() {
        let pricing = pricing("{}");
        for (provider, model) in [
            ("openai", "gpt-4o"),
            ("azure", "gpt-4o"),
            ("anthropic", "claude-sonnet-4-5"),
            ("gemini", "gemini-2.5-flash"),
            ("vertex", "gemini-2.5-flash"),
            ("vertex", "claude-sonnet-4-5@20250929"),
            ("vertex", "google/gemini-2.5-flash"),
            ("gemini", "models/gemini-2.5-flash"),
            ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
            ("mistral", "mistral-large-latest"),
            ("groq", "llama-3.3-70b-versatile"),
            ("cohere", "command-r-plus"),
            ("xai", "grok-4.5"),
            ("deepseek", "deepseek-chat"),
            ("openrouter", "openai/gpt-4o"),
            ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
            ("fireworks", "accounts/fireworks/models/deepseek-v3p2"),
            ("cerebras", "gpt-oss-120b"),
            ("perplexity", "sonar"),
            ("moonshot", "kimi-k2.5"),
            ("voyage", "voyage-3.5"),
        ] {
            let found = input(&pricing, &query(provider, None, Some(model)));
            assert!(found.is_some(), "{provider} {model}");
        }
    }

    #[test]
    fn the_routers_host_is_in_the_path_or_after_the_models_name() {
        let pricing = pricing("{}");
        let by_path = Query {
            path: "/together/v1/chat/completions",
            ..query("huggingface", None, Some("deepseek-ai/DeepSeek-R1"))
        };
        let by_name = Query {
            path: "/v1/chat/completions",
            ..query(
                "huggingface",
                None,
                Some("deepseek-ai/DeepSeek-R1:together"),
            )
        };
        let by_chance = Query {
            path: "/v1/chat/completions",
            ..query("huggingface", None, Some("deepseek-ai/DeepSeek-R1"))
        };
        assert!(input(&pricing, &by_path).is_some());
        assert_eq!(input(&pricing, &by_path), input(&pricing, &by_name));
        assert_eq!(input(&pricing, &by_chance), None);
    }

    #[test]
    fn prices_of_ones_own_go_before_the_book_and_before_free_providers() {
        let pricing = pricing(
            "gpt-4o: {input: 71, output: 1}\n\
             my-deployment: {input: 72, output: 1}\n\
             openai/o3: {input: 73, output: 1}\n\
             paid-*: {input: 74, output: 1}\n",
        );
        let input =
            |provider, response, request| input(&pricing, &query(provider, response, request));
        let dated = Some("gpt-4o-2024-08-06");
        assert_eq!(
            input("openai", dated, Some("gpt-4o")).as_deref(),
            Some("$71.00")
        );
        let asked = Some("my-deployment");
        assert_eq!(
            input("azure", Some("gpt-4.1"), asked).as_deref(),
            Some("$72.00")
        );
        assert_eq!(input("azure", dated, asked).as_deref(), Some("$71.00"));
        assert_eq!(input("openai", Some("o3"), None).as_deref(), Some("$73.00"));
        assert_ne!(input("azure", Some("o3"), None).as_deref(), Some("$73.00"));
        assert_eq!(
            input("ollama", Some("paid-1"), None).as_deref(),
            Some("$74.00")
        );
    }

    #[test]
    fn two_providers_with_one_list_keep_their_own_prices_apart() {
        let pricing = pricing("vertex/gemini-2.5-flash: {input: 75, output: 1}");
        let input = |provider| input(&pricing, &query(provider, None, Some("gemini-2.5-flash")));
        assert_ne!(input("gemini").as_deref(), Some("$75.00"));
        assert_eq!(input("vertex").as_deref(), Some("$75.00"));
        assert_ne!(input("gemini").as_deref(), Some("$75.00"));
    }

    #[test]
    fn a_free_provider_is_a_known_zero_and_an_unknown_model_is_not() {
        let pricing = pricing("{}");
        let free = pricing
            .tariff(&query("my-vllm", None, Some("qwen")))
            .unwrap();
        assert_eq!(free.bill(&Usage::NONE), Ok(Usd::ZERO));
        assert!(
            pricing
                .tariff(&query("openai", None, Some("no-such-model")))
                .is_none()
        );
        assert!(
            pricing
                .tariff(&query("my-host", None, Some("gpt-4o")))
                .is_none()
        );
        assert!(pricing.tariff(&query("openai", None, None)).is_none());
        assert!(
            pricing
                .tariff(&query("mistral", None, Some("mistral-ocr-2505")))
                .is_none()
        );
        let ceiling = pricing
            .unknown_tariff()
            .bill(&Usage::text(1_000_000, 1_000_000));
        assert_eq!(ceiling, Ok(Usd::from_nanos(60_000_000_000)));
        assert_eq!(
            pricing.unknown_tariff().bill(&Usage::NONE),
            Err(BillError::NotReported)
        );
    }

    #[test]
    fn a_price_names_the_book_that_it_came_from() {
        let pricing = pricing("{}");
        let tariff = pricing
            .tariff(&query("azure", None, Some("gpt-4o")))
            .unwrap();
        match tariff.origin() {
            Origin::Book { book, entry, .. } => {
                assert_eq!(&**book, pricing.book());
                assert_eq!(&**entry, "gpt-4o");
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_explanation_tells_what_holds_and_all_that_the_book_says() {
        let pricing = pricing("{}");
        let explained = pricing.explain(&query("deepseek", None, Some("deepseek-chat")));
        let origin = explained.tariff.unwrap().origin().to_string();
        assert!(origin.ends_with(", deepseek: deepseek-chat"), "{origin}");
        let conditions: Vec<_> = explained
            .in_book
            .unwrap()
            .into_iter()
            .map(|(when, _)| when)
            .collect();
        assert_eq!(conditions[..2], ["always", "00:30 to 16:30 UTC"]);
        let uncounted = pricing.explain(&query("mistral", None, Some("mistral-ocr-2505")));
        assert!(uncounted.tariff.is_none() && uncounted.in_book.unwrap().is_empty());
        let unknown = pricing.explain(&query("openai", None, Some("no-such-model")));
        assert!(unknown.tariff.is_none() && unknown.in_book.is_none());
        let sellers = pricing.sold_by("gpt-4o");
        assert!(
            sellers.contains(&"openai") && sellers.contains(&"azure"),
            "{sellers:?}"
        );
    }

    #[test]
    fn the_cache_is_bounded_and_changes_nothing() {
        let pricing = pricing("{}");
        for number in 0..Cache::MAX + 10 {
            let name = format!("no-such-model-{number}");
            assert!(pricing.tariff(&query("xai", None, Some(&name))).is_none());
        }
        assert_eq!(pricing.cache_emptied(), 1);
        let first = input(&pricing, &query("openai", None, Some("gpt-4o")));
        assert_eq!(
            input(&pricing, &query("openai", None, Some("gpt-4o"))),
            first
        );
        let long = "gpt-4o".repeat(100);
        assert!(
            pricing
                .tariff(&query("openai", None, Some(&long)))
                .is_none()
        );
    }

    #[test]
    fn factors_multiply_the_books_tokens_and_not_prices_of_ones_own() {
        let pricing =
            pricing("factors: {anthropic: 0.5, openai: 2}\ngpt-4o: {input: 3, output: 1}\n");
        let plain = query("anthropic", Some("claude-sonnet-4-6"), None);
        let there = Query {
            context: Context {
                region: Some("us"),
                ..Context::default()
            },
            ..plain
        };
        assert_eq!(input(&pricing, &plain).as_deref(), Some("$1.50"));
        assert_eq!(input(&pricing, &there).as_deref(), Some("$1.65"));
        let tariff = pricing.tariff(&there).unwrap();
        assert_eq!(tariff.notes().len(), 2);
        let searches = tariff.prices().get(Unit::WebSearches).unwrap();
        assert_eq!(searches.base().nanos(), 10_000_000_000_000);
        let own = query("openai", Some("gpt-4o"), None);
        assert_eq!(input(&pricing, &own).as_deref(), Some("$3.00"));
        let bound = pricing.highest(&there).unwrap();
        assert_eq!(bound.prices(), tariff.prices());
    }
}
