//! The kill switch: people order that calls like these are stopped, those under way as well.
//!
//! A kill is no setting: it is ordered while Tollgate runs, is kept by the ledger, and holds until
//! it is lifted or its time is over. It goes by what a call says of itself, whichever source says
//! it: to stop too much is the safer way.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::{
    Answer, Asked, Guard, Now,
    model::{Globs, is_hidden, names},
};
use crate::{
    base::{clock::Timestamp, id::RequestId},
    call::refusal::{Reason, Refusal},
    policy::{Match, Matcher, Order, Ordered, Patterns, Subject},
};

/// What stopped a call, as `x-tollgate-blocked-by` has it.
pub const BY: &str = "kill";

/// Which calls a kill is for: every field that is given must match, as in a rule's `match`.
#[derive(Debug)]
pub struct Selector {
    written: Map<String, Value>,
    matcher: Matcher,
    /// To these models only; `None`: to all.
    models: Option<Globs>,
    /// Of these requests only; `None`: of all.
    requests: Option<Vec<RequestId>>,
}

/// It does not say which calls are meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSelector {
    /// It has no field.
    #[error(
        "say which calls: one of agent, user, project, environment, session, workflow, model, \
         provider, tags, request … like {{\"agent\": \"support-*\"}}; {{\"provider\": \"*\"}} is \
         all of them"
    )]
    Empty,
    /// A field is not one, or its value is no pattern.
    #[error("{0}")]
    Field(String),
}

impl Selector {
    /// Reads what was written: the fields of a rule's `match`, and `request`.
    ///
    /// # Errors
    /// It has no field, or one that there is not.
    pub fn new(written: Map<String, Value>) -> Result<Self, InvalidSelector> {
        let invalid = |error: serde_json::Error| InvalidSelector::Field(error.to_string());
        let mut fields = written.clone();
        // By all of its names, and where it is hidden too.
        let models = fields.remove("model").map(serde_json::from_value);
        let models: Option<Patterns> = models.transpose().map_err(invalid)?;
        let models = models.as_ref().map(Globs::new);
        let requests = fields.remove("request").map(serde_json::from_value);
        let requests: Option<Patterns> = requests.transpose().map_err(invalid)?;
        let requests = requests.map(|ids| ids.0.iter().map(|id| request(id)).collect());
        let requests: Option<Vec<RequestId>> = requests.transpose()?;
        let matches = serde_json::from_value(Value::Object(fields)).map_err(invalid)?;
        if requests.is_none() && models.is_none() && matches == Match::default() {
            return Err(InvalidSelector::Empty);
        }
        Ok(Self {
            matcher: Matcher::new(&matches),
            models,
            requests,
            written,
        })
    }

    /// As it was written.
    pub const fn written(&self) -> &Map<String, Value> {
        &self.written
    }

    /// Whether it is for nothing but some requests, which never come again.
    pub fn is_for_requests(&self) -> bool {
        self.requests.is_some()
    }

    fn matches(&self, subject: &Subject<'_>) -> bool {
        let is_meant = |requests: &Vec<RequestId>| requests.contains(&subject.request_id);
        let is_one = |models: &Globs| is_hidden(subject) || models.match_any(&names(subject));
        self.matcher.matches(subject, &[])
            && self.requests.as_ref().is_none_or(is_meant)
            && self.models.as_ref().is_none_or(is_one)
    }
}

fn request(id: &str) -> Result<RequestId, InvalidSelector> {
    id.trim().parse().map_err(|_invalid| {
        InvalidSelector::Field(format!(
            "request: `{id}` is not a request id: expected the 32 digits of x-tollgate-request-id"
        ))
    })
}

/// `agent=support-* model=gpt-4o`.
impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&in_words(&self.written))
    }
}

/// A selector as the command line takes it: `agent=support-* model=gpt-4o`.
pub fn in_words(written: &Map<String, Value>) -> String {
    let mut words = String::new();
    let mut put = |name: &str, value: &Value| {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            let space = if words.is_empty() { "" } else { " " };
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            // Writing to a String cannot fail.
            let _ok = write!(words, "{space}{name}={text}");
        }
    };
    for (name, value) in written {
        match value {
            Value::Object(tags) => {
                for (tag, value) in tags {
                    put(&format!("{name}.{tag}"), value);
                }
            },
            value => put(name, value),
        }
    }
    words
}

/// An order to stop calls.
#[derive(Debug)]
pub struct Kill {
    /// Its name.
    pub id: Box<str>,
    /// Which calls.
    pub selector: Selector,
    /// When it was ordered.
    pub at: Timestamp,
    /// By whom.
    pub who: Box<str>,
    /// Why; may be empty. The clients of the calls are told.
    pub reason: Box<str>,
    /// When it is over; `None`: when it is lifted.
    pub until: Option<Timestamp>,
}

