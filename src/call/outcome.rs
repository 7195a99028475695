//! How a call went: its kind, status, end and what was decided about it.

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The word for it on spans.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

words! {
    /// What a span describes.
    Kind {
        /// A call to a generative model.
        Llm = "llm",
        /// A call that embeds.
        Embedding = "embedding",
        /// A tool that an agent ran.
        Tool = "tool",
        /// One agent's run.
        Agent = "agent",
        /// One agent handing over to another.
        Handoff = "handoff",
        /// A rule that was asked.
        Guardrail = "guardrail",
        /// A whole workflow.
        Workflow = "workflow",
        /// Any other request.
        Http = "http",
    }
}

words! {
    /// How a span ended, in one word.
    Status {
        /// It did what was asked.
        Ok = "ok",
        /// The provider or the way to it failed.
        Error = "error",
        /// We refused it.
        Blocked = "blocked",
        /// The client left.
        Cancelled = "cancelled",
    }
}

words! {
    /// Who ended the exchange.
    End {
        /// The response was passed on to its last byte.
        Complete = "complete",
        /// The client left.
        Client = "client",
        /// The provider broke off, or never answered.
        Upstream = "upstream",
        /// We cut it: a limit was reached.
        Cut = "cut",
        /// Tollgate itself was ended; found again in the journal.
        Crashed = "crashed",
    }
}

words! {
    /// What was decided about a call.
    Decision {
        /// It passed as it was.
        Admitted = "admitted",
        /// Its output limit was lowered to what a budget still buys.
        Clamped = "clamped",
        /// It had no output limit and was given one, so that a budget can bound it.
        Capped = "capped",
        /// It passed, though a rule in shadow mode would have stopped it.
        Shadow = "shadow",
        /// It was refused.
        Refused = "refused",
        /// It was cut while it streamed.
        Cut = "cut",
    }
}
