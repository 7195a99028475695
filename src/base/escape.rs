//! JSON's escapes, resolved in text that no parser takes: what they stand for nobody can tell is
//! U+FFFD, and nothing is an error.

/// The inside of a JSON string, or any text with escapes like those, as what it stands for.
pub fn resolved(escaped: &[u8]) -> String {
    let mut out = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at_checked(at).unwrap_or((rest, b""));
        out.extend_from_slice(plain);
        rest = match escape {
            [b'\\', b'u', digits @ ..] => {
                let (found, after) = unicode(digits);
                let mut buffer = [0; 4];
                out.extend_from_slice(found.encode_utf8(&mut buffer).as_bytes());
                after
            },
            [b'\\', letter, after @ ..] => {
                out.push(match letter {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'f' => 12,
                    other => *other,
                });
                after
            },
            _ => b"",
        };
    }
    out.extend_from_slice(rest);
    String::from_utf8_lossy(&out).into_owned()
}

/// The character behind `\u`, with the second half of a pair if it is one; and what follows.
fn unicode(digits: &[u8]) -> (char, &[u8]) {
    const NONE: char = char::REPLACEMENT_CHARACTER;
    let Some((first, after)) = unit(digits) else {
        return (NONE, digits);
    };
    if let [b'\\', b'u', low @ ..] = after
        && let Some((second, behind)) = unit(low)
        && let Some(Ok(pair)) = char::decode_utf16([first, second]).next()
        && u32::from(pair) > 0xffff
    {
        return (pair, behind);
    }
    (char::from_u32(u32::from(first)).unwrap_or(NONE), after)
}

fn unit(digits: &[u8]) -> Option<(u16, &[u8])> {
    let (four, after) = digits.split_at_checked(4)?;
    let plain = four.iter().all(u8::is_ascii_hexdigit);
    let unit = u16::from_str_radix(std::str::from_utf8(four).ok()?, 16).ok()?;
    plain.then_some((unit, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_no_parser_takes_is_resolved_as_far_as_it_can_be() {
        for (escaped, expected) in [
            (&b"a\\u0040b\\n\\\"\\u00e9\\/"[..], "a@b\n\"\u{e9}/"),
            (b"x\xff\\u0040y", "x\u{fffd}@y"),
            (
                b"\\ud83d\\ude00 \\ud83d! \\ude00",
                "\u{1f600} \u{fffd}! \u{fffd}",
            ),
            (b"\\u12\\q\\uzzzz\xc3\\", "\u{fffd}12q\u{fffd}zzzz\u{fffd}"),
        ] {
            assert_eq!(resolved(escaped), expected);
        }
    }

    proptest! {
        #[test]
        fn every_text_comes_back_from_its_escapes(text in ".{0,12}") {
            let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
            prop_assert_eq!(resolved(units.collect::<String>().as_bytes()), &*text);
            let quoted = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(resolved(&quoted.as_bytes()[1..quoted.len() - 1]), text);
        }
    }
}
