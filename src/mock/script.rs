//! What the model says: scripted, or by a few rules that anyone can predict.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    behaviour::{Behaviour, Content},
    conversation::{Choice, Conversation, Tool, tokens},
};

/// Scripted answers. The first rule whose conditions all hold decides; if none does, the model
/// answers as [`Script`] says when it is empty:
///
/// - it calls a tool if `tool_choice` demands one, or if the user's last message names one and no
///   result has come since; arguments follow the tool's schema;
/// - it quotes the last result, once there is one;
/// - else it quotes the user.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Script {
    /// Asked in this order.
    pub rules: Vec<Rule>,
}

/// Conditions and what is said if they hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// When this is said.
    pub when: When,
    /// Text; `{user}` is the user's last message, `{result}` the last result.
    pub say: String,
    /// Tools to call.
    pub call: Vec<Called>,
    /// How the answer is given, in [`Behaviour`]'s notation, over what else is set.
    pub with: String,
}

/// Conditions; an absent one always holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// The model's name begins so.
    pub model: Option<String>,
    /// The system message contains this.
    pub system: Option<String>,
    /// The user's last message contains this.
    pub user: Option<String>,
    /// This tool is offered.
    pub tool: Option<String>,
    /// The last result is this tool's.
    pub after: Option<String>,
    /// So many results have come since the user last spoke.
    pub results: Option<usize>,
}

/// A call of a tool.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Called {
    /// The tool.
    pub name: String,
    /// Its arguments, an object.
    #[serde(default)]
    pub arguments: Value,
}

impl Rule {
    /// Says `text` when the conditions hold.
    pub fn say(when: When, text: &str) -> Self {
        Self {
            when,
            say: text.to_owned(),
            ..Self::default()
        }
    }

    /// Calls `tool` when the conditions hold.
    pub fn call(when: When, tool: &str, arguments: Value) -> Self {
        let name = tool.to_owned();
        Self {
            when,
            call: vec![Called { name, arguments }],
            ..Self::default()
        }
    }

    /// The same, given in this way.
    #[must_use]
    pub fn with(mut self, settings: &str) -> Self {
        settings.clone_into(&mut self.with);
        self
    }
}

impl When {
    fn holds(&self, asked: &Conversation) -> bool {
        let results = asked.results();
        let last = results.last().map(|(name, _)| *name);
        let no = |wanted: &Option<String>, is: &dyn Fn(&str) -> bool| {
            wanted.as_deref().is_some_and(|wanted| !is(wanted))
        };
        !(no(&self.model, &|model| asked.model.starts_with(model))
            || no(&self.system, &|text| asked.system.contains(text))
            || no(&self.user, &|text| asked.last_user().contains(text))
            || no(&self.tool, &|tool| {
                asked.tools.iter().any(|t| t.name == tool)
            })
            || no(&self.after, &|tool| last == Some(tool))
            || self.results.is_some_and(|count| count != results.len()))
    }
}

impl Script {
    /// The rule that speaks next.
    pub(super) fn rule(&self, asked: &Conversation) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.when.holds(asked))
    }
}

/// What is said, in no dialect yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    /// The text's deltas; together they are the text.
    pub(super) pieces: Vec<String>,
    /// Tools called: name and JSON arguments.
    pub(super) calls: Vec<(String, String)>,
    /// Why it ended.
    pub(super) finish: Finish,
    /// Tokens of one answer.
    pub(super) output: u64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Finish {
    /// All was said.
    #[default]
    Stop,
    /// The request's output limit.
    Length,
    /// Tools are to be called.
    Calls,
}

impl Said {
    pub(super) fn text(&self) -> String {
        self.pieces.concat()
    }
}

/// Decides what is said, and how long it may be.
pub(super) fn say(asked: &Conversation, rule: Option<&Rule>, behaviour: &Behaviour) -> Said {
    let content = &behaviour.answer;
    let (text, calls) = choose(asked, rule, content);
    let mute = text.is_empty() && (content.events.is_none() || !calls.is_empty());
    let mut said = Said {
        pieces: if mute {
            Vec::new()
        } else {
            pieces(&text, content)
        },
        finish: if calls.is_empty() {
            Finish::Stop
        } else {
            Finish::Calls
        },
        calls,
        output: 0,
    };
    shorten(&mut said, asked.max_tokens);
    let calls: usize = said
        .calls
        .iter()
        .map(|(name, args)| name.len() + args.len())
        .sum();
    let text: usize = said.pieces.iter().map(String::len).sum();
    let reasoning = content.usage.reasoning;
    let counted = tokens(text) + tokens(calls) + reasoning;
    said.output = content.usage.output.unwrap_or(counted);
    said
}

