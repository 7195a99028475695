//! The Responses API: answers, whole, stored and as events.

use std::borrow::Cow;

use super::{fault, output::Output, usage};
use crate::{
    call::{
        facts::{ErrorFacts, ResponseFacts, ToolCall},
        steps::Steps,
        text::Text,
        usage::Usage,
    },
    provider::{
        dialect::Event,
        state::{Open, StreamState},
        steps,
        wire::json::{Ahead, Json, Unreadable},
    },
};

/// Reads one event, or a whole response.
pub(super) fn read(
    event: &Event<'_>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    if event.data.starts_with(b"[DONE]") {
        return Ok(());
    }
    let document = Json::document(&event.data);
    if event.whole {
        let response = read_response(document, facts, state)?;
        facts.pending = response.is_pending();
        facts.complete = !facts.pending;
        facts.output_bytes += response.written;
        return Ok(());
    }
    if let Some(only) = state.templates.read(&event.data)
        && state
            .output()
            .is_none_or(|output| output.add_alike(&only, &event.data))
    {
        facts.output_bytes += only.text;
        state.sequence = only.sequence.or(state.sequence);
        return Ok(());
    }
    read_typed(document, &event.data, facts, state)
}

/// Reads an event by its `type`: not every server names its events as well.
fn read_typed(
    event: Json<'_>,
    data: &[u8],
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    let fields = Fields::read(event)?;
    state.sequence = fields.sequence.or(state.sequence);
    if let Some(output) = state.output() {
        output.next();
    }
    let kind = fields.kind.as_deref().unwrap_or_default();
    match (kind, fields.response) {
        ("response.output_item.added", _) => {
            if let Some(item) = fields.item {
                state.begin_with(item.opened(fields.index));
                item.note(fields.index, facts, state);
            }
        },
        ("response.output_item.done", _) => {
            state.end(fields.index);
            if let Some(item) = fields.item {
                item.note(fields.index, facts, state);
            }
            if let (Some(output), Some(item)) = (state.output(), fields.whole_item) {
                output.finish(fields.index, item.raw());
            }
            if let (true, Some(whole)) = (state.wants_steps, fields.whole_item) {
                let steps = facts.steps.get_or_insert_default();
                whole.read(|item| steps::message(item, steps));
            }
        },
        ("error", _) => facts.error = fields.error.or_else(|| event.read(fault::read)),
        (_, Some(response)) => {
            let response = read_response(response, facts, state)?;
            facts.pending = response.background && response.is_pending();
            if is_last(kind) {
                state.open.clear();
                facts.complete = true;
            } else {
                // Not why it ended, but how it stands.
                facts.finish_reasons.clear();
            }
        },
        _ => {
            let delta = fields.delta.filter(|_| is_piece(kind));
            let text = delta.map(Json::text).unwrap_or_default();
            facts.output_bytes += text;
            let mut tag = Output::NONE;
            if let (Some(output), Some(delta)) = (state.output(), delta) {
                let piece = delta.raw().trim_ascii();
                let piece = piece.get(1..piece.len() - 1).unwrap_or_default();
                tag = output.add(kind, (fields.index, fields.part), piece);
            }
            state.templates.learn_as(data, text, tag);
        },
    }
    Ok(())
}

/// Whether an event that was not read whole may bring text: a piece does. All others say again what
/// pieces have said, or bring pictures, sound, or what a tool found.
pub(super) fn may_write(event: &Event<'_>) -> bool {
    let kind = Json::document(&event.data).get("type").and_then(Json::str);
    kind.is_none_or(|kind| is_piece(&kind))
}

/// Whether events of this type bring a piece of a text.
fn is_piece(kind: &str) -> bool {
    kind.contains(".delta") && !kind.contains("audio.")
}

pub(super) fn is_last(kind: &str) -> bool {
    ["completed", "incomplete", "failed", "cancelled"]
        .iter()
        .any(|end| kind.strip_prefix("response.") == Some(*end))
}

/// The fields of an event that matter.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Cow<'a, str>>,
    sequence: Option<u64>,
    index: u64,
    /// The index in the item.
    part: u64,
    item: Option<Item<'a>>,
    whole_item: Option<Json<'a>>,
    delta: Option<Json<'a>>,
    response: Option<Json<'a>>,
    error: Option<ErrorFacts>,
}

impl<'a> Fields<'a> {
    fn read(event: Json<'a>) -> Result<Self, Unreadable> {
        let mut fields = Self::default();
        event.object(|key, value| match key {
            b"type" => fields.kind = value.take().str(),
            b"sequence_number" => fields.sequence = value.take().u64(),
            b"output_index" => fields.index = value.take().u64().unwrap_or(0),
            b"content_index" | b"summary_index" => fields.part = value.take().u64().unwrap_or(0),
            b"item" => {
                let (whole, item) = Item::read(value);
                (fields.whole_item, fields.item) = (Some(whole), Some(item));
            },
            b"delta" => fields.delta = Some(value.take()).filter(|delta| delta.is_string()),
            b"response" => fields.response = Some(value.take()).filter(|value| value.is_object()),
            b"error" => fields.error = fault::read(value),
            _ => {},
        })?;
        Ok(fields)
    }
}

