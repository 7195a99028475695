//! What every processor can be told, whatever its type: flat keys beside the type's own, under the
//! names of the RAAF tracing guide.

use std::{
    fmt,
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, value::MapAccessDeserializer},
};

use super::{
    Content,
    delivery::{Delivery, Growth},
    filter::Match,
    processor::ProcessorConfig,
    sampling::{Sampling, Share},
};
use crate::base::units::{ByteSize, duration};

/// An item of `tracing.processors`: a type with its own keys, and the keys that all types have.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// What the type is told.
    pub config: ProcessorConfig,
    /// What is told of any type.
    pub options: Options,
}

impl From<ProcessorConfig> for Destination {
    fn from(config: ProcessorConfig) -> Self {
        Self {
            config,
            options: Options::default(),
        }
    }
}

/// `circuit_breaker:` — when a processor that keeps failing is left alone, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CircuitBreaker {
    /// So many failed attempts in a row open it.
    pub failure_threshold: Option<NonZeroU32>,
    /// The longest that one attempt may take; the processor's own `timeout` goes before it.
    pub timeout: Option<Lasting>,
    /// How long nothing is tried then, after which one attempt probes.
    pub recovery_timeout: Option<Lasting>,
}

/// A duration in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Lasting(#[serde(with = "duration")] pub Duration);

