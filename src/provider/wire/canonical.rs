//! Hashes of JSON values by what they mean: the order of names, spaces, escapes and the spelling of
//! numbers do not matter.
//!
//! They tell within one process whether two values are the same, and go nowhere else. They are not
//! keyed: whoever makes two values collide is only taken to repeat himself.

use std::{borrow::Cow, fmt, hash::BuildHasher as _, hash::Hash};

use foldhash::quality::FixedState;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::json::Json;

/// Names whose values say nothing of what the value around them means: clients move them about.
const ASIDE: &str = "cache_control";

/// The hash of a value; of what cannot be parsed, or is nested too deep for that, by its bytes.
pub fn hash(json: Json<'_>) -> u64 {
    parsed(json.raw()).unwrap_or_else(|| one(("bytes", json.raw())))
}

/// The same for the arguments of a tool, which may be JSON in a string.
pub fn hash_arguments(json: Json<'_>) -> u64 {
    let text = json.str();
    let within = text.as_ref().and_then(|text| parsed(text.as_bytes()));
    within.unwrap_or_else(|| hash(json))
}

/// The hash of a Rust value.
pub fn one(value: impl Hash) -> u64 {
    FixedState::with_seed(0).hash_one(value)
}

fn parsed(bytes: &[u8]) -> Option<u64> {
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let hash = Meaning.deserialize(&mut parser).ok()?;
    parser.end().ok()?;
    Some(hash)
}

/// Reads a value as its hash, without building it.
#[derive(Clone, Copy)]
struct Meaning;

impl<'de> DeserializeSeed<'de> for Meaning {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<u64, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Meaning {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<u64, E> {
        Ok(one("null"))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<u64, E> {
        Ok(one(("bool", value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
        Ok(one(("number", i128::from(value))))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
        Ok(one(("number", i128::from(value))))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<u64, E> {
        // By way of text: it is exact, and needs no cast.
        let whole = (value.fract() == 0.0).then(|| format!("{value:.0}").parse::<i128>().ok());
        Ok(match whole.flatten() {
            Some(whole) => one(("number", whole)),
            None => one(("fraction", value.to_bits())),
        })
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<u64, E> {
        Ok(one(("text", value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u64, A::Error> {
        let mut all = one("list");
        while let Some(item) = items.next_element_seed(self)? {
            all = one((all, item));
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<u64, A::Error> {
        // Their sum, so that their order does not matter.
        let mut all = one("object");
        while let Some(name) = fields.next_key::<Cow<'_, str>>()? {
            let value = fields.next_value_seed(self)?;
            if name != ASIDE {
                all = all.wrapping_add(one((&name, value)));
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> u64 {
        hash(Json::document(text.as_bytes()))
    }

    fn of_arguments(text: &str) -> u64 {
        hash_arguments(Json::document(text.as_bytes()))
    }

    #[test]
    fn the_same_has_one_hash_however_it_is_spelt() {
        let value = of(r#"{"a":[1,2.5,"é"],"b":{"c":null,"d":true}}"#);
        for other in [
            r#"{ "b": {"d":true, "c":null},"a":[1.0,25e-1,"\u00e9"] }"#,
            r#"{"a":[1e0,2.50,"é"],"cache_control":{"type":"ephemeral"},"b":{"c":null,"d":true}}"#,
        ] {
            assert_eq!(of(other), value, "{other}");
        }
        assert_eq!(of("-0"), of("0.0"));
    }

    #[test]
    fn what_differs_has_another() {
        let values = [
            "null",
            "true",
            "false",
            "0",
            "1",
            "1.5",
            "\"1\"",
            "\"\"",
            "[]",
            "{}",
            "[[]]",
            "[1,2]",
            "[2,1]",
            r#"{"a":1}"#,
            r#"{"a":2}"#,
            r#"{"b":1}"#,
            r#"{"a":{"b":1}}"#,
            r#"["a",1]"#,
            "9007199254740993",
            "9007199254740992",
            "{\"a\":1",
            "{\"a\":2",
        ];
        for (place, one) in values.iter().enumerate() {
            let others = values.get(place + 1..).unwrap();
            assert!(others.iter().all(|other| of(other) != of(one)), "{one}");
        }
    }

    #[test]
    fn arguments_in_a_string_are_what_they_stand_for() {
        let value = of_arguments(r#"{"a":1,"b":"x"}"#);
        assert_eq!(of_arguments(r#""{\"b\": \"x\", \"a\": 1.0}""#), value);
        // No JSON, and too deep to be parsed.
        assert_ne!(of_arguments(r#""{\"b\": ""#), of_arguments(r#""{\"a\": ""#));
        let deep = |inner| format!("{}{inner}{}", "[".repeat(500), "]".repeat(500));
        assert_eq!(of(&deep("1")), of(&deep("1")));
        assert_ne!(of(&deep("1")), of(&deep("2")));
    }

    proptest! {
        #[test]
        fn spaces_and_the_order_of_names_do_not_matter(
            fields in prop::collection::vec(("[a-z]{1,4}", any::<i32>()), 0..6),
        ) {
            let mut named = std::collections::BTreeMap::new();
            named.extend(fields);
            let text = |fields: Vec<(&String, &i32)>| {
                let fields = fields.iter().map(|(name, value)| format!("{name:?} : {value}"));
                format!("{{ {} }}", fields.collect::<Vec<_>>().join(" ,\n"))
            };
            let forward = text(named.iter().collect());
            let backward = text(named.iter().rev().collect());
            prop_assert_eq!(of(&forward), of(&backward));
            prop_assert_eq!(of(&forward), of(&serde_json::to_string(&named).unwrap()));
        }

        #[test]
        fn garbage_is_hashed_without_harm(bytes: Vec<u8>) {
            let document = Json::document(&bytes);
            prop_assert_eq!(hash(document), hash(document));
            let _hash = hash_arguments(document);
        }
    }
}
