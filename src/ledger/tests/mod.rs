//! The bound of the money, against a reference model. The rig is a ledger whose thread stands still,
//! so that the process can be killed between any two of its steps.

mod awaited;
mod damage;
mod ended;
mod proof;
mod recalled;
mod schedule;
mod told;
mod trouble;

use std::{fs, path::Path};

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    base::{
        clock::TestClock,
        id::{RequestId, SpanId, TraceId},
    },
    call::{labels::Labels, outcome::Kind, usage::UsageSource},
    policy::{self, Charge, Engine, Hold, Purse, Subject},
};

const NOW: Timestamp = Timestamp::from_secs(1_795_618_800);
const LIMIT: i64 = 100;

/// A ledger without its thread, and rules over it.
struct Rig {
    dir: TempDir,
    journal: Arc<FileJournal>,
    keeper: Keeper,
    engine: Engine,
    /// What calls of the run before go on holding, the oldest first.
    awaited: Vec<Hold>,
}

fn config(dir: &Path) -> Config {
    Config {
        path: dir.to_owned(),
        ..Config::default()
    }
}

/// Three budgets of `limit` tokens, of one window each.
fn rules(limit: i64) -> policy::Config {
    let rule = |name, window| json!({"name": name, "window": window, "limit": {"tokens": limit}});
    let rules = [rule("day", "day"), rule("six", "6h"), rule("all", "total")];
    serde_json::from_value(json!({"max_wait": 0, "rules": rules})).unwrap()
}

fn rig(dir: TempDir) -> (Rig, Recovery) {
    rig_of(dir, LIMIT)
}

fn rig_of(dir: TempDir, limit: i64) -> (Rig, Recovery) {
    let clock = Arc::new(TestClock::at(NOW));
    let (journal, keeper, recovery) = assemble(&config(dir.path()), clock).unwrap();
    let rules = rules(limit);
    let kept: Arc<dyn Journal> = Arc::<FileJournal>::clone(&journal);
    let engine = Engine::build(&rules, &[], &[], &Purse::new(kept, 1_000), None).unwrap();
    let awaited = recovery.awaited.iter();
    let awaited = awaited
        .map(|awaited| engine.restore(&awaited.held, NOW).unwrap())
        .collect();
    let rig = Rig {
        dir,
        journal,
        keeper,
        engine,
        awaited,
    };
    (rig, recovery)
}

impl Rig {
    /// Lets a call in, but for the keeping of its admission.
    fn begin(&self, tokens: i64) -> Option<Hold> {
        let labels = Labels::default();
        let subject = Subject {
            request_id: RequestId::new(NOW),
            span_id: SpanId::random(),
            trace_id: TraceId::random(),
            parent_span_id: None,
            start: NOW,
            kind: Kind::Llm,
            operation: Some("chat"),
            provider: "openai",
            model: None,
            known_as: None,
            hides_model: false,
            route: "chat",
            key: None,
            workload: None,
            labels: &labels,
        };
        let matched = self.engine.matched(&subject, NOW).unwrap();
        self.engine
            .admit(matched, asked(tokens), &subject, NOW)
            .ok()
    }

    fn admit(&self, tokens: i64) -> Option<Hold> {
        let hold = self.begin(tokens)?;
        if hold.keep().is_ok() {
            return Some(hold);
        }
        hold.release();
        None
    }

    /// (spent, reserved), which every rule must agree on.
    fn stands(&self) -> (i64, i64) {
        // Asking brings the counters into memory.
        if let Some(hold) = self.admit(0) {
            hold.release();
        }
        let standings = self.engine.purse().standings(NOW);
        let stands = (standings[0].spent, standings[0].reserved);
        assert_eq!(standings.len(), 3);
        for standing in &standings {
            assert_eq!((standing.spent, standing.reserved), stands);
        }
        stands
    }

    /// Moves all that there is into the books, and begins a segment if the present one is longer
    /// than `longest`. Returns how many turns that took.
    fn post(&mut self, longest: u64) -> u32 {
        let mark = self.journal.flush(longest);
        let mut turns = 1;
        while self.keeper.checkpoint(&mark).is_continue() {
            turns += 1;
        }
        turns
    }

    /// What a process that is killed now leaves behind.
    fn files(&self) -> TempDir {
        let copy = TempDir::new().unwrap();
        for file in fs::read_dir(self.dir.path()).unwrap() {
            let file = file.unwrap().path();
            if !file.to_str().unwrap().ends_with("-shm") {
                fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
            }
        }
        copy
    }
}

fn asked(tokens: i64) -> Amounts {
    Amounts::of_tokens(tokens.unsigned_abs())
}

fn cost(tokens: i64) -> Charge {
    Charge::of(None, tokens.unsigned_abs(), 0, UsageSource::Reported)
}
