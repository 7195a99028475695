//! Sockets: frames as they come from either side, and the messages in them as each dialect reads
//! them.
//!
//! What must hold: frames split anywhere, masked, in fragments and compressed tell the same messages;
//! no more of one is kept than the bound says; messages tell the same facts however they came, and
//! facts are bounded; a conversation does not grow by being asked for; a refusal is an error that its
//! own dialect reads, with the tag of what was refused.

use flate2::{Compress, Compression, FlushCompress};

use super::{chunks, steered};
use crate::{
    call::{
        facts::{RequestFacts, ResponseFacts},
        refusal::{Reason, Refusal},
    },
    provider::{
        DIALECTS, Heard, Said, Session, Socket, StreamState,
        wire::websocket::{Content, Messages, Opcode, Passed, Sender, frame},
    },
};

/// The largest message that is kept whole, in bytes.
const MOST_KEPT: usize = 1 << 20;
/// The most responses that are under way at once here.
const MOST: usize = 64;
const MASK: [u8; 4] = [0x37, 0, 0xff, 0x5a];

/// Flags: messages are compressed; the bytes are frames, and of the client.
const COMPRESSED: u8 = 1;
const RAW: u8 = 2;
const CLIENT: u8 = 4;

pub fn run(input: &[u8]) {
    let Some((bytes, [kind, fragment, size, flags])) = steered(input) else {
        return;
    };
    let socket = socket(kind);
    if flags & RAW != 0 {
        let sender = if flags & CLIENT != 0 {
            Sender::Client
        } else {
            Sender::Server
        };
        return raw(socket, sender, bytes, size);
    }
    let lines: Vec<_> = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| match line.split_first()? {
            (b'>', message) => Some((Sender::Client, message)),
            (b'<', message) => Some((Sender::Server, message)),
            _ => None,
        })
        .collect();
    let mut whole = Talk::new(socket);
    for (sender, message) in &lines {
        whole.take(*sender, message);
    }
    let mut framed = Talk::new(socket);
    let mut ways = [Sender::Client, Sender::Server].map(|sender| Way::new(socket, sender));
    for (sender, message) in &lines {
        let way = &mut ways[usize::from(*sender == Sender::Server)];
        let read = way.pass(message, flags & COMPRESSED != 0, fragment, size);
        assert_eq!(read, *message, "in frames of {fragment}, chunks of {size}");
        framed.take(*sender, &read);
    }
    assert_eq!(whole.told(), framed.told());
}

fn socket(kind: u8) -> &'static dyn Socket {
    const PATHS: [&str; 3] = [
        "/v1/realtime",
        "/v1/responses",
        "/ws/x.GenerativeService.BidiGenerateContent",
    ];
    let path = PATHS[usize::from(kind) % PATHS.len()];
    let found = DIALECTS.iter().find_map(|dialect| dialect.socket(path));
    found.expect("some dialect has it")
}

/// Bytes that may be frames.
fn raw(socket: &'static dyn Socket, sender: Sender, bytes: &[u8], size: u8) {
    let read = |size| {
        let wanted = socket.wanted().response;
        let mut messages = Messages::new(sender, true, wanted);
        let (mut found, mut controls) = (Vec::new(), 0);
        for chunk in chunks(bytes, size) {
            let mut rest = &chunk[..];
            loop {
                let Ok((count, passed)) = messages.take(rest) else {
                    return (found, controls, true);
                };
                rest = &rest[count..];
                match passed {
                    Passed::Within => break,
                    Passed::Control(_) => controls += 1,
                    Passed::Frame => {},
                    Passed::Message => found.push(messages.content()),
                }
            }
            assert!(rest.is_empty());
        }
        (found, controls, false)
    };
    let (whole, cut) = (read(0), read(size));
    let is_bomb = |found: &[Content]| found.contains(&Content::Unread);
    // A bomb is known by how much came in, which depends on the chunks.
    if !is_bomb(&whole.0) && !is_bomb(&cut.0) {
        assert_eq!(whole, cut, "chunks of {size}");
    }
    let mut talk = Talk::new(socket);
    for content in whole.0 {
        match content {
            Content::Whole(message) => {
                assert!(message.len() <= MOST_KEPT);
                talk.take(sender, &message);
            },
            Content::Reduced(reduced) => talk.take(sender, &reduced.document),
            Content::Unread => {},
        }
    }
}

/// One direction: a sender's compression, and the reader of its frames.
struct Way {
    sender: Sender,
    deflate: Compress,
    messages: Messages,
}

impl Way {
    fn new(socket: &dyn Socket, sender: Sender) -> Self {
        Self {
            sender,
            deflate: Compress::new(Compression::fast(), false),
            messages: Messages::new(sender, true, socket.wanted().response),
        }
    }

