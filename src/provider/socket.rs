//! What a dialect's sockets are: how the messages of a WebSocket are read, and which of them begin,
//! belong to and end a response.

use bytes::Bytes;

use super::{
    state::StreamState,
    steps,
    wire::{canonical::one, json::Unreadable, scan::Wants},
};
use crate::call::{
    facts::{InputSize, Operation, RequestFacts, ResponseFacts},
    refusal::Refusal,
    steps::Steps,
};

/// One kind of socket. Pure, as [`super::Dialect`] is: messages in, facts out.
pub trait Socket: Send + Sync {
    /// What each response in it is.
    fn operation(&self) -> &'static Operation;

    /// The fields that are kept of a message that is too large to hold.
    fn wanted(&self) -> Wants;

    /// Reads what path and query say of the session.
    fn open(&self, _path: &str, _query: Option<&str>, _session: &mut Session) {}

    /// Reads a message of the client. One that cannot be read begins nothing.
    fn hear(&self, message: &[u8], session: &mut Session) -> Heard;

    /// Tells what a message of the provider is. One that cannot be read is [`Said::Nothing`].
    fn said(&self, message: &[u8], session: &mut Session) -> Said;

    /// Reads what a message of the provider says of the response that it belongs to.
    ///
    /// # Errors
    /// The message is not a JSON object; what was read before the place stays.
    fn read(
        &self,
        message: &[u8],
        facts: &mut ResponseFacts,
        state: &mut StreamState,
    ) -> Result<(), Unreadable>;

    /// Whether responses have no ids and come one after another: what is asked for while one is
    /// awaited is answered with it, and its usage may come after its last message.
    fn is_serial(&self) -> bool {
        false
    }

    /// The error message that a client gets for a response that is refused; `tag` is the one that
    /// its own message had. `None`: there is no such message, and the socket must be closed.
    fn refusal(&self, refusal: &Refusal, tag: Option<&str>, request_id: &str) -> Option<Bytes>;
}

/// What a client's message does.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// It makes the provider make nothing.
    Nothing,
    /// It begins a response: what for, and how the client will know errors that are meant for it.
    Begins(Box<RequestFacts>, Option<Box<str>>),
}

/// What a provider's message is.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// It belongs to no response.
    Nothing,
    /// The first of a response with that id.
    Begins(Option<Box<str>>),
    /// Of the response with that id, or of the only one. `begins`: if there is none, it is the first
    /// of one.
    Part {
        /// The response.
        id: Option<Box<str>>,
        /// Responses of this kind have no other first message.
        begins: bool,
    },
    /// The last of a response.
    Ends(Option<Box<str>>),
    /// An error instead of a response.
    Fails {
        /// What the client's message was tagged with; `None`: the oldest that is awaited and has no
        /// tag.
        tag: Option<Box<str>>,
        /// The status, if it has one.
        status: Option<u16>,
        /// If none is awaited, it ends the one that is under way.
        ends: bool,
    },
    /// All that there is of a work apart (the transcript of what was heard), asked for so.
    Apart(Box<RequestFacts>),
}

/// What is known of a socket's conversation, for the bounds of its next response and for guards.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// What every response is asked for with, unless it says otherwise.
    pub(super) defaults: RequestFacts,
    /// The model is what the client has said, and the provider has not.
    claimed: bool,
    /// The client or the provider has named another model since.
    disputed: bool,
    /// What of its updates is open.
    pub(super) updates: Updates,
    /// The model as the provider has said last.
    confirmed: Option<Box<str>>,
    /// The model that transcribes what is heard.
    pub(super) transcriber: Option<Box<str>>,
    /// The conversation as far as some response has had it.
    before: InputSize,
    /// What was added to it since.
    since: InputSize,
    /// Responses were made from something else than the conversation: no report is its size.
    pub(super) strays: bool,
    /// Responses under way that are not of the conversation; at most [`Session::MOST_APART`].
    pub(super) apart: Vec<Box<str>>,
    /// What was done in it so far, if a guard wants that.
    steps: Option<Steps>,
    /// How often something was said that cannot be told from anything else.
    unheard: u64,
    /// Whatever the provider begins now, it begins without a message of the client that asks for it.
    pub(super) unasked: bool,
}

/// What is known of the updates of a session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Updates {
    /// Updates of the session that the client has asked for and the provider has not answered; among
    /// them whatever else it may answer as if it were one.
    unanswered: u32,
    /// A message of the client was not seen as a whole: any error may be the answer to that one.
    lacks: bool,
    /// Responses were asked for with a voice of their own, which is refused in an update's words.
    pub(super) voiced: bool,
}

impl Session {
    /// The most responses apart that are known.
    pub(super) const MOST_APART: usize = 64;

