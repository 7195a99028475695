//! Heads of requests: the target, and a header a line.
//!
//! What must hold: what is asked of any provider is a valid target there, and a host
//! that a path names is a host; labels are bounded; nothing of
//! ours nor of this hop goes on, all else does as it came; a trace that is continued is the
//! client's, with our span in it.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Version, request::Parts, uri::PathAndQuery,
};

use super::super::{
    config::Identity,
    headers::{self, OURS},
    identify,
    trace::Context,
};
use crate::{
    call::{
        facts::RequestFacts,
        labels::{Label, Labels},
    },
    pipeline::{Propagation, Send, TraceFormat},
    provider::{BaseUrl, Config, Providers},
};

pub fn run(input: &[u8]) {
    let Some(head) = parse(input) else {
        return;
    };
    let path = head.uri.path();
    let segment = path
        .strip_prefix("/~")
        .and_then(|rest| rest.split('/').next());
    let labels = identify::labels(&head.headers, segment, None, &Identity::default());
    let _of_any_text = identify::labels(
        &HeaderMap::new(),
        std::str::from_utf8(input).ok(),
        None,
        &Identity::default(),
    );
    for label in Label::ALL {
        assert!(
            labels
                .get(label)
                .is_none_or(|value| value.len() <= Labels::MAX_VALUE)
        );
    }
    reaches_providers(&head);
    goes_on(&head.headers);
    traced(&head.headers);
}

/// The target at every provider, and what it is there.
fn reaches_providers(head: &Parts) {
    let providers = Providers::build(&Config::default()).expect("the known ones are sound");
    let (path, query) = (head.uri.path(), head.uri.query());
    let asked = head.uri.path_and_query().map_or(path, PathAndQuery::as_str);
    for provider in providers.iter() {
        let target = provider.path(asked);
        assert!(
            target.ends_with(asked.strip_prefix("/v1").unwrap_or(asked)),
            "{target}"
        );
        let is_target = PathAndQuery::try_from(&*target).is_ok();
        assert!(
            is_target || !asked.starts_with('/'),
            "{target} at {}",
            provider.name
        );
        let (dialect, op) = provider.operation(&head.method, path, query);
        let mut facts = RequestFacts::default();
        let _body_is_missing = dialect.read_request(op, path, b"{}", &mut facts);
        if let Some(host) = provider.host(path) {
            let url = format!("https://{host}");
            let base = BaseUrl::parse(&url).unwrap_or_else(|problem| panic!("{problem}"));
            assert_eq!(
                *base.host,
                *host.to_ascii_lowercase(),
                "the path names the whole host"
            );
        }
    }
    let host = head.uri.host().unwrap_or(path);
    let _provider = providers.at_host(host);
}

/// `METHOD target`, then `name: value`.
fn parse(input: &[u8]) -> Option<Parts> {
    let mut lines = input.split(|byte| *byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (method, target) = first.split_once(' ')?;
    let request = Request::builder()
        .method(method)
        .uri(target)
        .version(Version::HTTP_11);
    let (mut head, ()) = request.body(()).ok()?.into_parts();
    for line in lines.take(100) {
        let colon = memchr::memchr(b':', line)?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        head.headers.append(name, value);
    }
    Some(head)
}

fn goes_on(sent: &HeaderMap) {
    let host = HeaderValue::from_static("llm.example.com");
    let on = headers::to_upstream(sent.clone(), &host);
    assert_eq!(on.get_all("host").iter().collect::<Vec<_>>(), [&host]);
    assert!(on.keys().all(|name| !name.as_str().starts_with(OURS)));
    for name in on.keys().filter(|name| *name != "host") {
        let (before, after) = (sent.get_all(name), on.get_all(name));
        let is_same = before.iter().eq(after.iter());
        assert!(is_same || name == "te", "{name}");
    }
    let twice = headers::to_upstream(on.clone(), &host);
    assert_eq!(twice, on, "nothing more goes at the next hop");
    let back = headers::to_client(sent.clone());
    assert_eq!(headers::to_client(back.clone()), back);
}

fn traced(sent: &HeaderMap) {
    let formats = [
        TraceFormat::W3c,
        TraceFormat::B3,
        TraceFormat::Jaeger,
        TraceFormat::Datadog,
    ];
    for first in formats {
        let context = Context::of(sent, &[first]);
        let mut on = sent.clone();
        let told = |send| Propagation {
            formats: vec![first],
            send,
        };
        context.propagate(&told(Send::IfPresent), &mut on, |_, _| false);
        if context.parent.is_some() {
            let next = Context::of(&on, &[first]);
            assert_eq!(next.trace_id, context.trace_id, "{first:?} {sent:?} {on:?}");
            assert_eq!(
                next.parent,
                Some(context.span_id),
                "{first:?} {sent:?} {on:?}"
            );
            assert_eq!(on.len(), sent.len());
        } else {
            assert_eq!(on, *sent, "what is not read passes");
        }
        let mut silent = sent.clone();
        context.propagate(&told(Send::Never), &mut silent, |_, _| false);
        assert_eq!(Context::of(&silent, &formats).parent, None);
        let mut answer = HeaderMap::new();
        context.answer(&mut answer);
        assert_eq!(answer.len(), 1);
    }
}

/// Heads as clients send them.
pub fn seeds() -> Vec<Vec<u8>> {
    const IDS: &str = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
    let heads = [
        format!("POST /v1/chat/completions?a=b\ntraceparent: 00-{IDS}-01\ntracestate: a=b,c=d"),
        format!("POST /~agent=a;user=u%2F1;tag=x/v1/messages\nb3: {IDS}-1-05e3ac9a4f6e3b90"),
        "GET /groq/openai/v1/models\nuber-trace-id: 463ac35c9f6413ad%3Aa2fb4a1d1a96d312%3A0%3A1"
            .to_owned(),
        "POST /v1/responses\nx-datadog-trace-id: 1234567890\nx-datadog-parent-id: 987654321\n\
         x-datadog-sampling-priority: 1\nx-datadog-tags: _dd.p.tid=640cfd8d00000000"
            .to_owned(),
        "POST /v1beta/models/gemini-2.5-flash:generateContent?key=k\nbaggage: \
         user.id=b%20ob;p=1, agent.name=no, tollgate.session=s"
            .to_owned(),
        "POST http://api.openai.com/v1/responses\nx-tollgate-agent: a\nx-tollgate-tags: a=b, c=d\n\
         connection: close, x-private\nx-private: 1\nte: trailers"
            .to_owned(),
        "POST /openai/deployments/d/chat/completions?api-version=1\nx-b3-traceid: \
         463ac35c9f6413ad\nx-b3-spanid: a2fb4a1d1a96d312\nx-b3-flags: 1\n\
         x-b3-parentspanid: 05e3ac9a4f6e3b90"
            .to_owned(),
        "POST /v1/projects/p/locations/us-east5/publishers/google/models/g:generateContent"
            .to_owned(),
        "POST /model/anthropic.claude-v2/converse\nupgrade: websocket\nconnection: Upgrade"
            .to_owned(),
    ];
    heads.map(String::into_bytes).into()
}
