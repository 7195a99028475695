//! A cursor that goes over a JSON document once: whoever reads a value enters it or passes over
//! it, and either way the cursor is behind it then. Where text is to be counted, that is done on
//! the way.
//!
//! Nothing is validated but the brackets and strings that say where values end, and the names,
//! colons and commas of objects that are entered. Where an entered value is not what it should be,
//! the rest of it is passed over as if it had not been entered.

use std::borrow::Cow;

use super::{json::Json, quoted::Quoted};
use crate::call::text::Text;

/// Where reading is.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    raw: &'a [u8],
    at: usize,
    /// Where `raw` begins in its document.
    base: usize,
    /// The text passed so far in the value that is read, if it is counted.
    text: Text,
    counting: Counting,
}

/// Whether the text in what is passed is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counting {
    /// In all of it.
    On,
    /// Only in what is asked for.
    Off,
}

/// The value that is read next: once, by one of its methods, or not at all.
#[derive(Debug)]
pub struct Ahead<'c, 'a>(&'c mut Cursor<'a>);

impl<'a> Ahead<'_, 'a> {
    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.0.peek() == Some(b'{')
    }

    /// Whether it is an array.
    pub fn is_array(&self) -> bool {
        self.0.peek() == Some(b'[')
    }

    /// Whether it is a string.
    pub fn is_string(&self) -> bool {
        self.0.peek() == Some(b'"')
    }

    /// Passes over it, and hands it over.
    pub fn take(self) -> Json<'a> {
        self.0.pass(Cursor::skip)
    }

    /// Passes over it, and counts the text in it: see [`Json::text`].
    pub fn count(self) -> Text {
        let before = std::mem::replace(&mut self.0.counting, Counting::On);
        let json = self.0.pass(Cursor::skip);
        self.0.counting = before;
        json.text()
    }

    /// Enters an object, and hands it over: `each` gets every name, with escapes resolved, and may
    /// read the value. Of any other value there are none; behind the place where an object is
    /// broken neither.
    pub fn object(self, mut each: impl FnMut(&[u8], Ahead<'_, 'a>)) -> Json<'a> {
        if !self.is_object() {
            return self.take();
        }
        self.0.pass(|cursor| {
            cursor.at += 1;
            cursor.fields(&mut each).or_else(|| cursor.close())
        })
    }

    /// Enters an array, and hands it over: `each` may read every item. Of any other value there are
    /// none; behind the place where an array is broken neither.
    pub fn items(self, mut each: impl FnMut(Ahead<'_, 'a>)) -> Json<'a> {
        if !self.is_array() {
            return self.take();
        }
        self.0.pass(|cursor| {
            cursor.at += 1;
            cursor.list(&mut each).or_else(|| cursor.close())
        })
    }
}

impl<'a> Cursor<'a> {
    /// Before the value `raw`, which begins at `base` of its document.
    pub(super) fn new(raw: &'a [u8], base: usize, counting: Counting) -> Self {
        Self {
            raw,
            at: 0,
            base,
            text: Text::default(),
            counting,
        }
    }

    /// The value that comes first.
    pub(super) const fn ahead(&mut self) -> Ahead<'_, 'a> {
        Ahead(self)
    }

    /// Reads the fields of an object that is all there is; `None` if it is broken, or if something
    /// follows.
    pub(super) fn whole_object(
        &mut self,
        mut each: impl FnMut(&[u8], Ahead<'_, 'a>),
    ) -> Option<()> {
        self.expect(b'{')?;
        self.fields(&mut each)?;
        (self.at == self.raw.len()).then_some(())
    }

    fn peek(&self) -> Option<u8> {
        self.raw.get(self.at).copied()
    }

