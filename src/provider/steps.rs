//! The steps of a conversation, read from the request that carries it: the calls of tools, their
//! results, and the user's messages between them.
//!
//! The dialects' forms do not get in each other's way, so that one reading knows all of them: lists
//! of messages with `tool_calls` (chat completions, Mistral, Cohere, Ollama, watsonx.ai) or blocks
//! (Anthropic, Bedrock's Converse), contents with parts (Gemini), and items (Responses). It is a
//! reading by itself, since only loop guards want it.

use super::wire::{
    canonical::{hash, hash_arguments, one},
    json::{Ahead, Json},
};
use crate::call::steps::{Step, Steps};

/// Reads the steps of the conversation in a request's body, which follow those `before` it in the one
/// that it continues. What is broken ends them.
pub fn steps(body: &[u8], before: Steps) -> Steps {
    let mut steps = before;
    // Cohere's first version has the message that comes last, or results instead, beside the history.
    let (mut last, mut has_results) = (None, false);
    let _broken = Json::document(body).object(|key, value| match key {
        b"message" => last = Some(value.take()),
        b"tool_results" => {
            value.items(|_| has_results = true);
        },
        b"messages" | b"input" | b"inputs" | b"contents" | b"chat_history" => {
            list(value, &mut steps);
        },
        _ => {},
    });
    if let Some(last) = last.filter(|last| !has_results && last.name().is_some()) {
        steps.push(said(hash(last)));
    }
    steps
}

/// Reads a message, a content or an item, a list of them, or what the user says.
pub(super) fn list(value: Ahead<'_, '_>, steps: &mut Steps) {
    if value.is_array() {
        value.items(|item| message(item, steps));
    } else if value.is_object() {
        message(value, steps);
    } else if value.is_string() {
        steps.push(said(hash(value.take())));
    }
}

/// A call or a result, in whatever form.
#[derive(Default)]
struct Found<'a> {
    kind: Option<Json<'a>>,
    id: Option<Json<'a>>,
    name: Option<Json<'a>>,
    arguments: Option<Json<'a>>,
    result: Option<Json<'a>>,
    /// It is being read what stands under `function`: no other call stands in there, and whoever
    /// nests it a thousand times wants the end of our stack.
    is_within: bool,
}

impl<'a> Found<'a> {
    fn read(value: Ahead<'_, 'a>) -> Self {
        let mut found = Self::default();
        found.enter(value);
        found
    }

    fn enter(&mut self, value: Ahead<'_, 'a>) {
        value.object(|key, value| self.field(key, value));
    }

    fn field(&mut self, key: &[u8], value: Ahead<'_, 'a>) {
        match key {
            b"type" => self.kind = Some(value.take()),
            // A call of Responses has an id as an item too, which is not the one that results name.
            b"id" => self.id = self.id.or_else(|| Some(value.take())),
            b"call_id" | b"tool_call_id" | b"tool_use_id" | b"toolUseId" => {
                self.id = Some(value.take());
            },
            b"name" | b"tool_name" => self.name = Some(value.take()),
            b"arguments" | b"args" | b"input" | b"parameters" | b"action" | b"operation" => {
                self.arguments = Some(value.take());
            },
            b"output" | b"content" | b"response" => self.result = Some(value.take()),
            b"function" | b"custom" if !self.is_within => {
                self.is_within = true;
                self.enter(value);
                self.is_within = false;
            },
            _ => {},
        }
    }

    fn id(&self) -> Option<u64> {
        let id = self.id.filter(|id| id.is_string());
        id.map(|id| one(id.raw()))
    }

    /// It is a call, of a tool that is named or that `kind` names.
    fn call(&self, kind: Option<&str>, steps: &mut Steps) {
        let named = self.name.and_then(Json::name);
        let kind = kind.filter(|_| self.arguments.is_some());
        let Some(name) = named.or_else(|| kind.map(Box::from)) else {
            return;
        };
        let what = one((&name, self.arguments.map(hash_arguments)));
        steps.push(Step {
            tool: Some(name),
            what,
            id: self.id(),
            result: None,
        });
    }

    /// It is a result.
    fn result(&self, steps: &mut Steps) {
        let name = self.name.and_then(Json::name);
        let result = self.result.map_or(0, hash);
        steps.answer(self.id(), name.as_deref(), result);
    }
}

/// Reads a call that stands by itself.
pub(super) fn call(call: Ahead<'_, '_>, steps: &mut Steps) {
    Found::read(call).call(None, steps);
}

/// Reads a result that stands by itself.
pub(super) fn result(result: Ahead<'_, '_>, steps: &mut Steps) {
    Found::read(result).result(steps);
}

