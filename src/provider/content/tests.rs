//! Whole calls, whatever becomes of their bytes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn path(text: &str) -> JsonPath {
    text.parse().unwrap()
}

fn sse(events: &[Value]) -> Vec<u8> {
    let events = events.iter().map(|event| format!("data: {event}\n\n"));
    let end = "data: [DONE]\n\n".to_owned();
    events.chain([end]).collect::<String>().into_bytes()
}

#[test]
fn a_stream_that_breaks_off_has_what_came() {
    let stream = sse(&[
        json!({"choices": [{"index": 0, "delta": {"content": "Hel"}}]}),
        json!({"choices": [{"index": 0, "delta": {"content": "lo"}}]}),
    ]);
    let whole = messages(b"{}", Response::Stream(Framing::Sse, &stream), &[]);
    assert_eq!(whole.output[0]["parts"][0]["content"], "Hello");
    assert!(!whole.cut);
    let at = stream.windows(2).position(|two| two == b"lo").unwrap();
    let cut = messages(b"{}", Response::Stream(Framing::Sse, &stream[..=at]), &[]);
    assert_eq!(cut.output[0]["parts"][0]["content"], "Hell");
    assert!(cut.cut);
}

#[test]
fn of_a_request_that_was_cut_there_is_what_came() {
    let body =
        json!({"messages": [{"role": "user", "content": "x".repeat(5_000_000)}]}).to_string();
    let found = messages(&body.as_bytes()[..4_000_000], Response::None, &[]);
    assert!(found.cut);
    let said = found.input[0]["parts"][0]["content"].as_str().unwrap();
    assert!(said.len() > 3_990_000);
}

#[test]
fn what_no_parser_takes_is_read_all_the_same() {
    let body = b"{\"messages\":[{\"role\":\"user\",\"content\":\"a\xff\x01\\ud83d b\"}]}";
    let found = messages(body, Response::None, &[]);
    let said = &found.input[0]["parts"][0]["content"];
    assert_eq!(said, "a\u{fffd}\u{1}\u{fffd} b");
}

#[test]
fn what_is_hidden_is_not_read() {
    let request = json!({"metadata": {"customer": "Ann"}, "messages": [
        {"role": "user", "content": "My name is Ann"},
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f",
            "arguments": "{\"customer\": \"Ann\", \"n\": 1}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "{\"customer\":\"Ann\"}"}]});
    let answer = sse(&[
        json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "d",
        "function": {"name": "f", "arguments": "{\"cust"}}]}}]}),
        json!({"choices": [{"delta": {"tool_calls": [{"index": 0,
            "function": {"arguments": "omer\":\"Ann\"}"}}]}}]}),
    ]);
    let hidden = [path("$.customer"), path("$.messages[0].content")];
    let answer = Response::Stream(Framing::Sse, &answer);
    let found = messages(request.to_string().as_bytes(), answer, &hidden);
    let all = json!([found.input, found.output]).to_string();
    assert!(
        !all.contains("Ann") && all.matches(HIDDEN).count() == 4,
        "{all}"
    );
    assert_eq!(found.input[1]["parts"][0]["arguments"]["n"], 1);
}

#[test]
fn what_cannot_be_searched_for_the_hidden_is_not_read() {
    let body = b"{\"messages\":[{\"role\":\"user\",\"content\":\"Ann\"}],\"x\":?}";
    assert!(!messages(body, Response::None, &[]).input.is_empty());
    let found = messages(body, Response::None, &[path("$.messages[0].content")]);
    assert!(found.input.is_empty() && found.cut);
    let found = messages(b"{}", Response::Document(body), &[path("$.a")]);
    assert!(found.output.is_empty() && found.cut);
}

