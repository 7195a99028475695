//! One request: read, kept, answered as the settings say.

use std::{
    io,
    sync::{Arc, atomic::AtomicU64},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header::UPGRADE};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::{
    Options, aleph_alpha,
    answer::{Ask, Ids},
    anthropic, aws, bedrock,
    behaviour::Behaviour,
    call::Call,
    chat, cohere, completions,
    conversation::Conversation,
    embeddings,
    endpoint::Order,
    fast::Fast,
    gemini, google_embeddings,
    line::Line,
    objects::Objects,
    ollama, plain,
    play::Play,
    problem::{Dialect, Problem},
    queue::Queue,
    recorder::{End, Receipt, Received, Recorder},
    reply::{Payload, Reply},
    responses,
    route::Operation,
    runs,
    script::{self, Rule},
    send::Way,
    socket::{self, GoesOn, Socket},
    stored::Stores,
    usual, voyage, watsonx, writer,
};

/// What all connections share.
pub(super) struct State {
    pub(super) options: Options,
    pub(super) recorder: Arc<Recorder>,
    pub(super) queue: Queue,
    pub(super) stores: Stores,
    objects: Objects,
    /// Connections accepted.
    pub(super) connections: AtomicU64,
    seed: u64,
    fast: Option<Fast>,
}

/// Most bytes of a request's body; a larger one is answered 413.
const LARGEST: usize = 512 * 1024 * 1024;

impl State {
    pub(super) fn new(options: Options) -> Self {
        let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
        let now = options.clock.wall().as_secs();
        Self {
            seed,
            fast: options
                .fast
                .then(|| Fast::new(&options.behaviour, seed, now)),
            options,
            recorder: Arc::default(),
            queue: Queue::default(),
            stores: Stores::default(),
            objects: Objects::default(),
            connections: AtomicU64::new(0),
        }
    }

