//! Waiting for a busy budget, in order.

use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use serde_json::json;
use tollgate::{call::labels::Labels, policy::Matched};

use super::*;

#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// A call that waits, with the bell that wakes it.
struct Caller<'a> {
    engine: &'a Engine,
    labels: &'a Labels,
    refused: Option<Box<Refused>>,
    bell: Arc<Bell>,
}

impl<'a> Caller<'a> {
    fn queue(engine: &'a Engine, labels: &'a Labels, dollars: &str) -> Self {
        let mut caller = Self {
            engine,
            labels,
            refused: Some(ask(engine, labels, dollars, NOW).unwrap_err()),
            bell: Arc::default(),
        };
        assert!(caller.poll().is_pending());
        caller
    }

    fn poll(&mut self) -> Poll<()> {
        let waker = Waker::from(Arc::clone(&self.bell));
        let wait = self.refused.as_mut().unwrap().wait().unwrap();
        assert_eq!(wait.longest, Duration::from_secs(2));
        pin!(wait.place).poll(&mut Context::from_waker(&waker))
    }

    fn rung(&self) -> usize {
        self.bell.0.load(Relaxed)
    }

    /// Asks again; true if it got its hold.
    fn again(&mut self, dollars: &str) -> Option<Hold> {
        assert!(self.poll().is_ready());
        let matched: Matched = self.refused.take().unwrap().again().unwrap();
        let subject = subject(self.labels);
        match self
            .engine
            .admit(matched, amounts(dollars, 1), &subject, NOW)
        {
            Ok(hold) => Some(hold),
            Err(refused) => {
                self.refused = Some(refused);
                assert!(self.poll().is_pending());
                None
            },
        }
    }
}

#[test]
fn calls_wait_in_order_and_newcomers_do_not_overtake() {
    let engine = engine(json!({"daily": 1}));
    let nobody = Labels::default();
    let first = ask(&engine, &nobody, "0.9", NOW).unwrap();
    let mut second = Caller::queue(&engine, &nobody, "0.5");
    // There would be room for this one, but another waits in front.
    let mut third = Caller::queue(&engine, &nobody, "0.1");
    assert_eq!((second.rung(), third.rung()), (0, 0));

    first.settle(charge("0.3", 1));
    assert_eq!((second.rung(), third.rung()), (1, 0));
    assert!(
        ask(&engine, &nobody, "0.1", NOW).is_err(),
        "two wait in front"
    );
    let second = second.again("0.5").unwrap();
    assert_eq!(third.rung(), 1, "the next in line may have room");
    let third = third.again("0.1").unwrap();
    assert_eq!(engine.purse().counts().waiting, 0);
    second.release();
    third.release();
}

#[test]
fn one_who_gives_up_lets_the_next_one_try() {
    let engine = engine(json!({"daily": 1}));
    let nobody = Labels::default();
    let _held = ask(&engine, &nobody, "0.6", NOW).unwrap();
    let second = Caller::queue(&engine, &nobody, "0.5");
    let mut third = Caller::queue(&engine, &nobody, "0.3");
    let subject = subject(&nobody);
    let (refusal, _) = engine.refuse(*second.refused.unwrap(), &subject, NOW);
    assert_eq!(refusal.by, "busy.daily");
    assert_eq!(third.rung(), 1);
    third.again("0.3").unwrap().release();
}

#[test]
fn one_who_is_woken_in_vain_keeps_its_place() {
    let engine = engine(json!({"daily": 1}));
    let nobody = Labels::default();
    let one = ask(&engine, &nobody, "0.5", NOW).unwrap();
    let two = ask(&engine, &nobody, "0.5", NOW).unwrap();
    let mut third = Caller::queue(&engine, &nobody, "0.8");
    let fourth = Caller::queue(&engine, &nobody, "0.1");
    one.release();
    assert!(third.again("0.8").is_none());
    assert_eq!(fourth.rung(), 0);
    two.release();
    let third = third.again("0.8").unwrap();
    assert_eq!(fourth.rung(), 1);
    third.release();
}

#[test]
fn nobody_waits_where_max_wait_is_zero_or_the_budget_is_spent() {
    let engine = engine(json!({"daily": 1, "max_wait": "0s"}));
    let nobody = Labels::default();
    let held = ask(&engine, &nobody, "1", NOW).unwrap();
    assert!(
        ask(&engine, &nobody, "1", NOW)
            .unwrap_err()
            .wait()
            .is_none()
    );
    held.settle(charge("1", 1));
    assert!(
        ask(&engine, &nobody, "1", NOW)
            .unwrap_err()
            .wait()
            .is_none()
    );
    assert_eq!(engine.purse().counts().waiting, 0);
}

#[test]
fn one_who_waited_over_a_window_s_edge_is_charged_to_the_window_it_is_let_in() {
    let engine = engine(json!({"rules": [
        {"name": "r", "window": "minute", "limit": {"usd": 1}}]}));
    let nobody = Labels::default();
    let first = ask(&engine, &nobody, "0.9", NOW).unwrap();
    let second = Caller::queue(&engine, &nobody, "0.5");
    first.settle(charge("0.8", 1));
    let next = NOW + Duration::from_mins(1);
    let matched = second.refused.unwrap().again().unwrap();
    let subject = subject(&nobody);
    let second = engine.admit(matched, amounts("0.5", 1), &subject, next);
    let second = second.expect("the next minute has room");
    assert_eq!(stands(&engine, "", next), (0, 500_000_000));
    second.settle(charge("0.4", 1));
    assert_eq!(stands(&engine, "", next), (400_000_000, 0));
    assert_eq!(engine.purse().counts().waiting, 0);
}

/// When the call shall ask again though nothing has settled.
fn again(refused: &mut Refused) -> Option<Duration> {
    refused.wait().expect("it may wait").again
}

#[test]
fn the_first_in_line_asks_again_once_the_window_ends_if_that_is_before_it_gives_up() {
    let engine = engine(json!({"max_wait": "20s", "rules": [
        {"name": "calendar", "window": "minute", "limit": {"usd": 1}},
        {"name": "rolling", "window": "10m", "limit": {"tokens": 3_000}}]}));
    let nobody = Labels::default();
    let early = NOW + Duration::from_secs(30);
    let first = ask(&engine, &nobody, "0.9", early).unwrap();
    let mut second = ask(&engine, &nobody, "0.5", early).unwrap_err();
    assert_eq!(again(&mut second), None, "half a minute is too long");
    drop(second);

    let late = NOW + Duration::from_secs(45);
    let mut second = ask(&engine, &nobody, "0.5", late).unwrap_err();
    assert_eq!(again(&mut second), Some(Duration::from_secs(15)));
    let mut third = ask(&engine, &nobody, "0.2", late).unwrap_err();
    assert_eq!(again(&mut third), None, "the second wakes it");
    drop((second, third));

    // Two more of a thousand tokens fit; the next cell begins in fifteen seconds.
    let _fill = ask(&engine, &nobody, "0.04", late).unwrap();
    let _full = ask(&engine, &nobody, "0.04", late).unwrap();
    let mut next = ask(&engine, &nobody, "0", late + Duration::from_secs(5)).unwrap_err();
    assert_eq!(next.refusal().by, "busy.rolling");
    assert_eq!(again(&mut next), Some(Duration::from_secs(10)));
    first.release();
}