type Calls = Vec<(String, String)>;

fn choose(asked: &Conversation, rule: Option<&Rule>, content: &Content) -> (String, Calls) {
    let result = asked.results().last().map(|(_, text)| (*text).to_owned());
    if let Some(name) = &content.tool
        && !asked.awaits_answer_to_result()
    {
        return (String::new(), vec![call(asked, name)]);
    }
    if let Some(text) = &content.text {
        return (text.clone(), Vec::new());
    }
    if let Some(rule) = rule.filter(|rule| !rule.say.is_empty() || !rule.call.is_empty()) {
        let text = rule.say.replace("{user}", asked.last_user());
        let text = text.replace("{result}", result.as_deref().unwrap_or_default());
        let calls = rule
            .call
            .iter()
            .map(|call| (call.name.clone(), arguments(&call.arguments)));
        return (text, calls.collect());
    }
    if let Some(name) = tool_to_call(asked) {
        return (String::new(), vec![call(asked, &name)]);
    }
    if content.events.is_some() {
        return (String::new(), Vec::new());
    }
    let text = match (&asked.schema, result) {
        (Some(schema), _) => example(schema).to_string(),
        (None, Some(result)) => format!("The tool says: {}", excerpt(&result)),
        (None, None) => format!("You said: {}", excerpt(asked.last_user())),
    };
    (text, Vec::new())
}

fn arguments(value: &Value) -> String {
    if value.is_null() {
        "{}".to_owned()
    } else {
        value.to_string()
    }
}

fn tool_to_call(asked: &Conversation) -> Option<String> {
    if asked.awaits_answer_to_result() {
        return None;
    }
    let named = |tool: &&Tool| asked.last_user().contains(&tool.name);
    match &asked.choice {
        Choice::None => None,
        Choice::Named(name) => Some(name.clone()),
        Choice::Required => {
            let tool = asked
                .tools
                .iter()
                .find(named)
                .or_else(|| asked.tools.first());
            tool.map(|tool| tool.name.clone())
        },
        Choice::Auto => asked.tools.iter().find(named).map(|tool| tool.name.clone()),
    }
}

fn call(asked: &Conversation, name: &str) -> (String, String) {
    let tool = asked.tools.iter().find(|tool| tool.name == name);
    let arguments = tool.map_or_else(|| "{}".to_owned(), |tool| example(&tool.schema).to_string());
    (name.to_owned(), arguments)
}

/// A value that a JSON schema accepts, for the schemas that tools have in practice.
fn example(schema: &Value) -> Value {
    if let Some(first) = schema.get("enum").and_then(|values| values.get(0)) {
        return first.clone();
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
        other => other.and_then(Value::as_str),
    };
    match kind.map(str::to_ascii_lowercase).as_deref() {
        Some("string") => "mock".into(),
        Some("integer" | "number") => 1.into(),
        Some("boolean") => true.into(),
        Some("null") => Value::Null,
        Some("array") => vec![example(schema.get("items").unwrap_or(&Value::Null))].into(),
        _ => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let members = properties.into_iter().flatten();
            let members = members.map(|(name, schema)| (name.clone(), example(schema)));
            Value::Object(members.collect::<Map<_, _>>())
        },
    }
}