/// What a response says that is not among its facts.
#[derive(Default)]
pub(super) struct Response<'a> {
    status: Option<Json<'a>>,
    background: bool,
    /// The text that the model wrote in the items of its output.
    written: Text,
}

impl Response<'_> {
    fn is_pending(&self) -> bool {
        let status = self.status.and_then(Json::str);
        matches!(status.as_deref(), Some("queued" | "in_progress"))
    }
}

/// Reads a response object.
pub(super) fn read_response<'a>(
    response: Json<'a>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<Response<'a>, Unreadable> {
    let mut found = Response::default();
    response.object(|key, value| match key {
        b"id" => facts.id = value.take().name().or_else(|| facts.id.take()),
        b"model" => facts.model = value.take().name().or_else(|| facts.model.take()),
        b"created_at" => state.created = value.take().u64().or(state.created),
        b"service_tier" => {
            facts.service_tier = value.take().name().or_else(|| facts.service_tier.take());
        },
        b"status" => {
            let status = value.take();
            facts.finish_reasons = status.name().into_iter().collect();
            found.status = Some(status);
        },
        b"background" => found.background = value.take().is_true(),
        b"incomplete_details" => {
            facts.stop_detail = value.take().get("reason").and_then(Json::name);
        },
        b"error" => facts.error = fault::read(value).or_else(|| facts.error.take()),
        b"usage" => read_usage(value, facts),
        b"output" => {
            let mut indexes = 0..;
            found.written = Text::default();
            let output = value.items(|item| {
                let (_, item) = Item::read(item);
                found.written += item.written;
                item.note(indexes.next().unwrap_or(u64::MAX), facts, state);
            });
            if state.wants_steps {
                read_steps(output, facts);
            }
        },
        _ => {},
    })?;
    Ok(found)
}

/// Reads the steps in an output. It holds all of them, unless it is not there yet.
fn read_steps(output: Json<'_>, facts: &mut ResponseFacts) {
    let mut steps = Steps::default();
    output.read(|output| output.items(|item| steps::message(item, &mut steps)));
    if !steps.is_empty() || facts.steps.is_none() {
        facts.steps = Some(steps);
    }
}

/// Reads a usage object.
pub(super) fn read_usage(value: Ahead<'_, '_>, facts: &mut ResponseFacts) {
    let report = usage::read(value);
    if report.usage != Usage::NONE {
        facts.usage.update(&report.usage);
    }
    facts.reported_cost = report.cost.or_else(|| facts.reported_cost.take());
}

/// Whether an item is a call that the client must run.
fn is_client_call(kind: &str) -> bool {
    matches!(
        kind,
        "function_call"
            | "custom_tool_call"
            | "local_shell_call"
            | "shell_call"
            | "apply_patch_call"
            | "computer_call"
    )
}

/// An item of the output, or the beginning of one.
#[derive(Default)]
struct Item<'a> {
    kind: Option<Json<'a>>,
    id: Option<Json<'a>>,
    call_id: Option<Json<'a>>,
    name: Option<Json<'a>>,
    status: Option<Json<'a>>,
    action: Option<Json<'a>>,
    /// The text that the model wrote in it.
    written: Text,
}

impl<'a> Item<'a> {
    /// The item as it stands, and what is read of it.
    fn read(item: Ahead<'_, 'a>) -> (Json<'a>, Self) {
        let mut found = Self::default();
        let (mut arguments, mut input) = (None, None);
        let (mut content, mut summary) = (Text::default(), Text::default());
        let whole = item.object(|key, value| match key {
            b"type" => found.kind = Some(value.take()),
            b"id" => found.id = Some(value.take()),
            b"call_id" => found.call_id = Some(value.take()),
            b"name" => found.name = Some(value.take()),
            b"status" => found.status = Some(value.take()),
            b"action" => found.action = Some(value.take()),
            b"arguments" => arguments = Some(value.count()),
            b"input" => input = Some(value.count()),
            b"content" => content = texts(value),
            b"summary" => summary = texts(value),
            _ => {},
        });
        found.written = content + summary + arguments.or(input).unwrap_or_default();
        (whole, found)
    }

    fn kind(&self) -> Option<Box<str>> {
        self.kind.and_then(Json::name)
    }

    fn name(&self) -> Option<Box<str>> {
        self.name.and_then(Json::name)
    }

    fn call_id(&self) -> Option<Box<str>> {
        self.call_id.and_then(Json::name)
    }

