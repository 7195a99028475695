//! Conversations that turn in circles: `guards.loops`.
//!
//! What the end of a conversation repeats is a loop: the same call of a tool with the same result, or
//! a few of them in turn. Other arguments, another result, another call or another message of the
//! user between them are progress, and end it. Where the provider keeps the conversation, what was
//! done in it is kept here as well. So is how often the same request came: agents that keep no
//! conversation send it again and again.

use std::{collections::BTreeSet, sync::Arc};

use super::{Action, Answer, Asked, Conversations, Guard, Ladder, Loop, Now, repeats::Repeats};
use crate::{
    base::{glob::Glob, units::show_duration},
    call::{
        facts::Spends,
        refusal::{Reason, Refusal},
        steps::Step,
    },
    policy::{Matcher, globs},
};

/// The longest series of calls in turn that is noticed.
const LONGEST: usize = 4;

/// The loops that are looked for.
#[derive(Debug, Default)]
pub(super) struct Loops {
    rules: Vec<Rule>,
    repeats: Arc<Repeats>,
    conversations: Arc<Conversations>,
}

#[derive(Debug)]
struct Rule {
    config: Loop,
    by: String,
    matcher: Matcher,
    except: Vec<Glob>,
}

impl Loops {
    /// `before`: those until now, whose counts go on.
    pub(super) fn new(config: &[Loop], before: Option<&Self>) -> Self {
        let rule = |config: &Loop| Rule {
            by: format!("loop.{}", config.name.as_str()),
            matcher: Matcher::new(&config.matches),
            except: config.except.as_ref().map(globs).unwrap_or_default(),
            config: config.clone(),
        };
        Self {
            rules: config.iter().map(rule).collect(),
            repeats: before
                .map(|before| Arc::clone(&before.repeats))
                .unwrap_or_default(),
            conversations: before
                .map(|before| Arc::clone(&before.conversations))
                .unwrap_or_default(),
        }
    }

    /// Whether there are any.
    pub(super) const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub(super) fn repeats(&self) -> &Repeats {
        &self.repeats
    }

    pub(super) fn conversations(&self) -> &Conversations {
        &self.conversations
    }
}

impl Guard for Loops {
    fn ask(&self, call: &Asked<'_>, now: Now, answer: &mut Answer) {
        for rule in &self.rules {
            if !rule.matcher.matches(call.subject, call.trusted) {
                continue;
            }
            let steps: Vec<&Step> = call
                .request
                .steps
                .iter()
                .filter(|step| rule.looks_at(step))
                .collect();
            if let Some(found) = circle(&steps) {
                let ladder = found.ladder(&rule.config);
                rule.climb(ladder, found.rounds, || found.words(), answer);
            }
            let alike = call.again.alike.filter(|_| call.spends != Spends::Nothing);
            if let Some(alike) = alike
                && !answer.is_refusal()
            {
                let ladder = &rule.config.same_request;
                let (within, what) = (rule.config.within, (&rule.by, alike));
                // A retry does not count; but after a refusal everything alike is one.
                let count = if call.again.attempt <= 1 {
                    self.repeats.count(what, ladder.top(), within, now.mono)
                } else {
                    self.repeats.known(what, within, now.mono)
                };
                let words = || {
                    format!(
                        "the same request was sent {count} times within {}",
                        show_duration(within)
                    )
                };
                rule.climb(ladder, count, words, answer);
            }
            if answer.is_refusal() {
                return;
            }
        }
    }
}

impl Rule {
    fn looks_at(&self, step: &Step) -> bool {
        let tool = step.tool.as_deref();
        !tool.is_some_and(|tool| self.except.iter().any(|glob| glob.matches(tool)))
    }

    /// Does what the highest rung says that `count` has reached; most calls reach none, and need no
    /// words.
    fn climb(
        &self,
        ladder: &Ladder,
        count: u32,
        words: impl FnOnce() -> String,
        answer: &mut Answer,
    ) {
        let reached = |rung: Option<super::Times>| rung.is_some_and(|times| count >= times.0);
        let action = if reached(ladder.refuse) {
            let message = format!(
                "Tollgate stopped this loop (guards.{}): {words}. Doing it once more will not \
                 help. Use the result that you have, change the arguments, try something else, or \
                 say what is missing; a conversation that goes on differently is let through.",
                self.by.replacen("loop.", "loops ", 1),
                words = words(),
            );
            return answer.refuse(Refusal::new(Reason::Denied, self.by.clone(), message));
        } else if reached(ladder.slow) {
            Action::Slow(self.config.slow_by)
        } else if reached(ladder.alert) {
            Action::Alert
        } else if reached(ladder.tag) {
            Action::Tag
        } else {
            return;
        };
        answer.say(&self.by, words(), action);
    }
}

