//! How each row of `docs/providers.md` is driven: one entry a row.

use serde_json::{Value, json};

use super::bodies::{
    batch, chat, chat_with, completion, contents, converse, embedded, google_batch, invoke,
    message, prompt, ranking, said,
};

/// What a row's calls are.
#[derive(Debug)]
pub(super) struct Drive {
    /// The row: provider, endpoint, operation.
    pub(super) row: [&'static str; 3],
    /// Where it goes, where `{}` is the id that was made before; by default the endpoint.
    to: Option<&'static str>,
    /// What is made before.
    pub(super) before: Vec<Step>,
    /// The requests: whole answers first, then streams.
    pub(super) bodies: Vec<Body>,
    /// A stream without output limit, where the dialect allows that.
    pub(super) unbounded: Option<Body>,
    /// The answer, content type and body, where the mock does not speak that language.
    pub(super) answer: Option<(&'static str, String)>,
    /// It is said in a socket: `sockets.rs` says how.
    pub(super) in_socket: bool,
    /// What is looked at after, to see the end; `{}` is the id that the answer gives.
    pub(super) then: Option<&'static str>,
}

/// A call that is made before, and where its answer has the id that the next one needs as `{}`.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) endpoint: &'static str,
    pub(super) body: Body,
    pub(super) id: &'static str,
}

/// A request's body.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// JSON; null: nothing.
    Json(Value),
    /// A form with these fields; `file` and `image` are files.
    Form(Value),
}

pub(super) const NO_BODY: Body = Body::Json(Value::Null);

fn row(provider: &'static str, endpoint: &'static str, operation: &'static str) -> Drive {
    Drive {
        row: [provider, endpoint, operation],
        to: None,
        before: Vec::new(),
        bodies: vec![],
        unbounded: None,
        answer: None,
        in_socket: false,
        then: None,
    }
}

/// A host that speaks OpenAI's chat completions, or its Responses.
fn host(provider: &'static str, endpoint: &'static str, operation: &'static str) -> Drive {
    let mut body = chat_with(OPEN_MODEL);
    body["input"] = json!("hello");
    row(provider, endpoint, operation)
        .json(body)
        .and(&json!({"stream": true}))
        .cut()
}

/// A model that cannot think unseen, so that its streams go in steps.
const OPEN_MODEL: &str = "llama-3-test";

/// Cohere's model without a thinking mode.
const COMMAND: &str = "command-a-03-2025";
/// The same at Writer.
const WRITERS_MODEL: &str = "palmyra-llama-3-test";

impl Drive {
    /// Method and path.
    pub(super) fn endpoint(&self, id: &str) -> String {
        let [_, endpoint, _] = self.row;
        let Some(to) = self.to else {
            return endpoint.replace("{id}", id);
        };
        let (method, _) = endpoint.split_once(' ').unwrap();
        format!("{method} {}", to.replace("{}", id))
    }

    fn to(mut self, path: &'static str) -> Self {
        self.to = Some(path);
        self
    }

    fn json(mut self, body: Value) -> Self {
        self.bodies.push(Body::Json(body));
        self
    }

    fn form(mut self, fields: Value) -> Self {
        self.bodies.push(Body::Form(fields));
        self
    }

    fn none(mut self) -> Self {
        self.bodies.push(NO_BODY);
        self
    }

    /// The first request again, with more: as a stream.
    fn and(mut self, more: &Value) -> Self {
        let mut body = self.bodies[0].clone();
        let (Body::Json(fields) | Body::Form(fields)) = &mut body;
        for (key, value) in more.as_object().unwrap() {
            fields[key] = value.clone();
        }
        self.bodies.push(body);
        self
    }

    /// The last request has no output limit, and is cut.
    fn cut(mut self) -> Self {
        self.unbounded = self.bodies.last().cloned();
        self
    }

    fn after(mut self, endpoint: &'static str, body: Value, id: &'static str) -> Self {
        let body = Body::Json(body);
        self.before.push(Step { endpoint, body, id });
        self
    }

