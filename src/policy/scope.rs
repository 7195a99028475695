//! What a rule can match and count per: labels, tags, what a call is to, and where it comes from.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, de};

use super::subject::Subject;
use crate::call::labels::{Label, Source};

/// What a rule can match and count per.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    /// The agent.
    Agent,
    /// The user.
    User,
    /// The project.
    Project,
    /// The environment.
    Environment,
    /// The session.
    Session,
    /// The workflow.
    Workflow,
    /// The model that the request names.
    Model,
    /// The provider.
    Provider,
    /// The client key's name, else a hash of the credential that the provider gets.
    Key,
    /// The operation: `chat`, `responses`, `embeddings`.
    Route,
    /// The Kubernetes pod that Tollgate runs in.
    Pod,
    /// Its namespace.
    Namespace,
    /// Its service account.
    ServiceAccount,
    /// A tag, by its whole name: `tags.team`.
    Tag(Arc<str>),
}

/// What stands before a tag's key.
const TAGS: &str = "tags.";

impl Per {
    /// All but tags, in the order in which they are listed.
    pub const NAMED: [Self; 13] = [
        Self::Agent,
        Self::User,
        Self::Project,
        Self::Environment,
        Self::Session,
        Self::Workflow,
        Self::Model,
        Self::Provider,
        Self::Key,
        Self::Route,
        Self::Pod,
        Self::Namespace,
        Self::ServiceAccount,
    ];

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        match self {
            Self::Agent => "agent",
            Self::User => "user",
            Self::Project => "project",
            Self::Environment => "environment",
            Self::Session => "session",
            Self::Workflow => "workflow",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Key => "key",
            Self::Route => "route",
            Self::Pod => "pod",
            Self::Namespace => "namespace",
            Self::ServiceAccount => "service_account",
            Self::Tag(name) => name,
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        let is_key = |key: &str| (1..=64).contains(&key.len()) && key.bytes().all(good);
        match name.strip_prefix(TAGS) {
            Some(key) => is_key(key).then(|| Self::Tag(Arc::from(name))),
            None => Self::NAMED.into_iter().find(|per| per.name() == name),
        }
    }

    /// The key of the tag that it is.
    fn tag(&self) -> Option<&str> {
        match self {
            Self::Tag(name) => name.strip_prefix(TAGS),
            _ => None,
        }
    }

    /// Whether callers choose it, so that one of them can be as many as it likes.
    pub const fn is_chosen(&self) -> bool {
        match self {
            Self::Agent
            | Self::User
            | Self::Project
            | Self::Environment
            | Self::Session
            | Self::Workflow
            | Self::Tag(_) => true,
            Self::Model
            | Self::Provider
            | Self::Key
            | Self::Route
            | Self::Pod
            | Self::Namespace
            | Self::ServiceAccount => false,
        }
    }

    /// What to do about a call that lacks it.
    pub(super) fn remedy(&self) -> String {
        let name = self.name();
        match self {
            Self::Model => "Name the model in the request.".to_owned(),
            Self::Provider | Self::Route => String::new(),
            Self::Key => "Send an API key.".to_owned(),
            Self::Pod | Self::Namespace | Self::ServiceAccount => {
                format!("Set identity.{name} in Tollgate's configuration.")
            },
            Self::Tag(_) => {
                let key = self.tag().unwrap_or_default();
                format!("Send `x-tollgate-tags: {key}=VALUE`.")
            },
            _ => format!("Send `x-tollgate-{name}`."),
        }
    }

    /// What the call says about it, if a trusted source says it. No `trusted` source: all are.
    pub(super) fn value_of<'a>(
        &self,
        subject: &Subject<'a>,
        trusted: &[Source],
    ) -> Option<&'a str> {
        let label = match self {
            Self::Model => return subject.model,
            Self::Provider => return Some(subject.provider),
            Self::Key => return subject.key,
            Self::Route => return Some(subject.route),
            Self::Pod => return subject.workload?.pod.as_deref(),
            Self::Namespace => return subject.workload?.namespace.as_deref(),
            Self::ServiceAccount => return subject.workload?.service_account.as_deref(),
            Self::Tag(_) => return tag(self.tag()?, subject, trusted),
            Self::Agent => Label::Agent,
            Self::User => Label::User,
            Self::Project => Label::Project,
            Self::Environment => Label::Environment,
            Self::Session => Label::Session,
            Self::Workflow => Label::Workflow,
        };
        let found = subject.labels.labelled(label)?;
        (trusted.is_empty() || trusted.contains(&found.source)).then_some(&*found.value)
    }
}

/// The value of a tag, if a trusted source says it. No `trusted` source: all are.
pub(super) fn tag<'a>(key: &str, subject: &Subject<'a>, trusted: &[Source]) -> Option<&'a str> {
    if trusted.is_empty() {
        subject.labels.tag_value(key)
    } else {
        subject.labels.trusted_tag(key)
    }
}

impl<'de> Deserialize<'de> for Per {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| {
            let all = Self::NAMED.map(|per| per.name().to_owned()).join(", ");
            de::Error::custom(format_args!(
                "`{name}` is nothing to count per: expected one of {all}, or a tag like tags.team"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_by_its_name_and_a_tag_by_its_key() {
        for per in Per::NAMED {
            assert_eq!(Per::named(per.name()), Some(per.clone()));
        }
        let team = Per::named("tags.team").unwrap();
        assert_eq!((team.name(), team.tag()), ("tags.team", Some("team")));
        for not in ["tags.", "tags.a b", "tags.a,b", "tags", "agents", ""] {
            assert_eq!(Per::named(not), None, "{not}");
        }
    }
}
