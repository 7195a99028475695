//! YAML as Kubernetes' tools read and write it.

use std::fmt::Write as _;

use serde_json::Value;

/// Reads one document.
///
/// # Errors
/// It is no YAML, with where it is not.
pub(super) fn read(text: &str) -> Result<Value, String> {
    // As kubectl reads it: 0644 is a file's mode.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}

/// Writes one document, keys in alphabetical order, as `kubectl get -o yaml` does.
pub(super) fn write(value: &Value) -> String {
    let mut out = String::new();
    if is_block(value) {
        block(value, 0, &mut out);
    } else {
        scalar(value, 0, &mut out);
        out.push('\n');
    }
    out
}

/// Whether it takes lines of its own.
fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    }
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.extend(std::iter::repeat_n(' ', indent));
                out.push_str(&one_line(key));
                out.push(':');
                match value {
                    // Lists begin in the column of their key.
                    Value::Array(_) if is_block(value) => {
                        out.push('\n');
                        block(value, indent, out);
                    },
                    _ if is_block(value) => {
                        out.push('\n');
                        block(value, indent + 2, out);
                    },
                    _ => {
                        out.push(' ');
                        scalar(value, indent + 2, out);
                        out.push('\n');
                    },
                }
            }
        },
        Value::Array(list) => {
            for item in list {
                let begin = out.len();
                if is_block(item) {
                    block(item, indent + 2, out);
                } else {
                    out.extend(std::iter::repeat_n(' ', indent + 2));
                    scalar(item, indent + 2, out);
                    out.push('\n');
                }
                // The dash takes the place of the first line's last two spaces.
                out.replace_range(begin + indent..begin + indent + 2, "- ");
            }
        },
        _ => {},
    }
}

/// What takes no lines of its own, or is a text of several, which are indented by `indent`.
fn scalar(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::String(text) if fits_lines(text) => {
            out.push_str(if text.ends_with('\n') { "|" } else { "|-" });
            for line in text.lines() {
                out.push('\n');
                if !line.is_empty() {
                    out.extend(std::iter::repeat_n(' ', indent));
                    out.push_str(line);
                }
            }
        },
        Value::String(text) => out.push_str(&one_line(text)),
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        other => out.push_str(&other.to_string()),
    }
}

/// Whether a text can stand as lines, and reads better so.
fn fits_lines(text: &str) -> bool {
    let lines = text.strip_suffix('\n').unwrap_or(text);
    let printable = |letter: char| !letter.is_control() && !is_odd(letter);
    lines.contains('\n')
        && !lines.starts_with([' ', '\n'])
        && !lines.ends_with('\n')
        && lines
            .split('\n')
            .all(|line| line.chars().all(printable) && !line.ends_with(' '))
}

/// What some readers take for a line's end or do not take at all.
fn is_odd(letter: char) -> bool {
    matches!(
        letter,
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}'
    )
}

/// A text on one line, quoted unless it can be nothing else.
fn one_line(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    // What JSON escapes, YAML reads alike.
    let quoted = Value::from(text).to_string();
    let mut safe = String::with_capacity(quoted.len());
    for letter in quoted.chars() {
        if is_odd(letter) {
            // Writing to a string does not fail.
            let _written = write!(safe, "\\u{:04x}", u32::from(letter));
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// What some version of YAML reads as something else than a text.
const WORDS: &[&str] = &["false", "n", "no", "null", "off", "on", "true", "y", "yes"];

/// Whether every reader takes it for the text that it is.
fn is_plain(text: &str) -> bool {
    let letters = |letter: char| letter.is_ascii_alphanumeric() || "_-./ ".contains(letter);
    let first = text.chars().next();
    first.is_some_and(|letter| letter.is_ascii_alphabetic() || letter == '/')
        && text.chars().all(letters)
        && !text.ends_with(' ')
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_written_as_people_write_it() {
        let value = json!({
            "a": [{"name": "x", "list": [1, "2"]}, [], {}, [["deep"]]],
            "b": "first\nsecond\n",
            "c": {"d": {"e": null}},
            "f": ["several\nlines", "yes", "0644", "a: b", "", "web-1.5"]
        });
        let text = "a:\n- list:\n  - 1\n  - \"2\"\n  name: x\n- []\n- {}\n- - - deep\nb: |\n  first\n  \
                    second\nc:\n  d:\n    e: null\nf:\n- |-\n  several\n  lines\n- \"yes\"\n- \
                    \"0644\"\n- \"a: b\"\n- \"\"\n- web-1.5\n";
        assert_eq!(write(&value), text);
        assert_eq!(read(text).unwrap(), value);
    }

    #[test]
    fn modes_of_files_are_octal() {
        assert_eq!(
            read("defaultMode: 0644").unwrap(),
            json!({"defaultMode": 420})
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            any::<String>(),
            "[a-z0-9:# \\n\\t|>'\"{}\\[\\],&*!%@`-]{0,12}",
            Just("~".to_owned()),
            Just(" x\n".to_owned()),
            Just("x\n\n".to_owned()),
            Just("1e3".to_owned()),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(text.clone(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in any_value()) {
            let text = write(&value);
            prop_assert_eq!(read(&text).unwrap(), value, "{}", text);
        }
    }
}