/// The first 200 characters.
fn excerpt(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The text in deltas. Asked for a number of events without a text, it makes up four bytes, one
/// token, for each, or [`Content::event_size`] bytes.
fn pieces(text: &str, content: &Content) -> Vec<String> {
    const FILLER: &str = "tok ";
    match (content.events, content.event_size) {
        (Some(events), size) if text.is_empty() => {
            let filler = FILLER.chars().cycle().take(size.unwrap_or(FILLER.len()));
            vec![filler.collect(); events]
        },
        (Some(events), _) => {
            let bytes = text.len().div_ceil(events.max(1));
            let mut pieces = by_size(text, bytes);
            pieces.resize(events, String::new());
            pieces
        },
        (None, Some(size)) => by_size(text, size),
        (None, None) => text.split_inclusive(' ').map(str::to_owned).collect(),
    }
}

/// Pieces of at least `bytes` bytes, the last one excepted, that end between characters.
fn by_size(text: &str, bytes: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for char in text.chars() {
        match pieces.last_mut() {
            Some(piece) if piece.len() < bytes.max(1) => piece.push(char),
            _ => pieces.push(char.to_string()),
        }
    }
    pieces
}

/// Holds the answer to the output limit, as a provider does. A tool call is never shortened.
fn shorten(said: &mut Said, max_tokens: Option<u64>) {
    let Some(limit) = max_tokens else { return };
    let mut room = usize::try_from(limit.saturating_mul(4)).unwrap_or(usize::MAX);
    let mut kept = Vec::new();
    for piece in &said.pieces {
        let fits: String = piece
            .char_indices()
            .take_while(|(at, char)| at + char.len_utf8() <= room)
            .map(|(_, char)| char)
            .collect();
        let whole = fits.len() == piece.len();
        room -= fits.len();
        kept.push(fits);
        if !whole {
            said.finish = Finish::Length;
            break;
        }
    }
    said.pieces = kept;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mock::conversation::Turn;

    fn asks(text: &str) -> Conversation {
        Conversation {
            turns: vec![Turn::User(text.into())],
            tools: vec![Tool {
                name: "weather".into(),
                schema: json!({"type": "object", "properties": {"city": {"type": "string"}}}),
            }],
            answers: 1,
            ..Conversation::default()
        }
    }

    fn spoken(asked: &Conversation, settings: &str) -> Said {
        say(asked, None, &settings.parse().unwrap())
    }

    #[test]
    fn it_quotes_the_user_and_counts_four_bytes_a_token() {
        let said = spoken(&asks("hello"), "");
        assert_eq!(said.text(), "You said: hello");
        assert_eq!(said.output, 4);
        assert_eq!(said.finish, Finish::Stop);
    }

    #[test]
    fn it_calls_a_tool_that_the_user_names_and_then_quotes_the_result() {
        let mut asked = asks("What is the weather?");
        let said = spoken(&asked, "");
        assert_eq!(
            said.calls,
            [("weather".to_owned(), r#"{"city":"mock"}"#.to_owned())]
        );
        assert_eq!(said.finish, Finish::Calls);
        asked.turns.push(Turn::Call {
            id: "1".into(),
            name: "weather".into(),
            arguments: "{}".into(),
        });
        asked.add_result("1", "sunny".into());
        assert_eq!(spoken(&asked, "").text(), "The tool says: sunny");
    }

    #[test]
    fn the_first_rule_that_holds_speaks() {
        let script: Script = serde_json::from_value(json!([
            {"when": {"system": "triage"}, "call": [{"name": "transfer_to_refunds"}]},
            {"when": {"after": "weather", "results": 1}, "say": "It is {result}."},
            {"when": {"user": "hel"}, "say": "Hi: {user}", "with": "gap=1ms"},
        ]))
        .unwrap();
        let mut asked = asks("hello");
        let rule = script.rule(&asked);
        assert_eq!(say(&asked, rule, &Behaviour::default()).text(), "Hi: hello");
        asked.add_result("none", "sunny".into());
        assert_eq!(
            script.rule(&asked),
            script.rules.get(2),
            "the result is of no known call"
        );
        asked.add_system("You triage.");
        let said = say(&asked, script.rule(&asked), &Behaviour::default());
        assert_eq!(
            said.calls,
            [("transfer_to_refunds".to_owned(), "{}".to_owned())]
        );
    }

    #[test]
    fn an_output_limit_shortens_the_text_to_so_many_tokens() {
        let mut asked = asks("hello");
        asked.max_tokens = Some(2);
        let said = spoken(&asked, "");
        assert_eq!((said.text().as_str(), said.output), ("You said", 2));
        assert_eq!(said.finish, Finish::Length);
        asked.max_tokens = Some(4);
        assert_eq!(spoken(&asked, "").finish, Finish::Stop);
    }

    #[test]
    fn events_are_as_many_and_as_large_as_asked() {
        let said = spoken(&asks("hello"), "events=3");
        assert_eq!(said.pieces, ["tok ", "tok ", "tok "]);
        assert_eq!(said.output, 3);
        let said = spoken(&asks("hello"), "events=2;event-size=9");
        assert_eq!(said.pieces, ["tok tok t", "tok tok t"]);
        let said = spoken(&asks("hello"), "text=äöü;events=5");
        assert_eq!(said.text(), "äöü");
        assert_eq!(said.pieces.len(), 5);
    }
}