impl CircuitBreaker {
    pub(super) fn apply(&self, delivery: &mut Delivery) {
        set(
            &mut delivery.failure_threshold,
            self.failure_threshold.map(NonZeroU32::get),
        );
        set(&mut delivery.timeout, self.timeout.map(|it| it.0));
        set(
            &mut delivery.recovery_timeout,
            self.recovery_timeout.map(|it| it.0),
        );
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// Makes the struct, the list of its keys, and the function that reads one of them.
macro_rules! options {
    ($($(#[$doc:meta])* $($key:literal)|+ => $field:ident: $type:ty,)+) => {
        /// What is told of a processor of any type; what is not told is as the type has it.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Options {
            $($(#[$doc])* pub $field: Option<$type>,)+
        }

        impl Options {
            /// Every key.
            pub const KEYS: &[&str] = &[$($($key),+),+];

            /// Reads the value of `key`, if it is one of ours.
            fn take<'de, A: MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
            ) -> Result<bool, A::Error> {
                match key {
                    $($($key)|+ => {
                        let value = map.next_value()?;
                        if self.$field.is_some() {
                            let names = [$($key),+].join("` and `");
                            return Err(de::Error::custom(format!("give one of `{names}`, once")));
                        }
                        self.$field = value;
                    },)+
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }
    };
}

options! {
    /// What it is called in metrics and logs; by default its type, `file-2` for the second.
    "name" => name: Name,
    /// The most spans in one batch.
    "batch_size" => batch_size: NonZeroUsize,
    /// The most bytes of spans in one batch, as JSON; a larger span is a batch by itself.
    "max_batch_bytes" => max_batch_bytes: ByteSize,
    /// The longest that a span waits for its batch to fill.
    "flush_interval" | "max_batch_delay" => flush_interval: Lasting,
    /// The most spans that wait, an eighth of them, but 1,024 at most, those that have just come; the
    /// oldest is dropped for a new one.
    "max_buffer_size" => max_buffer_size: NonZeroUsize,
    /// The most bytes that waiting spans take, an eighth of them those that have just come; the oldest are
    /// dropped for a new one.
    "max_memory_usage" => max_memory_usage: ByteSize,
    /// The most attempts for one batch, the first included.
    "max_retries" => max_retries: NonZeroU32,
    /// How the wait between attempts grows.
    "retry_backoff" => retry_backoff: Growth,
    /// Whether chance adds up to a tenth to each wait.
    "retry_jitter" => retry_jitter: bool,
    /// The longest that one attempt may take.
    "timeout" => timeout: Lasting,
    /// When it is left alone.
    "circuit_breaker" => circuit_breaker: CircuitBreaker,
    /// Whether calls that did not fail are for it.
    "include_successful_traces" => include_successful_traces: bool,
    /// Whether calls that failed or were refused are for it.
    "include_error_traces" => include_error_traces: bool,
    /// Calls that did not fail and took less, in milliseconds, are not for it.
    "min_duration_ms" => min_duration_ms: u64,
    /// Calls of which this does not hold are not for it.
    "match" => matches: Match,
    /// Which traces are for it, instead of what `tracing.sampling` says.
    "sampling" => sampling: Sampling,
    /// The share of traces that is for it; the rest is as `tracing.sampling` says.
    "sampling_rate" | "sample_rate" => sampling_rate: Share,
    /// How much of what was said it gets, at most: no more than `tracing.content`.
    "content" => content: Content,
    /// Longer texts on its spans are cut, in bytes.
    "max_attribute_bytes" => max_attribute_bytes: ByteSize,
}

impl Options {
    /// Changes what is told.
    pub(super) fn apply(&self, delivery: &mut Delivery) {
        if let Some(breaker) = &self.circuit_breaker {
            breaker.apply(delivery);
        }
        set(&mut delivery.batch, self.batch_size.map(NonZeroUsize::get));
        set(
            &mut delivery.batch_bytes,
            self.max_batch_bytes.map(ByteSize::as_usize),
        );
        set(&mut delivery.max_age, self.flush_interval.map(|it| it.0));
        set(
            &mut delivery.queue,
            self.max_buffer_size.map(NonZeroUsize::get),
        );
        set(
            &mut delivery.memory,
            self.max_memory_usage.map(ByteSize::as_usize),
        );
        set(
            &mut delivery.attempts,
            self.max_retries.map(NonZeroU32::get),
        );
        set(&mut delivery.growth, self.retry_backoff);
        set(&mut delivery.jitter, self.retry_jitter);
        set(&mut delivery.timeout, self.timeout.map(|it| it.0));
        let levels = [delivery.content, self.content].into_iter().flatten();
        delivery.content = levels.min();
        let most = self.max_attribute_bytes.map(ByteSize::as_usize);
        delivery.attribute_bytes = most.or(delivery.attribute_bytes);
    }
}

/// What a processor is called: up to 64 letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Box<str>);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<str>::deserialize(deserializer)?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text))
        } else {
            Err(de::Error::custom(
                "a processor's name has up to 64 letters, digits, `.`, `_` and `-`",
            ))
        }
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DestinationVisitor)
    }
}

struct DestinationVisitor;

impl<'de> de::Visitor<'de> for DestinationVisitor {
    type Value = Destination;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping with the key `type`")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Destination, A::Error> {
        let mut options = Options::default();
        let rest = Rest {
            map,
            options: &mut options,
        };
        let config = ProcessorConfig::deserialize(MapAccessDeserializer::new(rest))?;
        Ok(Destination { config, options })
    }
}

/// The keys of a mapping that are no options; the options are read on the way.
struct Rest<'a, A> {
    map: A,
    options: &'a mut Options,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if !self.options.take(&key, &mut self.map)? {
                return seed
                    .deserialize(de::value::StringDeserializer::new(key))
                    .map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Destination, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn options_and_the_types_own_keys_stand_side_by_side() {
        let found = read(
            "{batch_size: 7, type: console, max_batch_delay: 5s, format: json, max_retries: 1, \
             retry_backoff: linear, circuit_breaker: {timeout: 2s}, match: {agent: a-*}}",
        )
        .unwrap();
        let plain = read("{type: console, format: json}").unwrap();
        assert_eq!(found.config, plain.config);
        assert_eq!(plain.options, Options::default());
        let mut delivery = Delivery::REMOTE;
        found.options.apply(&mut delivery);
        let expected = Delivery {
            batch: 7,
            max_age: Duration::from_secs(5),
            attempts: 1,
            growth: Growth::Linear,
            timeout: Duration::from_secs(2),
            ..Delivery::REMOTE
        };
        assert_eq!(delivery, expected);
    }

    #[test]
    fn an_attempts_own_timeout_goes_before_the_breakers() {
        let found = read("{type: console, timeout: 1s, circuit_breaker: {timeout: 9s}}").unwrap();
        let mut delivery = Delivery::REMOTE;
        found.options.apply(&mut delivery);
        assert_eq!(delivery.timeout, Duration::from_secs(1));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (yaml, word) in [
            ("{type: console, batch_size: 0}", "zero"),
            ("{type: console, batch_sise: 1}", "batch_sise"),
            (
                "{type: console, flush_interval: 1s, max_batch_delay: 1s}",
                "give one of",
            ),
            ("{type: console, name: 'a b'}", "up to 64"),
            ("{type: console, retry_backoff: square}", "exponential"),
            ("{type: console, circuit_breaker: {timeuot: 1s}}", "timeuot"),
            ("{batch_size: 1}", "type"),
        ] {
            let error = read(yaml).unwrap_err();
            assert!(error.contains(word), "{yaml}: {error}");
        }
    }
}