    /// Hands over what `read` passes.
    fn pass(&mut self, read: impl FnOnce(&mut Self) -> Option<()>) -> Json<'a> {
        let start = self.at;
        let before = std::mem::take(&mut self.text);
        let end = match read(self) {
            Some(()) => self.at,
            // A value without an end is none.
            None => start,
        };
        let text = self.text;
        self.text = before + text;
        let raw = self.raw.get(start..end).unwrap_or_default();
        let counted = (self.counting == Counting::On).then_some(text);
        Json::passed(raw, self.base + start, counted)
    }

    /// From behind the brace of an object to behind its end; `None` where it is broken.
    fn fields(&mut self, each: &mut impl FnMut(&[u8], Ahead<'_, 'a>)) -> Option<()> {
        self.space();
        if self.expect(b'}').is_some() {
            return Some(());
        }
        loop {
            self.expect(b'"')?;
            let key = self.key()?;
            self.space();
            self.expect(b':')?;
            self.space();
            self.value(|ahead| each(&key, ahead))?;
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                },
                _ => return None,
            }
            self.space();
        }
    }

    /// From behind the bracket of an array to behind its end; `None` where it is broken.
    fn list(&mut self, each: &mut impl FnMut(Ahead<'_, 'a>)) -> Option<()> {
        loop {
            self.space();
            if self.expect(b',').is_some() {
                self.space();
            }
            if matches!(self.peek()?, b']' | b'}') {
                self.at += 1;
                return Some(());
            }
            self.value(&mut *each)?;
        }
    }

    /// Lets the value be read that begins here, and passes over it if it was not.
    fn value(&mut self, read: impl FnOnce(Ahead<'_, 'a>)) -> Option<()> {
        let start = self.at;
        if matches!(self.peek()?, b',' | b':' | b'}' | b']') {
            return None;
        }
        read(Ahead(self));
        if self.at == start {
            self.skip()?;
        }
        Some(())
    }

    /// Passes over the value that begins here.
    fn skip(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.string().map(|_| ())
            },
            b'{' | b'[' => {
                self.at += 1;
                self.close()
            },
            _ => self.word(),
        }
    }

    /// Passes over the rest of a container that has been entered, to behind its end.
    fn close(&mut self) -> Option<()> {
        let mut depth = 1_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    self.string()?;
                },
                b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                b'{' | b'[' => {
                    self.at += 1;
                    depth += 1;
                },
                b'}' | b']' => {
                    self.at += 1;
                    depth -= 1;
                    if depth == 0 {
                        return Some(());
                    }
                },
                _ => self.word()?,
            }
        }
    }

    /// Passes over a number, `true`, `false` or `null`, or whatever else is no string or container.
    fn word(&mut self) -> Option<()> {
        let rest = self.raw.get(self.at..)?;
        let len = rest
            .iter()
            .position(|byte| *ENDS_WORD.get(usize::from(*byte)).unwrap_or(&true))
            .unwrap_or(rest.len());
        self.at += len;
        self.text.bytes += u64::try_from(len).unwrap_or(u64::MAX);
        (len > 0).then_some(())
    }

    /// Passes over the rest of a string, from behind its opening quote.
    fn string(&mut self) -> Option<Quoted<'a>> {
        let Some(string) = Quoted::read(self.raw, self.at) else {
            self.at = self.raw.len();
            return None;
        };
        self.at += string.inner.len() + 1;
        if self.counting == Counting::On {
            self.text += string.text();
        }
        Some(string)
    }

    /// The name that begins behind the opening quote, with escapes resolved.
    fn key(&mut self) -> Option<Cow<'a, [u8]>> {
        let start = self.at;
        let string = self.string()?;
        if !string.is_escaped {
            return Some(Cow::Borrowed(string.inner));
        }
        let quoted = self.raw.get(start - 1..self.at)?;
        let resolved = serde_json::from_slice::<String>(quoted);
        Some(resolved.map_or(Cow::Borrowed(string.inner), |text| {
            Cow::Owned(text.into_bytes())
        }))
    }

    /// Passes over `byte`, if that is what stands here.
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }
}

/// Which bytes end a word: everything that has a meaning outside of strings.
const ENDS_WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut rest: &[u8] = b",:{}[]\" \n\r\t";
    while let [byte, tail @ ..] = rest {
        #[expect(
            clippy::indexing_slicing,
            reason = "a table of all bytes, at compile time"
        )]
        {
            table[*byte as usize] = true;
        }
        rest = tail;
    }
    table
};
