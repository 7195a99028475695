//! Destinations of spans, one file each. Adding one: its file with `Config` and `build`, its `mod`
//! line, and its line in the registry below.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use serde::Deserialize;

use super::{BuildContext, Outlet, record::Record};
use crate::net::{
    grpc::GrpcError,
    post::{PostError, Remedy},
};

mod console;
mod database;
mod datadog;
mod exec;
mod file;
mod honeycomb;
mod jaeger;
mod langfuse;
mod object_store;
mod openai;
mod otlp;
mod phoenix;
mod prometheus;
mod slack;
mod statsd;
mod tempo;
mod webhook;

pub use console::Config as ConsoleConfig;
pub use database::{Config as DatabaseConfig, Field as DatabaseField};
pub use datadog::{Config as DatadogConfig, Product as DatadogProduct};
pub use exec::Config as ExecConfig;
pub use file::Config as FileConfig;
pub use honeycomb::Config as HoneycombConfig;
pub use jaeger::Config as JaegerConfig;
pub use langfuse::Config as LangfuseConfig;
pub use object_store::Config as ObjectStoreConfig;
pub use openai::Config as OpenaiConfig;
pub use otlp::{Config as OtlpConfig, Profile, Protocol};
pub use phoenix::Config as PhoenixConfig;
pub use prometheus::Config as PrometheusConfig;
pub use slack::Config as SlackConfig;
pub use statsd::{Config as StatsdConfig, Dialect as StatsdDialect};
pub use tempo::Config as TempoConfig;
pub use webhook::{Config as WebhookConfig, RateLimit};

/// A future on the heap, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Any error, for logs.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A destination of spans. It only delivers: queue, batches, retries, timing, counting and
/// isolation are its worker's. Each has a thread to itself, with a tokio runtime, so it may block
/// as well as await.
pub trait Processor: Send + 'static {
    /// Delivers a batch, the oldest span first. After an error that can be retried the same batch
    /// comes again: what was half done must be undone or harmless to repeat.
    ///
    /// # Errors
    /// [`DeliverError`] says whether trying again can help.
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>>;

    /// Work that has nothing to do with a span: called at every tick (100 ms), so look first
    /// whether anything is to be done.
    fn upkeep(&mut self) -> Upkeep {
        Upkeep::default()
    }

    /// Sending that has nothing to do with a batch, like metrics at intervals. Asked after upkeep, when
    /// no other one is under way; none if nothing is due. It gets the time of one attempt, in which
    /// batches are delivered all the same; an error is logged.
    fn send_besides(&mut self, _due: Due) -> Option<BoxFuture<'static, Result<(), BoxError>>> {
        None
    }

    /// The host that it delivers to, to be shown, whether an option, a variable or the default names it;
    /// none: it is on this machine, or what stands there may be a piece of a password.
    fn host(&self) -> Option<&str> {
        None
    }
}

/// When something is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// If its time has come.
    Tick,
    /// Now: somebody waits for all that is to be sent.
    Now,
    /// Now: the processor ends.
    End,
}

/// What upkeep has found and done since the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Parts of a batch that were too large, and delivered in halves by the processor itself.
    pub halved: u64,
    /// Spans of a batch that it found too large by themselves.
    pub too_large: u64,
    /// Half-written lines that were cut.
    pub torn: u64,
    /// Spans that were deleted because of their age.
    pub expired: u64,
    /// Delivered spans that were only counted in a later message, so as not to send too many.
    pub suppressed: u64,
    /// Starts of a command beyond its first.
    pub restarted: u64,
    /// Lines that a command printed and nobody read: they were too long, or too many.
    pub cut_output: u64,
}

/// Why a batch was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// It may succeed later.
    #[error("not delivered now: {source}")]
    Retry {
        /// How long the destination asked us to wait.
        after: Option<Duration>,
        /// What happened.
        source: BoxError,
    },
    /// It never will: the batch is given up.
    #[error("refused: {0}")]
    Reject(#[source] BoxError),
    /// All were delivered but for some spans, which never will be.
    #[error("{refused} spans refused: {source}")]
    Partly {
        /// How many, at most as many as were in the batch.
        refused: usize,
        /// Why.
        source: BoxError,
    },
    /// It is too large at once: it comes again in halves, and a span by itself is given up.
    #[error("too large: {0}")]
    TooLarge(#[source] BoxError),
    /// The destination is gone for good, and that is nobody's fault (the reader of a pipe left).
    #[error("the destination is gone")]
    Gone,
}

impl DeliverError {
    /// An error that may pass.
    pub fn retry(source: impl Into<BoxError>) -> Self {
        Self::Retry {
            after: None,
            source: source.into(),
        }
    }
}

impl DeliverError {
    fn remedied(remedy: Remedy, source: BoxError) -> Self {
        match remedy {
            Remedy::Later(after) => Self::Retry { after, source },
            Remedy::Smaller => Self::TooLarge(source),
            Remedy::Nothing => Self::Reject(source),
        }
    }
}

impl From<PostError> for DeliverError {
    fn from(error: PostError) -> Self {
        Self::remedied(error.remedy(), error.into())
    }
}

impl From<GrpcError> for DeliverError {
    fn from(error: GrpcError) -> Self {
        Self::remedied(error.remedy(), error.into())
    }
}

/// A processor cannot be made as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("tracing.processors: {processor}: {reason}")]
pub struct BuildError {
    /// Its type.
    pub processor: &'static str,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl BuildError {
    /// For `map_err`: an error of the processor of that type.
    pub fn of<E: fmt::Display>(processor: &'static str) -> impl Fn(E) -> Self {
        move |error| Self {
            processor,
            reason: error.to_string(),
        }
    }
}

/// Makes the configuration's enum of the parts of this folder, each with its `type`.
macro_rules! registry {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $module:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Deserialize)]
        #[serde(tag = "type", rename_all = "snake_case")]
        pub enum $name {
            $(
                #[doc = concat!("`type: ", stringify!($module), "`")]
                $variant($module::Config),
            )+
        }

        impl $name {
            /// Every `type`, in the order in which they are listed to the user.
            pub const TYPES: &[&str] = &[$(stringify!($module)),+];

            /// Its `type`, which is the name of its file.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => stringify!($module),)+
                }
            }

            /// Makes the processor.
            ///
            /// # Errors
            /// The configuration asks for something that cannot be.
            pub fn build(&self, context: &BuildContext) -> Result<Outlet, BuildError> {
                match self {
                    $(Self::$variant(config) => $module::build(config, context),)+
                }
            }
        }
    };
}

registry! {
    /// A destination in the configuration; `type` names the file in this folder.
    ProcessorConfig {
        Console = console,
        Datadog = datadog,
        File = file,
        Honeycomb = honeycomb,
        Jaeger = jaeger,
        Langfuse = langfuse,
        Openai = openai,
        Otlp = otlp,
        Phoenix = phoenix,
        Prometheus = prometheus,
        Slack = slack,
        Statsd = statsd,
        Tempo = tempo,
        Webhook = webhook,
        Database = database,
        Exec = exec,
        ObjectStore = object_store,
    }
}