    /// What the identifiers of a request are made from.
    fn ids(&self, number: u64) -> Ids {
        Ids::new(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(super) fn now(&self) -> u64 {
        self.options.clock.wall().as_secs()
    }
}

/// What decides a call's answer.
struct Plan<'a> {
    state: &'a State,
    rule: Option<&'a Rule>,
    behaviour: &'a Behaviour,
}

/// Answers a request.
///
/// # Errors
/// The settings break the connection off before an answer, or the client did.
pub(super) async fn handle(
    state: Arc<State>,
    line: Arc<Line>,
    connection: u64,
    request: Request<Incoming>,
) -> io::Result<Response<Play>> {
    let way = Way {
        by_hand: request.version() < Version::HTTP_2,
        line: Arc::clone(&line),
    };
    if request.uri().path() == "/__mock/requests" {
        let reply = record(&state, request.method());
        return Ok(way.send(reply, &Behaviour::default(), Receipt::none()));
    }
    let mut request = request;
    let upgrade = request.headers().contains_key(UPGRADE);
    let upgrade = upgrade.then(|| hyper::upgrade::on(&mut request));
    let (parts, mut incoming) = request.into_parts();
    if let Some(fast) = &state.fast {
        state.recorder.count_only();
        let (body, _) = read(&mut incoming).await;
        return Ok(way.send(fast.reply(&body), &state.options.behaviour, Receipt::none()));
    }
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let mut receipt = state.recorder.begin(Received {
        number: 0,
        connection,
        method: parts.method.clone(),
        target: target.to_owned(),
        version: parts.version,
        headers: parts.headers.clone(),
        head: Bytes::new(),
        body: Bytes::new(),
        whole: false,
        status: None,
        sent: 0,
        end: End::Open,
    });
    let (body, whole) = read(&mut incoming).await;
    let head = line.take_head();
    receipt.body(head.clone(), body.clone(), whole);
    if !whole && body.len() < LARGEST {
        return Err(io::Error::other(
            "the request's body did not come to its end",
        ));
    }
    let call = Call::new(&parts.method, target, parts.headers, body);
    if let Some(exact) = state.queue.exact(&call.method, &call.target, &call.body) {
        return Ok(way.send_exact(&exact, receipt));
    }
    let number = receipt.number();
    let mut ids = state.ids(number);
    let (reply, behaviour) = answer(&state, &call, &mut ids);
    if !behaviour.delay.is_zero() {
        tokio::time::sleep(behaviour.delay).await;
    }
    way.before_head(&behaviour, &mut receipt).await?;
    if let (Operation::Socket(kind), StatusCode::SWITCHING_PROTOCOLS, Some(upgrade)) =
        (&call.operation, reply.status, upgrade)
    {
        receipt.answered(reply.status);
        let mut response = way.switch(reply);
        let socket = Socket {
            kind: *kind,
            state,
            call,
            ids,
            line,
            receipt,
            head,
        };
        response
            .extensions_mut()
            .insert(GoesOn::new(socket, upgrade));
        return Ok(response);
    }
    Ok(way.send(reply, &behaviour, receipt))
}

/// The body, and whether it came to its end.
async fn read(incoming: &mut Incoming) -> (Bytes, bool) {
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else {
            return (joined(first, more), false);
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.is_empty() {
            first = data;
            continue;
        }
        if more.is_empty() {
            more.extend_from_slice(&first);
        }
        more.extend_from_slice(&data);
        if more.len() > LARGEST {
            return (more.freeze(), false);
        }
    }
    (joined(first, more), true)
}

fn joined(first: Bytes, more: BytesMut) -> Bytes {
    if more.is_empty() {
        first
    } else {
        more.freeze()
    }
}

fn record(state: &State, method: &Method) -> Reply {
    let recorder = &state.recorder;
    let body = plain::record(
        recorder.count(),
        recorder.dropped() + state.stores.dropped() + state.objects.dropped(),
        &recorder.all(),
    );
    if *method == Method::DELETE {
        recorder.clear();
    }
    Reply::json(&body)
}

/// Decides the answer and how it is given.
fn answer(state: &State, call: &Call, ids: &mut Ids) -> (Reply, Behaviour) {
    let dialect = call.operation.dialect();
    let request_id = match dialect {
        Dialect::Anthropic => ids.make("req_", 24),
        _ => ids.hex("req_", 32),
    };
    let asked = call.conversation(state);
    let rule = asked.as_ref().and_then(|asked| asked.as_ref().ok());
    let rule = rule.and_then(|asked| state.options.script.rule(asked));
    let (behaviour, reply) = match call.behaviour(state, rule) {
        Ok(behaviour) => {
            let plan = Plan {
                rule,
                behaviour: &behaviour,
                state,
            };
            let reply = call.reply(asked, &plan, ids);
            (behaviour, reply)
        },
        Err(error) => (
            Behaviour::default(),
            Err(Problem::invalid(error.to_string())),
        ),
    };
    let mut reply = reply.unwrap_or_else(|problem| problem.reply(dialect, &request_id));
    usual::put(&mut reply.headers, dialect, &request_id);
    for (name, value) in &behaviour.headers {
        reply.headers.append(name.clone(), value.clone());
    }
    (reply, behaviour)
}

impl Call {
    /// What was asked of a model; `None` if nothing was.
    fn conversation(&self, state: &State) -> Option<Result<Conversation, Problem>> {
        let read: &dyn Fn(&Value) -> Result<Conversation, Problem> = match &self.operation {
            Operation::Chat => &chat::read,
            Operation::Responses | Operation::ResponsesCount | Operation::Compact => {
                &|body| responses::read(body, &state.stores)
            },
            Operation::Messages => &anthropic::read,
            Operation::MessagesCount => &anthropic::read_to_count,
            Operation::Completions | Operation::Writer => {
                &|body| completions::read(body, "max_tokens")
            },
            Operation::Complete => &|body| completions::read(body, "max_tokens_to_sample"),
            Operation::Run => &runs::read,
            Operation::Generate(_) | Operation::GenerateCount => {
                &|body| gemini::read(body, &self.model)
            },
            Operation::Bedrock(verb) => &|body| bedrock::read(body, &self.model, *verb),
            Operation::Cohere(verb) => &|body| cohere::read(body, *verb),
            Operation::Ollama(verb) => &|body| ollama::read(body, *verb),
            Operation::Watsonx(verb) => &|body| watsonx::read(body, *verb),
            Operation::AlephAlpha => &aleph_alpha::read,
            Operation::Stored(..)
            | Operation::Voyage(_)
            | Operation::Embeddings
            | Operation::Embed(_)
            | Operation::Beside(_)
            | Operation::Models(_)
            | Operation::Socket(_)
            | Operation::Echo => return None,
        };
        Some(self.json().and_then(read))
    }

