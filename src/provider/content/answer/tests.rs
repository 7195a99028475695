//! Answers in each form, whole and as streams.

use serde_json::json;

use super::*;

fn read(events: &[Value]) -> Vec<Value> {
    let mut answer = Answer::default();
    for event in events {
        answer.take(Json::document(event.to_string().as_bytes()));
    }
    let (messages, cut) = answer.finish();
    assert!(!cut);
    messages
}

/// That each of these is one message with this reasoning, text and call.
fn all_say(forms: &[Vec<Value>], parts: &Value, reason: &str) {
    let expected = json!({"role": "assistant", "parts": parts, "finish_reason": reason});
    for form in forms {
        assert_eq!(read(form), std::slice::from_ref(&expected), "{form:?}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of forms")]
fn text_is_the_same_in_every_form() {
    let forms = [
        vec![
            json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"},
            "finish_reason": "stop"}]}),
        ],
        vec![
            json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}),
            json!({"choices": [{"index": 0, "delta": {"content": "Hel"}}]}),
            json!({"choices": [{"index": 0, "delta": {"content": "lo"}}]}),
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
            json!({"choices": [], "usage": {}}),
        ],
        vec![json!({"choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}]})],
        vec![
            json!({"type": "message", "role": "assistant", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "Hello"}]}),
        ],
        vec![
            json!({"type": "message_start", "message": {"role": "assistant", "content": [],
                "stop_reason": null}}),
            json!({"type": "content_block_start", "index": 0,
                "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": "Hel"}}),
            json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": "lo"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
            json!({"type": "message_stop"}),
        ],
        vec![
            json!({"object": "response", "status": "completed", "output": [{"type": "message",
            "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]}]}),
        ],
        vec![
            json!({"type": "response.created", "response": {"status": "in_progress", "output": []}}),
            json!({"type": "response.output_item.added", "output_index": 0,
                "item": {"type": "message", "content": []}}),
            json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0,
                "delta": "Hel"}),
            json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0,
                "delta": "lo"}),
            json!({"type": "response.output_text.done", "output_index": 0, "content_index": 0,
                "text": "Hello"}),
            json!({"type": "response.content_part.done", "output_index": 0, "content_index": 0,
                "part": {"type": "output_text", "text": "Hello"}}),
            json!({"type": "response.output_item.done", "output_index": 0, "item": {"type": "message",
                "content": [{"type": "output_text", "text": "Hello"}]}}),
            json!({"type": "response.completed", "response": {"status": "completed", "output": [
                {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}]}}),
        ],
        vec![
            json!({"candidates": [{"content": {"role": "model", "parts": [{"text": "Hel"},
            {"text": "lo"}]}, "finishReason": "STOP"}]}),
        ],
        vec![
            json!({"candidates": [{"index": 0, "content": {"role": "model",
                "parts": [{"text": "Hel"}]}}]}),
            json!({"candidates": [{"index": 0, "content": {"parts": [{"text": "lo"}]},
                "finishReason": "STOP"}]}),
        ],
        vec![
            json!({"output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}},
            "stopReason": "end_turn"}),
        ],
        vec![
            json!({"role": "assistant"}),
            json!({"contentBlockIndex": 0, "delta": {"text": "Hel"}}),
            json!({"contentBlockIndex": 0, "delta": {"text": "lo"}}),
            json!({"contentBlockIndex": 0}),
            json!({"stopReason": "end_turn"}),
        ],
        vec![
            json!({"message": {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]},
            "finish_reason": "COMPLETE"}),
        ],
        vec![
            json!({"type": "message-start", "delta": {"message": {"role": "assistant",
                "content": []}}}),
            json!({"type": "content-start", "index": 0,
                "delta": {"message": {"content": {"type": "text", "text": ""}}}}),
            json!({"type": "content-delta", "index": 0,
                "delta": {"message": {"content": {"text": "Hel"}}}}),
            json!({"type": "content-delta", "index": 0,
                "delta": {"message": {"content": {"text": "lo"}}}}),
            json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}),
        ],
        vec![
            json!({"event_type": "text-generation", "text": "Hel"}),
            json!({"event_type": "text-generation", "text": "lo"}),
            json!({"event_type": "stream-end", "finish_reason": "COMPLETE",
                "response": {"text": "Hello", "finish_reason": "COMPLETE"}}),
        ],
        vec![
            json!({"message": {"role": "assistant", "content": "Hel"}, "done": false}),
            json!({"message": {"role": "assistant", "content": "lo"}, "done": false}),
            json!({"message": {"role": "assistant", "content": ""}, "done": true,
                "done_reason": "stop"}),
        ],
        vec![
            json!({"response": "Hel"}),
            json!({"response": "lo", "done_reason": "stop"}),
        ],
        vec![json!({"results": [{"generated_text": "Hello", "stop_reason": "eos_token"}]})],
        vec![json!([{"generated_text": "Hello", "finish_reason": "stop"}])],
        vec![json!({"completions": [{"completion": "Hello", "finish_reason": "end_of_text"}]})],
        vec![
            json!({"generation": "Hel", "stop_reason": null}),
            json!({"generation": "lo", "stop_reason": "stop"}),
        ],
        vec![json!({"outputs": [{"text": "Hello", "stop_reason": "stop"}]})],
        vec![
            json!({"bytes": STANDARD.encode(r#"{"outputText":"Hel"}"#)}),
            json!({"bytes": STANDARD.encode(r#"{"outputText":"lo","completionReason":"FINISH"}"#)}),
        ],
        vec![
            json!({"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Hel"}}}),
            json!({"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "lo"}}}),
            json!({"messageStop": {"stopReason": "end_turn"}}),
        ],
    ];
    all_say(
        &forms,
        &json!([{"type": "text", "content": "Hello"}]),
        "stop",
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of forms")]
fn reasoning_and_calls_are_the_same_in_every_form() {
    let forms = [
        vec![
            json!({"choices": [{"message": {"reasoning_content": "hmm", "reasoning": "hmm",
            "content": null, "tool_calls": [{"id": "c", "type": "function",
            "function": {"name": "f", "arguments": "{\"a\": 1}"}}]}, "finish_reason": "tool_calls"}]}),
        ],
        vec![
            json!({"choices": [{"delta": {"reasoning": "h"}}]}),
            json!({"choices": [{"delta": {"reasoning": "mm"}}]}),
            json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c", "type": "function",
                "function": {"name": "f", "arguments": ""}}]}}]}),
            json!({"choices": [{"delta": {"tool_calls": [{"index": 0,
                "function": {"arguments": "{\"a\""}}]}}]}),
            json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "type": "function",
                "function": {"name": null, "arguments": ":1}"}}]}}]}),
            json!({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}),
        ],
        vec![
            json!({"type": "message", "content": [{"type": "thinking", "thinking": "hmm"},
            {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}],
            "stop_reason": "tool_use"}),
        ],
        vec![
            json!({"type": "content_block_start", "index": 0,
                "content_block": {"type": "thinking", "thinking": ""}}),
            json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "thinking_delta", "thinking": "hmm"}}),
            json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "signature_delta", "signature": "xyz"}}),
            json!({"type": "content_block_start", "index": 1,
                "content_block": {"type": "tool_use", "id": "c", "name": "f", "input": {}}}),
            json!({"type": "content_block_delta", "index": 1,
                "delta": {"type": "input_json_delta", "partial_json": "{\"a\":"}}),
            json!({"type": "content_block_delta", "index": 1,
                "delta": {"type": "input_json_delta", "partial_json": "1}"}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}),
        ],
        vec![
            json!({"object": "response", "status": "completed", "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hmm"}]},
            {"type": "function_call", "id": "fc", "call_id": "c", "name": "f",
                "arguments": "{\"a\":1}"}]}),
        ],
        vec![
            json!({"type": "response.reasoning_summary_text.delta", "output_index": 0,
                "summary_index": 0, "delta": "hmm"}),
            json!({"type": "response.output_item.added", "output_index": 1, "item":
                {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": ""}}),
            json!({"type": "response.function_call_arguments.delta", "output_index": 1,
                "delta": "{\"a\":"}),
            json!({"type": "response.function_call_arguments.delta", "output_index": 1,
                "delta": "1}"}),
            json!({"type": "response.completed", "response": {"status": "completed"}}),
        ],
        vec![
            json!({"candidates": [{"content": {"parts": [{"text": "hmm", "thought": true},
            {"functionCall": {"id": "c", "name": "f", "args": {"a": 1}}}]},
            "finishReason": "TOOL_CALL"}]}),
        ],
        vec![json!({"output": {"message": {"content": [
            {"reasoningContent": {"reasoningText": {"text": "hmm"}}},
            {"toolUse": {"toolUseId": "c", "name": "f", "input": {"a": 1}}}]}},
            "stopReason": "tool_use"})],
        vec![
            json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hmm"}}}),
            json!({"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "c", "name": "f"}}}),
            json!({"contentBlockIndex": 1, "delta": {"toolUse": {"input": "{\"a\":"}}}),
            json!({"contentBlockIndex": 1, "delta": {"toolUse": {"input": "1}"}}}),
            json!({"stopReason": "tool_use"}),
        ],
        vec![
            json!({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "hmm"}}}),
            json!({"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls":
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}}}}),
            json!({"type": "tool-call-delta", "index": 0, "delta": {"message": {"tool_calls":
                {"function": {"arguments": "{\"a\":1}"}}}}}),
            json!({"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}}),
        ],
        vec![
            json!({"message": {"thinking": "hmm", "content": "", "tool_calls": [{"id": "c",
            "function": {"name": "f", "arguments": {"a": 1}}}]}, "done_reason": "tool_call"}),
        ],
    ];
    let parts = json!([{"type": "reasoning", "content": "hmm"},
        {"type": "tool_call", "id": "c", "name": "f", "arguments": {"a": 1}}]);
    all_say(&forms, &parts, "tool_call");
}

