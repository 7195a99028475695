//! From the tree to types: a serde deserializer whose errors know which node they are about.

use std::fmt;

use serde::de::{
    self, DeserializeSeed, Expected, IntoDeserializer, Unexpected, Visitor, value::StrDeserializer,
};

use super::tree::{Id, Key, Node, Scalar, Value};

/// What is wrong with which node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Error {
    /// The node or key. None only while the error is on its way up to the nearest node.
    pub(super) at: Option<Id>,
    pub(super) kind: Kind,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A sentence.
    Message(String),
    /// The same, with advice.
    Advised(String, String),
    /// A key that nobody knows, and those that are known.
    UnknownKey(String, &'static [&'static str]),
    /// A word that is none of those that are known.
    UnknownWord(String, &'static [&'static str]),
    /// A key that has to be there.
    MissingKey(&'static str),
}

impl Error {
    fn at(mut self, id: Id) -> Self {
        self.at.get_or_insert(id);
        self
    }
}

/// Adds advice to an error about the node itself; one about a part of it has other reasons.
fn advised<T>(
    result: Result<T, Error>,
    node: &Node,
    advice: impl FnOnce() -> String,
) -> Result<T, Error> {
    result.map_err(|mut error| {
        if error.at.is_none_or(|at| at == node.id)
            && let Kind::Message(message) = error.kind
        {
            error.kind = Kind::Advised(message, advice());
        }
        error
    })
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self { at: None, kind }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Message(message) | Kind::Advised(message, _) => f.write_str(message),
            Kind::UnknownKey(key, _) => write!(f, "unknown key `{key}`"),
            Kind::UnknownWord(word, _) => write!(f, "`{word}` is not one of the possible values"),
            Kind::MissingKey(key) => write!(f, "`{key}` is missing"),
        }
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Kind::Message(message.to_string()).into()
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = match expected.to_string().as_str() {
            "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" => {
                "a whole number".to_owned()
            },
            "a nonzero u32" | "a nonzero usize" => "a whole number above zero".to_owned(),
            "f32" | "f64" => "a number".to_owned(),
            "a boolean" => "true or false".to_owned(),
            "a string" => "text".to_owned(),
            "a sequence" => "a list".to_owned(),
            "a map" => "a mapping".to_owned(),
            other if other.starts_with("struct ") => "a mapping".to_owned(),
            other if other.starts_with("internally tagged enum ") => {
                "a mapping with the key `type`".to_owned()
            },
            other => other.to_owned(),
        };
        Kind::Message(format!("expected {expected}, found {}", Found(found))).into()
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Kind::UnknownKey(key.to_owned(), known).into()
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Kind::UnknownWord(word.to_owned(), known).into()
    }

    fn missing_field(key: &'static str) -> Self {
        Kind::MissingKey(key).into()
    }
}

/// What was found, in the words of the file.
struct Found<'a>(Unexpected<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Bool(value) => write!(f, "{value}"),
            Unexpected::Unsigned(value) => write!(f, "{value}"),
            Unexpected::Signed(value) => write!(f, "{value}"),
            Unexpected::Float(value) => write!(f, "{value}"),
            Unexpected::Str(value) => write!(f, "\"{value}\""),
            Unexpected::Unit | Unexpected::Option => f.write_str("nothing"),
            Unexpected::Seq => f.write_str("a list"),
            Unexpected::Map | Unexpected::StructVariant => f.write_str("a mapping"),
            other => write!(f, "{other}"),
        }
    }
}

/// What a plain scalar is, by YAML's core schema, without its octal and hexadecimal numbers.
enum Typed<'a> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'a str),
}

impl Scalar {
    fn typed(&self) -> Typed<'_> {
        let text = self.text.as_str();
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Typed::Null,
            "true" | "True" | "TRUE" => return Typed::Bool(true),
            "false" | "False" | "FALSE" => return Typed::Bool(false),
            _ => {},
        }
        let number = text.bytes().any(|c| c.is_ascii_digit())
            && text
                .bytes()
                .all(|c| c.is_ascii_digit() || matches!(c, b'+' | b'-' | b'.' | b'e' | b'E'));
        if !number {
            return Typed::Text(text);
        }
        if let Ok(value) = text.parse::<u64>() {
            Typed::Unsigned(value)
        } else if let Ok(value) = text.parse::<i64>() {
            Typed::Signed(value)
        } else {
            text.parse().map_or(Typed::Text(text), Typed::Float)
        }
    }

    /// Whether it may be something other than text, given that the other is asked for. A variable
    /// within { } must be quoted, so those quotes do not count.
    pub(super) fn may_be_typed(&self) -> bool {
        self.plain || self.written.is_some()
    }

    fn is_null(&self) -> bool {
        self.may_be_typed() && matches!(self.typed(), Typed::Null)
    }
}

