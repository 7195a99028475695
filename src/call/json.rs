//! A span as its line of JSON, written by hand: every call pays for it on its own thread, and this
//! takes a third of what a general serialiser does.

use std::{fmt::Write as _, time::Duration};

use super::{
    facts::ToolCall,
    labels::Label,
    line::push_number,
    span::{Event, Span, Value},
    usage::Usage,
};

/// The span as one line, without the line's end.
pub(super) fn line(span: &Span) -> String {
    let mut out = Out(String::with_capacity(1_408));
    out.push("{\"trace_id\":");
    out.digits(span.trace_id.digits());
    out.push(",\"span_id\":");
    out.digits(span.span_id.digits());
    out.push(",\"parent_span_id\":");
    match span.parent_span_id {
        Some(parent) => out.digits(parent.digits()),
        None => out.push("null"),
    }
    out.push(",\"operation_name\":");
    out.text(&span.operation_name());
    out.push(",\"kind\":");
    out.plain(span.kind.name());
    out.push(",\"start_time\":");
    out.digits(span.start.digits());
    out.push(",\"end_time\":");
    out.digits(span.end_on_line().digits());
    out.push(",\"duration_ms\":");
    out.thousandths(micros(span.duration));
    out.push(",\"status\":");
    out.plain(span.status.name());
    out.push(",\"attributes\":{");
    match &span.reported {
        None => {
            out.push("\"gen_ai.provider.name\":");
            out.text(&span.provider);
        },
        Some(reported) => {
            out.push("\"tollgate.reported.by\":");
            out.text(reported.by.name());
        },
    }
    attributes(&mut out, span);
    own_attributes(&mut out, span);
    out.push("},\"events\":");
    out.list(&span.events, Out::event);
    out.push("}");
    out.0
}

/// Writes `,"name":value` if there is a value.
macro_rules! put {
    ($out:ident, $name:literal, $write:ident, $value:expr) => {
        if let Some(value) = $value {
            $out.push(concat!(",\"", $name, "\":"));
            $out.$write(value);
        }
    };
}

/// The tokens that the conventions have names for.
fn usage(out: &mut Out, usage: &Usage) {
    put!(out, "gen_ai.usage.input_tokens", number, usage.input);
    put!(out, "gen_ai.usage.output_tokens", number, usage.output);
    put!(
        out,
        "gen_ai.usage.cache_read.input_tokens",
        number,
        usage.cache_read
    );
    put!(
        out,
        "gen_ai.usage.cache_creation.input_tokens",
        number,
        usage.cache_write
    );
    put!(
        out,
        "gen_ai.usage.reasoning.output_tokens",
        number,
        usage.reasoning
    );
}

/// What the conventions have names for.
fn attributes(out: &mut Out, span: &Span) {
    put!(out, "gen_ai.operation.name", plain, span.operation);
    put!(
        out,
        "gen_ai.request.model",
        text,
        span.request_model.as_deref()
    );
    put!(
        out,
        "gen_ai.response.model",
        text,
        span.response_model.as_deref()
    );
    put!(out, "gen_ai.response.id", text, span.response_id.as_deref());
    put!(
        out,
        "gen_ai.response.finish_reasons",
        texts,
        some(&span.finish_reasons)
    );
    usage(out, &span.usage);
    put!(
        out,
        "gen_ai.request.stream",
        flag,
        span.stream.then_some(true)
    );
    put!(
        out,
        "gen_ai.response.time_to_first_chunk",
        seconds,
        span.first_chunk
    );
    put!(out, "http.request.method", text, known(&span.method));
    put!(
        out,
        "http.response.status_code",
        number,
        span.http_status.map(u64::from)
    );
    put!(out, "server.address", text, known(&span.server_address));
    put!(out, "url.path", text, known(&span.path));
    put!(out, "error.type", text, span.error_type.as_deref());
}

/// What the conventions have no names for.
fn own_attributes(out: &mut Out, span: &Span) {
    let call = span.reported.is_none().then_some(span);
    put!(
        out,
        "tollgate.request_id",
        digits,
        call.map(|call| call.request_id.digits())
    );
    for label in Label::ALL {
        if let Some(value) = span.labels.get(label) {
            out.push(",\"tollgate.");
            out.push(label.name());
            out.push("\":");
            out.text(value);
        }
    }
    let cost = span.cost.map(|cost| cost.to_string());
    put!(out, "tollgate.cost.usd", plain, cost.as_deref());
    put!(
        out,
        "tollgate.usage.source",
        plain,
        call.map(|call| call.usage_source.name())
    );
    for (name, count) in span.usage.further() {
        if let Some(count) = count {
            out.push(",\"tollgate.usage.");
            out.push(name);
            out.push("\":");
            out.number(count);
        }
    }
    put!(
        out,
        "tollgate.decision",
        plain,
        call.map(|call| call.decision.name())
    );
    put!(out, "tollgate.blocked_by", text, span.blocked_by.as_deref());
    put!(out, "tollgate.end", plain, call.map(|call| call.end.name()));
    put!(
        out,
        "tollgate.tool_calls",
        tool_calls,
        some(&span.tool_calls)
    );
    put!(out, "tollgate.edits", texts, some(&span.edits));
    put!(out, "tollgate.partial", text, span.partial);
    put!(out, "tollgate.tags", tags, some(span.labels.tags()));
    for (name, value) in &span.attributes {
        out.push(",");
        out.plain(name);
        out.push(":");
        out.value(value);
    }
    let reported = span.reported.iter();
    for (name, value) in reported.flat_map(|reported| &reported.attributes) {
        out.push(",");
        out.text(name);
        out.push(":");
        out.value(value);
    }
}

