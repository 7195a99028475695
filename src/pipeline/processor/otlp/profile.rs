//! The names under which attributes go out: one table for every convention. A new name, or a new
//! convention, is a change here and nowhere else.

use serde::Deserialize;

use super::{
    attribute::{self, Attributes, Value},
    failure::Failure,
    langfuse, openinference,
};
use crate::{
    call::{outcome::Kind, span::Span},
    pipeline::{Record, sampling::share_of},
};

/// `profile:` — whose names attributes have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// OpenTelemetry's GenAI conventions of version 1.41, the last that was released with them.
    #[default]
    #[serde(rename = "v1_41")]
    V1_41,
    /// Those of the repository to which they have moved since, which has no release yet.
    Next,
    /// Those up to version 1.36, and older names that are still in use.
    Legacy,
    /// OpenInference's (Phoenix, Arize).
    Openinference,
    /// Those of 1.41, with what Langfuse has its own names for.
    Langfuse,
}

/// In a list of names: under the name that it has already.
const ITSELF: &str = "=";

/// The names of one attribute in each profile, in the order of [`Profile`]'s variants. None: it is
/// left out. What is not in the table keeps its name in all of them.
type Names = [&'static [&'static str]; 5];

const SAME: &[&str] = &[ITSELF];
const NONE: &[&str] = &[];

#[rustfmt::skip]
const TABLE: &[(&str, Names)] = &[
    // As spans say it, v1_41, next,
    //     legacy,
    //     openinference,
    //     langfuse
    ("gen_ai.provider.name", [SAME, SAME,
        &["gen_ai.system"],
        &["llm.provider", "llm.system"],
        SAME]),
    ("gen_ai.operation.name", [SAME, SAME, SAME, NONE, SAME]),
    // The model that answered comes after the one that was asked for, and goes before it.
    ("gen_ai.request.model", [SAME, SAME, SAME,
        &["llm.model_name"],
        SAME]),
    ("gen_ai.response.model", [SAME, SAME, SAME,
        &["llm.model_name"],
        &[ITSELF, "langfuse.observation.model.name"]]),
    ("gen_ai.request.stream", [SAME, SAME,
        &[ITSELF, "gen_ai.is_streaming"],
        NONE, SAME]),
    ("gen_ai.usage.input_tokens", [SAME, SAME,
        &[ITSELF, "gen_ai.usage.prompt_tokens"],
        &["llm.token_count.prompt"],
        SAME]),
    ("gen_ai.usage.output_tokens", [SAME, SAME,
        &[ITSELF, "gen_ai.usage.completion_tokens"],
        &["llm.token_count.completion"],
        SAME]),
    ("gen_ai.usage.cache_read.input_tokens", [SAME, SAME,
        &["gen_ai.usage.cache_read_input_tokens"],
        &["llm.token_count.prompt_details.cache_read"],
        SAME]),
    ("gen_ai.usage.cache_creation.input_tokens", [SAME,
        &["gen_ai.usage.cache_write.input_tokens"],
        &["gen_ai.usage.cache_creation_input_tokens"],
        &["llm.token_count.prompt_details.cache_write"],
        SAME]),
    ("gen_ai.usage.reasoning.output_tokens", [SAME, SAME,
        &["gen_ai.usage.reasoning_tokens"],
        &["llm.token_count.completion_details.reasoning"],
        SAME]),
    ("tollgate.usage.input_audio_tokens", [SAME,
        &["gen_ai.usage.audio.input_tokens"],
        SAME,
        &["llm.token_count.prompt_details.audio"],
        SAME]),
    ("tollgate.usage.input_image_tokens", [SAME,
        &["gen_ai.usage.image.input_tokens"],
        SAME, SAME, SAME]),
    ("tollgate.usage.input_video_tokens", [SAME,
        &["gen_ai.usage.video.input_tokens"],
        SAME, SAME, SAME]),
    ("tollgate.usage.cache_audio_read_tokens", [SAME,
        &["gen_ai.usage.audio.cache_read.input_tokens"],
        SAME, SAME, SAME]),
    ("tollgate.usage.cache_image_read_tokens", [SAME,
        &["gen_ai.usage.image.cache_read.input_tokens"],
        SAME, SAME, SAME]),
    ("tollgate.usage.output_audio_tokens", [SAME,
        &["gen_ai.usage.audio.output_tokens"],
        SAME,
        &["llm.token_count.completion_details.audio"],
        SAME]),
    ("tollgate.usage.output_image_tokens", [SAME,
        &["gen_ai.usage.image.output_tokens"],
        SAME, SAME, SAME]),
    ("tollgate.agent", [&[ITSELF, "gen_ai.agent.name"], &[ITSELF, "gen_ai.agent.name"],
        &[ITSELF, "gen_ai.agent.name"],
        &[ITSELF, "agent.name"],
        &[ITSELF, "gen_ai.agent.name"]]),
    ("tollgate.session", [&[ITSELF, "gen_ai.conversation.id"], &[ITSELF, "gen_ai.conversation.id"],
        &[ITSELF, "gen_ai.conversation.id"],
        &[ITSELF, "session.id"],
        &[ITSELF, "session.id", "gen_ai.conversation.id"]]),
    ("tollgate.user", [&[ITSELF, "user.id"], &[ITSELF, "user.id"],
        &[ITSELF, "enduser.id"],
        &[ITSELF, "user.id"],
        &[ITSELF, "user.id"]]),
    ("tollgate.workflow", [&[ITSELF, "gen_ai.workflow.name"], &[ITSELF, "gen_ai.workflow.name"],
        &[ITSELF, "traceloop.workflow.name"],
        SAME,
        &[ITSELF, "langfuse.trace.name"]]),
    ("tollgate.environment", [SAME, SAME, SAME, SAME,
        &[ITSELF, "langfuse.environment"]]),
    // As a number too: most destinations cannot add up texts. Langfuse would count it twice.
    ("tollgate.cost.usd", [&[ITSELF, COST], &[ITSELF, COST],
        &[ITSELF, COST],
        &[ITSELF, "llm.cost.total"],
        SAME]),
    ("gen_ai.input.messages", [SAME, SAME, SAME,
        &["input.value"],
        &["langfuse.observation.input"]]),
    ("gen_ai.output.messages", [SAME, SAME, SAME,
        &["output.value"],
        &["langfuse.observation.output"]]),
];

