//! What every dialect promises, whatever it reads.

use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate::{
    call::{
        facts::{RequestFacts, ResponseFacts},
        refusal::{Reason, Refusal},
        usage::Usage,
    },
    provider::{
        Cut, CutStyle, DIALECTS, Dialect, Event, StreamState,
        wire::{
            framing::{Found, Framing},
            scan::Scanner,
        },
    },
};

use super::{
    fixtures::{self, Fixture},
    reading,
};

const REASONS: [Reason; 11] = [
    Reason::Exhausted,
    Reason::Busy,
    Reason::Rate,
    Reason::Denied,
    Reason::BadRequest,
    Reason::NotFound,
    Reason::HeadersTooLarge,
    Reason::BadGateway,
    Reason::Overload,
    Reason::Ledger,
    Reason::Timeout,
];

fn streams() -> impl Iterator<Item = Fixture> {
    fixtures::all()
        .into_iter()
        .filter(|fixture| fixture.is_stream)
}

/// The bytes of each event, in order.
fn events(framing: Framing, stream: &[u8]) -> Vec<&[u8]> {
    let (mut splitter, mut rest, mut found) = (framing.splitter(), stream, Vec::new());
    while let Some(end) = splitter.next(rest) {
        let Found::End(end) = end else {
            panic!("a fixture's frame is damaged");
        };
        found.push(&rest[..end]);
        rest = &rest[end..];
    }
    assert!(rest.is_empty(), "a fixture ends within an event");
    found
}

/// A stream with each event's JSON changed.
fn with_each(fixture: &Fixture, change: impl Fn(usize, Value) -> String) -> Vec<u8> {
    let pieces = events(fixture.framing, &fixture.response);
    let mut changed = Vec::new();
    for (n, piece) in pieces.into_iter().enumerate() {
        let Some(mut event) = fixture.framing.parse(piece).unwrap() else {
            continue;
        };
        if let Ok(value) = serde_json::from_slice(&event.data) {
            event.data = change(n, value).into_bytes().into();
        }
        changed.push(event);
    }
    fixture.framing.end(&changed, false)
}

#[test]
fn names_are_unique_and_lower_case() {
    let mut names: Vec<_> = DIALECTS.iter().map(|dialect| dialect.name()).collect();
    assert!(
        names
            .iter()
            .all(|name| name.chars().all(|c| c.is_ascii_lowercase()))
    );
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), DIALECTS.len());
}

#[test]
fn a_response_that_breaks_off_anywhere_is_read_as_far_as_it_goes() {
    for fixture in fixtures::all() {
        let whole = fixture.read(usize::MAX).facts;
        for end in 0..fixture.response.len() {
            let part = &fixture.response[..end];
            let read = if fixture.is_stream {
                reading::stream(fixture.dialect, fixture.op, fixture.framing, &[part])
            } else {
                reading::body(fixture.dialect, fixture.op, part)
            };
            assert!(
                read.facts.output_bytes.bytes <= whole.output_bytes.bytes,
                "{} {end}",
                fixture.name
            );
            let rest_is_space = fixture.response[end..].iter().all(u8::is_ascii_whitespace);
            let is_opaque = fixture.is_stream || fixture.dialect.name() == "http";
            let reads_all = rest_is_space || is_opaque;
            assert!(
                reads_all || !read.unreadable.is_empty(),
                "{} {end}",
                fixture.name
            );
        }
    }
}

#[test]
fn fields_that_are_not_known_change_nothing() {
    let strange = json!({"usage": {"prompt_tokens": 7}, "type": "message_stop", "id": [{}]});
    let add = |mut value: Value| {
        if let Some(fields) = value.as_object_mut() {
            fields.insert("zz_unknown".to_owned(), strange.clone());
        }
        value.to_string()
    };
    for fixture in fixtures::all() {
        let expected = fixture.read(usize::MAX).facts;
        let read = if fixture.is_stream {
            let stream = with_each(&fixture, |_, value| add(value));
            reading::stream(fixture.dialect, fixture.op, fixture.framing, &[&stream])
        } else {
            let body = add(serde_json::from_slice(&fixture.response).unwrap());
            reading::body(fixture.dialect, fixture.op, body.as_bytes())
        };
        assert_eq!(read.facts, expected, "{}", fixture.name);
    }
}

