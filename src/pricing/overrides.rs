//! The prices of `pricing:`, by model name.

use std::{collections::HashMap, sync::Arc};

use super::{
    price::Prices,
    tariff::{Origin, Tariff},
};
use crate::base::glob::Glob;

/// Prices of the user's own. Names ignore case.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    exact: HashMap<Box<str>, Arc<Tariff>>,
    /// The one that fixes the most characters first.
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    glob: Glob,
    /// It names a provider (or the model's maker) before the model.
    qualified: bool,
    tariff: Arc<Tariff>,
}

impl Overrides {
    /// From the configuration's keys and prices.
    pub(super) fn new<'a>(models: impl IntoIterator<Item = (&'a Box<str>, &'a Prices)>) -> Self {
        let mut overrides = Self::default();
        for (key, prices) in models {
            let origin = Origin::Override(Arc::from(&**key));
            let tariff = Arc::new(Tariff::new(prices.clone(), origin));
            let key = key.to_lowercase();
            if key.contains('*') {
                overrides.patterns.push(Pattern {
                    glob: Glob::new(&key),
                    qualified: key.contains('/'),
                    tariff,
                });
            } else {
                overrides.exact.insert(key.into(), tariff);
            }
        }
        // Stable, so that keys of equal weight keep the order of their names.
        overrides
            .patterns
            .sort_by_key(|pattern| std::cmp::Reverse(pattern.glob.fixed()));
        overrides
    }

    /// The prices for `model`: by its name, then without a trailing date or `-latest`, then by
    /// pattern; each time with the provider before it first.
    pub(super) fn find(&self, provider: &str, model: &str) -> Option<&Arc<Tariff>> {
        if self.exact.is_empty() && self.patterns.is_empty() {
            return None;
        }
        let (provider, model) = (provider.to_lowercase(), model.to_lowercase());
        let full = format!("{provider}/{model}");
        let by_name = |model: &str| {
            let full = self.exact.get(format!("{provider}/{model}").as_str());
            full.or_else(|| self.exact.get(model))
        };
        let mut qualified = self.patterns.iter().filter(|pattern| pattern.qualified);
        let mut all = self.patterns.iter();
        by_name(&model)
            .or_else(|| by_name(undated(&model)?))
            .or_else(|| {
                Some(
                    &qualified
                        .find(|pattern| pattern.glob.matches(&full))?
                        .tariff,
                )
            })
            .or_else(|| Some(&all.find(|pattern| pattern.glob.matches(&model))?.tariff))
    }
}

/// The name without `-latest` or a date at its end (`-2024-08-06`, `-20240806`, `@20240806`,
/// `-0613`, `-2407`), if it has one.
fn undated(model: &str) -> Option<&str> {
    const SHAPES: [&str; 4] = ["-####-##-##", "-########", "@########", "-####"];
    if let Some(name) = model.strip_suffix("-latest") {
        return Some(name);
    }
    SHAPES.into_iter().find_map(|shape| {
        let (name, end) = model.split_at_checked(model.len().checked_sub(shape.len())?)?;
        let fits = |(found, wanted): (u8, u8)| {
            found == wanted || (wanted == b'#' && found.is_ascii_digit())
        };
        (!name.is_empty() && end.bytes().zip(shape.bytes()).all(fits)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of `keys` that is used for `model` of `openai`.
    fn used(keys: &[&str], model: &str) -> Option<String> {
        let models: Vec<_> = keys
            .iter()
            .map(|key| (Box::from(*key), Prices::default()))
            .collect();
        let overrides = Overrides::new(models.iter().map(|(key, prices)| (key, prices)));
        let tariff = overrides.find("openai", model)?;
        match tariff.origin() {
            Origin::Override(key) => Some(key.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_step_is_only_taken_when_those_before_it_found_nothing() {
        let order = [
            "openai/gpt-4o-2024-08-06",
            "gpt-4o-2024-08-06",
            "openai/gpt-4o",
            "gpt-4o",
            "openai/gpt-4*",
            "openai/*",
            "gpt-*",
            "*",
        ];
        for first in 0..order.len() {
            let mut keys = order[first..].to_vec();
            keys.reverse();
            assert_eq!(
                used(&keys, "gpt-4o-2024-08-06").as_deref(),
                Some(order[first])
            );
        }
        assert_eq!(used(&["anthropic/*", "gpt-3*"], "gpt-4o"), None);
        assert_eq!(used(&[], "gpt-4o"), None);
    }

    #[test]
    fn names_ignore_case_and_may_hold_slashes() {
        assert_eq!(used(&["GPT-4o"], "gpt-4O").as_deref(), Some("GPT-4o"));
        let key = "meta-llama/Llama-3.3-70B";
        assert_eq!(
            used(&[key], "meta-llama/llama-3.3-70b").as_deref(),
            Some(key)
        );
    }

    #[test]
    fn a_date_or_latest_at_the_end_is_left_out() {
        for (model, name) in [
            ("gpt-4o-2024-08-06", Some("gpt-4o")),
            ("claude-sonnet-4-5-20250929", Some("claude-sonnet-4-5")),
            ("claude-sonnet-4-5@20250929", Some("claude-sonnet-4-5")),
            ("gpt-4-0613", Some("gpt-4")),
            ("mistral-large-latest", Some("mistral-large")),
            ("gpt-4o", None),
            ("gemini-1.5-pro-002", None),
            ("-2024-08-06", None),
            ("-20240806", None),
            ("é-2024", Some("é")),
            ("é024", None),
        ] {
            assert_eq!(undated(model), name, "{model}");
        }
    }
}
