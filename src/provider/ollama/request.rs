//! Requests of Ollama's API: model, limits and the size of the input.

use super::operations;
use crate::{
    call::{
        facts::{InputSize, Operation, RequestFacts},
        text::Text,
    },
    provider::{
        limit::Limit,
        wire::json::{Ahead, Json, Unreadable},
    },
};

/// The most tools that are named.
const MAX_TOOLS: usize = 128;

/// Reads a request's body.
pub(super) fn read(
    op: &Operation,
    body: &[u8],
    facts: &mut RequestFacts,
) -> Result<(), Unreadable> {
    let writes = operations::writes(op);
    // A text is streamed unless the request says that it shall not be.
    facts.stream = writes;
    let mut bound = Limit::default();
    let read = Json::document(body).measure(|key, value| match key {
        b"messages" if value.is_array() => {
            value.items(|item| message(item, &mut facts.input));
        },
        b"images" if value.is_array() => images(value, &mut facts.input),
        b"options" => bound.add(options(value, writes, facts)),
        b"tools" if value.is_array() => {
            let tools = tools(value, &mut facts.tools);
            facts.input.text_bytes += tools.text();
        },
        _ => {
            let value = value.take();
            facts.input.text_bytes += value.text();
            match key {
                b"model" => facts.model = value.name(),
                b"stream" if value.raw() == b"false" => facts.stream = false,
                _ => {},
            }
        },
    });
    facts.output_limit = if op.gen_ai.is_some() && !writes {
        Some(0)
    } else {
        bound.tokens()
    };
    // What need not be JSON is not missed where nothing depends on it.
    if op.gen_ai.is_some() { read } else { Ok(()) }
}

fn message(message: Ahead<'_, '_>, size: &mut InputSize) {
    if !message.is_object() {
        size.text_bytes += message.take().text();
        return;
    }
    message.object(|key, value| {
        if key == b"images" && value.is_array() {
            images(value, size);
        } else {
            size.text_bytes += Text::of(key);
            size.text_bytes += value.take().text();
        }
    });
}

fn images(list: Ahead<'_, '_>, size: &mut InputSize) {
    list.items(|_| size.images = size.images.saturating_add(1));
}

/// Reads options. Returns the most tokens that they let the model make: a limit of zero, or below,
/// is none.
fn options(options: Ahead<'_, '_>, writes: bool, facts: &mut RequestFacts) -> Option<u64> {
    let mut bound = Limit::default();
    options.object(|key, value| {
        let value = value.take();
        match key {
            b"num_predict" if writes => bound.add(value.u64().filter(|most| *most > 0)),
            b"temperature" => facts.temperature = value.f64(),
            b"top_p" => facts.top_p = value.f64(),
            _ => {},
        }
    });
    bound.tokens()
}

fn tools<'a>(tools: Ahead<'_, 'a>, names: &mut Vec<Box<str>>) -> Json<'a> {
    names.clear();
    tools.items(|tool| {
        let mut name = None;
        tool.object(|key, value| {
            if key == b"function" {
                value.object(|key, value| {
                    if key == b"name" {
                        name = value.take().name();
                    }
                });
            }
        });
        if names.len() < MAX_TOOLS {
            names.extend(name);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(op: &Operation, body: &str) -> RequestFacts {
        let mut facts = RequestFacts::default();
        read(op, body.as_bytes(), &mut facts).unwrap();
        facts
    }

    #[test]
    fn a_chat_request_is_read_and_is_a_stream_unless_it_says_no() {
        let body = r#"{"model":"llama3","options":{"num_predict":40,"top_p":0.5},
            "tools":[{"type":"function","function":{"name":"f"}}],
            "messages":[{"role":"user","content":"Hello","images":["AAAAAAAA","BBBB"]}]}"#;
        let read = facts(&operations::CHAT, body);
        assert_eq!(read.model.as_deref(), Some("llama3"));
        assert!(read.stream);
        assert_eq!((read.output_limit, read.top_p), (Some(40), Some(0.5)));
        assert_eq!(
            (read.input.images, &*read.tools),
            (2, &[Box::from("f")][..])
        );
        assert!(!facts(&operations::CHAT, r#"{"stream":false}"#).stream);
        assert!(facts(&operations::GENERATE, r#"{"stream":null}"#).stream);
    }

    #[test]
    fn a_limit_below_zero_is_none_and_an_embedding_has_no_output() {
        let endless = r#"{"options":{"num_predict":-1}}"#;
        assert_eq!(facts(&operations::GENERATE, endless).output_limit, None);
        let zero = r#"{"options":{"num_predict":0}}"#;
        assert_eq!(facts(&operations::GENERATE, zero).output_limit, None);
        let twice = r#"{"options":{"num_predict":9},"options":{"num_predict":5}}"#;
        assert_eq!(facts(&operations::GENERATE, twice).output_limit, Some(9));
        let loose = r#"{"options":{"num_predict":-1,"num_predict":5}}"#;
        assert_eq!(facts(&operations::GENERATE, loose).output_limit, None);
        let embedding = facts(&operations::EMBED, endless);
        assert_eq!((embedding.output_limit, embedding.stream), (Some(0), false));
    }
}