impl Kill {
    /// A kill under a new name.
    pub fn new(
        selector: Selector,
        (at, who): (Timestamp, &str),
        reason: &str,
        until: Option<Timestamp>,
    ) -> Self {
        Self {
            id: format!("{:08x}", fastrand::u32(..)).into_boxed_str(),
            selector,
            at,
            who: Box::from(who),
            reason: Box::from(reason),
            until,
        }
    }

    /// A kill that was ordered in an earlier run; `None`: the order lifts one, or cannot be read by
    /// this version.
    pub fn ordered(order: &Order) -> Option<Self> {
        let ordered = order.ordered.as_ref()?;
        let written = serde_json::from_str(&ordered.selector).ok()?;
        Some(Self {
            id: order.kill.clone(),
            selector: Selector::new(written).ok()?,
            at: order.at,
            who: order.who.clone(),
            reason: ordered.reason.clone(),
            until: ordered.until,
        })
    }

    /// What the ledger keeps of it.
    pub fn order(&self) -> Order {
        let selector = serde_json::to_string(&self.selector.written);
        Order {
            at: self.at,
            who: self.who.clone(),
            kill: self.id.clone(),
            ordered: Some(Ordered {
                selector: selector.unwrap_or_default().into_boxed_str(),
                until: self.until,
                reason: self.reason.clone(),
            }),
        }
    }

    fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    fn refusal(&self) -> Refusal {
        let why = match &*self.reason {
            "" => String::new(),
            reason => format!(" Why: {reason}"),
        };
        let message = format!(
            "Tollgate: calls like this one were stopped by hand (kill {}). Do not try again.{why}",
            self.id
        );
        Refusal::new(Reason::Denied, BY, message)
    }
}

/// The kills that hold.
#[derive(Debug, Default)]
pub struct Kills {
    /// At most [`Kills::MOST`]; the next one is refused, as whoever orders it is told.
    kills: ArcSwap<Vec<Arc<Kill>>>,
    changing: Mutex<()>,
    /// How many were ordered, so that a call under way is looked at again only when one was.
    ordered: AtomicU64,
}

/// There are too many kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {max} kills already: lift some", max = Kills::MOST)]
pub struct TooManyKills;

impl Kills {
    /// The most that hold at a time: each call is compared with each.
    pub const MOST: usize = 1_000;

