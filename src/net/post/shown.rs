//! What may be shown of an address: there may be keys in the rest of it.

use http::Uri;

/// The host in an address; none if it names none. A `@` behind it may be the end of a password with a `/`,
/// a `?` or a `#` in it: then nothing is sure to be the host, and none is told.
pub fn shown_host(address: &str) -> Option<Box<str>> {
    let behind_scheme = address.split_once("://").map_or(address, |(_, rest)| rest);
    let rest = behind_scheme.split_once(['/', '?', '#']);
    if rest.is_some_and(|(_, rest)| rest.contains('@')) {
        return None;
    }
    let uri: Uri = address.parse().ok()?;
    let host = uri.host().filter(|host| !host.is_empty());
    host.map(Box::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_told_and_nothing_else_of_an_address() {
        for (address, host) in [
            ("https://h.example:1/key?k=v", Some("h.example")),
            ("http://[::1]:4318", Some("[::1]")),
            ("stats:8125", Some("stats")),
            ("/run/statsd.sock", None),
            ("unix:///run/statsd.sock", None),
            ("postgres://u:hush@db:5432/x", Some("db")),
            ("postgres://u:hu@sh@db:5432/x", Some("db")),
            ("postgres://u:hu/sh@db:5432/x", None),
            ("http://hu/sh@db", None),
            ("http://hu?sh@db", None),
            ("http://hu#sh@db", None),
            ("hu#sh@db:1", None),
            ("", None),
        ] {
            assert_eq!(shown_host(address).as_deref(), host, "{address}");
        }
    }
}
