//! Which models may be called: `guards.models`.
//!
//! Where a list of what is allowed holds, a model that cannot be seen is not on it; where a list of
//! what is not, one is that was hidden.

use super::{
    Answer, Asked, Guard, Models, Now,
    model::{Globs, is_hidden, names},
};
use crate::{
    call::{
        facts::Spends,
        refusal::{Reason, Refusal},
    },
    policy::{Match, Matcher, Patterns},
};

/// Why a call was refused, as `x-tollgate-blocked-by` has it.
const DENIED: &str = "model.denied";

/// The lists in force.
#[derive(Debug, Default)]
pub(super) struct Access {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    matcher: Matcher,
    /// `None`: everything.
    allow: Option<Globs>,
    /// `None`: nothing.
    deny: Option<Globs>,
}

impl Access {
    pub(super) fn new(config: &Models) -> Self {
        let rule = |matches: &Match, allow: Option<&Patterns>, deny: Option<&Patterns>| {
            (allow.is_some() || deny.is_some()).then(|| Rule {
                matcher: Matcher::new(matches),
                allow: allow.map(Globs::new),
                deny: deny.map(Globs::new),
            })
        };
        let all = Match::default();
        let for_all = rule(&all, config.allow.as_ref(), config.deny.as_ref());
        let further = config.rules.iter();
        let further =
            further.filter_map(|one| rule(&one.matches, one.allow.as_ref(), one.deny.as_ref()));
        Self {
            rules: for_all.into_iter().chain(further).collect(),
        }
    }
}

impl Guard for Access {
    fn ask(&self, call: &Asked<'_>, _now: Now, answer: &mut Answer) {
        let matches = |rule: &&Rule| rule.matcher.matches(call.subject, call.trusted);
        let mut rules = self.rules.iter().filter(matches).peekable();
        if rules.peek().is_none() {
            return;
        }
        let provider = call.subject.provider;
        let hides = is_hidden(call.subject);
        let Some(asked) = call.subject.model.filter(|_| !hides) else {
            let is_closed = hides || rules.any(|rule| rule.allow.is_some());
            if is_closed && (call.subject.hides_model || names_a_model(call.spends)) {
                let message = format!(
                    "Tollgate lets calls go to some models only (guards.models), and cannot see \
                     which one this call to {provider} is for."
                );
                answer.refuse(Refusal::new(Reason::Denied, DENIED, message));
            }
            return;
        };
        let names = names(call.subject);
        let is_in = |globs: &Globs| globs.match_any(&names);
        let refused = rules.find(|rule| {
            let (allow, deny) = (rule.allow.as_ref(), rule.deny.as_ref());
            deny.is_some_and(is_in) || allow.is_some_and(|allow| !is_in(allow))
        });
        if refused.is_some() {
            let message = format!(
                "The model {asked} of {provider} may not be called here: guards.models in \
                 Tollgate's configuration says so."
            );
            answer.refuse(Refusal::new(Reason::Denied, DENIED, message));
        }
    }
}

/// Whether a call that costs like that is for a model, though none was seen. What is in a socket is
/// asked about by itself; what is only read was made before.
const fn names_a_model(spends: Spends) -> bool {
    match spends {
        Spends::Tokens | Spends::Unknown => true,
        Spends::Once | Spends::Lines | Spends::Nothing | Spends::Inside => false,
    }
}