#[test]
fn what_is_hidden_is_not_read_within_other_documents_either() {
    let hidden = [path("$.customer"), path("$.completion")];
    let inner = json!({"completion": "Ann"}).to_string();
    let chunk = json!({"bytes": STANDARD.encode(inner)}).to_string();
    let found = messages(b"{}", Response::Document(chunk.as_bytes()), &hidden);
    let output = json!(found.output).to_string();
    assert!(
        output.contains(HIDDEN) && !output.contains("Ann"),
        "{output}"
    );
    let twice = br#"{"completion": "Ann", "completion": "Bob"}"#;
    let found = messages(b"{}", Response::Document(twice), &hidden);
    assert!(!json!(found.output).to_string().contains("Ann"));
}

#[test]
fn what_cannot_be_searched_in_a_tool_is_hidden() {
    let hidden = [path("$.customer")];
    let call = |arguments: &str| {
        let call = json!({"id": "c", "function": {"name": "f", "arguments": arguments}});
        json!({"messages": [{"role": "assistant", "tool_calls": [call]}]}).to_string()
    };
    let result = |content: Value| {
        json!({"messages": [{"role": "tool", "tool_call_id": "c", "content": content}]}).to_string()
    };
    let text = |text: &str| json!({"type": "text", "text": text});
    let picture = json!({"type": "image_url", "image_url": {"url": "https://a.example/b.png"}});
    let whole = r#"{"customer": "Ann"}"#;
    for (request, cut) in [
        (call(r#"{"customer": "Ann", "n": "#), true),
        (result(json!([text(whole), text(whole)])), true),
        (result(json!([text(whole), picture])), false),
        (
            result(json!(r#"{"customer": "Ann", "customer": 1}"#)),
            false,
        ),
    ] {
        let found = messages(request.as_bytes(), Response::None, &hidden);
        let input = json!(found.input).to_string();
        assert!(input.contains(HIDDEN) && !input.contains("Ann"), "{input}");
        assert_eq!(found.cut, cut, "{input}");
    }
}

#[test]
fn a_stream_with_damage_is_cut() {
    let found = messages(
        b"{}",
        Response::Stream(Framing::EventStream, &[0xff; 64]),
        &[],
    );
    assert!(found.cut);
}

#[test]
fn of_what_was_cut_the_end_is_left_out() {
    let body = format!(
        "{{\"messages\":[{{\"content\":\"{} sk-proj-Ab3",
        "word ".repeat(60)
    );
    let found = messages(body.as_bytes(), Response::Document(body.as_bytes()), &[]);
    assert!(found.cut && !json!(found.input).to_string().contains("sk-"));
    let said = |content: String| json!({"parts": [{"type": "text", "content": content}]});
    let token = format!("eyJ{}", "0aB_".repeat(200));
    for (end, left) in [("sk-proj-Ab3", 33), (&*token, 60)] {
        let mut output = [said(format!("{}{end}", "\u{e9}".repeat(60)))];
        blunt_ends(&mut output);
        assert_eq!(output, [said("\u{e9}".repeat(left))]);
    }
    let call = |arguments: Value| json!({"parts": [{"type": "tool_call", "arguments": arguments}]});
    let mut output = [call(json!({"q": "whole"})), call(json!("{\"q\": \"cut"))];
    blunt_ends(&mut output);
    assert_eq!(output, [call(json!({"q": "whole"})), call(json!(""))]);
}

/// Far deeper than the stack is.
fn nested(open: &str, close: &str) -> String {
    format!("{}1{}", open.repeat(10_000), close.repeat(10_000))
}

#[test]
fn what_is_nested_without_end_is_left_out() {
    for (open, close) in [
        ("{\"functionCall\":", "}"),
        ("{\"type\":\"tool_result\",\"content\":[", "]}"),
        ("{\"functionResponse\":{\"response\":[", "]}}"),
        ("{\"function\":", "}"),
        ("{\"custom\":{\"toolUse\":", "}}"),
    ] {
        let deep = nested(open, close);
        for request in [
            format!("{{\"messages\":[{{\"content\":[{deep}]}}]}}"),
            format!("{{\"messages\":[{deep}]}}"),
            format!("{{\"tools\":[{deep}]}}"),
            format!("{{\"messages\":[{{\"role\":\"assistant\",\"tool_calls\":[{deep}]}}]}}"),
            format!("{{\"toolResponse\":{{\"functionResponses\":[{{\"response\":[{deep}]}}]}}}}"),
        ] {
            let _read = messages(request.as_bytes(), Response::None, &[]);
            let _searched = messages(request.as_bytes(), Response::None, &[path("$..a")]);
        }
        for answer in [
            format!("{{\"candidates\":[{{\"content\":{{\"parts\":[{deep}]}}}}]}}"),
            format!("{{\"choices\":[{{\"message\":{{\"tool_calls\":[{deep}]}}}}]}}"),
            format!("{{\"output\":[{deep}]}}"),
        ] {
            let _read = messages(b"{}", Response::Document(answer.as_bytes()), &[]);
        }
    }
    let deep = nested("{\"functionCall\":", "}");
    let request = format!("{{\"contents\":[{{\"parts\":[{deep}]}}]}}");
    assert!(messages(request.as_bytes(), Response::None, &[]).cut);
    let tools = format!(
        "{{\"tools\":{}}}",
        nested("[{\"functionDeclarations\":", "}]")
    );
    assert!(messages(tools.as_bytes(), Response::None, &[]).cut);
    let answer = format!("{{\"candidates\":[{{\"content\":{{\"parts\":[{deep}]}}}}]}}");
    assert!(messages(b"{}", Response::Document(answer.as_bytes()), &[]).cut);
    for open in [
        "[",
        "{\"content\":",
        "{\"response\":",
        "{\"message\":",
        "{\"requests\":[",
    ] {
        let deep = open.repeat(10_000);
        let _read = messages(deep.as_bytes(), Response::Document(deep.as_bytes()), &[]);
        let _searched = messages(
            deep.as_bytes(),
            Response::Document(deep.as_bytes()),
            &[path("$..a")],
        );
    }
}

#[test]
fn messages_and_parts_are_bounded() {
    let many = |item: &str| vec![item; 300_000].join(",");
    for body in [
        format!("{{\"messages\":[{}]}}", many("\"a\"")),
        format!("{{\"messages\":[{{\"content\":[{}]}}]}}", many("\"a\"")),
        format!("{{\"tools\":[{}]}}", many("{\"name\":\"a\"}")),
        format!("{{\"messages\":[{}]}}", many("{\"role\":\"tool\"}")),
        format!("{{\"messages\":[{{\"images\":[{}]}}]}}", many("1")),
        format!(
            "{{\"messages\":[{{\"tool_calls\":[{}]}}]}}",
            many("{\"name\":\"a\"}")
        ),
    ] {
        let found = messages(body.as_bytes(), Response::None, &[]);
        let head: String = body.chars().take(40).collect();
        assert!(found.cut, "{head}");
        let parts = found
            .input
            .iter()
            .map(|it| it["parts"].as_array().unwrap().len());
        let parts: usize = parts.sum();
        assert!(found.input.len() <= 4_096 && parts <= 2 * 4_096, "{head}");
        assert!(found.tools.len() <= 4_096, "{head}");
    }
}

/// Requests and answers in many forms.
fn documents() -> Vec<String> {
    let call = json!({"id": "c", "function": {"name": "f", "arguments": "{\"a\":1}"}});
    [
        json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a\u{e9}"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            {"role": "assistant", "tool_calls": [call]}], "tools": [{"function": {"name": "f"}}]}),
        json!({"choices": [{"message": {"content": "x", "tool_calls": [call]}}]}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use"}}),
        json!({"type": "response.completed", "response": {"output": [{"type": "mcp_call",
            "arguments": "{}", "output": "o"}], "status": "completed"}}),
        json!({"candidates": [{"content": {"parts": [{"text": "a"}, {"functionCall": {"name": "f"}}]}}]}),
        json!({"contentBlockIndex": 1, "delta": {"toolUse": {"input": "{"}}}),
        json!({"bytes": "eyJvdXRwdXRUZXh0IjoiYSJ9"}),
    ]
    .map(|document| document.to_string())
    .to_vec()
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(
        bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(&b"{}[]\",:\\u0 \n"[..])], 0..80,
        ),
        hides: bool,
    ) {
        let hidden = Vec::from_iter(hides.then(|| path("$..a")));
        for response in [
            Response::Document(&bytes),
            Response::Stream(Framing::Sse, &bytes),
            Response::Stream(Framing::Lines, &bytes),
            Response::Stream(Framing::Array, &bytes),
            Response::Stream(Framing::EventStream, &bytes),
        ] {
            let _read = messages(&bytes, response, &hidden);
        }
    }

    #[test]
    fn documents_that_are_broken_anywhere_are_read_without_harm(
        which in 0..7_usize, cut: prop::sample::Index, byte: u8,
    ) {
        let mut bytes = documents().swap_remove(which).into_bytes();
        let place = cut.index(bytes.len());
        let _read = messages(&bytes[..place], Response::Document(&bytes[..place]), &[path("$..a")]);
        bytes[place] = byte;
        let _read = messages(&bytes, Response::Document(&bytes), &[]);
    }

    #[test]
    fn a_text_is_the_same_however_it_is_divided(
        text in "\\PC{0,40}", cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let chars: Vec<char> = text.chars().collect();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(chars.len() + 1)).collect();
        places.extend([0, chars.len()]);
        places.sort_unstable();
        let pieces = places.windows(2).map(|two| chars[two[0]..two[1]].iter().collect::<String>());
        let pieces: Vec<String> = pieces.collect();
        let chat = pieces.iter().map(|text| json!({"choices": [{"delta": {"content": text}}]}));
        let blocks = pieces.iter().map(|text| json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "text_delta", "text": text}}));
        let items = pieces.iter().map(|text| json!({"type": "response.output_text.delta",
            "output_index": 0, "content_index": 0, "delta": text}));
        let gemini = pieces.iter().map(|text| json!({"candidates": [{"content":
            {"parts": [{"text": text}]}}]}));
        for events in [chat.collect(), blocks.collect(), items.collect(), gemini.collect::<Vec<_>>()] {
            let stream = sse(&events);
            let found = messages(b"", Response::Stream(Framing::Sse, &stream), &[]);
            let said = found.output.first().map_or("", |it| it["parts"][0]["content"].as_str().unwrap());
            prop_assert_eq!(said, &text);
        }
    }
}

