//! `${NAME}`, `${NAME:-default}` and `${file:/path}` in scalars.
//!
//! Done on the parsed tree, so that a value can never become YAML, and before types are known, so
//! that a number may come from a variable.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::{
    problem::Problem,
    tree::{Id, Node, Scalar, Value},
};

/// The longest value that is read from a file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Where the values come from.
pub struct Sources<'a> {
    /// The value of a variable, if it is set.
    pub variable: &'a (dyn Fn(&str) -> Option<String> + Sync),
    /// The content of a file.
    pub file: &'a (dyn Fn(&Path) -> io::Result<String> + Sync),
}

impl Sources<'static> {
    /// The process's environment and file system.
    pub const SYSTEM: Self = Self {
        variable: &variable,
        file: &file,
    };
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is where the environment is read"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_FILE) {
        let why = "it is larger than 1 MiB";
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

/// Expands every scalar below `root`. One that cannot be expanded is taken out and is a problem.
pub(super) fn expand(root: &mut Node, sources: &Sources<'_>) -> Vec<Problem> {
    let mut failed = Vec::new();
    expand_node(root, sources, &mut failed);
    let places = root.places();
    let mut problems = Vec::new();
    for (id, message) in failed {
        root.remove(id);
        let located = places.iter().find(|located| located.id == id);
        problems.extend(
            located.map(|located| Problem::error(&located.path, message).at(located.place)),
        );
    }
    problems
}

fn expand_node(node: &mut Node, sources: &Sources<'_>, failed: &mut Vec<(Id, String)>) {
    match &mut node.value {
        Value::Scalar(scalar) if scalar.text.contains('$') => {
            match expand_text(&scalar.text, sources) {
                Ok(Expanded { text, from_outside }) => {
                    let written = std::mem::replace(&mut scalar.text, text);
                    scalar.written = from_outside.then_some(written);
                },
                Err(message) if failed.iter().any(|(id, _)| *id == node.id) => drop(message),
                Err(message) => failed.push((node.id, message)),
            }
        },
        Value::Scalar(_) => {},
        Value::List(items) => {
            for item in items {
                expand_node(item, sources, failed);
            }
        },
        Value::Map(entries) => {
            for (_, value) in entries {
                expand_node(value, sources, failed);
            }
        },
    }
}

/// A text, and whether something in it is not from the file itself.
#[derive(Debug, PartialEq, Eq)]
struct Expanded {
    text: String,
    from_outside: bool,
}

fn expand_text(written: &str, sources: &Sources<'_>) -> Result<Expanded, String> {
    let mut text = String::with_capacity(written.len());
    let mut from_outside = false;
    let mut rest = written;
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            text.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let Some((inside, after)) = after.split_once('}') else {
                return Err("`${` without a `}`; write `$$` for a dollar sign".to_owned());
            };
            text.push_str(&look_up(inside, sources)?);
            from_outside = true;
            rest = after;
        } else {
            text.push('$');
            rest = after;
        }
    }
    text.push_str(rest);
    Ok(Expanded { text, from_outside })
}

fn look_up(inside: &str, sources: &Sources<'_>) -> Result<String, String> {
    if let Some(path) = inside.strip_prefix("file:") {
        let content = (sources.file)(Path::new(path))
            .map_err(|error| format!("cannot read the file {path}: {error}"))?;
        // Files end with a newline that nobody means.
        return Ok(content.trim_end_matches(['\n', '\r']).to_owned());
    }
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let valid = name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
        && name.bytes().next().is_some_and(|c| !c.is_ascii_digit());
    if !valid {
        return Err(format!(
            "`${{{inside}}}` is not a variable: expected ${{NAME}}, ${{NAME:-default}} or \
             ${{file:/path}}; write `$$` for a dollar sign"
        ));
    }
    match ((sources.variable)(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "the variable {name} is not set; set it, or give a default: ${{{name}:-…}}"
        )),
    }
}

impl Node {
    /// `message` with what came from variables and files into the scalars here as it was written:
    /// it may be secret.
    pub(super) fn without_secrets(&self, message: String) -> String {
        match &self.value {
            Value::Scalar(scalar) => scalar.without_secrets(message),
            Value::List(items) => items
                .iter()
                .fold(message, |message, item| item.without_secrets(message)),
            Value::Map(entries) => entries.iter().fold(message, |message, (_, value)| {
                value.without_secrets(message)
            }),
        }
    }
}

impl Scalar {
    fn without_secrets(&self, message: String) -> String {
        match &self.written {
            Some(written) if !self.text.is_empty() => {
                let escaped = self.text.escape_debug().to_string();
                message
                    .replace(&escaped, written)
                    .replace(&self.text, written)
            },
            _ => message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tree, *};

    fn sources() -> Sources<'static> {
        Sources {
            variable: &|name| match name {
                "LIMIT" => Some("4.50".to_owned()),
                "EMPTY" => Some(String::new()),
                "EVIL" => Some("a: {b}\n- ${LIMIT}".to_owned()),
                _ => None,
            },
            file: &|path| match path.to_str() {
                Some("/run/secrets/key") => Ok("hush\n".to_owned()),
                _ => Err(io::Error::from(io::ErrorKind::NotFound)),
            },
        }
    }

    #[test]
    fn variables_files_and_defaults_are_put_in() {
        for (written, text) in [
            ("${LIMIT}", "4.50"),
            ("a ${LIMIT} b ${LIMIT}", "a 4.50 b 4.50"),
            ("${NONE:-7}", "7"),
            ("${NONE:-}", ""),
            ("${EMPTY:-7}", "7"),
            ("${EMPTY}", ""),
            ("${file:/run/secrets/key}", "hush"),
            ("$$ $${LIMIT} $ $x", "$ ${LIMIT} $ $x"),
            ("${EVIL}", "a: {b}\n- ${LIMIT}"),
        ] {
            assert_eq!(
                expand_text(written, &sources()).unwrap().text,
                text,
                "{written}"
            );
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_explained() {
        for (written, about) in [
            ("${NONE}", "NONE is not set"),
            ("${LIMIT", "without a `}`"),
            ("${}", "not a variable"),
            ("${1X}", "not a variable"),
            ("${file:/nowhere}", "cannot read the file /nowhere"),
        ] {
            let message = expand_text(written, &sources()).unwrap_err();
            assert!(message.contains(about), "{written}: {message}");
        }
    }

    #[test]
    fn a_value_from_outside_never_becomes_structure() {
        let (mut root, _) = tree::parse("a: ${EVIL}\nb: ${NONE}\n").unwrap();
        let problems = expand(&mut root, &sources());
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].path, "b");
        assert_eq!(problems[0].place.unwrap().line, 2);
        let Value::Map(entries) = root.value else {
            panic!("not a mapping")
        };
        assert_eq!(entries.len(), 1);
        assert!(matches!(&entries[0].1.value, Value::Scalar(_)));
    }
}
