//! The model: every part of every call in a list, added up slowly.

use std::collections::{BTreeMap, btree_map::Entry};

use serde_json::{Value, json};

/// US dollars (in nano-dollars), input and output tokens.
pub(super) type Cost = (i64, u64, u64);

/// The first instant of a schedule, in seconds.
pub(super) const BEGIN: u64 = super::NOW.as_secs();

/// How far the zone of the budgets is ahead of UTC, in seconds.
const AHEAD: u64 = 19_800;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Minute,
    Day,
    Total,
    /// The length of a cell in seconds.
    Rolling(u64),
    /// A rolling minute that is forgotten with the process.
    Rate,
    Gauge,
}

/// One limit: what it counts of a cost, how long, and how much.
pub(super) struct Limit {
    pub(super) rule: &'static str,
    pub(super) unit: &'static str,
    pub(super) kind: Kind,
    most: i64,
    pub(super) of: fn(Cost) -> i64,
}

const fn limit(
    (rule, unit): (&'static str, &'static str),
    kind: Kind,
    most: i64,
    of: fn(Cost) -> i64,
) -> Limit {
    Limit {
        rule,
        unit,
        kind,
        most,
        of,
    }
}

fn usd((usd, ..): Cost) -> i64 {
    usd
}
fn tokens((_, input, output): Cost) -> i64 {
    i64::try_from(input + output).unwrap()
}
fn input((_, input, _): Cost) -> i64 {
    i64::try_from(input).unwrap()
}
fn output((.., output): Cost) -> i64 {
    i64::try_from(output).unwrap()
}
fn one(_: Cost) -> i64 {
    1
}

/// What the model knows of [`budgets`] and [`rates`], in the same order.
fn limits() -> Vec<Limit> {
    vec![
        limit(("day", "usd"), Kind::Day, 60, usd),
        limit(("day", "tokens"), Kind::Day, 500, tokens),
        limit(("day", "input_tokens"), Kind::Day, 300, input),
        limit(("day", "output_tokens"), Kind::Day, 250, output),
        limit(("day", "requests"), Kind::Day, 12, one),
        limit(("minute", "tokens"), Kind::Minute, 190, tokens),
        limit(("minute", "requests"), Kind::Minute, 4, one),
        limit(("hour", "usd"), Kind::Rolling(60), 50, usd),
        limit(("hour", "tokens"), Kind::Rolling(60), 350, tokens),
        limit(("hour", "output_tokens"), Kind::Rolling(60), 170, output),
        limit(("run", "usd"), Kind::Total, 45, usd),
        limit(("run", "input_tokens"), Kind::Total, 260, input),
        limit(("watch", "usd"), Kind::Day, 5, usd),
        limit(("eye", "tokens"), Kind::Rolling(10), 40, tokens),
        limit(("rate", "tokens"), Kind::Rate, 220, tokens),
        limit(("rate", "input_tokens"), Kind::Rate, 160, input),
        limit(("rate", "output_tokens"), Kind::Rate, 120, output),
        limit(("rate", "concurrent"), Kind::Gauge, 4, one),
        limit(("each", "tokens"), Kind::Rate, 180, tokens),
        limit(("each", "concurrent"), Kind::Gauge, 3, one),
    ]
}

pub(super) fn budgets() -> Value {
    json!({"max_wait": 0, "timezone": "Asia/Kolkata", "rules": [
        {"name": "day", "window": "day", "limit": {"usd": "0.000000060", "tokens": 500,
            "input_tokens": 300, "output_tokens": 250, "requests": 12}},
        {"name": "minute", "window": "minute", "per": ["session"],
            "limit": {"tokens": 190, "requests": 4}},
        {"name": "hour", "window": "1h", "on_exhausted": "clamp",
            "limit": {"usd": "0.000000050", "tokens": 350, "output_tokens": 170}},
        {"name": "run", "window": "total", "per": ["session"],
            "limit": {"usd": "0.000000045", "input_tokens": 260}},
        {"name": "watch", "window": "day", "on_exhausted": "shadow",
            "limit": {"usd": "0.000000005"}},
        {"name": "eye", "window": "10m", "per": ["session"], "on_exhausted": "shadow",
            "limit": {"tokens": 40}}]})
}

/// A rule of `each` lets through, at once, this many requests a minute.
const BURST: u64 = 6;
const INTERVAL: u64 = 60 / BURST;

pub(super) fn rates() -> Value {
    json!([
        {"name": "rate", "tokens_per_minute": 220, "input_tokens_per_minute": 160,
            "output_tokens_per_minute": 120, "concurrent": 4},
        {"name": "each", "per": ["session"], "tokens_per_minute": 180, "concurrent": 3,
            "requests_per_minute": BURST}])
}

impl Limit {
    pub(super) fn is_per_session(&self) -> bool {
        ["minute", "run", "eye", "each"].contains(&self.rule)
    }

    pub(super) fn is_kept(&self) -> bool {
        !["rate", "each"].contains(&self.rule)
    }

    pub(super) fn stops(&self) -> bool {
        !["watch", "eye"].contains(&self.rule)
    }

