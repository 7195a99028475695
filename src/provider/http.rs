//! The dialect of everything that we cannot read: requests pass and are recorded, no more.

use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::{
    dialect::{Dialect, Event},
    state::StreamState,
    wire::json::Unreadable,
};
use crate::call::{
    facts::{Operation, RequestFacts, ResponseFacts},
    refusal::Refusal,
};

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Http;

impl Dialect for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn operation(&self, method: &Method, _path: &str) -> &'static Operation {
        if method.is_safe() {
            &Operation::READ
        } else {
            &Operation::OTHER
        }
    }

    fn read_request(
        &self,
        _op: &Operation,
        _path: &str,
        _body: &[u8],
        _facts: &mut RequestFacts,
    ) -> Result<(), Unreadable> {
        Ok(())
    }

    fn read_event(
        &self,
        _op: &Operation,
        event: &Event<'_>,
        facts: &mut ResponseFacts,
        _state: &mut StreamState,
    ) -> Result<(), Unreadable> {
        facts.complete |= event.whole;
        Ok(())
    }

    /// In the form that most clients find a message in.
    fn error_body(&self, status: u16, refusal: &Refusal, request_id: &str) -> Bytes {
        let message = &refusal.message;
        let error = json!({"message": message, "code": status, "request_id": request_id});
        Bytes::from(json!({"message": message, "error": error}).to_string())
    }
}