/// What a call cost, as a number: the name that is in use, for the conventions have none.
const COST: &str = "gen_ai.usage.cost";

/// A provider's name: ours, by the conventions since 1.37, by those before, and OpenInference's
/// `llm.provider` and `llm.system`. Others are called the same everywhere.
#[rustfmt::skip]
const PROVIDERS: &[(&str, [&str; 4])] = &[
    ("azure", ["azure.ai.openai", "az.ai.openai", "azure", "openai"]),
    ("bedrock", ["aws.bedrock", "aws.bedrock", "aws", "aws"]),
    ("gemini", ["gcp.gemini", "gemini", "google", "google"]),
    ("mistral", ["mistral_ai", "mistral_ai", "mistralai", "mistralai"]),
    ("together", ["together_ai", "together_ai", "together", "together"]),
    ("vertex", ["gcp.vertex_ai", "vertex_ai", "google", "vertexai"]),
    ("xai", ["x_ai", "xai", "xai", "xai"]),
];

impl Profile {
    /// The version of the conventions, as an address; none where no version was released.
    pub(super) const fn schema(self) -> Option<&'static str> {
        match self {
            Self::V1_41 | Self::Langfuse => Some("https://opentelemetry.io/schemas/1.41.0"),
            Self::Legacy => Some("https://opentelemetry.io/schemas/1.36.0"),
            Self::Next | Self::Openinference => None,
        }
    }

    /// What the profile makes of a span's attributes.
    pub(in super::super) fn attributes(self, record: &Record) -> Attributes {
        let span = &record.span;
        let mut found = attribute::of(record);
        if let Some(failure) = Failure::of(span) {
            let kind = Value::text(failure.kind);
            found.entry("error.type".to_owned()).or_insert(kind);
        }
        if let Some(share) = share_of(span).filter(|share| *share > 0.0) {
            // Honeycomb's, which a collector may pass on to it: one for so many.
            let times = whole(1.0 / share);
            found.insert("SampleRate".to_owned(), Value::count(times));
        }
        let mut renamed = Attributes::new();
        match self {
            Self::V1_41 | Self::Next => {},
            Self::Legacy => legacy(span, &mut renamed),
            Self::Openinference => openinference::add(span, &found, &mut renamed),
            Self::Langfuse => langfuse::add(span, &mut renamed),
        }
        for (name, value) in found {
            self.rename(name, value, &mut renamed);
        }
        renamed
    }

    /// The names that one attribute has in the profile, with their values.
    pub(super) fn rename(self, name: String, value: Value, into: &mut Attributes) {
        let Some((_, names)) = TABLE.iter().find(|(ours, _)| *ours == name) else {
            into.insert(name.into(), value);
            return;
        };
        let [v1_41, next, legacy, openinference, langfuse] = names;
        let names = match self {
            Self::V1_41 => v1_41,
            Self::Next => next,
            Self::Legacy => legacy,
            Self::Openinference => openinference,
            Self::Langfuse => langfuse,
        };
        for theirs in *names {
            let theirs = if *theirs == ITSELF { &*name } else { theirs };
            into.insert(theirs.to_owned().into(), valued(&name, theirs, &value));
        }
    }
}

