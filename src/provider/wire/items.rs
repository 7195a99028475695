//! Takes the items of a list out of a JSON document while it passes, so that the document need not
//! be held.

/// The document so far.
#[derive(Debug)]
pub struct Items {
    /// The list's name.
    key: &'static str,
    /// The most bytes of an item that are kept; a larger one is left out.
    most: usize,
    /// How many objects and lists are open.
    depth: u32,
    /// How many are while the list's items begin.
    list: Option<u32>,
    at: At,
    /// The beginning of the last string outside of items.
    text: Vec<u8>,
    /// The item that has begun.
    item: Option<Vec<u8>>,
    /// It is too large.
    skips: bool,
    too_large: u64,
    search: Search,
}

/// Where the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Outside of strings.
    Plain,
    /// What stands next is the list, if it is one.
    Named,
    String,
    /// In a string, behind a backslash.
    Escaped,
}

/// How far the list is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    Begun,
    /// A list had items.
    Found,
    /// It has ended.
    Done,
}

impl Items {
    /// Of the first list with the name `key` that has any objects: where there are more, they say
    /// the same. `most`: the largest item that is kept, in bytes.
    pub const fn new(key: &'static str, most: usize) -> Self {
        Self {
            key,
            most,
            depth: 0,
            list: None,
            at: At::Plain,
            text: Vec::new(),
            item: None,
            skips: false,
            too_large: 0,
            search: Search::Begun,
        }
    }

    /// Takes in a chunk; `read` is called with each object in the list that ends in it.
    pub fn take(&mut self, chunk: &[u8], mut read: impl FnMut(&[u8])) {
        for byte in chunk {
            if self.search == Search::Done {
                return;
            }
            self.keep(*byte);
            match byte {
                _ if matches!(self.at, At::String | At::Escaped) => self.go_on(*byte),
                b'"' => {
                    self.at = At::String;
                    self.text.clear();
                },
                b':' if self.item.is_none() && self.text == self.key.as_bytes() => {
                    self.at = At::Named;
                },
                b',' => self.at = At::Plain,
                b'{' | b'[' => self.open(*byte),
                b'}' | b']' => self.close(*byte, &mut read),
                _ => {},
            }
        }
    }

    /// How many items were too large to read.
    pub const fn too_large(&self) -> u64 {
        self.too_large
    }

    fn keep(&mut self, byte: u8) {
        let Some(item) = self.item.as_mut().filter(|_| !self.skips) else {
            return;
        };
        if item.len() < self.most {
            item.push(byte);
        } else {
            self.skips = true;
            self.too_large += 1;
            *item = Vec::new();
        }
    }

    /// Inside of a string.
    fn go_on(&mut self, byte: u8) {
        self.at = match (self.at, byte) {
            (At::String, b'\\') => At::Escaped,
            (At::String, b'"') => {
                self.at = At::Plain;
                return;
            },
            _ => At::String,
        };
        // One more than the name has tells that it is another.
        if self.item.is_none() && self.text.len() <= self.key.len() {
            self.text.push(byte);
        }
    }

    fn open(&mut self, byte: u8) {
        if byte == b'{' && self.item.is_none() && self.list == Some(self.depth) {
            self.item = Some(vec![byte]);
            self.skips = false;
        }
        self.depth = self.depth.saturating_add(1);
        if byte == b'[' && self.at == At::Named && self.list.is_none() {
            self.list = Some(self.depth);
        }
        self.at = At::Plain;
    }

    fn close(&mut self, byte: u8, read: &mut impl FnMut(&[u8])) {
        self.depth = self.depth.saturating_sub(1);
        if byte == b'}' && self.list == Some(self.depth) {
            if let Some(item) = self.item.take()
                && !self.skips
            {
                read(&item);
            }
            self.search = Search::Found;
        } else if byte == b']' && self.list == Some(self.depth.saturating_add(1)) {
            self.list = None;
            if self.search == Search::Found {
                self.search = Search::Done;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn items(document: &str, size: usize, most: usize) -> (Vec<String>, u64) {
        let (mut items, mut found) = (Items::new("answers", most), Vec::new());
        for chunk in document.as_bytes().chunks(size) {
            items.take(chunk, |item| {
                found.push(String::from_utf8_lossy(item).into_owned());
            });
        }
        (found, items.too_large())
    }

    #[test]
    fn the_first_list_with_items_is_taken_apart() {
        let document = r#"{"answers":{"answers" : [ ]}, "a":["answers",[{"x":1}]], "done":true,
            "b":{"answers":[ {"n":1,"answers":[{"n":9}],"t":"}]\"\\"}, 7, [{"n":8}], {"n":2}]},
            "c":{"answers":[{"n":1},{"n":2}]}}"#;
        let expected = [r#"{"n":1,"answers":[{"n":9}],"t":"}]\"\\"}"#, r#"{"n":2}"#];
        for size in 1..=document.len() {
            assert_eq!(items(document, size, 1000).0, expected, "{size}");
        }
    }

    #[test]
    fn an_item_that_is_too_large_is_left_out_and_counted() {
        let document = format!(r#"{{"answers":[{{"a":"{}"}},{{"b":1}}]}}"#, "x".repeat(100));
        let found = items(&document, 7, 50);
        assert_eq!(found, (vec![r#"{"b":1}"#.to_owned()], 1));
        let mut items = Items::new("answers", 50);
        items.take(&document.as_bytes()[..100], |_| {});
        assert_eq!(items.item.map(|kept| kept.capacity()), Some(0));
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter_and_nothing_is_lost(
            texts in prop::collection::vec(".{0,12}", 0..5),
            size in 1_usize..40,
            pretty: bool,
        ) {
            let list: Vec<Value> = texts.iter().map(|text| json!({"t": text})).collect();
            let document = json!({"answers": list, "z": {"answers": list}});
            let document = if pretty {
                serde_json::to_string_pretty(&document).unwrap()
            } else {
                document.to_string()
            };
            let (found, _) = items(&document, size, 1000);
            let found: Vec<Value> =
                found.iter().map(|item| serde_json::from_str(item).unwrap()).collect();
            prop_assert_eq!(found, list);
        }

        #[test]
        fn whatever_comes_in_chunks_do_not_matter(
            document in r#"[{}\[\]"\\,:a ]{0,40}"#,
            size in 1_usize..10,
        ) {
            let document = format!(r#"{{"answers":[{document}"#);
            prop_assert_eq!(items(&document, size, 20), items(&document, usize::MAX, 20));
        }
    }
}