    fn reply(
        &self,
        asked: Option<Result<Conversation, Problem>>,
        plan: &Plan<'_>,
        ids: &mut Ids,
    ) -> Result<Reply, Problem> {
        let (state, behaviour) = (plan.state, plan.behaviour);
        if aws::is_exchange(&self.target, &self.body) {
            return aws::exchange(&self.body, state.now());
        }
        if matches!(self.operation, Operation::Bedrock(_)) {
            aws::check(&self.method, &self.target, &self.headers, &self.body)?;
        }
        if let Some(status) = behaviour.status {
            return Err(Problem::asked_for(status, behaviour));
        }
        if self.body.len() > LARGEST {
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body is too large.",
            ));
        }
        if state.options.require_key && !self.has_key() {
            let message = "You didn't provide an API key.";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, message));
        }
        if let Some(asked) = asked {
            let asked = asked?;
            let said = script::say(&asked, plan.rule, behaviour);
            let mut ask = Ask {
                asked: &asked,
                said: &said,
                behaviour,
                ids,
                now: state.now(),
            };
            if let Operation::Bedrock(verb) = &self.operation {
                return Ok(bedrock::write(&mut ask, *verb, self.json()?));
            }
            return Ok(Reply::ok(self.write(&mut ask, state)?));
        }
        let (_, query) = self.target.split_once('?').unwrap_or_default();
        let counts = behaviour.answer.usage;
        Ok(match &self.operation {
            Operation::Stored(deed, id) => Reply::ok(state.stores.act(*deed, id, query)?),
            Operation::Embeddings => Reply::json(&embeddings::write(self.json()?, counts)?),
            Operation::Voyage(verb) => Reply::json(&voyage::write(self.json()?, *verb, counts)?),
            Operation::Embed(form) => {
                let body = self.json()?;
                Reply::json(&google_embeddings::write(body, *form, &self.model, counts)?)
            },
            Operation::Beside(endpoint) => {
                let mut order = Order {
                    body: self.value.as_ref().unwrap_or(&Value::Null),
                    model: &self.model,
                    file: &self.file,
                    behaviour,
                    ids,
                    now: state.now(),
                    objects: &state.objects,
                    origin: self.origin(),
                };
                let answering = |path: &str, body: &Value, ids: &mut Ids| {
                    answer_in_batch(plan, path, body, ids)
                };
                Reply::ok(endpoint.answer(&mut order, &answering)?)
            },
            Operation::Socket(_) => socket::agree(&self.headers)?,
            Operation::Models(dialect) => Reply::json(&plain::models(*dialect, state.now())),
            _ => {
                let echo = plain::echo(&self.method, &self.target, &self.headers, &self.body);
                Reply::json(&echo)
            },
        })
    }

    /// The answer in the dialect that was spoken.
    fn write(&self, ask: &mut Ask<'_>, state: &State) -> Result<Payload, Problem> {
        let body = self.json()?;
        let usage_asked = body.pointer("/stream_options/include_usage");
        let usage_asked = usage_asked.and_then(Value::as_bool) == Some(true)
            || ask.behaviour.answer.usage.unasked;
        Ok(match &self.operation {
            Operation::Completions => completions::write(ask, usage_asked),
            Operation::Complete => completions::write_complete(ask),
            Operation::Run => runs::write(ask, self.path(), body, &state.objects),
            Operation::Compact => Payload::json(&responses::compact(ask)),
            Operation::Responses => responses::write(ask, body, &state.stores),
            Operation::ResponsesCount => Payload::json(&responses::count(ask.asked)),
            Operation::Messages => anthropic::write(ask),
            Operation::MessagesCount => Payload::json(&anthropic::count(ask.asked)),
            Operation::Generate(manner) => gemini::write(ask, *manner),
            Operation::GenerateCount => Payload::json(&gemini::count(ask.asked)),
            Operation::Cohere(verb) => cohere::write(ask, *verb, body),
            Operation::Ollama(verb) => ollama::write(ask, *verb, body),
            Operation::Watsonx(verb) => watsonx::write(ask, *verb),
            Operation::AlephAlpha => aleph_alpha::write(ask),
            Operation::Writer => writer::write(ask),
            _ => chat::write(ask, usage_asked),
        })
    }
}

/// Answers a request that stands in a batch, as the batch's settings say.
fn answer_in_batch(
    plan: &Plan<'_>,
    path: &str,
    body: &Value,
    ids: &mut Ids,
) -> Result<Payload, Problem> {
    let text = Bytes::from(body.to_string());
    let call = Call::new(&Method::POST, path, HeaderMap::new(), text);
    if !call.operation.can_be_in_batch() {
        return Err(Problem::invalid(format!(
            "A batch cannot have requests to {path}."
        )));
    }
    let reply = call.reply(call.conversation(plan.state), plan, ids)?;
    Ok(reply.payload)
}
