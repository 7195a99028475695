//! Who a call is for: labels from headers, the path segment, baggage and static configuration.
//! (Labels from the body are read by the dialects and added later, as less explicit ones.)

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

use super::{config::Identity, headers::OURS};
use crate::{
    call::labels::{Label, Labels, Source},
    identity::ClientKey,
    provider::wire::percent::decoded,
};

const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
/// What a client key is called in the path's segment.
const KEY: &str = "key";
const TAGS: HeaderName = HeaderName::from_static("x-tollgate-tags");

/// Keys of W3C baggage that name a label, besides `tollgate.<label>`.
const BAGGAGE_KEYS: &[(&str, Label)] = &[
    ("gen_ai.agent.name", Label::Agent),
    ("agent.name", Label::Agent),
    ("user.id", Label::User),
    ("enduser.id", Label::User),
    ("project", Label::Project),
    ("deployment.environment.name", Label::Environment),
    ("deployment.environment", Label::Environment),
    ("session.id", Label::Session),
    ("conversation.id", Label::Session),
    ("gen_ai.conversation.id", Label::Session),
    ("workflow.name", Label::Workflow),
];

/// Reads every source that is not the body. `segment` is what stands between `/~` and the next
/// slash of the path; `key` is the client's.
pub(super) fn labels(
    headers: &HeaderMap,
    segment: Option<&str>,
    key: Option<&ClientKey>,
    identity: &Identity,
) -> Labels {
    let mut labels = Labels::trusting(&identity.sources());
    if let Some(key) = key {
        for (label, value) in &key.labels {
            labels.set(*label, value, Source::Key);
        }
        for (tag, value) in &key.tags {
            labels.tag(tag, value, Source::Key);
        }
    }
    if headers.keys().any(|name| name.as_str().starts_with(OURS)) {
        from_headers(&mut labels, headers);
    }
    for (key, value) in segment.into_iter().flat_map(|segment| pairs(segment, ';')) {
        match Label::named(&key) {
            // Whoever has it can spend: it is no tag.
            None if key == KEY => {},
            Some(label) => labels.set(label, &value, Source::Path),
            None => labels.tag(&key, &value, Source::Path),
        }
    }
    for header in headers.get_all(BAGGAGE) {
        from_baggage(&mut labels, header.to_str().unwrap_or_default());
    }
    for (label, value) in &identity.labels {
        labels.set(*label, value, Source::Static);
    }
    labels
}

/// The client key in the path's segment.
pub(super) fn key_in_path(segment: &str) -> Option<Cow<'_, str>> {
    let mut keys = pairs(segment, ';').filter(|(name, _)| name == KEY);
    keys.next().map(|(_, key)| key)
}

fn from_headers(labels: &mut Labels, headers: &HeaderMap) {
    for (name, value) in headers {
        if let Some(label) = name.as_str().strip_prefix(OURS).and_then(Label::named)
            && let Ok(value) = std::str::from_utf8(value.as_bytes())
        {
            labels.set(label, value, Source::Header);
        }
    }
    for header in headers.get_all(TAGS) {
        for (key, value) in pairs(header.to_str().unwrap_or_default(), ',') {
            labels.tag(&key, &value, Source::Header);
        }
    }
}

/// W3C Baggage: a list of `key=value;properties`, percent-encoded.
fn from_baggage(labels: &mut Labels, text: &str) {
    for member in text.split(',') {
        let member = member.split(';').next().unwrap_or_default();
        for (key, value) in pairs(member, ',') {
            let own = key.strip_prefix("tollgate.").and_then(Label::named);
            let known = BAGGAGE_KEYS.iter().find(|(name, _)| **name == *key);
            if let Some(label) = own.or_else(|| known.map(|(_, label)| *label)) {
                labels.set(label, &value, Source::Baggage);
            }
        }
    }
}

/// `key=value` pairs, percent-decoded; what is not a pair is left out.
fn pairs(text: &str, separator: char) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    text.split(separator).filter_map(|pair| {
        if let Some((key, value)) = pair.split_once('=') {
            return Some((decoded(key.trim()), decoded(value.trim())));
        }
        // The sign itself may be encoded.
        let whole = decoded(pair);
        let (key, value) = whole.split_once('=')?;
        let part = |text: &str| Cow::Owned(text.trim().to_owned());
        Some((part(key), part(value)))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        lines.iter().map(pair).collect()
    }

    #[test]
    fn headers_win_over_the_path_and_the_path_over_baggage() {
        let headers = headers(&[
            ("x-tollgate-agent", "header"),
            (
                "baggage",
                "user.id=b%20ob;p=1, agent.name=no, session.id=s1",
            ),
            ("x-tollgate-tags", "team=core, cost-centre=7"),
        ]);
        let labels = labels(
            &headers,
            Some("agent=path;user=u%2F1;ticket=9;key=tg_1"),
            None,
            &Identity::default(),
        );
        assert_eq!(labels.get(Label::Agent), Some("header"));
        assert_eq!(labels.get(Label::User), Some("u/1"));
        assert_eq!(labels.get(Label::Session), Some("s1"));
        assert_eq!(
            labels.labelled(Label::Session).unwrap().source,
            Source::Baggage
        );
        assert_eq!(labels.tag_value("cost-centre"), Some("7"));
        assert_eq!(labels.tag_value("ticket"), Some("9"));
        assert_eq!(labels.tag_value("key"), None);
    }

    #[test]
    fn static_labels_are_the_last_resort() {
        let identity = Identity {
            labels: [(Label::Project, String::from("shop"))].into(),
            ..Identity::default()
        };
        let labels = labels(&HeaderMap::new(), None, None, &identity);
        assert_eq!(labels.get(Label::Project), Some("shop"));
    }
}