    /// Orders a kill. Calls under way are to be woken afterwards, to be looked at again.
    ///
    /// # Errors
    /// There are too many.
    pub fn add(&self, kill: Arc<Kill>, now: Timestamp) -> Result<(), TooManyKills> {
        let changing = self.changing.lock();
        let mut kills = self.list(now);
        if kills.len() >= Self::MOST {
            return Err(TooManyKills);
        }
        kills.push(kill);
        self.kills.store(Arc::new(kills));
        drop(changing);
        self.ordered.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Lifts the kill of that name, after `enter` has entered that: while it cannot be, the kill
    /// stays, so that it can be lifted again, and does not come back with the next start. `None`:
    /// there is none, or it is over.
    ///
    /// # Errors
    /// It cannot be entered; the kill holds.
    pub fn lift<E>(
        &self,
        id: &str,
        now: Timestamp,
        enter: impl FnOnce(&Kill) -> Result<(), E>,
    ) -> Result<Option<Arc<Kill>>, E> {
        let kills = self.list(now);
        let Some(lifted) = kills.into_iter().find(|kill| *kill.id == *id) else {
            return Ok(None);
        };
        // Nobody waits for the disk: calls can be stopped meanwhile.
        enter(&lifted)?;
        let changing = self.changing.lock();
        let mut kills = self.list(now);
        kills.retain(|kill| *kill.id != *id);
        self.kills.store(Arc::new(kills));
        drop(changing);
        Ok(Some(lifted))
    }

    /// Those that hold, in the order in which they were ordered.
    pub fn list(&self, now: Timestamp) -> Vec<Arc<Kill>> {
        let kills = self.kills.load();
        let holds = kills.iter().filter(|kill| kill.holds(now));
        holds.map(Arc::clone).collect()
    }

    /// How many were ever ordered.
    pub fn ordered(&self) -> u64 {
        self.ordered.load(SeqCst)
    }

    /// Why this call is to be stopped, if one is for it.
    pub fn stops(&self, subject: &Subject<'_>, now: Timestamp) -> Option<Refusal> {
        let kills = self.kills.load();
        let mut kills = kills.iter();
        let found = kills.find(|kill| kill.holds(now) && kill.selector.matches(subject))?;
        Some(found.refusal())
    }
}

impl Guard for Arc<Kills> {
    fn ask(&self, call: &Asked<'_>, now: Now, answer: &mut Answer) {
        if let Some(refusal) = self.stops(call.subject, now.wall) {
            answer.refuse(refusal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::{
        base::id::{SpanId, TraceId},
        call::{
            labels::{Label, Labels, Source},
            outcome::Kind,
        },
    };

    const NOW: Timestamp = Timestamp::from_secs(1_795_618_800);

    fn kill(written: Value, until: Option<Timestamp>) -> Arc<Kill> {
        let Value::Object(written) = written else {
            panic!("no object");
        };
        let selector = Selector::new(written).unwrap();
        Arc::new(Kill::new(selector, (NOW, "ada"), "it loops", until))
    }

    fn subject(labels: &Labels) -> Subject<'_> {
        Subject {
            request_id: RequestId::from_bytes([7; 16]),
            span_id: SpanId::random(),
            trace_id: TraceId::random(),
            parent_span_id: None,
            start: NOW,
            kind: Kind::Llm,
            operation: Some("chat"),
            provider: "openai",
            model: Some("gpt-4o"),
            known_as: None,
            hides_model: false,
            route: "chat",
            key: None,
            workload: None,
            labels,
        }
    }

    #[test]
    fn every_field_must_match_and_any_pattern_of_one() {
        let mut labels = Labels::default();
        labels.set(Label::Agent, "support-eu", Source::Body);
        labels.tag("team", "red", Source::Header);
        let subject = subject(&labels);
        let id = subject.request_id.to_string();
        for (written, stops) in [
            (json!({"agent": "support-*"}), true),
            (json!({"agent": ["x", "support-*"], "model": "gpt-*"}), true),
            (json!({"agent": "support-*", "model": "o3"}), false),
            (json!({"model": ["x", "GPT-4O"]}), true),
            (json!({"model": "openai/gpt-4o"}), true),
            (json!({"model": "azure/gpt-4o"}), false),
            (json!({"model": "gpt-4o", "agent": "x"}), false),
            (json!({"tags": {"team": "red"}}), true),
            (json!({"user": "*"}), false),
            (json!({"provider": "*"}), true),
            (json!({"request": [id.clone()]}), true),
            (json!({"request": id, "agent": "x"}), false),
        ] {
            let kills = Kills::default();
            kills.add(kill(written.clone(), None), NOW).unwrap();
            assert_eq!(kills.stops(&subject, NOW).is_some(), stops, "{written}");
        }
    }

    #[test]
    fn it_is_over_at_its_end_and_the_number_of_them_is_bounded() {
        let labels = Labels::default();
        let subject = subject(&labels);
        let kills = Kills::default();
        let end = NOW + Duration::from_mins(1);
        let all = || kill(json!({"provider": "*"}), Some(end));
        for _ in 0..Kills::MOST {
            kills.add(all(), NOW).unwrap();
        }
        assert_eq!(kills.add(all(), NOW), Err(TooManyKills));
        assert!(kills.stops(&subject, NOW).is_some());
        assert!(kills.stops(&subject, end).is_none());
        assert_eq!(kills.list(end).len(), 0);
        kills.add(all(), end).unwrap();
    }

    #[test]
    fn it_is_lifted_once_that_is_entered_and_holds_until_then() {
        let labels = Labels::default();
        let subject = subject(&labels);
        let (kills, one) = (Kills::default(), kill(json!({"provider": "*"}), None));
        kills.add(Arc::clone(&one), NOW).unwrap();
        let other = kill(json!({"agent": "b"}), None);
        let lift = |id: &str, entered| kills.lift(id, NOW, |_: &Kill| entered);
        assert!(lift("another", Err("down")).unwrap().is_none());
        assert_eq!(lift(&one.id, Err("down")).unwrap_err(), "down");
        assert!(kills.stops(&subject, NOW).is_some());
        let lifted = kills.lift(&one.id, NOW, |lifted| {
            assert_eq!(lifted.id, one.id);
            // What is ordered while it is entered is kept.
            kills.add(Arc::clone(&other), NOW).map_err(|_many| "many")
        });
        assert_eq!(lifted.unwrap().unwrap().id, one.id);
        assert!(kills.stops(&subject, NOW).is_none());
        assert_eq!(kills.list(NOW).len(), 1);
        assert!(lift(&one.id, Ok(())).unwrap().is_none());
    }

    #[test]
    fn what_the_ledger_keeps_of_it_is_all_of_it() {
        let before = kill(json!({"agent": "a", "tags": {"t": ["x", "y"]}}), Some(NOW));
        let after = Kill::ordered(&before.order()).unwrap();
        assert_eq!(after.order(), before.order());
        assert_eq!(after.selector.to_string(), "agent=a tags.t=x tags.t=y");
        let lifted = Order {
            ordered: None,
            ..before.order()
        };
        assert!(Kill::ordered(&lifted).is_none());
    }
}