/// The nearest whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it saturates, and a share is not negative"
)]
const fn whole(number: f64) -> u64 {
    number.round() as u64
}

/// The value under its new name, where that changes it.
fn valued(name: &str, theirs: &str, value: &Value) -> Value {
    match (name, value) {
        ("gen_ai.provider.name", Value::Text(provider)) => {
            Value::text(provider_name(provider, theirs))
        },
        ("tollgate.cost.usd", Value::Text(cost)) if theirs != name => cost
            .parse()
            .map_or_else(|_none| value.clone(), Value::Float),
        _ => value.clone(),
    }
}

fn provider_name<'a>(provider: &'a str, attribute: &str) -> &'a str {
    let known = PROVIDERS.iter().find(|(ours, _)| *ours == provider);
    known.map_or(
        provider,
        |(_, [since, before, provider, system])| match attribute {
            "gen_ai.system" => before,
            "llm.provider" => provider,
            "llm.system" => system,
            _ => since,
        },
    )
}

/// What older tools expect besides.
fn legacy(span: &Span, into: &mut Attributes) {
    let asked = match (span.kind, span.operation) {
        (Kind::Embedding, _) => "embedding",
        (Kind::Llm, Some("text_completion")) => "completion",
        (Kind::Llm, _) => "chat",
        _ => return,
    };
    into.insert("llm.request.type".into(), Value::text(asked));
    if let (Some(input), Some(output)) = (span.usage.input, span.usage.output) {
        let total = Value::count(input.saturating_add(output));
        into.insert("llm.usage.total_tokens".into(), total);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::call, *};
    use crate::call::labels::{Label, Source};

    fn attributes(profile: Profile, span: Span) -> Attributes {
        profile.attributes(&Record::new(span))
    }

    fn names<'a>(profile: Profile, attributes: &'a Attributes, begins: &str) -> Vec<&'a str> {
        let names = attributes.keys().map(|name| &**name);
        let found: Vec<_> = names.filter(|name| name.starts_with(begins)).collect();
        assert!(!found.is_empty(), "{profile:?}: {attributes:?}");
        found
    }

    #[test]
    fn the_table_has_each_name_once() {
        for (at, (name, _)) in TABLE.iter().enumerate() {
            assert!(
                !TABLE[..at].iter().any(|(other, _)| other == name),
                "{name}"
            );
        }
    }

    #[test]
    fn each_profile_has_its_own_names_for_tokens() {
        let usage = |profile, begins| {
            let attributes = attributes(profile, call());
            names(profile, &attributes, begins).join(" ")
        };
        assert_eq!(
            usage(Profile::V1_41, "gen_ai.usage."),
            "gen_ai.usage.cache_creation.input_tokens gen_ai.usage.cache_read.input_tokens \
             gen_ai.usage.cost gen_ai.usage.input_tokens gen_ai.usage.output_tokens \
             gen_ai.usage.reasoning.output_tokens"
        );
        assert!(usage(Profile::Next, "gen_ai.usage.").contains("cache_write.input_tokens"));
        assert_eq!(
            usage(Profile::Legacy, "gen_ai.usage."),
            "gen_ai.usage.cache_creation_input_tokens gen_ai.usage.cache_read_input_tokens \
             gen_ai.usage.completion_tokens gen_ai.usage.cost gen_ai.usage.input_tokens \
             gen_ai.usage.output_tokens gen_ai.usage.prompt_tokens gen_ai.usage.reasoning_tokens"
        );
        assert_eq!(
            usage(Profile::Openinference, "llm.token_count."),
            "llm.token_count.completion llm.token_count.completion_details.reasoning \
             llm.token_count.prompt llm.token_count.prompt_details.cache_read \
             llm.token_count.prompt_details.cache_write llm.token_count.total"
        );
    }

    #[test]
    fn providers_are_called_as_each_profile_calls_them() {
        let called = |profile, name: &str| {
            let span = Span {
                provider: "vertex".into(),
                ..call()
            };
            attributes(profile, span).get(name).cloned()
        };
        for (profile, name, provider) in [
            (Profile::V1_41, "gen_ai.provider.name", "gcp.vertex_ai"),
            (Profile::Legacy, "gen_ai.system", "vertex_ai"),
            (Profile::Openinference, "llm.provider", "google"),
            (Profile::Openinference, "llm.system", "vertexai"),
        ] {
            assert_eq!(called(profile, name), Some(Value::text(provider)), "{name}");
        }
        assert_eq!(called(Profile::Legacy, "gen_ai.provider.name"), None);
        let own = Span {
            provider: "my-vllm".into(),
            ..call()
        };
        let own = attributes(Profile::V1_41, own);
        assert_eq!(
            own.get("gen_ai.provider.name"),
            Some(&Value::text("my-vllm"))
        );
    }

    #[test]
    fn the_cost_is_exact_and_a_number_and_absent_if_unknown() {
        let known = attributes(Profile::V1_41, call());
        assert_eq!(
            known.get("tollgate.cost.usd"),
            Some(&Value::text("0.000625000"))
        );
        assert_eq!(known.get(COST), Some(&Value::Float(0.000_625)));
        let unknown = attributes(
            Profile::V1_41,
            Span {
                cost: None,
                ..call()
            },
        );
        assert_eq!(unknown.get(COST), None);
    }

    #[test]
    fn the_model_that_answered_goes_before_the_one_that_was_asked_for() {
        let model = |span| attributes(Profile::Openinference, span).remove("llm.model_name");
        assert_eq!(model(call()), Some(Value::text("gpt-4o-2024-08-06")));
        let refused = Span {
            response_model: None,
            ..call()
        };
        assert_eq!(model(refused), Some(Value::text("gpt-4o")));
    }

    #[test]
    fn labels_have_the_names_of_the_conventions_besides_ours() {
        let mut span = call();
        for (label, value) in [
            (Label::Session, "s-1"),
            (Label::User, "42"),
            (Label::Workflow, "triage"),
        ] {
            span.labels.set(label, value, Source::Header);
        }
        let found = attributes(Profile::V1_41, span);
        for (ours, theirs) in [
            ("tollgate.agent", "gen_ai.agent.name"),
            ("tollgate.session", "gen_ai.conversation.id"),
            ("tollgate.user", "user.id"),
            ("tollgate.workflow", "gen_ai.workflow.name"),
        ] {
            assert!(found.contains_key(ours), "{ours}");
            assert_eq!(found.get(ours), found.get(theirs), "{theirs}");
        }
    }
}