    /// After a file with one request for a batch of OpenAI's.
    fn after_file(self) -> Self {
        self.after_request(
            &json!({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
            "body": chat()}),
        )
    }

    /// After a file with this request.
    fn after_request(mut self, line: &Value) -> Self {
        let fields = json!({"purpose": "batch", "file": line.to_string()});
        self.before.push(Step {
            endpoint: "POST /v1/files",
            body: Body::Form(fields),
            id: "/id",
        });
        self
    }

    fn in_socket(mut self) -> Self {
        self.in_socket = true;
        self
    }

    fn answered(mut self, answer: &Value) -> Self {
        self.answer = Some(("application/json", answer.to_string()));
        self
    }

    fn then(mut self, endpoint: &'static str) -> Self {
        self.then = Some(endpoint);
        self
    }
}

/// What the calls need: prices that the book does not have, and a deployment's model.
pub(super) const SETUP: &str = "
pricing:
  claude-2.1: {input: 8, output: 24}
  openai.gpt-oss-120b: {input: 1, output: 1}
  imagen-*: {images: 40}
  mistral-*: {input: 1, output: 1}
  llama-3-test: {input: 1, output: 1}
  palmyra-*: {input: 1, output: 1}
  command-*: {input: 1, output: 1}
  rerank-*: {input: 1, output: 0, search_units: 2}
providers: {azure: {base_url: '{mock}', models: {my-gpt: gpt-4o}}}
";

/// How a dialect says that a budget is spent: the status, and where which word stands.
pub(super) fn refusal(dialect: &str) -> (u16, &'static str, &'static str) {
    match dialect {
        "openai" => (429, "/error/code", "insufficient_quota"),
        "anthropic" => (429, "/error/type", "rate_limit_error"),
        "gemini" => (429, "/error/status", "RESOURCE_EXHAUSTED"),
        "bedrock" => (403, "/__type", "AccessDeniedException"),
        "cohere" => (403, "/type", "quota_exhausted"),
        "ollama" => (429, "/type", "quota_exhausted"),
        "watsonx" => (429, "/errors/0/code", "token_quota_reached"),
        "alephalpha" => (429, "/code", "OUT_OF_CREDITS"),
        "http" => (429, "/error/message", "budget"),
        other => panic!("in drives.rs: say how {other} refuses"),
    }
}

pub(super) const FORM: &str = "multipart/form-data; boundary=b";

/// The text of a form.
pub(super) fn form(fields: &Value) -> String {
    let fields = fields.as_object().unwrap().iter();
    let parts = fields.map(|(name, value)| {
        let is_file = ["file", "image"].contains(&name.as_str());
        let file = if is_file { "; filename=\"f\"" } else { "" };
        let value = value.as_str().unwrap();
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n")
    });
    parts.chain(["--b--\r\n".to_owned()]).collect()
}

const LIVE: &str =
    "GET /ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";
const VERTEX_LIVE: &str =
    "GET /ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent";
const VERTEX_GENERATE: &str =
    "POST /v1/projects/{p}/locations/{l}/publishers/google/models/{model}:generateContent";
const VERTEX_STREAM: &str =
    "POST /v1/projects/{p}/locations/{l}/publishers/google/models/{model}:streamGenerateContent";
const VERTEX_EMBED: &str =
    "POST /v1/projects/{p}/locations/{l}/publishers/google/models/{model}:embedContent";
const VERTEX_PREDICT: &str =
    "POST /v1/projects/{p}/locations/{l}/publishers/google/models/{model}:predict";
const VERTEX_CLAUDE: &str =
    "POST /v1/projects/{p}/locations/{l}/publishers/anthropic/models/{model}:rawPredict";
const VERTEX_CLAUDE_STREAM: &str =
    "POST /v1/projects/{p}/locations/{l}/publishers/anthropic/models/{model}:streamRawPredict";
const VERTEX_MISTRAL: &str =
    "POST /v1/projects/{p}/locations/{l}/publishers/mistralai/models/{model}:rawPredict";

const GOOGLE_BATCH: &str = "POST /v1beta/models/gemini-2.0-flash:batchGenerateContent";

