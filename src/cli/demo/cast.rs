//! Who plays: the agents, and what the mock models say to them.

use serde_json::{Value, json};

use super::voice::Voice;
use crate::mock::{Called, Rule, Script, When};

/// An agent: a model with instructions and tools.
pub(super) struct Agent {
    pub(super) name: &'static str,
    pub(super) voice: Voice,
    pub(super) model: &'static str,
    pub(super) instructions: &'static str,
    pub(super) tools: &'static [Tool],
}

/// A tool, and what it always gives.
pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) gives: &'static str,
}

/// The beginning of the names of tools that hand a conversation over.
pub(super) const HAND_OFF: &str = "transfer_to_";

pub(super) const TRIAGE: Agent = Agent {
    name: "triage",
    voice: Voice::Chat,
    model: "gpt-4.1-mini",
    instructions: "You are the triage agent of a shop. Find out what the customer needs and hand \
                   the conversation to the agent who can do it.",
    tools: &[
        Tool {
            name: "transfer_to_refunds_agent",
            about: "Hand over to the agent for refunds.",
            gives: "",
        },
        Tool {
            name: "transfer_to_sales_agent",
            about: "Hand over to the agent for orders.",
            gives: "",
        },
    ],
};

pub(super) const REFUNDS: Agent = Agent {
    name: "refunds",
    voice: Voice::Messages,
    model: "claude-sonnet-4-5",
    instructions: "You are the refunds agent of a shop. Look the order up, follow the policy, \
                   issue the refund, and tell the customer in one sentence.",
    tools: &[
        Tool {
            name: "lookup_order",
            about: "Everything known of an order.",
            gives: "Order 4711: 1 teapot, $34.90, paid by card, delivered two days ago.",
        },
        Tool {
            name: "issue_refund",
            about: "Pays an order back.",
            gives: "Refund re_90210 of $34.90 was issued to the card.",
        },
    ],
};

pub(super) const PLANNER: Agent = Agent {
    name: "planner",
    voice: Voice::Responses,
    model: "gpt-4.1",
    instructions: "You are the planner of a research team. Say in a few words what to look up.",
    tools: &[],
};

pub(super) const RESEARCHER: Agent = Agent {
    name: "researcher",
    voice: Voice::ChatStream,
    model: "gpt-4.1",
    instructions: "You are the researcher of a team. Look things up before you answer, as much at \
                   once as you can.",
    tools: &[
        Tool {
            name: "search_web",
            about: "Searches the web.",
            gives: "Teapot sales rose by 12 % in the last year, mostly of cast iron.",
        },
        Tool {
            name: "read_filings",
            about: "Reads what companies have filed.",
            gives: "The three largest makers report full order books until spring.",
        },
    ],
};

pub(super) const CRITIC: Agent = Agent {
    name: "critic",
    voice: Voice::Gemini,
    model: "gemini-2.5-flash",
    instructions: "You are the critic of a research team. Name the weakest point of the plan.",
    tools: &[],
};

pub(super) const RUNAWAY: Agent = Agent {
    name: "runaway",
    voice: Voice::ChatStream,
    model: "gpt-4.1",
    instructions: "You are an agent without a stop condition.",
    tools: &[],
};

/// What the customer writes.
pub(super) const COMPLAINT: &str =
    "My teapot from order 4711 arrived in pieces. I would like my money back, please.";
/// What the research is about.
pub(super) const QUESTION: &str = "Is this a good year to open a teapot factory?";
/// What nobody should ask an agent without a limit.
pub(super) const LOOP: &str = "Think it over again, and do not stop until you are sure.";

/// What the models say.
pub(super) fn script() -> Script {
    let query = |about: &str| json!({"query": about});
    Script {
        rules: vec![
            Rule::call(
                first("triage agent"),
                "transfer_to_refunds_agent",
                query("a refund for a broken teapot"),
            )
            .with("delay=450ms"),
            Rule::call(first("refunds agent"), "lookup_order", query("4711")).with("delay=600ms"),
            Rule::call(
                after("refunds agent", "lookup_order"),
                "issue_refund",
                query("4711"),
            )
            .with("delay=500ms"),
            Rule::say(
                after("refunds agent", "issue_refund"),
                "I am sorry about the teapot. The $34.90 are on their way back to your card.",
            )
            .with("delay=550ms"),
            Rule::say(
                first("the planner"),
                "Look up demand for teapots, and how busy the present makers are.",
            )
            .with("delay=400ms"),
            Rule {
                call: vec![
                    called("search_web", query("demand for teapots")),
                    called("read_filings", query("makers of teapots")),
                ],
                ..Rule::say(first("the researcher"), "")
            }
            .with("first=250ms;gap=20ms"),
            Rule::say(
                when("the researcher"),
                "Yes. Demand grew by 12 % in a year, and the three largest makers are sold out \
                 until spring: whoever can deliver now will be paid well for it.",
            )
            .with("first=350ms;gap=35ms"),
            Rule::say(
                first("the critic"),
                "Demand is for cast iron. Ask what a foundry costs before you ask what a teapot \
                 sells for.",
            )
            .with("first=500ms;gap=45ms"),
            Rule::say(when("without a stop condition"), &musings()).with("first=200ms;gap=4ms"),
        ],
    }
}

/// 325 tokens of nothing.
fn musings() -> String {
    "But wait, what if it is not so? Let me think it over. ".repeat(24)
}

fn when(instructions: &str) -> When {
    When {
        system: Some(instructions.to_owned()),
        ..When::default()
    }
}

fn first(instructions: &str) -> When {
    When {
        results: Some(0),
        ..when(instructions)
    }
}

fn after(instructions: &str, tool: &str) -> When {
    When {
        after: Some(tool.to_owned()),
        ..when(instructions)
    }
}

fn called(name: &str, arguments: Value) -> Called {
    Called {
        name: name.to_owned(),
        arguments,
    }
}