/// The list, unless it is empty.
fn some<T>(list: &[T]) -> Option<&[T]> {
    (!list.is_empty()).then_some(list)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// JSON that grows.
struct Out(String);

impl Out {
    fn push(&mut self, json: &str) {
        self.0.push_str(json);
    }

    /// What has no characters that JSON escapes, as a string.
    fn plain(&mut self, text: &str) {
        self.push("\"");
        self.push(text);
        self.push("\"");
    }

    fn digits<const N: usize>(&mut self, digits: [u8; N]) {
        self.plain(std::str::from_utf8(&digits).unwrap_or_default());
    }

    fn text(&mut self, text: &str) {
        self.0.push('"');
        let mut rest = text;
        while let Some(place) = special(rest.as_bytes()) {
            // What is special is one byte long, so that both cuts are between characters.
            let (plain, from) = rest.split_at_checked(place).unwrap_or_default();
            let (escaped, after) = from.split_at_checked(1).unwrap_or_default();
            self.0.push_str(plain);
            self.escape(escaped);
            rest = after;
        }
        self.0.push_str(rest);
        self.0.push('"');
    }

    fn escape(&mut self, special: &str) {
        match special {
            "\"" => self.push("\\\""),
            "\\" => self.push("\\\\"),
            "\n" => self.push("\\n"),
            "\r" => self.push("\\r"),
            "\t" => self.push("\\t"),
            other => {
                for byte in other.bytes() {
                    // Writing to a String cannot fail.
                    let _ok = write!(self.0, "\\u{byte:04x}");
                }
            },
        }
    }

    fn flag(&mut self, flag: bool) {
        self.push(if flag { "true" } else { "false" });
    }

    fn number(&mut self, number: u64) {
        push_number(number, 1, &mut self.0);
    }

    /// A thousandth of `number`, exact.
    fn thousandths(&mut self, number: u64) {
        self.fraction(number / 1_000, number % 1_000, 3);
    }

    /// A duration in seconds, to the microsecond.
    fn seconds(&mut self, duration: Duration) {
        let micros = micros(duration);
        self.fraction(micros / 1_000_000, micros % 1_000_000, 6);
    }

    /// A decimal number whose part behind the point is `rest`, of so many digits at most.
    fn fraction(&mut self, whole: u64, mut rest: u64, mut digits: usize) {
        self.number(whole);
        if rest > 0 {
            while rest.is_multiple_of(10) {
                rest /= 10;
                digits -= 1;
            }
            self.push(".");
            push_number(rest, digits, &mut self.0);
        }
    }

    fn list<T>(&mut self, list: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.push("[");
        for (place, item) in list.iter().enumerate() {
            if place > 0 {
                self.push(",");
            }
            write(self, item);
        }
        self.push("]");
    }

    fn texts<T: AsRef<str>>(&mut self, texts: &[T]) {
        self.list(texts, |out, text| out.text(text.as_ref()));
    }

    fn tool_calls(&mut self, calls: &[ToolCall]) {
        self.list(calls, |out, call| {
            out.push("{\"id\":");
            match &call.id {
                Some(id) => out.text(id),
                None => out.push("null"),
            }
            out.push(",\"name\":");
            out.text(&call.name);
            out.push("}");
        });
    }

    fn tags<T: AsRef<str>>(&mut self, tags: &[(T, T)]) {
        for (place, (key, value)) in tags.iter().enumerate() {
            self.push(if place == 0 { "{" } else { "," });
            self.text(key.as_ref());
            self.push(":");
            self.text(value.as_ref());
        }
        self.push("}");
    }

    fn event(&mut self, event: &Event) {
        self.push("{\"name\":");
        self.text(&event.name);
        self.push(",\"time\":");
        self.digits(event.time.digits());
        self.push("}");
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(flag) => self.flag(*flag),
            Value::Int(number) => self.number(*number),
            Value::Negative(number) => self.push(&number.to_string()),
            // With its point, so that what is read back is no whole number.
            Value::Float(number) if number.is_finite() => {
                let _ok = write!(self.0, "{number:?}");
            },
            // JSON has no word for the others.
            Value::Float(_) => self.push("null"),
            Value::Text(text) => self.text(text),
            Value::Texts(texts) => self.texts(texts),
            Value::Json(json) => self.push(json),
        }
    }
}