#[test]
fn events_that_are_alike_read_as_they_do_when_each_looks_different() {
    for fixture in streams() {
        // White space that grows keeps any event from looking like an earlier one.
        let widened = with_each(&fixture, |n, value| format!("{}{value}", " ".repeat(n)));
        let read = reading::stream(fixture.dialect, fixture.op, fixture.framing, &[&widened]);
        assert_eq!(
            read.facts,
            fixture.read(usize::MAX).facts,
            "{}",
            fixture.name
        );
    }
}

#[test]
fn what_a_scanner_leaves_tells_the_same_usage() {
    for fixture in fixtures::all() {
        let wants = fixture.dialect.wanted();
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        let pieces = if fixture.is_stream {
            events(fixture.framing, &fixture.response)
        } else {
            vec![&*fixture.response]
        };
        for piece in pieces {
            let mut scanner = Scanner::new(wants.response);
            let (head, piece) = fixture.framing.open(piece);
            piece.chunks(7).for_each(|chunk| scanner.feed(chunk));
            let reduced = scanner.finish().document;
            let event = if fixture.is_stream {
                Event {
                    data: reduced.as_slice().into(),
                    ..head
                }
            } else {
                Event::body(&reduced)
            };
            fixture
                .dialect
                .read_event(fixture.op, &event, &mut facts, &mut state)
                .unwrap();
        }
        let whole = fixture.read(usize::MAX).facts;
        let told = |facts: &ResponseFacts| {
            let ResponseFacts {
                usage,
                id,
                model,
                error,
                pending,
                ..
            } = facts.clone();
            // Tools that the provider ran stand in what the scanner leaves out.
            let usage = Usage {
                web_searches: None,
                file_searches: None,
                ..usage
            };
            (usage, id, model, error, pending)
        };
        assert_eq!(told(&facts), told(&whole), "{}", fixture.name);
        let mut scanner = Scanner::new(wants.request);
        scanner.feed(&fixture.request);
        let left = fixture.read_request(&scanner.finish().document);
        let asked = fixture.read_request(&fixture.request);
        let told = |facts: &RequestFacts| {
            let RequestFacts {
                model,
                stream,
                output_limit,
                labels,
                continues,
                ..
            } = facts.clone();
            (model, stream, output_limit, labels, continues)
        };
        assert_eq!(told(&left), told(&asked), "{}", fixture.name);
    }
}

#[test]
fn a_bounded_request_has_its_bound_and_is_else_the_same() {
    for fixture in fixtures::all() {
        let before = fixture.read_request(&fixture.request);
        // Zero is no limit to Ollama.
        for limit in [1, 10, 100_000] {
            let splice = fixture
                .dialect
                .bound_output(fixture.op, &fixture.request, limit);
            let Some(splice) = splice else {
                continue;
            };
            let after = fixture.read_request(&splice.apply(&fixture.request));
            let bound = before.output_limit.map_or(limit, |known| known.min(limit));
            assert_eq!(after.output_limit, Some(bound), "{}", fixture.name);
            let expected = RequestFacts {
                output_limit: after.output_limit,
                input: after.input,
                ..before.clone()
            };
            assert_eq!(after, expected, "{}", fixture.name);
        }
        let generates = fixture.op.gen_ai.is_some_and(|word| word != "embeddings");
        let bounded = fixture
            .dialect
            .bound_output(fixture.op, &fixture.request, 1)
            .is_some();
        let stored = before.response_id.is_some();
        // The model's own maximum bounds these, and a request has no field for less.
        let no_field = ["images.", "audio."]
            .iter()
            .any(|start| fixture.op.name.starts_with(start));
        assert_eq!(
            bounded,
            generates && !stored && !no_field,
            "{}",
            fixture.name
        );
    }
}