    /// From now on the steps of the conversation are read, where it is the socket's own.
    pub fn follow(&mut self) {
        self.steps.get_or_insert_default();
    }

    /// What was done in the conversation so far, if it is followed.
    pub const fn steps(&self) -> Option<&Steps> {
        self.steps.as_ref()
    }

    /// Reads further steps, if the conversation is followed.
    pub(super) fn step(&mut self, read: impl FnOnce(&mut Steps)) {
        self.steps.as_mut().map(read);
    }

    /// The user said something of which nothing is known: it is not what was said before.
    pub(super) fn spoken(&mut self) {
        self.unheard += 1;
        let what = one(("unheard", self.unheard));
        self.step(|steps| steps.push(steps::said(what)));
    }

    /// The model that is asked for, where the socket says so.
    pub fn model(&self) -> Option<&str> {
        self.defaults.model.as_deref()
    }

    /// Whether more than one model is named, so that it may be for any.
    pub const fn hides_model(&self) -> bool {
        self.defaults.hides_model
    }

    /// The client names the model in a message: another than before may or may not be taken.
    pub(super) fn claim(&mut self, model: Box<str>) {
        let Some(before) = &self.defaults.model else {
            (self.defaults.model, self.claimed) = (Some(model), true);
            return;
        };
        if *before != model && self.confirmed.as_ref() != Some(&model) {
            self.dispute();
        }
    }

    fn dispute(&mut self) {
        self.disputed |= !self.defaults.hides_model;
        self.defaults.hides_model = true;
    }

    /// The client asks for an update of the session, or for what may be refused as if it were one.
    pub(super) const fn update(&mut self) {
        self.updates.unanswered = self.updates.unanswered.saturating_add(1);
    }

    /// The provider answers the oldest update, before [`confirm`](Self::confirm) if it says a model.
    pub(super) const fn answer(&mut self) {
        self.updates.unanswered = self.updates.unanswered.saturating_sub(1);
    }

    /// The provider refuses what seems to be the oldest update. Returns whether there is one.
    pub(super) const fn refuse(&mut self) -> bool {
        let is_awaited = self.updates.unanswered > 0;
        if !self.updates.lacks {
            self.answer();
        }
        is_awaited
    }

    /// A message of the client is too large to be seen as a whole.
    pub const fn lacks(&mut self) {
        self.updates.lacks = true;
    }

    /// The provider says which model it is. What the socket was opened with is the name that rules
    /// know, be it an alias; what was only claimed is none, and of several names it is the provider's
    /// that the price follows. If it says another than before, that is the model, whether or not a claim
    /// is known. Once it has answered every update, no claim is open any more.
    pub(super) fn confirm(&mut self, model: Box<str>) {
        if self.confirmed.as_ref() != Some(&model) {
            if self.confirmed.is_some() {
                self.dispute();
            }
            if std::mem::take(&mut self.claimed)
                || self.defaults.hides_model
                || self.defaults.model.is_none()
            {
                self.defaults.model = Some(model.clone());
            }
            self.confirmed = Some(model);
        }
        if self.updates.unanswered == 0 && std::mem::take(&mut self.disputed) {
            self.defaults.hides_model = false;
        }
    }

    /// Adds to the conversation.
    pub fn add(&mut self, size: InputSize) {
        self.since.add(size);
    }

    /// What a response is asked for with that begins now.
    pub fn request(&mut self) -> RequestFacts {
        self.before.add(std::mem::take(&mut self.since));
        let mut request = self.defaults.clone();
        request.input.add(self.before);
        request.steps = self.steps.clone().unwrap_or_default();
        request
    }

    /// A response has ended that had the conversation: with what it said, that is so long now.
    pub fn ended(&mut self, facts: &ResponseFacts) {
        let usage = &facts.usage;
        if !self.strays
            && let (Some(input), Some(output)) = (usage.input, usage.output)
        {
            // Of tokens that may be audio or text nothing is known but how many they are.
            self.before = InputSize {
                media_bytes: input.saturating_add(output),
                ..InputSize::default()
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{text::Text, usage::Usage};

    #[test]
    fn a_conversation_is_as_long_as_was_reported_and_what_was_added_since() {
        let text = |bytes| InputSize {
            text_bytes: Text::unknown(bytes),
            ..InputSize::default()
        };
        let mut session = Session::default();
        session.add(text(5_000));
        assert_eq!(session.request().input.text_bytes.bytes, 5_000);
        session.add(text(7));
        session.ended(&ResponseFacts {
            usage: Usage::text(900, 100),
            ..ResponseFacts::default()
        });
        let input = session.request().input;
        assert_eq!((input.media_bytes, input.text_bytes.bytes), (1_000, 7));
        session.ended(&ResponseFacts::default());
        assert_eq!(
            session.request().input,
            input,
            "what is not known changes nothing"
        );
    }
}