#[test]
fn json_in_texts_in_json_is_searched_to_a_depth_and_hidden_below_it() {
    let hidden = [path("$..customer")];
    let mut wrapped = json!({"customer": "Ann", "order": 7});
    for level in 1..=NESTED + 26 {
        wrapped = if level % 2 == 0 {
            json!({ "arguments": wrapped.to_string() })
        } else {
            Value::String(wrapped.to_string())
        };
        if level > 8 && wrapped.to_string().len() > 100_000 {
            break;
        }
        let mut value = wrapped.clone();
        let all = hide_in(&mut value, &hidden);
        let said = value.to_string();
        assert!(!said.contains("Ann"), "{level}: {said}");
        assert_eq!(all, said.contains("order"), "{level}: {said}");
        assert!(said.len() <= 16 * wrapped.to_string().len());
    }
}

#[test]
fn a_text_whose_quotes_are_spelt_as_numbers_does_not_grow_with_its_depth() {
    let mut text = "{}".to_owned();
    for _ in 0..25 {
        let inner = text.replace('\\', "\\u005c").replace('"', "\\u0022");
        text = format!("{{\"arguments\":\"{inner}\"}}");
    }
    let mut value = Value::String(text.clone());
    assert!(!hide_in(&mut value, &[path("$.x")]));
    assert!(value.to_string().len() < 16 * text.len());
}

#[test]
fn words_that_begin_with_a_quotation_mark_stay() {
    for words in ["\"Yes\", she said.", "\"Yes\"", "\""] {
        let mut value = Value::String(words.to_owned());
        assert!(hide_in(&mut value, &[path("$.x")]));
        assert_eq!(value, words);
    }
}
