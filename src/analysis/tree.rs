//! A trace as a tree: who called what, what it took and what it cost.

use std::collections::{HashMap, HashSet};

use crate::{
    base::{
        id::SpanId,
        money::Usd,
        text::{Side, cut_end, filled, width},
    },
    call::{
        brief::Brief,
        line::{AGENT, DIM, Look, MONEY, clean, elapsed},
        outcome::Kind,
    },
};

/// The widest that branches and name get before the columns begin.
const MOST_WIDTH: usize = 64;
/// The least that a name gets, however little room there is.
const LEAST_WIDTH: usize = 8;
/// The least for how a span ended.
const OUTCOME: usize = 9;

/// Widths of the columns behind the name.
struct Widths {
    name: usize,
    agent: usize,
    tokens: usize,
}

const TOOK: usize = 6;
const COST: usize = 12;
const GAP: usize = 2;

impl Widths {
    /// What fits, if there is a limit; the widest branches and name are that wide.
    fn new(room: Option<usize>, widest: usize) -> Self {
        let mut widths = Self {
            name: widest.min(MOST_WIDTH),
            agent: 14,
            tokens: 15,
        };
        if let Some(room) = room
            && widths.before_outcome() + OUTCOME > room
        {
            (widths.agent, widths.tokens) = (10, 13);
            let over = (widths.before_outcome() + OUTCOME).saturating_sub(room);
            widths.name = widths.name.saturating_sub(over).max(LEAST_WIDTH);
        }
        widths
    }

    const fn before_outcome(&self) -> usize {
        self.name + TOOK + self.agent + self.tokens + COST + 5 * GAP
    }
}

/// A line of the tree before its columns are aligned.
struct Node<'a> {
    branches: String,
    name: String,
    span: Option<&'a Brief<'a>>,
}

