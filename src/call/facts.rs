//! What the wire said: facts that dialects read out of requests and responses.

use std::{fmt, str::FromStr};

use super::{labels::Label, outcome::Kind, steps::Steps, text::Text, usage::Usage};

/// One endpoint of a dialect. Each dialect owns its operations as constants; everybody else only
/// reads their fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Unique within the dialect: `chat`, `responses.retrieve`.
    pub name: &'static str,
    /// `gen_ai.operation.name`, or `None` where the conventions have no word for it.
    pub gen_ai: Option<&'static str>,
    /// The kind of span that a call of it becomes.
    pub kind: Kind,
    /// What a call of it costs.
    pub spends: Spends,
}

impl Operation {
    /// It reads, lists or deletes what is there, and no model works for it.
    pub const READ: Self = Self {
        name: "http",
        gen_ai: None,
        kind: Kind::Http,
        spends: Spends::Nothing,
    };

    /// A dialect does not know it: it may cost something.
    pub const OTHER: Self = Self {
        spends: Spends::Unknown,
        ..Self::READ
    };
}

/// Whether an operation costs money, and whether we can read how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spends {
    /// It generates or embeds: its usage is metered and priced.
    Tokens,
    /// It reads a stored answer: metered, but billed once per response id however often it is read.
    Once,
    /// It reads a file of answers that were made earlier at the batch rate, one a line or one an item
    /// of a list: each is metered, and billed once however often the file is read.
    Lines,
    /// It costs nothing (lists, counting, cancelling).
    Nothing,
    /// It may cost something that we cannot meter.
    Unknown,
    /// It is a socket: what is spent in it is spent by the responses in it, each a call of its own.
    Inside,
}

/// What a request asks for. Bounded: only what is needed to admit, price and describe the call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestFacts {
    /// The model asked for: the body's, else the path's.
    pub model: Option<Box<str>>,
    /// The model or deployment that the path names, if it does: it answers, whatever `model` says.
    pub deployment: Option<Box<str>>,
    /// What names the model cannot be read, so that it may be for any.
    pub hides_model: bool,
    /// The answer shall be a stream.
    pub stream: bool,
    /// The client itself asked for usage in the stream (OpenAI's `stream_options.include_usage`).
    pub asks_usage: bool,
    /// The most tokens that one choice may have, where the request bounds it.
    pub output_limit: Option<u64>,
    /// How many choices; 0 and 1 both mean one.
    pub choices: u32,
    /// What the input consists of, for its upper bound.
    pub input: InputSize,
    /// The service tier asked for.
    pub service_tier: Option<Box<str>>,
    /// Where it asks to be served, if that changes the price (Anthropic's `inference_geo`).
    pub region: Option<Box<str>>,
    /// Labels found in the body.
    pub labels: Vec<(Label, Box<str>)>,
    /// What the provider stores and this one continues: input that is not in the body.
    pub continues: Option<Continued>,
    /// The answer will be made later and fetched by id.
    pub background: bool,
    /// The id of the stored response, or of the file of results, that is read or cancelled.
    pub response_id: Option<Box<str>>,
    /// What the call will be billed by, where the answer may not say so.
    pub unsaid: Option<Unsaid>,
    /// Names of the tools that the model may call; at most 128.
    pub tools: Vec<Box<str>>,
    /// The last steps of the conversation that it carries or continues; only read where a guard wants
    /// them.
    pub steps: Steps,
    /// `gen_ai.request.temperature`.
    pub temperature: Option<f64>,
    /// `gen_ai.request.top_p`.
    pub top_p: Option<f64>,
}

impl RequestFacts {
    /// The model that is to answer.
    pub fn answering(&self) -> Option<&str> {
        self.deployment.as_deref().or(self.model.as_deref())
    }

    /// Whether the input is text, and all of it is in the body: nothing that the provider adds for
    /// tools, media or what it stores.
    pub const fn is_text_alone(&self) -> bool {
        let input = &self.input;
        input.images == 0
            && input.media_bytes == 0
            && input.linked == 0
            && !input.stored
            && self.tools.is_empty()
            && self.continues.is_none()
    }

    /// The number of choices, at least one.
    pub fn choices(&self) -> u64 {
        u64::from(self.choices.max(1))
    }
}

/// What is continued, by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Continued {
    /// A response, which stays what it is.
    Response(Box<str>),
    /// A conversation: whatever is asked and answered is added to it.
    Conversation(Box<str>),
}

impl Continued {
    /// The id of either.
    pub const fn id(&self) -> &str {
        match self {
            Self::Response(id) | Self::Conversation(id) => id,
        }
    }
}

/// What a call is billed by that the provider may never report: known from the request alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsaid {
    /// What it likely is.
    pub likely: Usage,
    /// What it is at most.
    pub most: Usage,
}

/// What bounds the number of input tokens from above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputSize {
    /// Everything in the body that the model may read as text.
    pub text_bytes: Text,
    /// Images in the body or linked from it.
    pub images: u32,
    /// Bytes of audio, video and documents that are in the body, before base64.
    pub media_bytes: u64,
    /// Files, audio, video and documents that are only linked or named: their size is not known.
    pub linked: u32,
    /// The request asks the provider to cache input, at the cache-write price.
    pub writes_cache: bool,
    /// The request carries a reference to input that the provider stores (a cached content).
    pub stored: bool,
}

