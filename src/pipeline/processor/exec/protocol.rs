//! What is said to a command, and what it answers: a line of JSON each.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use serde::Deserialize;

use crate::pipeline::{DeliverError, Record};

/// The most characters of an error that are repeated.
const LONGEST_ERROR: usize = 200;

/// `{"batch":7,"spans":[…]}` as a line; each span as files have it.
pub(super) fn question(number: u64, batch: &[Arc<Record>]) -> String {
    let bytes: usize = batch.iter().map(|record| record.line.len() + 1).sum();
    let mut line = String::with_capacity(bytes + 48);
    // Writing to a String cannot fail.
    let _ok = write!(line, "{{\"batch\":{number},\"spans\":[");
    for (at, record) in batch.iter().enumerate() {
        if at > 0 {
            line.push(',');
        }
        line.push_str(&record.line);
    }
    line.push_str("]}\n");
    line
}

/// An answer; exactly one of the first three has the batch's number.
#[derive(Deserialize)]
struct Answer {
    /// The batch was taken …
    ack: Option<u64>,
    /// … but for so many spans.
    #[serde(default)]
    refused: usize,
    /// It may be another time …
    retry: Option<u64>,
    /// … not before this.
    after_ms: Option<u64>,
    /// It never will be.
    reject: Option<u64>,
    /// Why.
    error: Option<String>,
}

/// What a line says of the batch of that number, if it does.
pub(super) fn verdict(line: &[u8], number: u64) -> Option<Result<(), DeliverError>> {
    let answer: Answer = serde_json::from_slice(line).ok()?;
    let ours = |told: Option<u64>| told == Some(number);
    let error = plain(
        answer
            .error
            .as_deref()
            .unwrap_or("the command does not say why"),
    );
    if ours(answer.ack) {
        Some(match answer.refused {
            0 => Ok(()),
            refused => Err(DeliverError::Partly {
                refused,
                source: error.into(),
            }),
        })
    } else if ours(answer.retry) {
        Some(Err(DeliverError::Retry {
            after: answer.after_ms.map(Duration::from_millis),
            source: error.into(),
        }))
    } else if ours(answer.reject) {
        Some(Err(DeliverError::Reject(error.into())))
    } else {
        None
    }
}

/// Text of a command's, fit for a log: short, and without control characters.
pub(super) fn plain(text: &str) -> String {
    let visible = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    visible.take(LONGEST_ERROR).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::record;

    #[test]
    fn a_batch_is_one_line_of_json() {
        let line = question(7, &[record(1), record(2)]);
        assert_eq!(line.matches('\n').count(), 1);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["batch"], 7);
        assert_eq!(read["spans"][1]["span_id"], "0000000000000002");
    }

    #[test]
    fn an_answer_is_one_to_the_batch_that_was_asked_about() {
        let told = |line: &str| verdict(line.as_bytes(), 7);
        assert!(matches!(told(r#"{"ack":7}"#), Some(Ok(()))));
        assert!(matches!(
            told(r#"{"ack":7,"refused":2}"#),
            Some(Err(DeliverError::Partly { refused: 2, .. }))
        ));
        assert!(matches!(
            told(r#"{"retry":7,"after_ms":500}"#),
            Some(Err(DeliverError::Retry { after: Some(after), .. })) if after.as_millis() == 500
        ));
        let Some(Err(DeliverError::Reject(error))) = told("{\"reject\":7,\"error\":\"a\\u001bb\"}")
        else {
            panic!("no refusal")
        };
        assert_eq!(error.to_string(), "a b");
        for noise in [
            "",
            "ack 7",
            "7",
            r#"{"ack":6}"#,
            r#"{"ack":"7"}"#,
            "[7]",
            r#"{"ack":7"#,
        ] {
            assert!(told(noise).is_none(), "{noise}");
        }
    }
}
