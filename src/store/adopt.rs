//! Calls that are moved into the traces that agents report: a call of which the agent's own tracing
//! said nothing on the wire has a trace to itself, until the agent names the call.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::blocks::Block;
use crate::{
    base::{
        clock::Timestamp,
        id::{SpanId, TraceId},
    },
    call::{
        labels::Label,
        outcome::Kind,
        reported::{REPORTED_CALLS, REPORTED_INPUT, REPORTED_OUTPUT},
        span::{Span, Value},
    },
};

/// How many calls are remembered until an agent may report them.
const REMEMBERED: usize = 4_096;

/// By how much the times of an agent and ours may differ: they are of one machine's clock.
const SLACK: Duration = Duration::from_millis(20);

/// The calls that were written last and that no agent has reported yet.
#[derive(Debug, Default)]
pub(super) struct Calls(VecDeque<Call>);

/// What a call can be recognised by.
#[derive(Debug)]
struct Call {
    row: i64,
    trace_id: TraceId,
    response_id: Option<Box<str>>,
    tool_calls: Vec<Box<str>>,
    start: Timestamp,
    end: Timestamp,
    model: Option<Arc<str>>,
    tokens: [Option<u64>; 2],
}

impl Calls {
    /// Forgets calls whose rows were rolled back.
    pub(super) fn roll_back(&mut self, from: i64) {
        self.0.retain(|call| call.row < from);
    }

    /// Notes a span that was written. If it is an agent's, of a call of ours, that call comes below
    /// it.
    pub(super) fn note(
        &mut self,
        row: i64,
        span: &Span,
        transaction: &Transaction<'_>,
        open: &mut Block,
    ) -> rusqlite::Result<()> {
        if span.kind != Kind::Llm {
            return Ok(());
        }
        if span.reported.is_none() {
            if self.0.len() >= REMEMBERED {
                self.0.pop_front();
            }
            self.0.push_back(Call::of(row, span));
            return Ok(());
        }
        let Some(call) = self.find(span).and_then(|place| self.0.remove(place)) else {
            return Ok(());
        };
        // It is where it belongs if its client told of the trace.
        if call.trace_id == span.trace_id {
            return Ok(());
        }
        call.adopt(span, transaction, open)
    }

    /// The call that an agent's span tells of: by the id of the response, by the tool calls that it
    /// asked for, else as the only one of that model and with that many tokens in its time.
    fn find(&self, span: &Span) -> Option<usize> {
        let reported = span.reported.as_deref()?;
        let place = |is: &dyn Fn(&Call) -> bool| self.0.iter().rposition(is);
        if let Some(id) = &span.response_id {
            return place(&|call| call.response_id.as_ref() == Some(id));
        }
        if let Some(Value::Texts(ids)) = reported.get(REPORTED_CALLS) {
            return place(&|call| call.tool_calls.iter().any(|id| ids.contains(id)));
        }
        let tokens = [REPORTED_INPUT, REPORTED_OUTPUT].map(|name| reported.number(name));
        let (from, to) = (span.start - SLACK, span.end_time() + SLACK);
        let is_it = |call: &Call| {
            let in_time = from <= call.start && call.end <= to;
            in_time && call.model == span.request_model && call.tokens == tokens
        };
        if tokens.contains(&None) {
            return None;
        }
        let found = place(&is_it)?;
        let first = self.0.iter().position(is_it);
        (first == Some(found)).then_some(found)
    }
}

impl Call {
    fn of(row: i64, span: &Span) -> Self {
        let ids = span.tool_calls.iter().filter_map(|call| call.id.clone());
        Self {
            row,
            trace_id: span.trace_id,
            response_id: span.response_id.clone(),
            tool_calls: ids.collect(),
            start: span.start,
            end: span.end_time(),
            model: span.request_model.clone(),
            tokens: [span.usage.input, span.usage.output],
        }
    }

