//! The wire format of Protocol Buffers: what is written and read one field at a time, without a
//! schema. Enough for the few messages of others that we speak.

use super::id::hex;

/// A field of a message: its number, and its name where the message is written as JSON.
#[derive(Clone, Copy, Debug)]
pub struct Field(pub u32, pub &'static str);

/// A message that is being written, in one of the two forms that Protocol Buffers have. Zeros and
/// empty texts are written too: leave out what is to be absent.
pub trait Form: Default {
    /// A text.
    fn text(&mut self, field: Field, text: &str);

    /// Bytes that identify something: hexadecimal digits in OTLP's JSON.
    fn id(&mut self, field: Field, bytes: &[u8]);

    /// True or false.
    fn flag(&mut self, field: Field, flag: bool);

    /// A number of an enum, or of 32 bits.
    fn number(&mut self, field: Field, number: u32);

    /// A whole number of 64 bits (`int64`).
    fn int(&mut self, field: Field, number: i64);

    /// A whole number that takes eight bytes (`fixed64`).
    fn fixed(&mut self, field: Field, number: u64);

    /// Several of those.
    fn fixeds(&mut self, field: Field, numbers: &[u64]);

    /// A fraction.
    fn double(&mut self, field: Field, number: f64);

    /// Several of those.
    fn doubles(&mut self, field: Field, numbers: &[f64]);

    /// A message within this one.
    fn message(&mut self, field: Field, write: impl FnOnce(&mut Self));

    /// Several messages within this one.
    fn messages<T>(
        &mut self,
        field: Field,
        items: impl IntoIterator<Item = T>,
        write: impl FnMut(&mut Self, T),
    );

    /// The bytes.
    fn finish(self) -> Vec<u8>;
}

/// The binary form.
#[derive(Debug, Default)]
pub struct Binary(Vec<u8>);

/// What a field's value looks like on the wire.
const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const LENGTH: u64 = 2;
const FOUR_BYTES: u64 = 5;

impl Binary {
    fn tag(&mut self, field: Field, kind: u64) {
        self.varint(u64::from(field.0) << 3 | kind);
    }

    fn varint(&mut self, number: u64) {
        let (bytes, length) = varint(number);
        self.0.extend(bytes.iter().take(length));
    }

    fn bytes(&mut self, field: Field, bytes: &[u8]) {
        self.tag(field, LENGTH);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// Eight bytes of each.
    fn packed(&mut self, field: Field, numbers: impl ExactSizeIterator<Item = u64>) {
        self.tag(field, LENGTH);
        self.varint(8 * numbers.len() as u64);
        self.0.extend(numbers.flat_map(u64::to_le_bytes));
    }
}

/// A number in groups of seven bits, the lowest first, and how many there are.
fn varint(mut number: u64) -> ([u8; 10], usize) {
    let (mut bytes, mut length) = ([0; 10], 0);
    for byte in &mut bytes {
        length += 1;
        *byte = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            break;
        }
        *byte |= 0x80;
    }
    (bytes, length)
}

impl Form for Binary {
    fn text(&mut self, field: Field, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn id(&mut self, field: Field, bytes: &[u8]) {
        self.bytes(field, bytes);
    }

    fn flag(&mut self, field: Field, flag: bool) {
        self.number(field, u32::from(flag));
    }

    fn number(&mut self, field: Field, number: u32) {
        self.tag(field, VARINT);
        self.varint(number.into());
    }

    fn int(&mut self, field: Field, number: i64) {
        self.tag(field, VARINT);
        self.varint(number.cast_unsigned());
    }

    fn fixed(&mut self, field: Field, number: u64) {
        self.tag(field, EIGHT_BYTES);
        self.0.extend(number.to_le_bytes());
    }

    fn fixeds(&mut self, field: Field, numbers: &[u64]) {
        self.packed(field, numbers.iter().copied());
    }

    fn double(&mut self, field: Field, number: f64) {
        self.fixed(field, number.to_bits());
    }

    fn doubles(&mut self, field: Field, numbers: &[f64]) {
        self.packed(field, numbers.iter().map(|number| number.to_bits()));
    }

    fn message(&mut self, field: Field, write: impl FnOnce(&mut Self)) {
        self.tag(field, LENGTH);
        let start = self.0.len();
        write(self);
        // Most lengths take two bytes at most, so that moving the message costs little.
        let (bytes, length) = varint((self.0.len() - start) as u64);
        self.0.splice(start..start, bytes.into_iter().take(length));
    }

    fn messages<T>(
        &mut self,
        field: Field,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        for item in items {
            self.message(field, |inner| write(inner, item));
        }
    }

    fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// The JSON form, as OTLP has it: identifiers are hexadecimal, numbers of 64 bits are texts.
#[derive(Debug)]
pub struct Json(Vec<u8>);

impl Default for Json {
    fn default() -> Self {
        Self(vec![b'{'])
    }
}

impl Json {
    fn name(&mut self, field: Field) {
        self.comma();
        self.text_of(field.1);
        self.0.push(b':');
    }

    fn comma(&mut self) {
        if !matches!(self.0.last(), Some(b'{' | b'[')) {
            self.0.push(b',');
        }
    }

    fn push(&mut self, json: &str) {
        self.0.extend_from_slice(json.as_bytes());
    }

    fn text_of(&mut self, text: &str) {
        // Writing to memory cannot fail.
        let _ok = serde_json::to_writer(&mut self.0, text);
    }

    fn double_of(&mut self, number: f64) {
        match number {
            f64::INFINITY => self.push("\"Infinity\""),
            f64::NEG_INFINITY => self.push("\"-Infinity\""),
            number if number.is_nan() => self.push("\"NaN\""),
            number => self.push(&number.to_string()),
        }
    }

    fn list<T>(
        &mut self,
        field: Field,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.name(field);
        self.0.push(b'[');
        for item in items {
            self.comma();
            write(self, item);
        }
        self.0.push(b']');
    }

    fn object(&mut self, write: impl FnOnce(&mut Self)) {
        self.0.push(b'{');
        write(self);
        self.0.push(b'}');
    }
}

impl Form for Json {
    fn text(&mut self, field: Field, text: &str) {
        self.name(field);
        self.text_of(text);
    }

    fn id(&mut self, field: Field, bytes: &[u8]) {
        self.name(field);
        self.0.push(b'"');
        self.0.extend(bytes.iter().flat_map(|byte| hex(*byte)));
        self.0.push(b'"');
    }

    fn flag(&mut self, field: Field, flag: bool) {
        self.name(field);
        self.push(if flag { "true" } else { "false" });
    }

    fn number(&mut self, field: Field, number: u32) {
        self.name(field);
        self.push(&number.to_string());
    }

    fn int(&mut self, field: Field, number: i64) {
        self.name(field);
        self.push(&format!("\"{number}\""));
    }

    fn fixed(&mut self, field: Field, number: u64) {
        self.name(field);
        self.push(&format!("\"{number}\""));
    }

    fn fixeds(&mut self, field: Field, numbers: &[u64]) {
        self.list(field, numbers, |json, number| {
            json.push(&format!("\"{number}\""));
        });
    }

    fn double(&mut self, field: Field, number: f64) {
        self.name(field);
        self.double_of(number);
    }

    fn doubles(&mut self, field: Field, numbers: &[f64]) {
        self.list(field, numbers, |json, number| json.double_of(*number));
    }

    fn message(&mut self, field: Field, write: impl FnOnce(&mut Self)) {
        self.name(field);
        self.object(write);
    }

    fn messages<T>(
        &mut self,
        field: Field,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.list(field, items, |json, item| {
            json.object(|json| write(json, item));
        });
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

/// A field's value as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Any whole number, an enum's, or true (1) and false (0).
    Varint(u64),
    /// `fixed64`, or the bits of a `double`.
    Eight(u64),
    /// `fixed32`, or the bits of a `float`.
    Four(u32),
    /// A text, bytes, a message, or several packed numbers.
    Bytes(&'a [u8]),
}

/// The bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid protobuf message")]
pub struct Malformed;

/// The fields of a message in the binary form, in the order in which they stand, each with its
/// number. Ends after an error.
#[derive(Clone, Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Of a whole message.
    pub const fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn read(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_large| Malformed)?;
        let value = match tag & 7 {
            VARINT => Value::Varint(self.varint()?),
            EIGHT_BYTES => Value::Eight(u64::from_le_bytes(self.array()?)),
            FOUR_BYTES => Value::Four(u32::from_le_bytes(self.array()?)),
            LENGTH => {
                let length = usize::try_from(self.varint()?).map_err(|_large| Malformed)?;
                Value::Bytes(self.take(length)?)
            },
            _ => return Err(Malformed),
        };
        if number == 0 {
            Err(Malformed)
        } else {
            Ok((number, value))
        }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for group in 0..10 {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << (7 * group);
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.0 = &[];
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Field = Field(1, "a");
    const B: Field = Field(16, "theB");

    fn example<F: Form>() -> Vec<u8> {
        let mut form = F::default();
        form.text(A, "t\"\u{e9}");
        form.id(B, &[0xab, 1]);
        form.message(A, |inner| {
            inner.flag(A, true);
            inner.number(B, 300);
            inner.message(A, |_empty| {});
        });
        form.messages(B, [-1, 7], |inner, number| inner.int(A, number));
        form.fixed(A, 1 << 63);
        form.fixeds(A, &[1, 2]);
        form.double(A, 0.5);
        form.doubles(B, &[1.0, f64::INFINITY]);
        form.finish()
    }

    #[test]
    fn the_json_form_has_hexadecimal_ids_and_large_numbers_as_texts() {
        let json = String::from_utf8(example::<Json>()).unwrap();
        assert_eq!(
            json,
            r#"{"a":"t\"é","theB":"ab01","a":{"a":true,"theB":300,"a":{}},"theB":[{"a":"-1"},{"a":"7"}],"a":"9223372036854775808","a":["1","2"],"a":0.5,"theB":[1,"Infinity"]}"#
        );
    }

    #[test]
    fn the_binary_form_is_what_the_specification_says() {
        let mut form = Binary::default();
        form.int(A, 150);
        form.text(Field(2, ""), "testing");
        form.message(Field(3, ""), |inner| inner.int(A, 150));
        let expected = b"\x08\x96\x01\x12\x07testing\x1a\x03\x08\x96\x01";
        assert_eq!(form.finish(), expected);
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = example::<Binary>();
        let fields: Vec<_> = Fields::of(&bytes).map(Result::unwrap).collect();
        assert_eq!(fields[0], (1, Value::Bytes("t\"é".as_bytes())));
        assert_eq!(fields[1], (16, Value::Bytes(&[0xab, 1])));
        let Value::Bytes(inner) = fields[2].1 else {
            panic!("{fields:?}")
        };
        let inner: Vec<_> = Fields::of(inner).map(Result::unwrap).collect();
        let expected = [
            (1, Value::Varint(1)),
            (16, Value::Varint(300)),
            (1, Value::Bytes(&[])),
        ];
        assert_eq!(inner, expected);
        let minus_one = [&[8][..], &[0xff; 9], &[1]].concat();
        assert_eq!(fields[3], (16, Value::Bytes(&minus_one)));
        assert_eq!(fields[5], (1, Value::Eight(1 << 63)));
        assert_eq!(fields.len(), 9);
    }

    #[test]
    fn a_long_message_within_a_message_keeps_its_place() {
        let text = "x".repeat(20_000);
        let mut form = Binary::default();
        form.message(A, |outer| outer.message(B, |inner| inner.text(A, &text)));
        let bytes = form.finish();
        let within = |bytes: &[u8]| match Fields::of(bytes).next() {
            Some(Ok((_, Value::Bytes(inner)))) => inner.to_vec(),
            other => panic!("{other:?}"),
        };
        assert_eq!(within(&within(&within(&bytes))), text.as_bytes());
    }

    proptest! {
        #[test]
        fn numbers_are_read_back(number: u64) {
            let mut form = Binary::default();
            form.int(A, number.cast_signed());
            form.fixed(B, number);
            let bytes = form.finish();
            let fields: Vec<_> = Fields::of(&bytes).collect();
            prop_assert_eq!(fields, vec![Ok((1, Value::Varint(number))), Ok((16, Value::Eight(number)))]);
        }

        #[test]
        fn any_bytes_are_read_to_an_end(bytes: Vec<u8>) {
            let count = Fields::of(&bytes).count();
            prop_assert!(count <= bytes.len());
        }
    }
}