/// The spans of one trace as a tree, under a line that sums them up; ends with a line's end. A span
/// whose parent is not among them is a root, so that every span is shown exactly once, whatever
/// parents say.
pub fn render(spans: &[Brief<'_>], look: &Look) -> String {
    let Some(first) = spans.first() else {
        return "No spans.\n".to_owned();
    };
    let nodes = nodes(spans);
    let wide = |node: &Node<'_>| width(&node.branches) + width(&node.name);
    let named = nodes.iter().filter(|node| node.span.is_some());
    let widths = Widths::new(look.room, named.map(wide).max().unwrap_or(0));
    let mut text = format!("trace {}  {}\n", first.trace_id, summary(spans, look));
    for node in &nodes {
        let line = match node.span {
            None => look.paint(DIM, &node.name).to_string(),
            Some(span) => {
                let room = widths.name.saturating_sub(width(&node.branches));
                let name = match look.room {
                    Some(_) => cut_end(&node.name, room.max(LEAST_WIDTH)),
                    None => node.name.clone(),
                };
                let name = filled(&name, room, Side::Left);
                format!("{name}  {}", columns(span, look, &widths))
            },
        };
        let line = format!("{}{line}", look.paint(DIM, &node.branches));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// How many spans, from the first beginning to the last end, and the sum of the costs.
fn summary(spans: &[Brief<'_>], look: &Look) -> String {
    let begin = spans
        .iter()
        .map(|span| span.start)
        .min()
        .unwrap_or_default();
    let end = spans.iter().map(|span| span.start + span.duration).max();
    let took = elapsed(end.unwrap_or_default().since(begin));
    let cost: Usd = spans.iter().filter_map(|span| span.cost).sum();
    let is_call = |span: &Brief<'_>| span.kind == Kind::Llm && span.request_id.is_some();
    let unpriced = |span: &Brief<'_>| is_call(span) && span.cost.is_none();
    let least = if spans.iter().any(unpriced) {
        "at least "
    } else {
        ""
    };
    let (count, cost) = (spans.len(), cost.short());
    let plural = if count == 1 { "" } else { "s" };
    look.paint(
        DIM,
        format!("{count} span{plural} · {took} · {least}{cost}"),
    )
    .to_string()
}

fn columns(span: &Brief<'_>, look: &Look, widths: &Widths) -> String {
    let agent = clean(span.agent.as_deref().unwrap_or_default());
    let agent = filled(&cut_end(&agent, widths.agent), widths.agent, Side::Left);
    let tokens = match (span.input, span.output) {
        (None, None) => String::new(),
        (input, output) => format!("{} → {}", input.unwrap_or(0), output.unwrap_or(0)),
    };
    let cost = span.cost.map(|cost| cost.short().to_string());
    [
        format!("{:>TOOK$}", elapsed(span.duration)),
        look.paint(AGENT, agent).to_string(),
        filled(&tokens, widths.tokens, Side::Right),
        look.paint(MONEY, format!("{:>COST$}", cost.unwrap_or_default()))
            .to_string(),
        look.outcome_within(
            span,
            look.room
                .map(|room| room.saturating_sub(widths.before_outcome())),
        ),
    ]
    .join("  ")
}

/// The spans and the tools that they ask for, each below its parent, siblings by their beginning.
fn nodes<'a>(spans: &'a [Brief<'a>]) -> Vec<Node<'a>> {
    let mut order: Vec<&Brief<'_>> = spans.iter().collect();
    order.sort_by_key(|span| span.start);
    let known: HashSet<SpanId> = order.iter().map(|span| span.span_id).collect();
    let mut children: HashMap<SpanId, Vec<&Brief<'_>>> = HashMap::new();
    let mut roots = Vec::new();
    for span in &order {
        match span.parent_span_id.filter(|parent| known.contains(parent)) {
            Some(parent) => children.entry(parent).or_default().push(span),
            None => roots.push(*span),
        }
    }
    let mut nodes = Vec::new();
    let mut shown = HashSet::new();
    // Those that no root leads to are parents of each other: they are shown as roots, in order.
    for root in roots.into_iter().chain(order) {
        add(root, &mut children, &mut shown, &mut nodes);
    }
    nodes
}

/// Adds a span and what is below it. Not recursive: how deep it goes is up to the client.
fn add<'a>(
    root: &'a Brief<'a>,
    children: &mut HashMap<SpanId, Vec<&'a Brief<'a>>>,
    shown: &mut HashSet<*const Brief<'a>>,
    nodes: &mut Vec<Node<'a>>,
) {
    let mut left = vec![(root, String::new(), String::new())];
    while let Some((span, branches, below)) = left.pop() {
        if !shown.insert(std::ptr::from_ref(span)) {
            continue;
        }
        nodes.push(Node {
            branches,
            name: clean(&span.name),
            span: Some(span),
        });
        let below_it = children.remove(&span.span_id).unwrap_or_default();
        let tools = span.tools.len();
        for (place, tool) in span.tools.iter().enumerate() {
            let last = below_it.is_empty() && place + 1 == tools;
            let id = tool.id.as_deref().map(|id| format!("  {}", clean(id)));
            nodes.push(Node {
                branches: format!("{below}{}", if last { "└─ " } else { "├─ " }),
                name: format!("asks for {}{}", clean(&tool.name), id.unwrap_or_default()),
                span: None,
            });
        }
        for (place, child) in below_it.into_iter().rev().enumerate() {
            let (branch, under) = if place == 0 {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            left.push((child, format!("{below}{branch}"), format!("{below}{under}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, time::Duration};

    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::call::span::tests::example;

    fn id(n: u8) -> SpanId {
        SpanId::from_bytes([n; 8])
    }

    /// Spans with their parents, one second after the other, named by their number.
    fn spans(parents: &[Option<u8>]) -> Vec<Brief<'static>> {
        let example = Brief::from_json(&example().to_json()).unwrap();
        let numbered = (1_u8..).zip(parents);
        numbered
            .map(|(n, parent)| Brief {
                span_id: id(n),
                parent_span_id: parent.map(id),
                name: Cow::Owned(format!("span {n}")),
                start: example.start + Duration::from_secs(u64::from(n)),
                tools: Vec::new(),
                ..example.clone()
            })
            .collect()
    }

    fn rendered(spans: &[Brief<'_>]) -> String {
        render(spans, &Look::plain(TimeZone::UTC))
    }

    #[test]
    fn children_stand_below_their_parents_with_their_tools() {
        let mut spans = spans(&[None, Some(1), Some(2), Some(1), Some(200)]);
        spans[0].tools = Brief::from_json(&example().to_json()).unwrap().tools;
        let text = rendered(&spans);
        assert_eq!(
            text,
            "trace 01010101010101010101010101010101  5 spans · 4.81s · $0.003125
span 1         812ms  support                120 → 45     $0.000625  ok
├─ asks for lookup  call_1
├─ span 2      812ms  support                120 → 45     $0.000625  ok
│  └─ span 3   812ms  support                120 → 45     $0.000625  ok
└─ span 4      812ms  support                120 → 45     $0.000625  ok
span 5         812ms  support                120 → 45     $0.000625  ok
"
        );
    }

    #[test]
    fn a_tree_fits_the_terminal() {
        let mut spans = spans(&[None, Some(1), Some(2)]);
        spans[2].name = Cow::Borrowed("chat a-model-with-a-long-name");
        spans[2].blocked_by = Some(Cow::Borrowed("budget.research"));
        let look = Look {
            room: Some(80),
            ..Look::plain(TimeZone::UTC)
        };
        let text = render(&spans, &look);
        let expected =
            "   └─ chat a-model-…   812ms  support          120 → 45     $0.000625  cut by b…\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn a_chain_as_deep_as_one_likes_is_no_danger() {
        let example = Brief::from_json(&example().to_json()).unwrap();
        let chain: Vec<_> = (1..3_000_u64)
            .map(|n| Brief {
                span_id: SpanId::from_bytes(n.to_be_bytes()),
                parent_span_id: Some(SpanId::from_bytes((n - 1).to_be_bytes())),
                ..example.clone()
            })
            .collect();
        assert!(rendered(&chain).lines().count() > 3_000);
        assert_eq!(rendered(&[]), "No spans.\n");
    }

    proptest! {
        #[test]
        fn every_span_is_shown_once_whatever_parents_say(
            parents in proptest::collection::vec(proptest::option::of(1_u8..12), 1..12),
        ) {
            let text = rendered(&spans(&parents));
            prop_assert_eq!(text.lines().count(), 1 + parents.len());
            for n in 1..=parents.len() {
                let name = format!("span {n} ");
                prop_assert_eq!(text.matches(&name).count(), 1, "{}", text);
            }
        }
    }
}