/// A message, a content, or an item of Responses.
pub(super) fn message(message: Ahead<'_, '_>, steps: &mut Steps) {
    let (mut role, mut content, mut has_tools) = (None, None, false);
    let mut found = Found::default();
    message.object(|key, value| match key {
        b"role" => role = Some(value.take()),
        b"content" | b"parts" | b"message" => {
            let content = content.insert(value.items(|part| has_tools |= block(part, steps)));
            found.result = Some(*content);
        },
        b"tool_calls" => {
            value.items(|call| Found::read(call).call(None, steps));
        },
        b"function_call" => Found::read(value).call(None, steps),
        _ => found.field(key, value),
    });
    let kind = found.kind.and_then(Json::str).unwrap_or_default();
    if kind.ends_with("_call_output") {
        found.result(steps);
    } else if let Some(tool) = kind.strip_suffix("_call") {
        found.call(Some(tool), steps);
        if found.result.is_some() {
            found.result(steps);
        }
    } else {
        let role = role.and_then(Json::str).map(|role| role.to_lowercase());
        match (role.as_deref(), content) {
            (Some("tool" | "function"), Some(_)) if !has_tools => found.result(steps),
            (Some("user"), Some(content)) if !has_tools => steps.push(said(hash(content))),
            // Gemini's first content may go without.
            (None, Some(content)) if !has_tools && kind.is_empty() => {
                steps.push(said(hash(content)));
            },
            _ => {},
        }
    }
}

/// A message of the user, which is no step of the model.
pub(super) fn said(what: u64) -> Step {
    Step {
        tool: None,
        what,
        id: None,
        result: None,
    }
}