/// More digits than this do not survive a float.
const FLOAT_DIGITS: usize = 15;

impl<'de> Node {
    fn visit<V: Visitor<'de>>(&'de self, visitor: V, typed: bool) -> Result<V::Value, Error> {
        let result = match &self.value {
            Value::Scalar(scalar) if typed => match scalar.typed() {
                Typed::Null => visitor.visit_unit(),
                Typed::Bool(value) => visitor.visit_bool(value),
                Typed::Unsigned(value) => visitor.visit_u64(value),
                Typed::Signed(value) => visitor.visit_i64(value),
                Typed::Float(value) => visitor.visit_f64(value),
                Typed::Text(text) => visitor.visit_borrowed_str(text),
            },
            Value::Scalar(scalar) => visitor.visit_borrowed_str(&scalar.text),
            Value::List(items) => visitor.visit_seq(List(items.iter())),
            Value::Map(entries) => visitor.visit_map(Map {
                entries: entries.iter(),
                value: None,
            }),
        };
        result.map_err(|error| error.at(self.id))
    }

    fn is_typed(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.may_be_typed())
    }

    /// Whether it says that there is nothing: `null`, `~`, or nothing.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }
}

/// Asked for numbers and booleans, which may come quoted if they come from variables.
macro_rules! typed {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.visit(visitor, self.is_typed())
        }
    )*};
}

/// Asked for text, which any scalar but null is.
macro_rules! text {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.visit(visitor, self.is_null())
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = Error;

    typed! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32
        deserialize_f64 deserialize_unit
    }

    text! {
        deserialize_char deserialize_str deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value {
            // Whoever takes anything takes decimals as text, and then no digit is lost.
            Value::Scalar(scalar)
                if scalar.text.len() > FLOAT_DIGITS
                    && matches!(scalar.typed(), Typed::Float(_)) =>
            {
                self.visit(visitor, false)
            },
            Value::Scalar(scalar) => self.visit(visitor, scalar.plain || scalar.is_null()),
            Value::List(_) | Value::Map(_) => self.visit(visitor, false),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = if self.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        };
        result.map_err(|error| error.at(self.id))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let result = visitor.visit_newtype_struct(self);
        result.map_err(|error| error.at(self.id))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null() {
            // `rules:` with everything below it commented out.
            return visitor.visit_seq(List([].iter()));
        }
        let result = self.visit(visitor, self.is_typed());
        match &self.value {
            Value::List(_) => result,
            Value::Scalar(_) => advised(result, self, || "write a list, like [a, b]".to_owned()),
            Value::Map(_) => advised(result, self, || {
                "begin each item of a list with `- `".to_owned()
            }),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null() {
            let nothing = Map {
                entries: [].iter(),
                value: None,
            };
            return visitor
                .visit_map(nothing)
                .map_err(|error| error.at(self.id));
        }
        self.visit(visitor, self.is_typed())
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let result = match &self.value {
            Value::Map(_) => return self.deserialize_map(visitor),
            // Derived visitors would take a list for the fields in their order.
            Value::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &"a map")),
            Value::Scalar(_) => self.deserialize_map(visitor),
        };
        let known = || format!("possible keys: {}", fields.join(", "));
        advised(result, self, known).map_err(|error| error.at(self.id))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let result = match &self.value {
            Value::Scalar(scalar) => {
                let word: StrDeserializer<'_, Error> = scalar.text.as_str().into_deserializer();
                visitor.visit_enum(word)
            },
            Value::Map(entries) => match entries.as_slice() {
                [_one] => visitor.visit_enum(de::value::MapAccessDeserializer::new(Map {
                    entries: entries.iter(),
                    value: None,
                })),
                _ => Err(de::Error::custom(
                    "expected one word, or a mapping of one key",
                )),
            },
            Value::List(_) => Err(de::Error::custom("expected one word, found a list")),
        };
        result.map_err(|error| error.at(self.id))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

struct List<'de>(std::slice::Iter<'de, Node>);

impl<'de> de::SeqAccess<'de> for List<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(item) = self.0.next() else {
            return Ok(None);
        };
        let value = seed.deserialize(item);
        value.map(Some).map_err(|error| error.at(item.id))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Map<'de> {
    entries: std::slice::Iter<'de, (Key, Node)>,
    /// The value that belongs to the key which was read last.
    value: Option<&'de Node>,
}

impl<'de> de::MapAccess<'de> for Map<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some(value);
        let word: StrDeserializer<'_, Error> = key.text.as_str().into_deserializer();
        let read = seed.deserialize(word);
        read.map(Some).map_err(|error| error.at(key.id))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some(value) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(value).map_err(|error| error.at(value.id))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}