    /// What is open while it is written.
    fn opened(&self, index: u64) -> Open {
        let kind = self.kind().unwrap_or_default();
        let call = is_client_call(&kind).then(|| ToolCall {
            id: self.call_id(),
            name: self.name().unwrap_or_default(),
        });
        Open {
            index,
            kind,
            id: self.id.and_then(Json::name),
            call,
        }
    }

    /// Notes the call that it is. Items are repeated when they are done and when all is: their
    /// place among the output tells them apart.
    fn note(&self, index: u64, facts: &mut ResponseFacts, state: &mut StreamState) {
        let Some(kind) = self.kind.and_then(Json::str) else {
            return;
        };
        if is_client_call(&kind) {
            let name = self.name().unwrap_or_else(|| Box::from(&*kind));
            state.call(facts, (0, index), self.call_id(), Some(name));
        } else if kind.ends_with("_call") || kind == "mcp_list_tools" {
            if self.is_done_search() && state.pay(index) {
                count_search(&kind, &mut facts.usage);
            }
            state.server_call(facts, index, self.kind().unwrap_or_default());
        }
    }

    /// Whether it was done, and was no mere opening of a page, which has no fee.
    fn is_done_search(&self) -> bool {
        let action = self.action.and_then(|action| action.get("type")?.str());
        self.status.and_then(Json::str).as_deref() == Some("completed")
            && action.is_none_or(|action| action == "search")
    }
}

/// Counts a search that has a fee of its own: in the web, or in stored files.
fn count_search(kind: &str, usage: &mut Usage) {
    let count = match kind {
        "web_search_call" => &mut usage.web_searches,
        "file_search_call" => &mut usage.file_searches,
        _ => return,
    };
    *count = Some(count.unwrap_or(0).saturating_add(1));
}

/// The text in a list of parts.
fn texts(parts: Ahead<'_, '_>) -> Text {
    let mut written = Text::default();
    parts.items(|part| {
        let (mut text, mut refusal) = (None, None);
        part.object(|key, value| match key {
            b"text" => text = Some(value.count()),
            b"refusal" => refusal = Some(value.count()),
            _ => {},
        });
        written += text.or(refusal).unwrap_or_default();
    });
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_an_answer_are_steps_if_a_guard_wants_them() {
        const CALL: &str = r#"{"type":"function_call","id":"fc","call_id":"c","name":"f","arguments":"{\"a\": 1}"}"#;
        const SAID: &str = r#"{"type":"message","role":"assistant","content":[]}"#;
        let done =
            format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{CALL}}}"#);
        let ended = |output: &str| {
            format!(
                r#"{{"type":"response.completed","response":{{"id":"r","status":"completed","output":[{output}]}}}}"#
            )
        };
        let found = |wants_steps, events: &[&str]| {
            let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
            state.wants_steps = wants_steps;
            for event in events {
                read(&Event::data(event.as_bytes()), &mut facts, &mut state).unwrap();
            }
            facts.steps
        };
        let once = steps(
            format!(r#"{{"input":[{CALL}]}}"#).as_bytes(),
            Steps::default(),
        );
        assert_eq!(once.len(), 1);
        let whole = ended(&format!("{SAID},{CALL}"));
        // Not every server repeats all in the end; and some streams have none.
        for events in [
            &[&*done, &*whole][..],
            &[&*done, &*ended("")],
            &[&*done],
            &[&*whole],
        ] {
            assert_eq!(found(true, events), Some(once.clone()), "{events:?}");
            assert_eq!(found(false, events), None);
        }
        assert_eq!(found(true, &[&ended(SAID)]), Some(Steps::default()));
    }

    #[test]
    fn searches_that_were_run_are_counted_once_and_pages_that_were_opened_are_not() {
        let item =
            |kind, rest| format!(r#"{{"type":"{kind}","id":"a","status":"completed"{rest}}}"#);
        let search = item(
            "web_search_call",
            r#","action":{"type":"search","query":"q"}"#,
        );
        let page = item(
            "web_search_call",
            r#","action":{"type":"open_page","url":"u"}"#,
        );
        let file = item("file_search_call", "");
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        let begun = search.replace("completed", "in_progress");
        let output = format!("{search},{page},{file}");
        for event in [
            format!(r#"{{"type":"response.output_item.added","output_index":0,"item":{begun}}}"#),
            format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{search}}}"#),
            format!(
                r#"{{"type":"response.completed","response":{{"output":[{output}],"usage":{{"input_tokens":1,"output_tokens":2}}}}}}"#
            ),
        ] {
            read(&Event::data(event.as_bytes()), &mut facts, &mut state).unwrap();
        }
        let expected = Usage {
            web_searches: Some(1),
            file_searches: Some(1),
            ..Usage::text(1, 2)
        };
        assert_eq!(facts.usage, expected);
        assert_eq!(facts.server_tools.len(), 3);
    }
}
