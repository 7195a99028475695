//! The endpoints beside conversations: which request is which, and who answers it.

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::{
    answer::Ids,
    audio, batches,
    behaviour::Behaviour,
    google_batches, images, message_batches, moderations,
    objects::{Act, Objects},
    problem::{Dialect, Problem},
    reply::Payload,
};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// Images: of words alone, or of other images.
    Images {
        edited: bool,
    },
    Speech,
    Transcription {
        translated: bool,
    },
    Moderation,
    /// A file is brought.
    Upload,
    Batch,
    MessageBatch,
    GoogleBatch,
    /// What is done with the object of this id.
    Stored(Act, String, Dialect),
}

/// A request to such an endpoint, and what it is answered with.
pub(super) struct Order<'a> {
    /// The JSON body, or the fields of a form.
    pub(super) body: &'a Value,
    /// Without settings; empty if there is none.
    pub(super) model: &'a str,
    /// The file in a form.
    pub(super) file: &'a Bytes,
    pub(super) behaviour: &'a Behaviour,
    pub(super) ids: &'a mut Ids,
    /// Seconds since the Unix epoch.
    pub(super) now: u64,
    pub(super) objects: &'a Objects,
    /// Where the request went, without path: `http://localhost:1234`.
    pub(super) origin: String,
}

/// Answers a request that stands in a batch, to this path and with this body.
pub(super) type Answering<'a> = dyn Fn(&str, &Value, &mut Ids) -> Result<Payload, Problem> + 'a;

impl Endpoint {
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        let mut segments = path.trim_end_matches('/').rsplit('/');
        let mut segment = || segments.next().unwrap_or_default();
        let (last, before, first) = (segment(), segment(), segment());
        let dialect = if path.contains("/messages/batches") {
            Dialect::Anthropic
        } else if path.contains("/v1beta/") {
            Dialect::Gemini
        } else {
            Dialect::OpenAi
        };
        let kept = |parent| matches!(parent, "files" | "batches" | "runs");
        let stored = |act, id: &str| Some(Self::Stored(act, id.to_owned(), dialect));
        match (method.as_str(), first, before, last) {
            ("POST", _, "images", "generations") => Some(Self::Images { edited: false }),
            ("POST", _, "images", "edits" | "variations") => Some(Self::Images { edited: true }),
            ("POST", _, "audio", "speech") => Some(Self::Speech),
            ("POST", _, "audio", name @ ("transcriptions" | "translations")) => {
                Some(Self::Transcription {
                    translated: name == "translations",
                })
            },
            ("POST", _, _, "moderations") => Some(Self::Moderation),
            ("POST", _, "v1", "files") => Some(Self::Upload),
            ("POST", _, "messages", "batches") => Some(Self::MessageBatch),
            ("POST", _, _, "batches") => Some(Self::Batch),
            ("POST", ..) if last.ends_with(":batchGenerateContent") => Some(Self::GoogleBatch),
            ("POST", _, "batches", last) if last.ends_with(":cancel") => {
                stored(Act::Cancel, last.trim_end_matches(":cancel"))
            },
            ("GET", _, "files", last) if last.ends_with(":download") => {
                stored(Act::Content, last.trim_end_matches(":download"))
            },
            ("POST", "batches" | "runs", id, "cancel") => stored(Act::Cancel, id),
            ("POST", "runs", id, "submit_tool_outputs") => stored(Act::Look, id),
            ("GET", "files", id, "content") | ("GET", "batches", id, "results") => {
                stored(Act::Content, id)
            },
            ("GET", _, parent, id) if kept(parent) => stored(Act::Look, id),
            ("DELETE", _, parent, id) if kept(parent) => stored(Act::Delete, id),
            _ => None,
        }
    }

    /// Whose errors are spoken.
    pub(super) const fn dialect(&self) -> Dialect {
        match self {
            Self::MessageBatch => Dialect::Anthropic,
            Self::GoogleBatch => Dialect::Gemini,
            Self::Stored(_, _, dialect) => *dialect,
            _ => Dialect::OpenAi,
        }
    }

    /// Whether a batch can have requests to it.
    pub(super) const fn can_be_in_batch(&self) -> bool {
        matches!(self, Self::Images { .. } | Self::Moderation)
    }

    pub(super) fn answer(
        &self,
        order: &mut Order<'_>,
        answering: &Answering<'_>,
    ) -> Result<Payload, Problem> {
        match self {
            Self::Images { edited } => images::write(order, *edited),
            Self::Speech => audio::speak(order),
            Self::Transcription { translated } => audio::transcribe(order, *translated),
            Self::Moderation => Ok(moderations::write(order)),
            Self::Upload => batches::upload(order),
            Self::Batch => batches::make(order, answering),
            Self::MessageBatch => message_batches::make(order, answering),
            Self::GoogleBatch => google_batches::make(order, answering),
            Self::Stored(act, id, _) => order.objects.act(*act, id),
        }
    }
}

impl Order<'_> {
    /// The string at `key`.
    pub(super) fn required(&self, key: &'static str) -> Result<&str, Problem> {
        self.body.get(key).and_then(Value::as_str).ok_or_else(|| {
            Problem::invalid(format!("Missing required parameter: '{key}'."))
                .param(key)
                .code("missing_required_parameter")
        })
    }

    /// Whether `key` is true, also as a form says it.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.body
            .get(key)
            .is_some_and(|value| value.as_bool() == Some(true) || value.as_str() == Some("true"))
    }

    /// The number at `key`, also as a form says it.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        let value = self.body.get(key)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_path_names_the_endpoint() {
        let of = |method, path| Endpoint::of(&method, path);
        assert_eq!(
            of(Method::POST, "/v1/images/variations"),
            Some(Endpoint::Images { edited: true })
        );
        let stored = |act, id: &str, dialect| Some(Endpoint::Stored(act, id.into(), dialect));
        for (method, path, found) in [
            (
                Method::GET,
                "/v1/files/file-1/content",
                stored(Act::Content, "file-1", Dialect::OpenAi),
            ),
            (
                Method::GET,
                "/v1/messages/batches/b1/results",
                stored(Act::Content, "b1", Dialect::Anthropic),
            ),
            (
                Method::POST,
                "/v1/threads/t/runs/run_1/cancel",
                stored(Act::Cancel, "run_1", Dialect::OpenAi),
            ),
            (
                Method::DELETE,
                "/v1/files/file-1",
                stored(Act::Delete, "file-1", Dialect::OpenAi),
            ),
            (
                Method::POST,
                "/v1/messages/batches",
                Some(Endpoint::MessageBatch),
            ),
            (Method::POST, "/v1/threads/t/runs", None),
            (Method::GET, "/v1/batches", None),
        ] {
            assert_eq!(of(method, path), found, "{path}");
        }
    }
}