    pub(super) fn may_clamp(&self) -> bool {
        self.rule == "hour"
    }

    /// What a growth by `cost` adds.
    pub(super) fn grows_by(&self, cost: Cost) -> i64 {
        match self.unit {
            "requests" | "concurrent" => 0,
            _ => (self.of)(cost),
        }
    }
}

/// Whose a counter is, where that counts.
type Whose = Option<u8>;

/// What a call has in one counter.
pub(super) struct Part {
    limit: usize,
    whose: Whose,
    window: u64,
    cell: u64,
    pub(super) spent: i64,
    pub(super) reserved: i64,
}

struct Raised {
    limit: usize,
    whose: Whose,
    window: u64,
    cell: u64,
    amount: i64,
    until: Option<u64>,
    /// Whether its counter has it in memory. What had left a rolling window when its counter came into
    /// memory is not recalled, and does not come back when the clock steps back, as what was spent then
    /// does not.
    is_held: bool,
}

/// All that is true of the counters.
pub(super) struct Model {
    pub(super) limits: Vec<Limit>,
    /// Of each call one for each limit, one after the other.
    pub(super) parts: Vec<Part>,
    raises: Vec<Raised>,
    /// The newest cell of each rolling counter in memory.
    newest: BTreeMap<(usize, Whose), u64>,
    /// By session: when the next request would come if all were evenly spaced.
    spaced: BTreeMap<u8, u64>,
    /// When a request was last asked for.
    asked: u64,
    /// The wall clock, in seconds.
    pub(super) now: u64,
    /// The sum of its steps forward since the start: rates live by it.
    elapsed: u64,
}

impl Model {
    pub(super) fn new() -> Self {
        let mut model = Self {
            limits: limits(),
            parts: Vec::new(),
            raises: Vec::new(),
            newest: BTreeMap::new(),
            spaced: BTreeMap::new(),
            asked: 0,
            now: BEGIN,
            elapsed: 0,
        };
        model.open(None);
        model
    }

    /// The counters of rules that count all calls together come into memory; or those that also
    /// count a call of `whose`.
    pub(super) fn open(&mut self, whose: Whose) {
        for number in 0..self.limits.len() {
            self.open_one(number, whose);
        }
    }

    /// The counters of the rule `name` come into memory.
    pub(super) fn open_rule(&mut self, name: &str, session: u8) {
        for number in 0..self.limits.len() {
            if self.limits[number].rule == name {
                self.open_one(number, Some(session));
            }
        }
    }

    fn open_one(&mut self, number: usize, whose: Whose) {
        let limit = &self.limits[number];
        let Kind::Rolling(width) = limit.kind else {
            return;
        };
        if limit.is_per_session() && whose.is_none() {
            return;
        }
        let whose = whose.filter(|_| limit.is_per_session());
        let is_its = |limit: usize, of: Whose| limit == number && of == whose;
        let parts = self.parts.iter();
        let parts = parts.filter(|part| is_its(part.limit, part.whose));
        let raises = self.raises.iter();
        let raises = raises.filter(|raised| is_its(raised.limit, raised.whose));
        // The ledger knows cells of the future, if the clock has stepped back.
        let known = parts.map(|part| part.cell);
        let known = known.chain(raises.map(|raised| raised.cell)).max();
        let newest = known.unwrap_or(0).max(self.now / width);
        if let Entry::Vacant(unknown) = self.newest.entry((number, whose)) {
            unknown.insert(newest);
            let raises = self.raises.iter_mut();
            for raised in raises.filter(|raised| is_its(raised.limit, raised.whose)) {
                raised.is_held = self.now <= (raised.cell + 60) * width;
            }
        }
    }

    /// The clock moves; rates see only its steps forward.
    pub(super) fn set(&mut self, now: u64) {
        self.elapsed += now.saturating_sub(self.now);
        self.now = now;
        for ((number, _), newest) in &mut self.newest {
            if let Kind::Rolling(width) = self.limits[*number].kind {
                *newest = (*newest).max(now / width);
            }
        }
    }

    /// The process is killed and started again: what calls in flight hold counts as spent, and what
    /// the ledger does not keep is forgotten.
    pub(super) fn restart(&mut self) {
        for part in &mut self.parts {
            part.spent += std::mem::take(&mut part.reserved);
            if !self.limits[part.limit].is_kept() {
                part.spent = 0;
            }
        }
        self.newest.clear();
        self.spaced.clear();
        (self.elapsed, self.asked) = (0, 0);
        self.open(None);
    }

    pub(super) fn whose(&self, limit: usize, session: u8) -> Whose {
        self.limits[limit].is_per_session().then_some(session)
    }

    fn cell(&self, limit: usize, whose: Whose) -> u64 {
        match self.limits[limit].kind {
            Kind::Rate => self.elapsed,
            Kind::Rolling(_) => self.newest[&(limit, whose)],
            _ => 0,
        }
    }

    pub(super) fn window(&self, limit: usize) -> u64 {
        match self.limits[limit].kind {
            Kind::Day => (self.now + AHEAD) / 86_400,
            Kind::Minute => self.now / 60,
            _ => 0,
        }
    }