#[test]
fn usage_is_asked_for_only_where_it_would_not_come() {
    for fixture in fixtures::all() {
        let before = fixture.read_request(&fixture.request);
        let splice = fixture
            .dialect
            .ask_usage(fixture.op, &fixture.request, &before);
        let silent = ["chat", "completions"].contains(&fixture.op.name)
            && fixture.dialect.name() == "openai";
        let wanted = silent && before.stream && !before.asks_usage;
        assert_eq!(splice.is_some(), wanted, "{}", fixture.name);
        if let Some(splice) = splice {
            let after = fixture.read_request(&splice.apply(&fixture.request));
            assert!(after.asks_usage, "{}", fixture.name);
        }
    }
}

#[test]
fn every_refusal_is_an_error_that_the_dialect_itself_reads() {
    for dialect in DIALECTS.iter().filter(|dialect| dialect.name() != "http") {
        for reason in REASONS {
            let refusal = Refusal::new(reason, "budget.daily", "The budget is \"used up\".\n");
            let body = dialect.error_body(reason.status(), &refusal, "0190");
            let op = dialect.operation(&http::Method::POST, "/v1/chat/completions");
            let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
            dialect
                .read_event(op, &Event::body(&body), &mut facts, &mut state)
                .unwrap();
            let error = facts.error.unwrap();
            assert_eq!(
                error.message.as_deref(),
                Some(&*refusal.message),
                "{}",
                dialect.name()
            );
            assert!(error.kind.is_some());
        }
    }
}