/// What the end of a conversation repeats.
#[derive(Debug, PartialEq, Eq)]
struct Circle<'a> {
    /// The tools that are called, in order.
    tools: Vec<&'a str>,
    /// How many different calls there are.
    calls: usize,
    /// How many times.
    rounds: u32,
}

impl Circle<'_> {
    const fn ladder<'c>(&self, config: &'c Loop) -> &'c Ladder {
        if self.calls == 1 {
            &config.same_tool
        } else {
            &config.alternating
        }
    }

    fn words(&self) -> String {
        let rounds = self.rounds;
        match *self.tools {
            [tool] => format!(
                "the tool `{tool}` was called {rounds} times in a row with the same arguments, \
                 and the result did not change"
            ),
            ref tools => format!(
                "the tools `{}` were called in turn {rounds} times, each time with the same \
                 arguments and results",
                tools.join("`, `")
            ),
        }
    }
}

/// The series of steps that the end repeats most often.
fn circle<'a>(steps: &[&'a Step]) -> Option<Circle<'a>> {
    let rounds = |period: usize| {
        let earlier = steps.iter().rev().skip(period);
        let pairs = steps.iter().rev().zip(earlier);
        let repeated = pairs.take_while(|(later, earlier)| later.is_like(earlier));
        repeated.count() / period + 1
    };
    // Of several as often, the shortest.
    let (period, rounds) = (1..=LONGEST)
        .map(|period| (period, rounds(period)))
        .reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    let first = steps.len().checked_sub(period)?;
    let series = steps.get(first..)?.iter();
    let calls: Vec<&&Step> = series.filter(|step| step.tool.is_some()).collect();
    let different: BTreeSet<u64> = calls.iter().map(|step| step.what).collect();
    let mut tools: Vec<&str> = calls
        .iter()
        .filter_map(|step| step.tool.as_deref())
        .collect();
    tools.dedup();
    (rounds > 1 && !calls.is_empty()).then(|| Circle {
        calls: different.len(),
        tools,
        rounds: u32::try_from(rounds).unwrap_or(u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A letter is a call of the tool of that name, `!` marks that its result is another one, and a
    /// digit is a message of the user.
    fn steps(text: &str) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for letter in text.chars() {
            if letter == '!' {
                let changed = u64::try_from(steps.len()).unwrap();
                steps.last_mut().unwrap().result = Some(changed);
                continue;
            }
            steps.push(Step {
                tool: letter
                    .is_alphabetic()
                    .then(|| Box::from(letter.to_string())),
                what: u64::from(letter),
                id: None,
                result: letter.is_alphabetic().then_some(0),
            });
        }
        steps
    }

    fn found(text: &str) -> Option<(String, u32)> {
        let steps = steps(text);
        let steps: Vec<&Step> = steps.iter().collect();
        circle(&steps).map(|circle| (circle.tools.concat(), circle.rounds))
    }

    #[test]
    fn what_the_end_repeats_is_found() {
        for (text, tools, rounds) in [
            ("aaa", "a", 3),
            ("xyaaaa", "a", 4),
            ("ababab", "ab", 3),
            ("babab", "ab", 2),
            ("abcabcabc", "abc", 3),
            ("abcdabcd", "abcd", 2),
            ("aabaabaab", "ab", 3),
            ("a1a1a1", "a", 3),
            ("a1b1a1b1", "ab", 2),
        ] {
            let (found, count) = found(text).unwrap_or_default();
            let mut found: Vec<char> = found.chars().collect();
            found.sort_unstable();
            found.dedup();
            assert_eq!(
                (found.iter().collect::<String>(), count),
                (tools.to_owned(), rounds),
                "{text}"
            );
        }
    }

    #[test]
    fn progress_ends_a_loop() {
        for text in [
            "",
            "a",
            "ab",
            "aaab",
            "aaa!",
            "a!a!a!",
            "aaa1",
            "a1a2a3",
            "1111",
            "abcdeabcde",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_series_that_is_repeated_is_found_as_often(
            before in "[a-d1-3]{0,12}", series in "[a-d]{1,4}", rounds in 5..9_usize,
        ) {
            let (_, count) = found(&format!("{before}{}", series.repeat(rounds))).unwrap();
            prop_assert!(count as usize >= rounds);
        }
    }
}