    /// (spent, reserved) of a counter.
    pub(super) fn sums(&self, limit: usize, whose: Whose, window: u64) -> (i64, i64) {
        let now = self.cell(limit, whose);
        let own = self.parts.iter().filter(|part| {
            (part.limit, part.whose, part.window) == (limit, whose, window) && now < part.cell + 60
        });
        own.fold((0, 0), |(spent, reserved), part| {
            (spent + part.spent, reserved + part.reserved)
        })
    }

    /// The limit with the raises that hold.
    pub(super) fn most(&self, limit: usize, whose: Whose, window: u64) -> i64 {
        let raises = self.raises.iter().filter(|raised| {
            (raised.limit, raised.whose, raised.window) == (limit, whose, window)
                && raised.is_held
                && raised.until.is_none_or(|until| self.now < until)
        });
        self.limits[limit].most + raises.map(|raised| raised.amount).sum::<i64>()
    }

    fn free(&self, limit: usize, whose: Whose, window: u64) -> i64 {
        let (spent, reserved) = self.sums(limit, whose, window);
        self.most(limit, whose, window) - spent - reserved
    }

    /// The limits that a call has no room in.
    pub(super) fn lacking(&self, session: u8, cost: Cost) -> Vec<usize> {
        let numbers = 0..self.limits.len();
        let lacks = |limit: &usize| {
            let free = self.free(*limit, self.whose(*limit, session), self.window(*limit));
            (self.limits[*limit].of)(cost).max(1) > free
        };
        numbers.filter(lacks).collect()
    }

    /// The least that is left of a unit in any limit that stops calls.
    pub(super) fn left(&self, session: u8, unit: &str) -> i64 {
        let stops = |limit: &usize| self.limits[*limit].stops() && self.limits[*limit].unit == unit;
        let limits = (0..self.limits.len()).filter(stops);
        let free = |limit| self.free(limit, self.whose(limit, session), self.window(limit));
        limits.map(free).min().unwrap().max(0)
    }

    /// Whether a call may grow by `cost`; `first` is the number of its first part.
    pub(super) fn may_grow(&self, first: usize, cost: Cost) -> bool {
        (0..self.limits.len()).all(|limit| {
            let (part, by) = (
                &self.parts[first + limit],
                self.limits[limit].grows_by(cost),
            );
            let fits = || by <= self.free(limit, part.whose, part.window);
            by == 0 || !self.limits[limit].stops() || fits()
        })
    }

    /// Takes a request of those of a minute, if there is one: says from when on it may have come
    /// back by itself.
    pub(super) fn take_request(&mut self, session: u8) -> Option<u64> {
        self.asked = self.asked.max(self.elapsed);
        let next = self.spaced.get(&session).copied().filter(|next| *next > 0);
        let next = next.unwrap_or(self.elapsed + INTERVAL);
        let fits = self.elapsed >= next.saturating_sub(INTERVAL * BURST);
        fits.then(|| {
            let next = next.max(self.elapsed) + INTERVAL;
            self.spaced.insert(session, next);
            self.elapsed + INTERVAL
        })
    }

    pub(super) fn give_request_back(&mut self, session: u8, until: u64) {
        if self.asked < until
            && let Some(next) = self.spaced.get_mut(&session)
        {
            *next = next.saturating_sub(INTERVAL);
        }
    }

    /// A call is let in; the number of its first part.
    pub(super) fn hold(&mut self, session: u8, cost: Cost) -> usize {
        let first = self.parts.len();
        for limit in 0..self.limits.len() {
            let whose = self.whose(limit, session);
            self.parts.push(Part {
                limit,
                whose,
                window: self.window(limit),
                cell: self.cell(limit, whose),
                spent: 0,
                reserved: (self.limits[limit].of)(cost),
            });
        }
        first
    }

    /// Raises the limit in dollars of the rule `name`.
    pub(super) fn raise(&mut self, name: &str, session: u8, amount: i64, until: Option<u64>) {
        let is_it = |limit: &Limit| limit.rule == name && limit.unit == "usd";
        let limit = self.limits.iter().position(is_it).unwrap();
        let (end, cell) = match self.limits[limit].kind {
            Kind::Rolling(width) => (Some(self.now + 60 * width), self.now / width),
            _ => (None, 0),
        };
        self.raises.push(Raised {
            limit,
            whose: self.whose(limit, session),
            window: self.window(limit),
            cell,
            amount,
            until: until.into_iter().chain(end).min(),
            is_held: true,
        });
    }

    /// Takes off all that the rule `name` has spent in its present window.
    pub(super) fn reset(&mut self, name: &str, session: u8) {
        for limit in (0..self.limits.len()).filter(|limit| self.limits[*limit].rule == name) {
            let (whose, window) = (self.whose(limit, session), self.window(limit));
            let now = self.cell(limit, whose);
            for part in &mut self.parts {
                let is_its = (part.limit, part.whose, part.window) == (limit, whose, window);
                if is_its && now < part.cell + 60 {
                    part.spent = 0;
                }
            }
        }
    }
}