/// Cuts a stream after each of its events and reads on.
fn cut_everywhere(style: CutStyle, check: impl Fn(&Fixture, &[Event<'_>], &ResponseFacts, usize)) {
    let refusal = Refusal::new(Reason::Exhausted, "budget.daily", "The budget is used up.");
    let mut cuts = 0;
    for fixture in streams() {
        let whole = events(fixture.framing, &fixture.response);
        for taken in 1..whole.len() {
            let begun = &whole[..taken];
            let mut read = reading::stream(fixture.dialect, fixture.op, fixture.framing, begun);
            if read.facts.complete || read.facts.error.is_some() {
                continue;
            }
            let asks_usage = fixture.read_request(&fixture.request).asks_usage;
            let text = fixture.dialect.cut(
                fixture.op,
                &Cut {
                    style,
                    refusal: &refusal,
                    request_id: "0190",
                    usage: Usage::text(70, 30),
                    asks_usage,
                    facts: &read.facts,
                    state: &read.state,
                    framing: fixture.framing,
                    begun: true,
                },
            );
            let pieces = events(fixture.framing, &text);
            let last: Vec<_> = pieces
                .iter()
                .filter_map(|piece| fixture.framing.parse(piece).unwrap())
                .collect();
            let (facts, state) = (&mut read.facts, &mut read.state);
            for event in &last {
                let read = fixture.dialect.read_event(fixture.op, event, facts, state);
                assert_eq!(read, Ok(()), "{} {taken}", fixture.name);
                let is_sse = fixture.framing == Framing::Sse;
                let named = event.name.filter(|_| is_sse && fixture.op.name != "chat");
                let data = serde_json::from_slice(&event.data).unwrap_or(Value::Null);
                assert!(
                    named.is_none_or(|name| data["type"] == name),
                    "{}",
                    fixture.name
                );
            }
            check(&fixture, &last, &read.facts, taken);
            cuts += 1;
        }
    }
    assert!(cuts > 40, "{cuts}");
}

#[test]
fn a_stream_that_is_cut_gracefully_ends_as_if_its_tokens_had_run_out() {
    cut_everywhere(CutStyle::Graceful, |fixture, _, facts, taken| {
        let name = format!("{} {taken}", fixture.name);
        // Some have no ids; others that have not told theirs have not begun.
        let has_ids = !["bedrock", "ollama", "watsonx"].contains(&fixture.dialect.name());
        if facts.id.is_none() && has_ids {
            return;
        }
        // A run goes on without us, so that no end of its stream is its own.
        if fixture.op.name == "runs" {
            assert!(facts.error.is_some(), "{name}");
            return;
        }
        assert!(facts.complete, "{name}");
        let known = ["length", "LENGTH", "incomplete", "max_tokens", "MAX_TOKENS"];
        let reasons = &facts.finish_reasons;
        let of_our_own = reasons.iter().any(|reason| known.contains(&&**reason));
        let had_ended =
            reasons.iter().all(|reason| !known.contains(&&**reason)) && !reasons.is_empty();
        assert!(of_our_own || had_ended, "{name}: {reasons:?}");
        if fixture.read_request(&fixture.request).asks_usage || fixture.dialect.name() != "openai" {
            assert_eq!(facts.usage.output, Some(30), "{name}");
        }
    });
}

#[test]
fn a_stream_that_is_cut_with_an_error_ends_with_one() {
    cut_everywhere(CutStyle::Error, |fixture, _, facts, taken| {
        let error = facts.error.as_ref().unwrap();
        let message = error.message.as_deref();
        assert_eq!(
            message,
            Some("The budget is used up."),
            "{} {taken}",
            fixture.name
        );
    });
}

#[test]
fn numbered_events_are_numbered_on_when_a_stream_is_cut() {
    for style in [CutStyle::Graceful, CutStyle::Error] {
        cut_everywhere(style, |fixture, last, _, taken| {
            if fixture.op.name != "responses" {
                return;
            }
            for (event, number) in last.iter().zip(taken..) {
                let event: Value = serde_json::from_slice(&event.data).unwrap();
                assert_eq!(event["sequence_number"], number, "{}", fixture.name);
            }
        });
    }
}

fn anything() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        "[{}\\[\\],:\" ]{1,4}",
        Just("\"usage\":".to_owned()),
        Just("\"choices\":[{\"delta\":".to_owned()),
        Just("\"candidates\":[{".to_owned()),
        Just("\"type\":\"message_delta\"".to_owned()),
        Just("\"type\":\"response.output_item.added\"".to_owned()),
        Just("\"response\":{\"output\":[".to_owned()),
        Just("-1e999".to_owned()),
        Just("null".to_owned()),
    ];
    let words = prop::collection::vec(word, 0..12).prop_map(|words| words.concat().into_bytes());
    prop_oneof![words, prop::collection::vec(any::<u8>(), 0..60)]
}

fn each_operation() -> Vec<(&'static dyn Dialect, Fixture)> {
    let with_dialect = |fixture: Fixture| (fixture.dialect, fixture);
    fixtures::all().into_iter().map(with_dialect).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_chunking_gives_the_same_facts(cuts in prop::collection::vec(0_usize..4000, 0..12)) {
        for fixture in streams() {
            let len = fixture.response.len();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| (*cut).min(len)).collect();
            cuts.extend([0, len]);
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|pair| &fixture.response[pair[0]..pair[1]]).collect();
            let read = reading::stream(fixture.dialect, fixture.op, fixture.framing, &chunks);
            prop_assert_eq!(read.facts, fixture.read(1).facts);
        }
    }

    #[test]
    fn garbage_is_never_worse_than_unreadable(bytes in anything()) {
        for (dialect, fixture) in each_operation() {
            let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
            for event in [Event::data(&bytes), Event::body(&bytes)] {
                let _read = dialect.read_event(fixture.op, &event, &mut facts, &mut state);
                let _asked = dialect.is_asked_usage(&event);
            }
            let mut request = RequestFacts { stream: true, ..RequestFacts::default() };
            let _read = dialect.read_request(fixture.op, &fixture.path, &bytes, &mut request);
            let _asks = dialect.ask_usage(fixture.op, &bytes, &request);
            let _bounds = dialect.bound_output(fixture.op, &bytes, 7);
        }
    }
}
