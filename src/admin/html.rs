//! HTML, a little: text that is escaped by its type.

use std::fmt::{self, Display, Write as _};

/// Text as it may stand anywhere in a page.
pub(super) struct Escaped<T>(pub(super) T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaper(f), "{}", self.0)
    }
}

struct Escaper<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaper<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '&' => self.0.write_str("&amp;")?,
                '<' => self.0.write_str("&lt;")?,
                '>' => self.0.write_str("&gt;")?,
                '"' => self.0.write_str("&quot;")?,
                '\'' => self.0.write_str("&#39;")?,
                letter if letter.is_control() => self.0.write_char('\u{fffd}')?,
                letter => self.0.write_char(letter)?,
            }
        }
        Ok(())
    }
}

/// A table; cells are escaped, and those of numbers stand on the right.
pub(super) struct Table<'a> {
    /// Titles; one that begins with `#` is of numbers.
    pub(super) titles: &'a [&'a str],
    /// Rows of as many cells.
    pub(super) rows: Vec<Vec<String>>,
    /// What is said if there are no rows.
    pub(super) none: &'a str,
}

impl Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return write!(f, "<p class=none>{}</p>", Escaped(self.none));
        }
        let class = |title: &str| {
            if title.starts_with('#') {
                " class=n"
            } else {
                ""
            }
        };
        f.write_str("<div class=scroll><table><thead><tr>")?;
        for title in self.titles {
            let text = title.trim_start_matches('#');
            write!(f, "<th{}>{}</th>", class(title), Escaped(text))?;
        }
        f.write_str("</tr></thead><tbody>")?;
        for row in &self.rows {
            f.write_str("<tr>")?;
            for (cell, title) in row.iter().zip(self.titles) {
                write!(f, "<td{}>{}</td>", class(title), Escaped(cell))?;
            }
            f.write_str("</tr>")?;
        }
        f.write_str("</tbody></table></div>")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_table_escapes_what_is_in_it() {
        let table = Table {
            titles: &["agent", "#cost"],
            rows: vec![vec![
                "<script>alert('x')</script>".to_owned(),
                "1 & 2".to_owned(),
            ]],
            none: "",
        };
        let html = table.to_string();
        assert!(
            html.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"),
            "{html}"
        );
        assert!(html.contains("<td class=n>1 &amp; 2</td>"), "{html}");
    }

    proptest! {
        #[test]
        fn no_text_opens_a_tag_or_leaves_an_attribute(text in ".*") {
            let html = Escaped(&text).to_string();
            let special = |letter: char| "<>\"'".contains(letter) || letter.is_control();
            prop_assert!(!html.contains(special));
        }
    }
}
