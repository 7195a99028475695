//! JSON as another parser has it.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The same object in another spelling: no white space, no escapes where none need be. `None` if it
/// is no JSON object, or one of which two readers may think differently: a name that occurs twice,
/// a number that is no integer, or one too large to be kept.
pub fn respelt(bytes: &[u8]) -> Option<Vec<u8>> {
    let Plain(value) = serde_json::from_slice(bytes).ok()?;
    value.is_object().then(|| serde_json::to_vec(&value).ok())?
}

/// Whether `after` is `before` but for fields whose new value `is_edit` allows, at any depth.
pub fn differs_only(before: &Value, after: &Value, is_edit: &dyn Fn(&Value) -> bool) -> bool {
    match (before, after) {
        _ if before == after => true,
        (Value::Object(before), Value::Object(after)) => {
            before.keys().all(|name| after.contains_key(name))
                && after.iter().all(|(name, new)| match before.get(name) {
                    Some(old) => differs_only(old, new, is_edit),
                    None => is_put_in(new, is_edit),
                })
        },
        _ => is_put_in(after, is_edit),
    }
}

/// Whether a value is an edit, or objects within each other with nothing but one.
fn is_put_in(value: &Value, is_edit: &dyn Fn(&Value) -> bool) -> bool {
    is_edit(value)
        || value.as_object().is_some_and(|fields| {
            fields.len() == 1 && fields.values().all(|value| is_put_in(value, is_edit))
        })
}

/// A value that every reader reads alike.
struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Alike).map(Self)
    }
}

struct Alike;

impl<'de> Visitor<'de> for Alike {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON that every reader reads alike")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut found = Vec::new();
        while let Some(Plain(item)) = items.next_element()? {
            found.push(item);
        }
        Ok(Value::Array(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut found = serde_json::Map::new();
        while let Some((name, Plain(value))) = fields.next_entry::<String, Plain>()? {
            if found.insert(name, value).is_some() {
                return Err(serde::de::Error::custom("a name occurs twice"));
            }
        }
        Ok(Value::Object(found))
    }
}
