//! YAML as a small tree that remembers where everything was written.
//!
//! Aliases are copied in, within a bound; tags other than `!!str` and merge keys are refused: a
//! configuration does not need them, and what they mean differs between parsers.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::problem::{Place, Problem};

/// The most nodes of a document, aliases copied in: what bounds an alias bomb.
const MAX_NODES: usize = 100_000;
/// How deep lists and mappings may be nested.
const MAX_DEPTH: usize = 64;

/// Names a node or a key of one document. Copies of an alias share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id(usize);

/// A value.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: Id,
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A mapping's key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) id: Id,
    pub(super) place: Place,
    pub(super) text: String,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A scalar. What type it is depends on who asks.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Written without quotes: it may be a number, a boolean or null.
    pub(super) plain: bool,
    /// What was written, if variables were expanded in it: what may be shown of it.
    pub(super) written: Option<String>,
}

impl Node {
    /// How many nodes it is made of.
    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Self::size).sum(),
            Value::Map(entries) => entries.iter().map(|(_, value)| value.size()).sum(),
        }
    }

    /// The node called `id`, which may also be the value of the key called so.
    pub(super) fn find(&self, id: Id) -> Option<&Self> {
        if self.id == id {
            return Some(self);
        }
        match &self.value {
            Value::Scalar(_) => None,
            Value::List(items) => items.iter().find_map(|item| item.find(id)),
            Value::Map(entries) => entries.iter().find_map(|(key, value)| {
                if key.id == id {
                    Some(value)
                } else {
                    value.find(id)
                }
            }),
        }
    }

    /// As [`Node::find`], to change it.
    pub(super) fn find_mut(&mut self, id: Id) -> Option<&mut Self> {
        if self.id == id {
            return Some(self);
        }
        match &mut self.value {
            Value::Scalar(_) => None,
            Value::List(items) => items.iter_mut().find_map(|item| item.find_mut(id)),
            Value::Map(entries) => entries.iter_mut().find_map(|(_, value)| value.find_mut(id)),
        }
    }

    /// The ids of its items, or of its values with their keys.
    pub(super) fn children(&self) -> Vec<(&str, Id)> {
        match &self.value {
            Value::Scalar(_) => Vec::new(),
            Value::List(items) => items.iter().map(|item| ("", item.id)).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|(key, value)| (key.text.as_str(), value.id))
                .collect(),
        }
    }

    /// Takes out what is called `id`, an entry with its key. Says whether it was there.
    pub(super) fn remove(&mut self, id: Id) -> bool {
        match &mut self.value {
            Value::Scalar(_) => false,
            Value::List(items) => {
                let before = items.len();
                items.retain(|item| item.id != id);
                items.len() < before || items.iter_mut().any(|item| item.remove(id))
            },
            Value::Map(entries) => {
                let before = entries.len();
                entries.retain(|(key, value)| key.id != id && value.id != id);
                entries.len() < before || entries.iter_mut().any(|(_, value)| value.remove(id))
            },
        }
    }

    /// Every node and key with the path to it and the place to show for it, in the order of the
    /// text.
    pub(super) fn places(&self) -> Vec<Located> {
        let mut all = Vec::new();
        self.add_places("", self.place, &mut all);
        all
    }

    fn add_places(&self, path: &str, place: Place, all: &mut Vec<Located>) {
        let located = |id, path: &str, place| Located {
            id,
            path: path.to_owned(),
            place,
        };
        all.push(located(self.id, path, place));
        match &self.value {
            Value::Scalar(_) => {},
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.add_places(&format!("{path}[{index}]"), item.place, all);
                }
            },
            Value::Map(entries) => {
                for (key, value) in entries {
                    let path = join(path, &key.text);
                    // Of a list or mapping one shows the key, not its first item.
                    let place = match value.value {
                        Value::Scalar(_) => value.place,
                        Value::List(_) | Value::Map(_) => key.place,
                    };
                    all.push(located(key.id, &path, key.place));
                    value.add_places(&path, place, all);
                }
            },
        }
    }
}

/// Where a node or key is.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) id: Id,
    pub(super) path: String,
    pub(super) place: Place,
}

/// The path of `key` below `path`; quoted where a bare one could be misread.
fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && !key.contains(['.', '[', ']', '"', ' ']);
    match (bare, path) {
        (true, "") => key.to_owned(),
        (true, path) => format!("{path}.{key}"),
        (false, path) => format!("{path}[{key:?}]"),
    }
}

/// Reads one YAML document. With it come the problems that do not keep the rest from being read:
/// keys given twice.
///
/// # Errors
/// The text is not YAML, or more than the bounds allow, or uses what is refused.
pub(super) fn parse(text: &str) -> Result<(Node, Vec<Problem>), Problem> {
    parse_from(text, 0)
}

