//! What follows the `?` in a path, and percent signs anywhere in it.

use std::str::FromStr;

use super::answer::Problem;

/// The parameters of a request, each to be taken once.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        let parts = query.unwrap_or_default().split('&');
        for part in parts.filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (decode(name)?, decode(&value.replace('+', " "))?);
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(Problem::bad(format!("`{name}` is there twice")));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// The text of a parameter; none if it is not there or empty.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.0.swap_remove(place);
        (!value.is_empty()).then_some(value)
    }

    /// The value of a parameter.
    ///
    /// # Errors
    /// It is not one.
    pub(super) fn value<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        name: &str,
    ) -> Result<Option<T>, Problem> {
        self.read(name, str::parse::<T>)
    }

    /// The value of a parameter, read by `read`.
    ///
    /// # Errors
    /// It is not one.
    pub(super) fn read<T, E: std::fmt::Display>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        let text = self.text(name);
        let value = text.map(|text| read(&text)).transpose();
        value.map_err(|error| Problem::bad(format!("`{name}`: {error}")))
    }

    /// Ends the taking.
    ///
    /// # Errors
    /// Something is left: its name is unknown.
    pub(super) fn finish(self, known: &str) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::bad(format!(
                "`{name}` is not asked for here: there is {known}"
            ))),
        }
    }
}

/// Text with its percent signs resolved.
///
/// # Errors
/// One is not followed by two hexadecimal digits, or the result is not UTF-8.
pub(super) fn decode(text: &str) -> Result<String, Problem> {
    let wrong = || Problem::bad(format!("`{text}` is not percent-encoded UTF-8"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = digit().zip(digit()).ok_or_else(wrong)?;
        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    String::from_utf8(bytes).map_err(|_invalid| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_taken_once() {
        let mut query = Query::parse(Some("agent=a%20b&limit=5&user=x+y&empty=")).unwrap();
        assert_eq!(query.text("agent").as_deref(), Some("a b"));
        assert_eq!(query.text("agent"), None);
        assert_eq!(query.text("user").as_deref(), Some("x y"));
        assert_eq!(query.text("empty"), None);
        assert_eq!(query.value::<usize>("limit"), Ok(Some(5)));
        assert_eq!(query.finish(""), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |problem: Problem| problem.message;
        assert!(message(Query::parse(Some("a=1&a=2")).unwrap_err()).contains("`a`"));
        for text in ["%", "%4", "%zz", "%ff"] {
            assert!(message(decode(text).unwrap_err()).contains(text));
        }
        let mut query = Query::parse(Some("limit=many")).unwrap();
        assert!(message(query.value::<usize>("limit").unwrap_err()).contains("`limit`"));
        let query = Query::parse(Some("colour=red")).unwrap();
        assert!(message(query.finish("agent, user").unwrap_err()).contains("agent, user"));
    }
}
