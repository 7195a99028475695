//! A request as it was read: what it is, and how it is to be answered.

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;

use super::{
    behaviour::{Behaviour, BehaviourError},
    form,
    handle::State,
    problem::Problem,
    route::{self, Operation},
    script::Rule,
};

/// The request, read.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) operation: Operation,
    /// The body, if it is JSON or a form, its model without settings.
    pub(super) value: Option<Value>,
    /// The file in a form.
    pub(super) file: Bytes,
    /// The model's name without settings; empty if there is none.
    pub(super) model: String,
    /// The settings that the model's name held.
    pub(super) settings: String,
}

impl Call {
    pub(super) fn new(method: &Method, target: &str, headers: HeaderMap, body: Bytes) -> Self {
        let path = target.split('?').next().unwrap_or_default();
        let kind = headers.get(http::header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok());
        let form = kind.and_then(|kind| form::read(kind, &body));
        let (mut value, file) = match form {
            Some(form) => (Some(Value::Object(form.fields)), form.file),
            None => (serde_json::from_slice(&body).ok(), Bytes::new()),
        };
        let mut model = route::model_in(path);
        let in_body = value.as_mut().and_then(route::model_of);
        if let Some(Value::String(name)) = &in_body {
            model.clone_from(name);
        }
        let settings = model
            .find(';')
            .map(|at| model.split_off(at))
            .unwrap_or_default();
        if let Some(in_body) = in_body.filter(|_| !settings.is_empty()) {
            *in_body = model.clone().into();
        }
        let operation = Operation::of(method, target, &headers);
        let operation = match &mut value {
            Some(body) => operation.settled(path, &model, body),
            None => operation,
        };
        Self {
            operation,
            method: method.clone(),
            target: target.to_owned(),
            headers,
            body,
            value,
            file,
            model,
            settings,
        }
    }

    /// How this call is answered: the mock's own settings, then the queue's or the script's, then
    /// the model's name's, then the headers'.
    pub(super) fn behaviour(
        &self,
        state: &State,
        rule: Option<&Rule>,
    ) -> Result<Behaviour, BehaviourError> {
        let usual = &state.options.behaviour;
        let queued = state.queue.settings();
        let mut settings = vec![rule.map_or("", |rule| rule.with.as_str()), &self.settings];
        settings.extend(queued.as_deref());
        let mut behaviour = usual.clone();
        for settings in &settings {
            behaviour.apply(settings)?;
        }
        let mut key = settings.join(";");
        for (name, value) in &self.headers {
            let Some(name) = name.as_str().strip_prefix("x-mock") else {
                continue;
            };
            let value = value.to_str().unwrap_or_default();
            match name.strip_prefix('-') {
                Some(name) => behaviour.set(name, value)?,
                None => behaviour.apply(value)?,
            }
            key.extend([";", name, "=", value]);
        }
        match behaviour.times {
            Some(times) if !state.queue.within(&self.target, &key, times) => {
                let mut good = usual.clone();
                if usual.times.is_some() {
                    good = Behaviour::default();
                }
                Ok(good)
            },
            _ => Ok(behaviour),
        }
    }

    pub(super) fn json(&self) -> Result<&Value, Problem> {
        self.value
            .as_ref()
            .ok_or_else(|| Problem::invalid("We could not parse the JSON body of your request."))
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Where the request went, without path.
    pub(super) fn origin(&self) -> String {
        let host = self.headers.get(http::header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        format!("http://{}", host.unwrap_or("localhost"))
    }

    pub(super) fn has_key(&self) -> bool {
        ["authorization", "api-key", "x-api-key", "x-goog-api-key"]
            .iter()
            .any(|name| self.headers.contains_key(*name))
            || self.target.contains("key=")
    }
}