/// The same, with ids above `first`.
pub(super) fn parse_from(text: &str, first: usize) -> Result<(Node, Vec<Problem>), Problem> {
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        text,
        events: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        ids: first,
        problems: Vec::new(),
    };
    let mut root = None;
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::DocumentStart(..) if root.is_some() => {
                return Err(refused(
                    span,
                    "a second document; one file is one configuration",
                ));
            },
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {},
            Event::StreamEnd => break,
            event => root = Some(reader.node(event, span, 0)?),
        }
    }
    let root = match root {
        Some(root) if !root.is_null() => root,
        // Nothing, or nothing but comments.
        _ => Node {
            id: reader.next_id(),
            place: START,
            value: Value::Map(Vec::new()),
        },
    };
    Ok((root, reader.problems))
}

const START: Place = Place {
    line: 1,
    column: 1,
    length: 1,
};

struct Reader<'t> {
    text: &'t str,
    events: Parser<'t, StrInput<'t>>,
    /// What aliases stand for.
    anchors: HashMap<usize, Node>,
    /// How many nodes there are so far, at most [`MAX_NODES`].
    nodes: usize,
    ids: usize,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    /// The next event that is not a comment.
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Problem> {
        for event in self.events.by_ref() {
            match event {
                Ok((Event::Comment(..), _)) => {},
                Ok(event) => return Ok(Some(event)),
                Err(error) => return Err(self.not_yaml(&error)),
            }
        }
        Ok(None)
    }

    fn next_id(&mut self) -> Id {
        self.ids += 1;
        Id(self.ids)
    }

    /// The node that `event` begins.
    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Problem> {
        if depth > MAX_DEPTH {
            return Err(refused(span, "more than 64 levels of nesting"));
        }
        let id = self.next_id();
        let (anchor, value) = match event {
            Event::Alias(anchor) => {
                let copy = self.anchors.get(&anchor).cloned();
                let copy =
                    copy.ok_or_else(|| refused(span, "an alias within what it stands for"))?;
                self.count(copy.size(), span)?;
                return Ok(copy);
            },
            Event::Scalar(text, style, anchor, tag) => {
                let tagged = is_text(tag.as_deref(), span)?;
                let scalar = Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain && !tagged,
                    written: None,
                };
                (anchor, Value::Scalar(scalar))
            },
            Event::SequenceStart(_, anchor, tag) => {
                is_text(tag.as_deref(), span)?;
                (anchor, Value::List(self.list(depth)?))
            },
            Event::MappingStart(_, anchor, tag) => {
                is_text(tag.as_deref(), span)?;
                (anchor, Value::Map(self.map(depth)?))
            },
            _ => return Err(refused(span, "something that is not a value")),
        };
        self.count(1, span)?;
        let place = place(span);
        let node = Node { id, place, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Problem> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            items.push(self.node(event, span, depth + 1)?);
        }
        Ok(items)
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, Problem> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let Node { id, place, value } = self.node(event, span, depth + 1)?;
            let Value::Scalar(Scalar { text, .. }) = value else {
                return Err(refused(span, "a list or mapping as a key"));
            };
            if text == "<<" {
                return Err(refused(
                    span,
                    "a merge key; write the keys out, or use an alias",
                ));
            }
            let Some((event, span)) = self.next()? else {
                break;
            };
            let value = self.node(event, span, depth + 1)?;
            match entries.iter().find(|(key, _)| key.text == text) {
                Some((first, _)) => self.problems.push(twice(&text, first.place, place)),
                None => entries.push((Key { id, place, text }, value)),
            }
        }
        Ok(entries)
    }

    fn count(&mut self, more: usize, span: Span) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MAX_NODES {
            return Err(refused(
                span,
                "more than 100000 values, aliases written out",
            ));
        }
        Ok(())
    }

    fn not_yaml(&self, error: &ScanError) -> Problem {
        let at = error.marker();
        let problem = Problem::error("", format!("this is not YAML: {}", error.info())).at(Place {
            line: at.line(),
            column: at.col() + 1,
            length: 1,
        });
        let line = self.text.lines().nth(at.line().saturating_sub(1));
        if line.is_some_and(|line| line.contains("${")) {
            problem.help("within { } and [ ], quote what has variables in it: \"${NAME}\"")
        } else if line.is_some_and(|line| line.contains('\t')) {
            problem.help("YAML is indented with spaces, not with tabs")
        } else if error.info().contains("did not find expected key") {
            problem.help("keys of one mapping begin in the same column")
        } else {
            problem
        }
    }
}

/// Whether the tag asks for text. Any other tag is refused.
fn is_text(tag: Option<&Tag>, span: Span) -> Result<bool, Problem> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema_tag("str") || tag.suffix().is_empty() => Ok(true),
        Some(_) => Err(refused(span, "a tag; only !!str has a meaning here")),
    }
}

fn refused(span: Span, what: &str) -> Problem {
    Problem::error("", format!("not allowed: {what}")).at(place(span))
}

fn twice(key: &str, first: Place, second: Place) -> Problem {
    Problem::error(
        key,
        format!("`{key}` is given twice; first on line {}", first.line),
    )
    .at(second)
}

/// Where `span` begins, and how long it is on that line.
fn place(span: Span) -> Place {
    let (start, end) = (span.start, span.end);
    let length = if start.line() == end.line() {
        end.col().saturating_sub(start.col())
    } else {
        1
    };
    Place {
        line: start.line(),
        column: start.col() + 1,
        length: length.max(1),
    }
}

#[cfg(test)]
mod tests;
