//! Sections that this build does not have yet. Their defaults are accepted, so that one file can
//! serve several builds; anything else is an error that says so.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// `alerts`: telling people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// Where alerts go.
    pub channels: Nothing,
    /// When there are some.
    pub rules: Nothing,
}

/// Empty: an empty list or mapping, or null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nothing;

const NOT_BUILT: &str = "this build does not have this yet; leave it out";

impl<'de> Deserialize<'de> for Nothing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> de::Visitor<'de> for Nothing {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing: this build does not have this yet; leave it out")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        match list.next_element::<de::IgnoredAny>()? {
            None => Ok(self),
            Some(_) => Err(de::Error::custom(NOT_BUILT)),
        }
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        match map.next_key::<de::IgnoredAny>()? {
            None => Ok(self),
            Some(_) => Err(de::Error::custom(NOT_BUILT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_sections_are_accepted_and_others_say_that_they_are_not_built() {
        let read = |json: &str| serde_json::from_str::<Alerts>(json);
        for json in ["{}", r#"{"channels": [], "rules": null}"#] {
            assert_eq!(read(json).unwrap(), Alerts::default());
        }
        let error = read(r#"{"channels": [{"type": "slack"}]}"#).unwrap_err();
        assert!(error.to_string().contains(NOT_BUILT), "{error}");
        assert!(serde_json::from_str::<Nothing>(r#"{"pii": {}}"#).is_err());
    }
}