    /// Sends a message in frames, with a ping between them, and reads it.
    fn pass(&mut self, message: &[u8], compressed: bool, fragment: u8, size: u8) -> Vec<u8> {
        let payload = if compressed {
            self.deflated(message)
        } else {
            message.to_vec()
        };
        let mask = (self.sender == Sender::Client).then_some(MASK);
        let parts: Vec<_> = chunks(&payload, fragment).collect();
        let mut bytes = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let opcode = match at {
                0 => Opcode::Text,
                _ => Opcode::Continuation,
            };
            let mut frames = frame(opcode, part, mask);
            if at + 1 < parts.len() {
                frames[0] &= 0x7f;
            }
            if at == 0 && compressed {
                frames[0] |= 0x40;
            }
            bytes.extend(frames);
            bytes.extend(frame(Opcode::Ping, b"p", mask));
        }
        if parts.is_empty() {
            bytes = frame(Opcode::Text, b"", mask);
        }
        let mut found = Vec::new();
        for chunk in chunks(&bytes, size) {
            let mut rest = &chunk[..];
            loop {
                let (count, passed) = self.messages.take(rest).expect("these are frames");
                rest = &rest[count..];
                match passed {
                    Passed::Within => break,
                    Passed::Message => found.push(self.messages.content()),
                    Passed::Control(_) | Passed::Frame => {},
                }
            }
        }
        match &mut found[..] {
            [Content::Whole(read)] => std::mem::take(read),
            other => panic!("one message is {other:?}"),
        }
    }

    fn deflated(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len() * 2 + 1024);
        self.deflate
            .compress_vec(message, &mut out, FlushCompress::Sync)
            .expect("it has room");
        assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
        out.truncate(out.len() - 4);
        out
    }
}

/// A response that is under way.
type Open = (Option<Box<str>>, ResponseFacts, StreamState);

/// What was said in a socket.
struct Talk {
    socket: &'static dyn Socket,
    session: Session,
    open: Vec<Open>,
    ended: Vec<ResponseFacts>,
    asked: Vec<RequestFacts>,
}

impl Talk {
    fn new(socket: &'static dyn Socket) -> Self {
        let mut session = Session::default();
        socket.open("/v1/realtime", Some("model=m"), &mut session);
        Self {
            socket,
            session,
            open: Vec::new(),
            ended: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// What it comes to.
    fn told(&mut self) -> (&[RequestFacts], &[ResponseFacts], RequestFacts) {
        (&self.asked, &self.ended, self.session.request())
    }

    fn take(&mut self, sender: Sender, message: &[u8]) {
        match sender {
            Sender::Client => self.hear(message),
            Sender::Server => self.said(message),
        }
    }

    fn hear(&mut self, message: &[u8]) {
        let Heard::Begins(request, tag) = self.socket.hear(message, &mut self.session) else {
            return;
        };
        self.asked.push(*request);
        let input = self.session.request().input;
        assert_eq!(self.session.request().input, input, "it was only asked for");
        let refusal = Refusal::new(Reason::Exhausted, "budget.daily", "It is \"used up\".\n");
        let Some(refused) = self.socket.refusal(&refusal, tag.as_deref(), "0190") else {
            return;
        };
        let said = self.socket.said(&refused, &mut self.session);
        let Said::Fails { tag: told, .. } = said else {
            panic!("{said:?}");
        };
        assert_eq!(told, tag);
        let facts = self.fresh(&refused);
        let error = facts.error.expect("a refusal is an error");
        assert_eq!(error.message.as_deref(), Some(&*refusal.message));
    }

    fn said(&mut self, message: &[u8]) {
        let (place, ends) = match self.socket.said(message, &mut self.session) {
            Said::Nothing => return,
            Said::Begins(id) => (Some(self.begin(id)), false),
            Said::Part { id, begins } => match self.place(id.as_deref()) {
                None if begins => (Some(self.begin(id)), false),
                place => (place, false),
            },
            Said::Ends(id) => (self.place(id.as_deref()), true),
            Said::Fails { ends, .. } if ends && !self.open.is_empty() => {
                (Some(self.open.len() - 1), true)
            },
            Said::Fails { .. } | Said::Apart(_) => {
                let facts = self.fresh(message);
                return self.ended.push(facts);
            },
        };
        let Some(place) = place else {
            return;
        };
        let (_, facts, state) = &mut self.open[place];
        let _unreadable = self.socket.read(message, facts, state);
        check(facts);
        if ends {
            let (_, facts, _) = self.open.remove(place);
            self.session.ended(&facts);
            self.ended.push(facts);
        }
    }

    /// What a message says that is all there is of something.
    fn fresh(&self, message: &[u8]) -> ResponseFacts {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        let _unreadable = self.socket.read(message, &mut facts, &mut state);
        check(&facts);
        facts
    }

    fn begin(&mut self, id: Option<Box<str>>) -> usize {
        if self.open.len() == MOST {
            self.open.remove(0);
        }
        let (facts, state) = (ResponseFacts::default(), StreamState::default());
        self.open.push((id, facts, state));
        self.open.len() - 1
    }

    fn place(&self, id: Option<&str>) -> Option<usize> {
        match id {
            Some(id) => self
                .open
                .iter()
                .position(|(open, ..)| open.as_deref() == Some(id)),
            None => self.open.len().checked_sub(1),
        }
    }
}

fn check(facts: &ResponseFacts) {
    let lists = [
        facts.finish_reasons.len(),
        facts.tool_calls.len(),
        facts.server_tools.len(),
    ];
    assert!(
        lists.iter().all(|len| *len <= StreamState::MAX_OPEN),
        "{lists:?}"
    );
    // Sums of what is reported do not overflow.
    let _total = facts.usage.total();
}

/// A conversation of each kind, plain and compressed, and frames.
pub fn seeds() -> Vec<Vec<u8>> {
    const REALTIME: &str = r#"<{"type":"session.created","event_id":"e","session":{"type":"realtime","model":"gpt-realtime","max_output_tokens":"inf"}}
>{"type":"session.update","session":{"max_output_tokens":200,"tools":[{"type":"function","name":"f"}],"audio":{"input":{"transcription":{"model":"gpt-4o-transcribe"}}}}}
>{"type":"input_audio_buffer.append","audio":"AAECAwQF"}
>{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"Hi"},{"type":"input_audio","audio":"AAAA"}]}}
>{"type":"response.create","event_id":"mine","response":{"conversation":"none","input":[],"metadata":{"a":"b"}}}
<{"type":"response.created","response":{"id":"r1","status":"in_progress","usage":null}}
<{"type":"response.output_audio_transcript.delta","response_id":"r1","delta":"Hello"}
<{"type":"response.output_audio.delta","response_id":"r1","delta":"AAAA"}
<{"type":"response.output_item.done","response_id":"r1","item":{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}}
<{"type":"conversation.item.input_audio_transcription.completed","transcript":"Hi","usage":{"type":"tokens","input_tokens":3,"output_tokens":1,"total_tokens":4}}
<{"type":"response.done","response":{"id":"r1","status":"incomplete","status_details":{"reason":"max_output_tokens"},"output":[],"usage":{"total_tokens":9,"input_tokens":5,"output_tokens":4,"input_token_details":{"text_tokens":2,"audio_tokens":3,"cached_tokens":1,"cached_tokens_details":{"text_tokens":1}},"output_token_details":{"text_tokens":1,"audio_tokens":3}}}}
<{"type":"error","error":{"type":"invalid_request_error","code":"c","message":"m","event_id":"mine"}}"#;
    const RESPONSES: &str = r#">{"type":"response.create","model":"gpt-4o","max_output_tokens":9,"previous_response_id":"r0","input":[{"role":"user","content":"Hi"}]}