    /// Moves the call below `span`, and gives it the labels that it lacks.
    fn adopt(
        &self,
        span: &Span,
        transaction: &Transaction<'_>,
        open: &mut Block,
    ) -> rusqlite::Result<()> {
        let line: Option<String> = transaction
            .prepare_cached("SELECT line FROM lines WHERE id = ?")?
            .query_row([self.row], |row| row.get(0))
            .optional()?;
        let Some(line) = line.and_then(|line| moved(&line, span)) else {
            return Ok(());
        };
        let label = |label| span.labels.get(label);
        transaction
            .prepare_cached(
                "UPDATE spans SET trace_id = ?, agent = coalesce(agent, ?),
                    workflow = coalesce(workflow, ?), session = coalesce(session, ?) WHERE id = ?",
            )?
            .execute(params![
                span.trace_id.bytes(),
                label(Label::Agent),
                label(Label::Workflow),
                label(Label::Session),
                self.row,
            ])?;
        transaction
            .prepare_cached("UPDATE lines SET line = ? WHERE id = ?")?
            .execute(params![line, self.row])?;
        open.also_holds(self.row, span.trace_id, transaction)
    }
}

/// The line of a call with another trace and another parent, and with labels that it lacks. Its first
/// trace, which its client was told of, becomes an attribute. No name with its quotation marks can
/// stand within a text, where they are escaped.
fn moved(line: &str, span: &Span) -> Option<String> {
    const ATTRIBUTES: &str = "\"attributes\":{";
    let (head, rest) = line.split_at_checked(line.find(",\"operation_name\":")?)?;
    let text = |name: &str| {
        let (_, rest) = head.split_once(&format!("\"{name}\":\""))?;
        rest.split('"').next()
    };
    let first: TraceId = text("trace_id")?.parse().ok()?;
    let id: SpanId = text("span_id")?.parse().ok()?;
    let (before, after) = rest.split_once(ATTRIBUTES)?;
    let mut added = format!("\"tollgate.first_trace_id\":\"{first}\",");
    for label in [Label::Agent, Label::Workflow, Label::Session] {
        let name = format!("\"tollgate.{}\":", label.name());
        if let Some(value) = span.labels.get(label).filter(|_| !after.contains(&name)) {
            let value = serde_json::Value::from(value);
            added = format!("{added}{name}{value},");
        }
    }
    let (trace, parent) = (span.trace_id, span.span_id);
    Some(format!(
        "{{\"trace_id\":\"{trace}\",\"span_id\":\"{id}\",\"parent_span_id\":\"{parent}\"\
         {before}{ATTRIBUTES}{added}{after}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{brief::Brief, labels::Source, reported::Format, span::tests::example};

    #[test]
    fn a_moved_line_differs_in_its_place_and_in_labels_that_it_lacked() {
        let ids = (TraceId::from_bytes([8; 16]), SpanId::from_bytes([9; 8]));
        let mut above = Span::reported(Format::Agents, ids, "response", example().start);
        above.labels.set(Label::Agent, "triage", Source::Body);
        above.labels.set(Label::Session, "a \"b\"", Source::Body);
        for parent in [None, Some(SpanId::from_bytes([7; 8]))] {
            let call = Span {
                parent_span_id: parent,
                path: "/\"attributes\":{,\"operation_name\":".into(),
                ..example()
            };
            let line = moved(&call.to_json(), &above).unwrap();
            let mut expected = Brief::from(&call);
            expected.trace_id = above.trace_id;
            expected.parent_span_id = Some(above.span_id);
            expected.session = Some("a \"b\"".into());
            assert_eq!(Brief::from_json(&line).unwrap(), expected);
            let json: serde_json::Value = serde_json::from_str(&line).unwrap();
            let first = call.trace_id.to_string();
            assert_eq!(json["attributes"]["tollgate.first_trace_id"], first);
            assert_eq!(json["attributes"]["tollgate.agent"], "support");
        }
        assert_eq!(moved("{}", &above), None);
    }
}
