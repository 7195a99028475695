//! What counters held before they came into memory: known to be nothing, or read while the call
//! waits.

use super::*;

const WINDOWS: [&str; 3] = ["day", "6h", "total"];

/// Rules with a counter for each user, over `rig`'s ledger.
fn per_user(rig: &Rig) -> Engine {
    let rules = WINDOWS.map(|window| {
        format!(
            r#"{{"name": "per-{window}", "per": ["user"], "window": "{window}",
                "limit": {{"tokens": 100}}}}"#
        )
    });
    let rules = format!(r#"{{"rules": [{}]}}"#, rules.join(","));
    let rules: policy::Config = serde_json::from_str(&rules).unwrap();
    let kept: Arc<dyn Journal> = Arc::<FileJournal>::clone(&rig.journal);
    Engine::build(&rules, &[], &[], &Purse::new(kept, 1_000), None).unwrap()
}

/// Whether a call of `user` has to wait for a reading; then it spends seven tokens.
async fn waits(engine: &Engine, user: &str, now: Timestamp) -> bool {
    let mut labels = Labels::default();
    labels.set(
        crate::call::labels::Label::User,
        user,
        crate::call::labels::Source::Header,
    );
    let subject = Subject {
        request_id: RequestId::new(now),
        span_id: SpanId::random(),
        trace_id: TraceId::random(),
        parent_span_id: None,
        start: now,
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
    let mut matched = engine.matched(&subject, now).unwrap();
    let recalling = engine.recalling(&mut matched, now);
    let waits = recalling.is_some();
    if let Some(recalling) = recalling {
        recalling.await.unwrap();
        assert_eq!(engine.purse().counts().counters % WINDOWS.len(), 0);
        assert!(engine.recalling(&mut matched, now).is_none());
    }
    let hold = engine.admit(matched, asked(10), &subject, now);
    hold.unwrap().settle(cost(7));
    waits
}

fn spent(engine: &Engine, user: &str, now: Timestamp) -> Vec<i64> {
    let standings = engine.purse().standings(now).into_iter();
    let of_user = standings.filter(|standing| standing.counter.values.ends_with(user));
    of_user.map(|standing| standing.spent).collect()
}

#[tokio::test]
async fn only_counters_that_the_books_know_are_read_and_the_call_waits_for_that() {
    let (mut rig, _) = rig(TempDir::new().unwrap());
    let engine = per_user(&rig);
    assert!(!waits(&engine, "1", NOW).await);
    assert!(!waits(&engine, "1", NOW).await);
    rig.post(u64::MAX);
    // A purse that has nothing in memory yet, first in this run, then in the next.
    for next in [per_user(&rig), per_user(&self::rig(rig.files()).0)] {
        assert!(waits(&next, "1", NOW).await);
        assert_eq!(spent(&next, "user=1", NOW), [21, 21, 21]);
        assert!(!waits(&next, "2", NOW).await);
        assert_eq!(spent(&next, "user=2", NOW), [7, 7, 7]);
    }
}

#[tokio::test]
async fn a_window_that_is_over_is_not_read() {
    let (mut rig, _) = rig(TempDir::new().unwrap());
    let engine = per_user(&rig);
    waits(&engine, "1", NOW).await;
    rig.post(u64::MAX);
    let known = |now, identity: &str| {
        let counter = CounterName {
            identity: Arc::from(identity),
            values: Arc::from("user=1"),
            unit: Unit::Tokens,
        };
        let (_, start) = policy::window_of(identity, now).unwrap();
        rig.journal.must_read(&counter, &(start..=start))
    };
    let tomorrow = NOW + std::time::Duration::from_hours(24);
    let (day, six) = (
        "per-day per=user window=day zone=UTC",
        "per-6h per=user window=6h zone=UTC",
    );
    assert_eq!([known(NOW, day), known(NOW, six)], [true, true]);
    assert_eq!([known(tomorrow, day), known(tomorrow, six)], [false, false]);
}