<{"type":"response.created","sequence_number":0,"response":{"id":"r1","model":"gpt-4o-x","status":"in_progress"}}
<{"type":"response.output_text.delta","sequence_number":1,"delta":"Hello"}
<{"type":"response.completed","response":{"id":"r1","status":"completed","usage":{"input_tokens":3,"output_tokens":1}}}
<{"type":"error","status":400,"error":{"code":"previous_response_not_found","message":"m"}}"#;
    const LIVE: &str = r#">{"setup":{"model":"models/gemini-live","generationConfig":{"maxOutputTokens":100},"sessionResumption":{"handle":"h"}}}
<{"setupComplete":{}}
>{"realtimeInput":{"audio":{"mimeType":"audio/pcm","data":"AAAA"}}}
>{"client_content":{"turns":[{"role":"user","parts":[{"text":"Hi"}]}],"turn_complete":true}}
<{"serverContent":{"modelTurn":{"parts":[{"inlineData":{"data":"AAAA"}},{"text":"Hello"}]}}}
<{"toolCall":{"functionCalls":[{"id":"1","name":"f","args":{}}]}}
>{"toolResponse":{"functionResponses":[]}}
<{"serverContent":{"outputTranscription":{"text":"Hello"},"interrupted":true}}
<{"serverContent":{"turnComplete":true},"usageMetadata":{"promptTokenCount":30,"responseTokenCount":20,"thoughtsTokenCount":5,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":25}]}}"#;
    let mut seeds = Vec::new();
    for (kind, talk) in (0..).zip([REALTIME, RESPONSES, LIVE]) {
        for (fragment, size, flags) in [(0, 0, 0), (7, 5, COMPRESSED)] {
            seeds.push([talk.as_bytes(), &[kind, fragment, size, flags]].concat());
        }
    }
    let message = br#"{"type":"response.create"}"#;
    let (up, down) = (
        frame(Opcode::Text, message, Some(MASK)),
        frame(Opcode::Binary, br#"{"type":"response.done"}"#, None),
    );
    let mut way = Way::new(socket(0), Sender::Server);
    let mut deflated = frame(Opcode::Text, &way.deflated(message), None);
    deflated[0] |= 0x40;
    let close = frame(Opcode::Close, b"\x03\xe8bye", Some(MASK));
    seeds.push([&up[..], &close, &[0, 0, 3, RAW | CLIENT]].concat());
    seeds.push([&down[..], &[0, 0, 3, RAW]].concat());
    seeds.push([&deflated[..], &[0, 0, 3, RAW]].concat());
    seeds
}