/// All of them, in the order of the page.
#[rustfmt::skip]
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn all() -> Vec<Drive> {
    let stream = || json!({"stream": true});
    let response = || json!({"model": "gpt-4o", "input": "hello"});
    let background = json!({"model": "gpt-4o", "input": "hello", "background": true});
    let image = || json!({"model": "gpt-image-1", "prompt": "An otter", "image": "PNG"});
    let run = json!({"assistant_id": "a", "model": "gpt-4o-mini"});
    let messages = || json!({"requests": [{"custom_id": "a", "params": message()}]});
    vec![
        row("openai", "POST /v1/chat/completions", "chat").json(chat()).and(&stream()).cut(),
        row("openai", "POST /v1/completions", "completions")
            .json(json!({"model": "gpt-3.5-turbo-instruct", "prompt": "hello"})).and(&stream()).cut(),
        row("openai", "POST /v1/responses", "responses").json(response()).and(&stream()).cut(),
        row("openai", "GET /v1/responses/{id}", "responses.retrieve")
            .after("POST /v1/responses", background.clone(), "/id").none(),
        row("openai", "POST /v1/responses/{id}/cancel", "responses.cancel")
            .after("POST /v1/responses", background, "/id").none(),
        row("openai", "POST /v1/responses/compact", "responses.compact").json(response()),
        row("openai", "POST /v1/responses/input_tokens", "responses.input_tokens").json(response()),
        row("openai", "POST /v1/embeddings", "embeddings")
            .json(json!({"model": "text-embedding-3-small", "input": "hello"})),
        row("openai", "POST /v1/moderations", "moderations").json(json!({"input": "hello"})),
        row("openai", "POST /v1/images/generations", "images.generations")
            .json(json!({"model": "gpt-image-1", "prompt": "An otter"})).and(&stream()),
        row("openai", "POST /v1/images/edits", "images.edits")
            .form(image()).and(&json!({"stream": "true"})),
        row("openai", "POST /v1/audio/speech", "audio.speech")
            .json(json!({"model": "gpt-4o-mini-tts", "input": "Good morning", "voice": "coral"}))
            .and(&json!({"stream_format": "sse"})),
        row("openai", "POST /v1/audio/transcriptions", "audio.transcriptions")
            .form(json!({"model": "gpt-4o-transcribe", "file": "ID3"}))
            .and(&json!({"stream": "true"})).and(&json!({"model": "whisper-1"})),
        row("openai", "POST /v1/threads/{id}/runs", "runs")
            .json(run.clone()).and(&stream()).then("GET /v1/threads/x/runs/{}"),
        row("openai", "GET /v1/threads/{id}/runs/{id}", "runs.retrieve")
            .after("POST /v1/threads/x/runs", run, "/id").none(),
        row("openai", "POST /v1/batches", "batches")
            .after_file().json(batch()),
        row("openai", "GET /v1/files/{id}/content", "files.content")
            .after_file().after("POST /v1/batches", batch(), "/id")
            .after("GET /v1/batches/{}", Value::Null, "/output_file_id").none(),
        row("openai", "POST /v1/files", "http")
            .form(json!({"purpose": "batch", "file": "{}"})),
        row("openai", "GET /v1/realtime", "realtime").none(),
        row("openai", "GET /v1/realtime", "realtime.response").in_socket(),
        row("openai", "GET /v1/responses", "responses").in_socket(),
        row("anthropic", "POST /v1/messages", "messages").json(message()).and(&stream()),
        row("anthropic", "POST /v1/complete", "complete")
            .json(json!({"model": "claude-2.1", "prompt": "hello", "max_tokens_to_sample": 50}))
            .and(&stream()),
        row("anthropic", "POST /v1/messages/count_tokens", "messages.count_tokens").json(message()),
        row("anthropic", "POST /v1/messages/batches", "messages.batches").json(messages()),
        row("anthropic", "GET /v1/messages/batches/{id}/results", "messages.batches.results")
            .after("POST /v1/messages/batches", messages(), "/id").none(),
        row("bedrock", "POST /model/{id}/converse", "converse")
            .to("/model/amazon.nova-lite-v1:0/converse").json(converse()),
        row("bedrock", "POST /model/{id}/converse-stream", "converse_stream")
            .to("/model/amazon.nova-lite-v1:0/converse-stream").json(converse()).cut(),
        row("bedrock", "POST /model/{id}/invoke", "invoke")
            .to("/model/anthropic.claude-3-haiku-20240307-v1:0/invoke").json(invoke()),
        row("bedrock", "POST /model/{id}/invoke-with-response-stream", "invoke_stream")
            .to("/model/anthropic.claude-3-haiku-20240307-v1:0/invoke-with-response-stream")
            .json(invoke()),
        row("bedrock", "POST /model/{id}/invoke", "embed")
            .to("/model/amazon.titan-embed-text-v2:0/invoke").json(json!({"inputText": "hello"})),
        row("bedrock", "POST /model/{id}/count-tokens", "count_tokens")
            .to("/model/amazon.nova-lite-v1:0/count-tokens")
            .json(json!({"input": {"converse": converse()}})),
        row("bedrock-mantle", "POST /openai/v1/responses", "responses")
            .json(json!({"model": "openai.gpt-oss-120b", "input": "hello"})).and(&stream()),
        row("gemini", "POST /v1beta/models/{model}:generateContent", "generateContent")
            .to("/v1beta/models/gemini-2.0-flash:generateContent").json(contents()),
        row("gemini", "POST /v1beta/models/{model}:streamGenerateContent", "streamGenerateContent")
            .to("/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse")
            .json(contents()).cut(),
        row("gemini", "POST /v1beta/models/{model}:embedContent", "embedContent")
            .to("/v1beta/models/gemini-embedding-001:embedContent").json(embedded()),
        row("gemini", "POST /v1beta/models/{model}:batchEmbedContents", "embedContent")
            .to("/v1beta/models/gemini-embedding-001:batchEmbedContents")
            .json(json!({"requests": [embedded()]})),
        row("gemini", "POST /v1beta/models/{model}:countTokens", "countTokens")
            .to("/v1beta/models/gemini-2.0-flash:countTokens").json(contents()),
        row("gemini", "POST /v1beta/models/imagen-{model}:predict", "images.predict")
            .to("/v1beta/models/imagen-4.0-generate-001:predict")
            .json(json!({"instances": [{"prompt": "An otter"}]})),
        row("gemini", "POST /v1beta/cachedContents", "cachedContents").json(contents()),
        row("gemini", "POST /v1beta/models/{model}:batchGenerateContent", "batchGenerateContent")
            .to("/v1beta/models/gemini-2.0-flash:batchGenerateContent").json(google_batch()),
        row("gemini", "GET /v1beta/batches/{id}", "batches.get")
            .after(GOOGLE_BATCH, google_batch(), "/name").none(),
        row("gemini", "GET /download/v1beta/files/{id}:download", "files.download")
            .after_request(&json!({"key": "a", "request": contents()}))
            .after(GOOGLE_BATCH, json!({"batch": {"inputConfig": {"fileName": "{}"}}}), "/name")
            .after("GET /v1beta/batches/{}", Value::Null, "/response/responsesFile").none(),
        row("gemini", "POST /v1beta/openai/chat/completions", "chat")
            .json(chat_with("gemini-2.0-flash")).and(&stream()).cut(),
        row("gemini", LIVE, "live.turn").in_socket(),
        row("gemini", "POST /v1beta/fileSearchStores", "http").json(json!({})),
        row("vertex", VERTEX_GENERATE, "generateContent")
            .to("/v1/projects/p/locations/global/publishers/google/models/gemini-2.0-flash:generateContent")
            .json(contents()),
        row("vertex", VERTEX_STREAM, "streamGenerateContent")
            .to("/v1/projects/p/locations/global/publishers/google/models/gemini-2.0-flash:streamGenerateContent")
            .json(contents()).cut(),
        row("vertex", VERTEX_EMBED, "embedContent")
            .to("/v1/projects/p/locations/global/publishers/google/models/gemini-embedding-001:embedContent")
            .json(embedded()),
        row("vertex", VERTEX_PREDICT, "predict")
            .to("/v1/projects/p/locations/global/publishers/google/models/gemini-embedding-001:predict")
            .json(json!({"instances": [{"content": "hello"}]})),
        row("vertex", VERTEX_LIVE, "live.turn").in_socket(),
        row("vertex", VERTEX_CLAUDE, "messages")
            .to("/v1/projects/p/locations/l/publishers/anthropic/models/claude-haiku-4-5:rawPredict")
            .json(invoke()),
        row("vertex", VERTEX_CLAUDE_STREAM, "messages")
            .to("/v1/projects/p/locations/l/publishers/anthropic/models/claude-haiku-4-5:streamRawPredict")
            .json(invoke()).and(&stream()),
        row("vertex", VERTEX_MISTRAL, "rawPredict")
            .to("/v1/projects/p/locations/l/publishers/mistralai/models/mistral-medium-3:rawPredict")
            .json(chat_with("mistral-medium-3")).answered(&completion("mistral-medium-3")),
        row("vertex", "POST /v1/projects/{p}/locations/{l}/endpoints/openapi/chat/completions", "chat")
            .to("/v1/projects/p/locations/global/endpoints/openapi/chat/completions")
            .json(chat_with("google/gemini-2.0-flash")).and(&stream()).cut(),
        row("azure", "POST /openai/deployments/{deployment}/chat/completions", "chat")
            .to("/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21")
            .json(chat()).and(&stream()).cut(),
        row("azure", "POST /openai/deployments/{deployment}/embeddings", "embeddings")
            .to("/openai/deployments/text-embedding-3-small/embeddings?api-version=2024-10-21")
            .json(json!({"model": "text-embedding-3-small", "input": "hello"})),
        row("azure", "POST /openai/responses", "responses")
            .to("/openai/responses?api-version=2025-04-01-preview")
            .json(response()).and(&stream()).cut(),
        row("azure", "GET /openai/realtime", "realtime.response").in_socket(),
        row("azure", "POST /openai/v1/chat/completions", "chat")
            .json(chat()).and(&stream()).cut(),
        row("cohere", "POST /v2/chat", "chat").json(chat_with(COMMAND)).and(&stream()).cut(),
        row("cohere", "POST /v1/chat", "chat.v1")
            .json(json!({"model": COMMAND, "message": "hello"})).and(&stream()).cut(),
        row("cohere", "POST /v1/generate", "generate")
            .json(json!({"model": COMMAND, "prompt": "hello"})).and(&stream()).cut(),
        row("cohere", "POST /v2/embed", "embed")
            .json(json!({"model": "embed-v4.0", "texts": ["hello"], "input_type": "search_query"})),
        row("cohere", "POST /v2/rerank", "rerank").json(ranking("rerank-v3.5")),
        row("cohere", "POST /v1/tokenize", "tokenize").json(json!({"model": COMMAND, "text": "hello"})),
        row("ollama", "POST /api/chat", "chat")
            .json(chat_with(OPEN_MODEL)).and(&json!({"stream": false})).and(&stream()).cut(),
        row("ollama", "POST /api/generate", "generate")
            .json(prompt(OPEN_MODEL)).and(&json!({"stream": false})).and(&stream()).cut(),
        row("ollama", "POST /api/embed", "embed").json(json!({"model": OPEN_MODEL, "input": "hello"})),
        row("ollama-cloud", "POST /api/chat", "chat")
            .json(chat_with(OPEN_MODEL)).and(&json!({"stream": false})).and(&stream()).cut(),
        row("watsonx", "POST /ml/v1/text/generation", "generation")
            .json(json!({"model_id": OPEN_MODEL, "input": "hello"})),
        row("watsonx", "POST /ml/v1/text/generation_stream", "generation_stream")
            .json(json!({"model_id": OPEN_MODEL, "input": "hello"})).cut(),
        row("watsonx", "POST /ml/v1/text/embeddings", "embeddings")
            .json(json!({"model_id": OPEN_MODEL, "inputs": ["hello"]})),
        row("watsonx", "POST /ml/v1/text/chat", "chat")
            .json(json!({"model_id": OPEN_MODEL, "messages": said()})),
        row("watsonx", "POST /ml/v1/text/chat_stream", "chat")
            .json(json!({"model_id": OPEN_MODEL, "messages": said()})).cut(),
        row("aleph-alpha", "POST /complete", "complete")
            .json(json!({"model": OPEN_MODEL, "maximum_tokens": 50,
                "prompt": [{"type": "text", "data": "hello"}]}))
            .and(&stream()),
        row("huggingface", "POST /{host}/v1/chat/completions", "chat")
            .to("/groq/v1/chat/completions").json(chat_with(OPEN_MODEL)).and(&stream()).cut(),
        row("voyage", "POST /v1/embeddings", "embeddings")
            .json(json!({"model": "voyage-3.5", "input": ["hello"]})),
        row("voyage", "POST /v1/rerank", "rerank").json(ranking("rerank-2-lite")),
        row("writer", "POST /v1/chat", "chat").json(chat_with(WRITERS_MODEL)).and(&stream()).cut(),
        row("writer", "POST /v1/completions", "completions")
            .json(prompt(WRITERS_MODEL)).and(&stream()).cut(),
        host("snowflake", "POST /api/v2/cortex/v1/chat/completions", "chat"),
        row("databricks", "POST /serving-endpoints/{name}/invocations", "chat")
            .to("/serving-endpoints/llama-3-test/invocations")
            .json(json!({"messages": said()})).and(&stream()).cut(),
        row("replicate", "POST /v1/predictions", "http")
            .json(json!({"version": "v", "input": {"prompt": "hello"}})),
        host("mistral", "POST /v1/chat/completions", "chat"),
        row("mistral", "POST /v1/fim/completions", "fim")
            .json(prompt(OPEN_MODEL))
            .answered(&completion(OPEN_MODEL)),
        row("mistral", "POST /v1/embeddings", "embeddings")
            .json(json!({"model": "mistral-embed", "input": "hello"})),
        row("mistral", "POST /v1/conversations", "http").json(json!({})),
        row("mistral", "POST /v1/ocr", "http").json(json!({})),
        host("groq", "POST /openai/v1/chat/completions", "chat"),
        host("xai", "POST /v1/chat/completions", "chat"),
        host("deepseek", "POST /chat/completions", "chat"),
        host("openrouter", "POST /api/v1/chat/completions", "chat"),
        host("perplexity", "POST /chat/completions", "chat"),
        host("cerebras", "POST /v1/chat/completions", "chat"),
        host("fireworks", "POST /inference/v1/chat/completions", "chat"),
        host("zai", "POST /api/paas/v4/chat/completions", "chat"),
        host("zhipu", "POST /api/paas/v4/chat/completions", "chat"),
        host("moonshot", "POST /v1/chat/completions", "chat"),
        host("heroku", "POST /v1/chat/completions", "chat"),
        host("crusoe", "POST /v1/chat/completions", "chat"),
        host("together", "POST /v1/chat/completions", "chat"),
        host("baseten", "POST /v1/chat/completions", "chat"),
        host("deepinfra", "POST /v1/openai/chat/completions", "chat"),
        host("minimax", "POST /v1/chat/completions", "chat"),
        host("nebius", "POST /v1/chat/completions", "chat"),
        host("novita", "POST /v3/openai/chat/completions", "chat"),
        host("ovhcloud", "POST /v1/chat/completions", "chat"),
        host("sambanova", "POST /v1/chat/completions", "chat"),
        host("xai", "POST /v1/responses", "responses"),
        host("deepseek", "POST /responses", "responses"),
        host("openrouter", "POST /api/v1/responses", "responses"),
        row("together", "POST /v1/completions", "completions")
            .json(prompt(OPEN_MODEL)).and(&stream()).cut(),
    ]
}
