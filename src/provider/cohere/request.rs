//! Requests of Cohere's API: model, limits and the size of the input.

use super::operations;
use crate::{
    call::{
        facts::{Operation, RequestFacts, Spends, Unsaid},
        labels::Label,
        usage::Usage,
    },
    provider::{
        body_labels::{BodyLabels, Rank},
        limit::Limit,
        openai::input,
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
    let read = read_body(op, Json::document(body), facts);
    if !operations::writes(op) {
        facts.output_limit = Some(0);
    }
    if *op == operations::RERANK {
        let documents = Json::document(body).get("documents");
        facts.unsaid = Some(searches(documents, facts));
    }
    // What need not be JSON (uploads, empty bodies) is not missed where nothing depends on it.
    if op.spends == Spends::Tokens {
        read
    } else {
        Ok(())
    }
}

fn read_body(op: &Operation, body: Json<'_>, facts: &mut RequestFacts) -> Result<(), Unreadable> {
    let mut labels = BodyLabels::default();
    let mut bound = Limit::default();
    body.measure(|key, value| {
        let value = match key {
            b"messages" | b"inputs" if value.is_array() => {
                input::messages(value, &mut facts.input);
                return;
            },
            b"images" if value.is_array() => {
                value.items(|_| facts.input.images = facts.input.images.saturating_add(1));
                return;
            },
            b"connectors" => value.items(|_| facts.input.stored = true),
            b"tools" => tools(value, &mut facts.tools),
            _ => value.take(),
        };
        facts.input.text_bytes += value.text();
        match key {
            b"model" => facts.model = value.name(),
            b"stream" => facts.stream = value.is_true(),
            b"max_tokens" if operations::writes(op) => bound.add(value.u64()),
            b"num_generations" => {
                facts.choices = u32::try_from(value.u64().unwrap_or(0)).unwrap_or(u32::MAX);
            },
            b"temperature" => facts.temperature = value.f64(),
            b"p" => facts.top_p = value.f64(),
            b"conversation_id" => {
                let id = value.name();
                facts.input.stored |= id.is_some();
                labels.add(Rank::Conversation, Label::Session, id);
            },
            _ => {},
        }
    })?;
    facts.output_limit = bound.tokens();
    labels.give(facts);
    Ok(())
}

/// The searches that a ranking is billed as: one for each hundred documents, where a document of
/// more than 500 tokens, with the question, counts as several. Those of a body too large to hold,
/// or broken, were not seen: they are as many as a request may have.
fn searches(documents: Option<Json<'_>>, facts: &RequestFacts) -> Unsaid {
    const A_SEARCH: u64 = 100;
    /// Documents that the provider takes in a request.
    const MOST: u64 = 10_000;
    /// Fewer bytes than any part of a document has, but its last.
    const A_PART: u64 = 100;
    let count = documents.map_or(MOST, |documents| {
        let mut count = 0_u64;
        documents.read(|list| list.items(|_| count += 1));
        count
    });
    let units = |documents: u64| Usage {
        search_units: Some(documents.div_ceil(A_SEARCH).max(1)),
        ..Usage::NONE
    };
    let parts = facts.input.text_bytes.bytes / A_PART;
    Unsaid {
        likely: units(count),
        most: units(count.saturating_add(parts)),
    }
}

/// Names the tools: version 1 has the name itself, version 2 a function that has one.
fn tools<'a>(tools: Ahead<'_, 'a>, names: &mut Vec<Box<str>>) -> Json<'a> {
    names.clear();
    tools.items(|tool| {
        let mut name = None;
        tool.object(|key, value| match key {
            b"name" => name = value.take().name(),
            b"function" => {
                value.object(|key, value| {
                    if key == b"name" {
                        name = value.take().name();
                    }
                });
            },
            _ => {},
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
    fn a_request_of_either_version_is_read() {
        let second = facts(
            &operations::CHAT,
            r#"{"model":"command-a","stream":true,"max_tokens":50,"p":0.5,
            "tools":[{"type":"function","function":{"name":"f"}}],
            "messages":[{"role":"user","content":[{"type":"text","text":"Hello"},
                {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAAAAAA"}}]}]}"#,
        );
        assert_eq!(second.model.as_deref(), Some("command-a"));
        assert!(second.stream);
        assert_eq!((second.output_limit, second.top_p), (Some(50), Some(0.5)));
        assert_eq!(second.tools, [Box::from("f")]);
        assert_eq!(second.input.images, 1);
        let first = facts(
            &operations::CHAT_V1,
            r#"{"message":"Hello","model":"command-r","conversation_id":"c1","tools":[{"name":"g"}]}"#,
        );
        assert!(first.input.stored && !first.stream);
        assert_eq!(first.labels, [(Label::Session, Box::from("c1"))]);
        assert_eq!(first.tools, [Box::from("g")]);
    }

    #[test]
    fn only_what_writes_has_an_output_and_each_text_is_a_choice() {
        let limit = |op, body| facts(op, body).output_limit;
        assert_eq!(limit(&operations::EMBED, r#"{"max_tokens":5}"#), Some(0));
        assert_eq!(limit(&operations::RERANK, r#"{"query":"q"}"#), Some(0));
        assert_eq!(limit(&operations::GENERATE, r#"{"prompt":"q"}"#), None);
        let twice = r#"{"max_tokens":9,"max_tokens":5}"#;
        assert_eq!(limit(&operations::CHAT, twice), Some(9));
        let loose = r#"{"max_tokens":null,"max_tokens":5}"#;
        assert_eq!(limit(&operations::CHAT, loose), None);
        let several = facts(&operations::GENERATE, r#"{"num_generations":3}"#);
        assert_eq!(several.choices(), 3);
    }

    #[test]
    fn a_ranking_is_billed_by_the_search_of_a_hundred_documents() {
        let units = |body: &str| {
            let unsaid = facts(&operations::RERANK, body).unsaid.unwrap();
            (unsaid.likely.search_units, unsaid.most.search_units)
        };
        assert_eq!(
            units(r#"{"query":"q","documents":["a","b"]}"#),
            (Some(1), Some(1))
        );
        let many = format!(
            r#"{{"query":"q","documents":["a"{}]}}"#,
            r#","b""#.repeat(100)
        );
        assert_eq!(units(&many), (Some(2), Some(2)));
        let long = format!(
            r#"{{"query":"q","documents":["{}"]}}"#,
            "word ".repeat(4_000)
        );
        assert_eq!(units(&long), (Some(1), Some(3)));
        // Documents that were not seen may be as many as are let through.
        assert_eq!(units(r#"{"query":"q"}"#), (Some(100), Some(100)));
    }

    #[test]
    fn a_broken_body_is_missed_wherever_it_is_billed() {
        let is_missed = |op| read(op, b"{\"query\":", &mut RequestFacts::default()).is_err();
        assert!(is_missed(&operations::RERANK) && is_missed(&operations::EMBED));
        let tokenize = operations::of(&http::Method::POST, "/v1/tokenize");
        assert!(!is_missed(tokenize));
    }

    #[test]
    fn what_the_provider_looks_up_is_input_of_unknown_size() {
        let searched = r#"{"message":"q","connectors":[{"id":"web-search"}]}"#;
        assert!(facts(&operations::CHAT_V1, searched).input.stored);
        let plain = r#"{"message":"q","connectors":[]}"#;
        assert!(!facts(&operations::CHAT_V1, plain).input.stored);
    }
}