impl InputSize {
    /// Adds what another part of the input consists of.
    pub fn add(&mut self, more: Self) {
        self.text_bytes += more.text_bytes;
        self.images = self.images.saturating_add(more.images);
        self.media_bytes = self.media_bytes.saturating_add(more.media_bytes);
        self.linked = self.linked.saturating_add(more.linked);
        self.writes_cache |= more.writes_cache;
        self.stored |= more.stored;
    }
}

/// What a response said so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResponseFacts {
    /// The model that answered.
    pub model: Option<Box<str>>,
    /// The response's id.
    pub id: Option<Box<str>>,
    /// Raw finish reasons, one a choice (OpenAI Responses: the status).
    pub finish_reasons: Vec<Box<str>>,
    /// Why it stopped, where that is said apart (`incomplete_details.reason`, the stop sequence).
    pub stop_detail: Option<Box<str>>,
    /// Calls that the client must run, in order; at most 128.
    pub tool_calls: Vec<ToolCall>,
    /// The same and what was called with them, as steps of the conversation; only read where a guard
    /// wants them, of an answer that can be continued by its id.
    pub steps: Option<Steps>,
    /// Calls that the provider ran itself, by type; at most 128.
    pub server_tools: Vec<Box<str>>,
    /// Usage as reported; the last word of each field.
    pub usage: Usage,
    /// The service tier as served.
    pub service_tier: Option<Box<str>>,
    /// `speed`, where it changes the price (Anthropic).
    pub speed: Option<Box<str>>,
    /// Where it was served, if that changes the price (Anthropic's `inference_geo`).
    pub region: Option<Box<str>>,
    /// The rounds that the answer took, where each is billed by itself; their tokens are those of
    /// `usage`. At most 64.
    pub rounds: Vec<Round>,
    /// What the provider itself says that the call cost, in dollars, verbatim (OpenRouter).
    pub reported_cost: Option<Box<str>>,
    /// An error reported in the body, also inside a stream with status 200.
    pub error: Option<ErrorFacts>,
    /// Generated text, tool names and arguments, and visible reasoning seen so far.
    pub output_bytes: Text,
    /// The model's work is still going on elsewhere (`queued`, `in_progress`).
    pub pending: bool,
    /// The dialect's last event was seen.
    pub complete: bool,
    /// It came in a coding that we cannot read, or from some point on could not be read: what is
    /// not here was not looked for.
    pub unread: bool,
}

/// One of several rounds in which a provider made one answer (Anthropic's `usage.iterations`:
/// compaction, advisors), and by which it is billed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// The model, where it is not the one that answered.
    pub model: Option<Box<str>>,
    /// Its tokens.
    pub usage: Usage,
}

/// `claude-opus-4-8 input=2518 output=22`; a hyphen in place of the model that answered.
impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model.as_deref().unwrap_or("-"))?;
        for (name, count) in self.counts() {
            if let Some(count) = count {
                write!(f, " {name}={count}")?;
            }
        }
        Ok(())
    }
}

/// Reads what [`Round`] shows of itself.
impl FromStr for Round {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        // Names have no spaces, but whoever answers may say anything.
        let words: Vec<&str> = text.rsplitn(6, ' ').collect();
        let counts = words.iter().take_while(|word| word.contains('='));
        let length: usize = counts.clone().map(|word| word.len() + 1).sum();
        let model = text.get(..text.len().saturating_sub(length)).ok_or(())?;
        let mut round = Self {
            model: (model != "-").then(|| Box::from(model)),
            usage: Usage::NONE,
        };
        for word in counts {
            let (name, count) = word.split_once('=').ok_or(())?;
            let Ok(count) = count.parse() else {
                return Err(());
            };
            let count = Some(count);
            match name {
                "input" => round.usage.input = count,
                "cache_read" => round.usage.cache_read = count,
                "cache_write" => round.usage.cache_write = count,
                "cache_write_1h" => round.usage.cache_write_1h = count,
                "output" => round.usage.output = count,
                _ => return Err(()),
            }
        }
        Ok(round)
    }
}

impl Round {
    /// What it is billed by.
    const fn counts(&self) -> [(&'static str, Option<u64>); 5] {
        let usage = &self.usage;
        [
            ("input", usage.input),
            ("cache_read", usage.cache_read),
            ("cache_write", usage.cache_write),
            ("cache_write_1h", usage.cache_write_1h),
            ("output", usage.output),
        ]
    }
}

/// One call that the model asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// Its id, where the provider gives one (Responses: `call_id`).
    pub id: Option<Box<str>>,
    /// The tool's name.
    pub name: Box<str>,
}

/// An error in a provider's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorFacts {
    /// `type` (Google: `status`).
    pub kind: Option<Box<str>>,
    /// `code`.
    pub code: Option<Box<str>>,
    /// The message: may quote the prompt, so it is content and stays out of logs.
    pub message: Option<Box<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_read_as_it_is_shown() {
        for (model, usage, shown) in [
            (None, Usage::text(5, 6), "- input=5 output=6"),
            (
                Some("a model"),
                Usage {
                    cache_read: Some(1),
                    cache_write: Some(2),
                    cache_write_1h: Some(0),
                    ..Usage::text(9, 1)
                },
                "a model input=9 cache_read=1 cache_write=2 cache_write_1h=0 output=1",
            ),
            (Some("silent"), Usage::NONE, "silent"),
        ] {
            let round = Round {
                model: model.map(Box::from),
                usage,
            };
            assert_eq!(round.to_string(), shown);
            assert_eq!(shown.parse(), Ok(round));
        }
        assert_eq!("m input=x".parse::<Round>(), Err(()));
    }
}