/// A block of a message, or a part of a content. Returns whether it is of a tool.
fn block(block: Ahead<'_, '_>, steps: &mut Steps) -> bool {
    let mut found = Found::default();
    let mut has_tools = false;
    block.object(|key, value| match key {
        b"toolUse" | b"functionCall" | b"function_call" => {
            has_tools = true;
            Found::read(value).call(None, steps);
        },
        b"toolResult" | b"functionResponse" | b"function_response" => {
            has_tools = true;
            Found::read(value).result(steps);
        },
        _ => found.field(key, value),
    });
    match found.kind.and_then(Json::str).as_deref() {
        Some(kind) if kind.ends_with("tool_use") => found.call(None, steps),
        Some(kind) if kind.ends_with("tool_result") => found.result(steps),
        _ => return has_tools,
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Each form of a conversation in which `say` was called twice, and answered the second time.
    fn forms() -> Vec<Value> {
        let asked = json!({"role": "user", "content": "Go"});
        let chat = |call: fn(&str) -> Value, answer: Value| {
            json!({"messages": [asked,
                {"role": "assistant", "content": null, "tool_calls": [call("1")]},
                {"role": "assistant", "tool_calls": [call("2")]}, answer]})
        };
        let text = r#"{"b": 1, "a": "x"}"#;
        vec![
            chat(
                |id| {
                    json!({"id": id, "type": "function",
                        "function": {"name": "say", "arguments": r#"{"b": 1, "a": "x"}"#}})
                },
                json!({"role": "tool", "tool_call_id": "2", "content": "done"}),
            ),
            // Ollama, and Cohere's first version: no ids.
            chat(
                |_| json!({"function": {"name": "say", "arguments": {"a": "x", "b": 1}}}),
                json!({"role": "assistant", "content": "well"}),
            ),
            json!({"message": "", "tool_results": [{"outputs": []}], "chat_history": [{"role": "USER", "message": "Go"},
                {"role": "CHATBOT", "tool_calls": [{"name": "say", "parameters": {"a": "x", "b": 1}}]},
                {"role": "CHATBOT", "tool_calls": [{"name": "say", "parameters": {"a": "x", "b": 1}}]}]}),
            json!({"messages": [asked,
                {"role": "assistant", "function_call": {"name": "say", "arguments": text}},
                {"role": "assistant", "function_call": {"name": "say", "arguments": text}}]}),
            json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "Go"}]},
                {"type": "function_call", "id": "fc_1", "call_id": "1", "name": "say", "arguments": text},
                {"call_id": "2", "id": "fc_2", "type": "function_call", "name": "say", "arguments": text},
                {"type": "function_call_output", "call_id": "2", "output": "done"}]}),
            json!({"messages": [asked,
                {"role": "assistant", "content": [{"type": "text", "text": "Well"},
                    {"type": "tool_use", "id": "1", "name": "say", "input": {"a": "x", "b": 1.0}},
                    {"type": "tool_use", "id": "2", "name": "say", "input": {"b": 1, "a": "x"}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "2",
                    "content": "done", "cache_control": {"type": "ephemeral"}},
                    {"type": "text", "text": "Be quick"}]}]}),
            json!({"contents": [{"role": "user", "parts": [{"text": "Go"}]},
                {"role": "model", "parts": [{"functionCall": {"name": "say", "args": {"a": "x", "b": 1}}},
                    {"function_call": {"name": "say", "args": {"b": 1, "a": "x"}, "id": "2"}}]},
                {"role": "user", "parts": [
                    {"functionResponse": {"name": "say", "id": "2", "response": "done"}}]}]}),
            json!({"messages": [{"role": "user", "content": [{"text": "Go"}]},
                {"role": "assistant", "content": [
                    {"toolUse": {"toolUseId": "1", "name": "say", "input": {"a": "x", "b": 1}}},
                    {"toolUse": {"toolUseId": "2", "name": "say", "input": {"a": "x", "b": 1}}}]},
                {"role": "user", "content": [{"toolResult": {"toolUseId": "2", "content": "done"}}]}]}),
        ]
    }

    #[test]
    fn calls_and_results_are_found_in_every_form() {
        let done = hash(Json::document(b"\"done\""));
        let expected = one((
            Box::<str>::from("say"),
            Some(hash(Json::document(br#"{"a":"x","b":1}"#))),
        ));
        for form in forms() {
            let text = form.to_string();
            let steps = steps(text.as_bytes(), Steps::default());
            let calls: Vec<&Step> = steps.iter().filter(|step| step.tool.is_some()).collect();
            assert_eq!(calls.len(), 2, "{text}");
            for call in &calls {
                assert_eq!(
                    (call.tool.as_deref(), call.what),
                    (Some("say"), expected),
                    "{text}"
                );
            }
            let results = [calls[0].result, calls[1].result];
            let answered = text.contains("done");
            assert_eq!(results, [None, answered.then_some(done)], "{text}");
            let said = steps.iter().filter(|step| step.tool.is_none()).count();
            assert_eq!(said, 1, "{text}");
        }
    }

    #[test]
    fn what_the_provider_ran_itself_has_its_kind_for_a_name() {
        let body = json!({"input": [
            {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "q"}},
            {"type": "mcp_call", "id": "mcp_1", "name": "look", "arguments": "{}", "output": "o"},
            {"type": "custom_tool_call", "call_id": "c", "name": "run", "input": "ls"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "."},
            {"type": "local_shell_call", "call_id": "s", "action": {"command": ["ls"]}},
            {"type": "reasoning", "id": "r"}, "no item", 7]});
        let steps = steps(body.to_string().as_bytes(), Steps::default());
        let found: Vec<_> = steps
            .iter()
            .map(|step| (step.tool.as_deref().unwrap(), step.result.is_some()))
            .collect();
        assert_eq!(
            found,
            [
                ("web_search", false),
                ("look", true),
                ("run", true),
                ("local_shell", false)
            ]
        );
    }

    #[test]
    fn what_the_user_says_beside_a_history_comes_after_it() {
        let with = |results: Value| {
            json!({"message": "Go", "tool_results": results, "chat_history": [
                {"role": "CHATBOT", "tool_calls": [{"name": "say", "parameters": {}}]}]})
        };
        let tools = |body: Value| -> Vec<bool> {
            let steps = steps(body.to_string().as_bytes(), Steps::default());
            steps.iter().map(|step| step.tool.is_some()).collect()
        };
        assert_eq!(tools(with(json!([]))), [true, false]);
        // With results it is what was asked before.
        assert_eq!(tools(with(json!([{"outputs": []}]))), [true]);
    }

    #[test]
    fn a_text_for_an_input_is_what_the_user_said() {
        let steps = steps(br#"{"input":"Go","model":"m"}"#, Steps::default());
        assert_eq!(
            steps
                .iter()
                .map(|step| step.tool.is_none())
                .collect::<Vec<_>>(),
            [true]
        );
    }

    proptest! {
        #[test]
        fn a_conversation_that_is_broken_anywhere_is_read_without_harm(
            which in 0..8_usize, cut: prop::sample::Index, byte: u8,
        ) {
            let mut bytes = forms()[which].to_string().into_bytes();
            let place = cut.index(bytes.len());
            let _steps = steps(&bytes[..place], Steps::default());
            bytes[place] = byte;
            let _steps = steps(&bytes, Steps::default());
        }
    }

    #[test]
    fn what_is_nested_without_end_takes_no_stack() {
        for key in [
            "function",
            "custom",
            "function_call",
            "content",
            "tool_calls",
        ] {
            for (open, around) in [
                ("", "{\"messages\":["),
                ("", "{\"input\":["),
                ("[", "{\"contents\":[{\"parts\":["),
            ] {
                let deep = format!("{{\"{key}\":{open}").repeat(200_000);
                let _none = steps(format!("{around}{deep}").as_bytes(), Steps::default());
            }
        }
    }
}