/// Where the first character is that JSON escapes. Bytes without one are passed eight at a time.
fn special(text: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // The high bit of each byte that is zero, and perhaps of bytes above the lowest such one.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, _) = text.as_chunks::<8>();
    let plain = words.iter().take_while(|word| {
        let word = u64::from_le_bytes(**word);
        let control = word.wrapping_sub(ONES * u64::from(b' ')) & !word;
        let quote = zeros(word ^ (ONES * u64::from(b'"')));
        let backslash = zeros(word ^ (ONES * u64::from(b'\\')));
        (control | quote | backslash) & (ONES << 7) == 0
    });
    let from = plain.count() * 8;
    let is_special = |byte: &u8| *byte < b' ' || matches!(byte, b'"' | b'\\');
    let at = text.get(from..)?.iter().position(is_special)?;
    Some(from + at)
}

/// Of a call that ended with the last run, some things are not known.
fn known(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::{
        super::{labels::Source, span::tests::example},
        *,
    };
    use crate::base::id::SpanId;

    fn read(span: &Span) -> Json {
        serde_json::from_str(&line(span)).unwrap()
    }

    #[test]
    fn every_kind_of_value_has_its_json() {
        let texts = Value::Texts(vec![Box::from("a"), Box::from("b")]);
        let mut span = Span {
            parent_span_id: Some(SpanId::from_bytes([9; 8])),
            edits: vec!["usage"],
            attributes: vec![
                ("bool", Value::Bool(false)),
                ("int", Value::Int(u64::MAX)),
                ("float", Value::Float(-1.5e-7)),
                ("nan", Value::Float(f64::NAN)),
                ("texts", texts),
            ],
            events: vec![Event {
                name: "first_token".into(),
                time: example().start,
            }],
            duration: Duration::from_millis(2),
            first_chunk: Some(Duration::from_micros(50)),
            ..example()
        };
        span.tool_calls[0].id = None;
        span.labels.tag("team", "a", Source::Header);
        span.labels.tag("tier", "b", Source::Header);
        let json = read(&span);
        let attributes = &json["attributes"];
        assert_eq!(json["parent_span_id"], "0909090909090909");
        assert_eq!(json["duration_ms"], 2);
        assert_eq!(json["events"][0]["time"], json["start_time"]);
        assert_eq!(attributes["bool"], false);
        assert_eq!(attributes["int"], u64::MAX);
        assert_eq!(attributes["float"], -1.5e-7);
        assert_eq!(attributes["nan"], Json::Null);
        assert_eq!(attributes["texts"], json!(["a", "b"]));
        assert_eq!(attributes["tollgate.edits"], json!(["usage"]));
        assert_eq!(
            attributes["tollgate.tags"],
            json!({"team": "a", "tier": "b"})
        );
        assert_eq!(attributes["tollgate.tool_calls"][0]["id"], Json::Null);
        assert_eq!(attributes["gen_ai.response.time_to_first_chunk"], 0.000_05);
    }

    #[test]
    fn what_is_absent_takes_no_place() {
        let line = line(&Span::begun(example().start));
        for name in [
            "tags",
            "tool_calls",
            "edits",
            "finish_reasons",
            "cost",
            "agent",
        ] {
            assert!(!line.contains(name), "{name}: {line}");
        }
        assert!(line.ends_with("\"events\":[]}"), "{line}");
    }

    #[test]
    fn what_json_escapes_is_found_wherever_it_stands() {
        for at in 0..20 {
            for byte in 0..0x80 {
                let text = format!("{}{}\u{e9}\u{1f984}", "x".repeat(at), char::from(byte));
                let escapes = byte < b' ' || byte == b'"' || byte == b'\\';
                let found = special(text.as_bytes());
                assert_eq!(found, escapes.then_some(at), "{text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_as_it_was(text: String, model: String) {
            let mut span = Span {
                request_model: Some(Arc::from(&*model)),
                path: Box::from(&*text),
                attributes: vec![("text", Value::Text(Box::from(&*text)))],
                ..example()
            };
            span.labels.set(Label::User, &text, Source::Header);
            let json = read(&span);
            let attributes = &json["attributes"];
            prop_assert_eq!(attributes["gen_ai.request.model"].as_str(), Some(&*model));
            prop_assert_eq!(attributes["url.path"].as_str(), known(&text));
            prop_assert_eq!(attributes["text"].as_str(), Some(&*text));
            prop_assert_eq!(attributes["tollgate.user"].as_str(), span.labels.get(Label::User));
            prop_assert!(!line(&span).contains('\n'));
        }

        #[test]
        fn durations_are_exact(micros in 0_u64..1 << 50) {
            let duration = Duration::from_micros(micros);
            let json = read(&Span { duration, first_chunk: Some(duration), ..example() });
            let millis = json["duration_ms"].as_f64().unwrap();
            let seconds = json["attributes"]["gen_ai.response.time_to_first_chunk"].as_f64();
            let exact = duration.as_secs_f64();
            prop_assert!((millis / 1e3 - exact).abs() <= exact * 1e-12);
            prop_assert!((seconds.unwrap() - exact).abs() <= exact * 1e-12);
        }
    }
}
