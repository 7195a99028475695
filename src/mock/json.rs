//! JSON objects whose keys stay in the order in which they were written, as providers write them.
//!
//! `serde_json::json!` sorts keys. A reader that looks for `"model"` or `"usage"` in a prefix of
//! the text would then never meet the order that it meets in the field.

use serde::Serialize;
use serde_json::value::RawValue;

/// A finished JSON value.
pub(super) type Json = Box<RawValue>;

/// Collects the members of an object. Use the [`object!`] macro.
pub(super) struct Members(String);

impl Members {
    pub(super) const fn new() -> Self {
        Self(String::new())
    }

    /// Adds a member. A value that cannot be written as JSON becomes `null`.
    pub(super) fn put(&mut self, key: &str, value: &impl Serialize) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&text(&key));
        self.0.push(':');
        self.0.push_str(&text(value));
    }

    /// The same with one more member.
    pub(super) fn with(mut self, key: &str, value: &impl Serialize) -> Self {
        self.put(key, value);
        self
    }

    pub(super) fn close(mut self) -> Json {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
        RawValue::from_string(self.0).unwrap_or_default()
    }
}

/// The JSON text of a value; `null` if it has none.
pub(super) fn text(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// Any serializable value as a finished one, so that unlike values can share an array.
pub(super) fn value(value: &(impl Serialize + ?Sized)) -> Json {
    serde_json::value::to_raw_value(value).unwrap_or_default()
}

/// `object! {"key": value, …}`: a [`Json`] with its keys in this order. `()` is `null`.
macro_rules! object {
    ($($key:literal : $value:expr),* $(,)?) => {
        $crate::mock::json::Members::new()$(.with($key, &$value))*.close()
    };
}
pub(super) use object;

#[cfg(test)]
mod tests {
    #[test]
    fn keys_keep_their_order_and_unit_is_null() {
        let inner = object! {"z": 1, "a": ()};
        let outer = object! {"y": [inner], "b": "quote \" here"};
        assert_eq!(
            outer.get(),
            r#"{"y":[{"z":1,"a":null}],"b":"quote \" here"}"#
        );
        assert_eq!(object! {}.get(), "{}");
    }
}