#[test]
fn choices_are_told_apart() {
    let found = read(&[
        json!({"choices": [{"index": 1, "delta": {"content": "b"}}]}),
        json!({"choices": [{"index": 0, "delta": {"content": "a"}}]}),
        json!({"choices": [{"index": 1, "delta": {"content": "B"}, "finish_reason": "length"}]}),
    ]);
    assert_eq!(found[0]["parts"][0]["content"], "a");
    assert_eq!(found[0]["finish_reason"], "unknown");
    assert_eq!(found[1]["parts"][0]["content"], "bB");
    assert_eq!(found[1]["finish_reason"], "length");
}

#[test]
fn an_incomplete_response_says_why() {
    let response = json!({"object": "response", "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"}, "output": [{"type": "message",
        "content": [{"type": "output_text", "text": "x"}]}]});
    for event in [
        response.clone(),
        json!({"type": "response.incomplete", "response": response}),
    ] {
        assert_eq!(read(&[event])[0]["finish_reason"], "length");
    }
}

#[test]
fn what_a_socket_says_is_put_together() {
    let realtime = read(&[
        json!({"type": "response.output_audio.delta", "output_index": 0, "delta": "AAAA"}),
        json!({"type": "response.output_audio_transcript.delta", "output_index": 0,
            "content_index": 0, "delta": "Hi"}),
        json!({"type": "response.done", "response": {"status": "completed", "output": [
            {"type": "message", "content": [{"type": "output_audio", "transcript": "Hi"}]}]}}),
    ]);
    assert_eq!(
        realtime[0]["parts"],
        json!([{"type": "text", "content": "Hi"}])
    );
    let live = read(&[
        json!({"serverContent": {"modelTurn": {"parts": [{"text": "H"}]}}}),
        json!({"serverContent": {"modelTurn": {"parts": [{"text": "i"}]}}}),
        json!({"toolCall": {"functionCalls": [{"id": "c", "name": "f", "args": {"a": 1}}]}}),
    ]);
    assert_eq!(live[0]["parts"][0]["content"], "Hi");
    assert_eq!(live[0]["parts"][1]["name"], "f");
}

#[test]
fn what_says_nothing_is_no_message() {
    for event in [
        json!({"object": "list", "data": [{"embedding": [0.1, 0.2], "index": 0}]}),
        json!({"error": {"message": "no", "type": "t"}}),
        json!({"results": [{"flagged": false, "categories": {}}]}),
        json!({"type": "ping"}),
        json!(7),
        json!([]),
    ] {
        assert_eq!(
            read(std::slice::from_ref(&event)),
            Vec::<Value>::new(),
            "{event}"
        );
    }
}
