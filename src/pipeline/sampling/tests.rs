//! Tests of what is chosen: replicas that agree, shares that nest, loads that change. Time is told.

use proptest::prelude::*;

use super::*;
use crate::{
    base::clock::{Clock as _, SystemClock, Timestamp},
    call::{facts::ToolCall, span::Span},
};

fn call(trace: u128) -> Span {
    Span {
        trace_id: TraceId::from_bytes(trace.to_be_bytes()),
        ..Span::begun(Timestamp::from_secs(1_795_328_714))
    }
}

fn read(yaml: &str) -> Result<Sampling, String> {
    serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
}

fn sampler(yaml: &str) -> Sampler {
    Sampler::new(read(yaml).unwrap(), SystemClock.mono())
}

fn goes(sampler: &mut Sampler, span: &Span) -> bool {
    goes_at(sampler, span, SystemClock.mono())
}

fn goes_at(sampler: &mut Sampler, span: &Span, now: Instant) -> bool {
    matches!(sampler.judge(span, false, now), Verdict::Goes { .. })
}

/// Ids as they are made, the same in every run.
fn ids(count: u32) -> impl Iterator<Item = u128> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..count).map(move |_| random.u128(1..))
}

#[test]
fn the_section_reads_as_it_is_written() {
    assert_eq!(read("{}"), Ok(Sampling::default()));
    let documented = "{strategy: probabilistic, rate: 1.0}";
    assert_eq!(read(documented), Ok(Sampling::default()));
    let share = |yaml: &str| match read(yaml).unwrap().choice {
        Choice::Share(share) => share,
        other @ Choice::PerSecond { .. } => panic!("{other:?}"),
    };
    for yaml in ["{rate: 0.1}", "{sampling_rate: 0.1}"] {
        assert!((share(yaml) - 0.1).abs() < f64::EPSILON, "{yaml}");
    }
    let (target, least, most) = (1_000.0, 0.01, 1.0);
    let default = Choice::PerSecond {
        target,
        least,
        most,
    };
    for yaml in [
        "{strategy: adaptive}",
        "{target_rate: 1000}",
        "{strategy: adaptive, target_rate: 1000, max_sample_rate: 1.0, min_sample_rate: 0.01}",
    ] {
        assert_eq!(read(yaml).unwrap().choice, default, "{yaml}");
    }
    let told = read("{rate: 0, slow_ms: 5000, costly_usd: 0.25, decision_wait: 1m}").unwrap();
    assert_eq!(told.slow, Some(Duration::from_secs(5)));
    assert_eq!(told.costly, Some(Usd::from_nanos(250_000_000)));
    assert_eq!(told.decision_wait, Duration::from_mins(1));
}

#[test]
fn what_contradicts_itself_is_refused_with_the_key() {
    for (yaml, word) in [
        ("{rate: 1.5}", "from 0 to 1"),
        ("{rate: -0.1}", "from 0 to 1"),
        ("{rate: .nan}", "from 0 to 1"),
        ("{rate: x}", "rate"),
        ("{strategy: sometimes}", "adaptive"),
        ("{strategy: adaptive, rate: 0.1}", "target_rate"),
        ("{rate: 0.1, target_rate: 5}", "not both"),
        (
            "{strategy: probabilistic, min_sample_rate: 0.5}",
            "min_sample_rate",
        ),
        (
            "{min_sample_rate: 0.5, max_sample_rate: 0.1}",
            "max_sample_rate",
        ),
        ("{target_rate: 0}", "target_rate"),
        ("{target_rate: .inf}", "target_rate"),
        ("{rate: 0.1, sampling_rate: 0.1}", "rate"),
        ("{ratio: 0.1}", "ratio"),
    ] {
        let error = read(yaml).unwrap_err();
        assert!(error.contains(word), "{yaml}: {error}");
    }
}

#[test]
fn of_many_traces_the_share_is_kept() {
    for share in [0.01, 0.1, 0.5, 0.99] {
        let mut sampler = sampler(&format!("{{rate: {share}}}"));
        let kept = ids(100_000).filter(|id| goes(&mut sampler, &call(*id)));
        let kept = f64::from(u32::try_from(kept.count()).unwrap()) / 100_000.0;
        // Six standard deviations.
        let most = 6.0 * (share * (1.0 - share) / 100_000.0_f64).sqrt();
        assert!((kept - share).abs() < most, "{share}: {kept}");
    }
    let mut none = sampler("{rate: 0}");
    assert_eq!(
        ids(1_000).filter(|id| goes(&mut none, &call(*id))).count(),
        0
    );
}

#[test]
fn the_last_seven_bytes_of_an_id_decide_as_in_opentelemetry() {
    let mut half = sampler("{rate: 0.5}");
    let edge = 1_u128 << 55;
    for (id, kept) in [
        (edge - 1, false),
        (edge, true),
        ((0xff << 56) | (edge - 1), false),
        ((1 << 127) | edge, true),
        (u128::from(ALL), false),
    ] {
        assert_eq!(goes(&mut half, &call(id)), kept, "{id:x}");
    }
    // The examples of its specification, which rounds after four digits.
    for (share, text) in [(1.0, "ot=th:0"), (0.5, "ot=th:8"), (0.25, "ot=th:c")] {
        assert_eq!(trace_state(share).as_deref(), Some(text));
    }
    assert!(trace_state(0.1).unwrap().starts_with("ot=th:e6666666"));
    assert!(trace_state(0.01).unwrap().starts_with("ot=th:fd70a3d7"));
    assert_eq!(trace_state(0.0), None);
}

#[test]
fn whatever_somebody_will_look_for_is_kept() {
    let mut sampler = sampler("{rate: 0, slow_ms: 100, costly_usd: 0.5}");
    let mut kept = |change: &dyn Fn(&mut Span)| {
        let mut span = call(1);
        change(&mut span);
        let verdict = sampler.judge(&span, false, SystemClock.mono());
        let whole = Verdict::Goes {
            share: 1.0,
            by: By::Span,
        };
        assert!(verdict == whole || verdict == Verdict::Waits);
        verdict == whole
    };
    assert!(!kept(&|_| {}));
    assert!(kept(&|span| span.status = Status::Error));
    assert!(kept(&|span| span.status = Status::Blocked));
    assert!(!kept(&|span| span.status = Status::Cancelled));
    assert!(kept(&|span| span.blocked_by = Some("loop".into())));
    assert!(kept(&|span| span.duration = Duration::from_millis(100)));
    assert!(!kept(&|span| span.duration = Duration::from_millis(99)));
    assert!(kept(&|span| span.cost = Some(Usd::from_nanos(500_000_000))));
    assert!(!kept(&|span| span.cost = Some(Usd::from_nanos(499_999_999))));
    let model = |name: &'static str| move |span: &mut Span| span.request_model = Some(name.into());
    assert!(kept(&model("gpt-4o")));
    assert!(!kept(&model("gpt-4o")));
    assert!(kept(&model("gpt-5")));
    let tool = |span: &mut Span| {
        span.tool_calls = vec![ToolCall {
            id: None,
            name: "gpt-4o".into(),
        }];
    };
    assert!(kept(&tool), "a tool may be called as a model is");
    assert!(!kept(&tool));
    let flagged =
        |flag| move |span: &mut Span| span.attributes = vec![(SAMPLED, Value::Bool(flag))];
    assert!(kept(&flagged(true)));
    assert!(!kept(&flagged(false)));
}

#[test]
fn a_client_that_leaves_a_trace_out_is_followed_but_for_what_failed() {
    let told = |span: &mut Span, flag| span.attributes = vec![(SAMPLED, Value::Bool(flag))];
    for (yaml, follows) in [
        ("{rate: 0.5}", true),
        ("{rate: 0.5, follow_client: false}", false),
    ] {
        let mut sampler = sampler(yaml);
        for id in ids(100) {
            let mut span = call(id);
            let alone = goes(&mut sampler, &span);
            for flag in [true, false] {
                told(&mut span, flag);
                let expected = if follows { flag } else { alone };
                assert_eq!(goes(&mut sampler, &span), expected, "{yaml}");
            }
            span.status = Status::Error;
            assert!(goes(&mut sampler, &span));
        }
    }
}

#[test]
fn names_are_remembered_up_to_a_bound() {
    let mut sampler = sampler("{rate: 0}");
    let kept = (0..MOST_NAMES + 100).filter(|n| {
        let mut span = call(1);
        span.request_model = Some(format!("model-{n}").into());
        goes(&mut sampler, &span)
    });
    assert_eq!(kept.count(), MOST_NAMES);
}

/// Traces a second that are kept of this load, second by second.
fn kept(sampler: &mut Sampler, load: &[u32]) -> Vec<u32> {
    let start = SystemClock.mono();
    let mut ids = ids(u32::MAX);
    let mut second = |at: usize, count: u32| {
        let of = |n: u32| {
            let nanos = u64::from(n) * 1_000_000_000 / u64::from(count);
            start + Duration::from_secs(at as u64) + Duration::from_nanos(nanos)
        };
        let goes = |n: &u32| goes_at(sampler, &call(ids.next().unwrap()), of(*n));
        u32::try_from((0..count).filter(goes).count()).unwrap()
    };
    let load = load.iter().enumerate();
    load.map(|(at, count)| second(at, *count)).collect()
}

#[test]
fn a_load_that_grows_fiftyfold_is_brought_to_the_target_within_a_minute() {
    let mut sampler = sampler("{strategy: adaptive, target_rate: 1000}");
    let load = [[100; 30], [5_000; 30], [5_000; 30]].concat();
    let kept = kept(&mut sampler, &load);
    assert_eq!(kept[..30], [100; 30], "a low load is kept whole");
    let settled = kept[30..]
        .iter()
        .rposition(|kept| kept.abs_diff(1_000) > 150);
    assert!(settled.is_none_or(|at| at < 15), "{kept:?}");
    let least = kept[60..].iter().sum::<u32>() / 30;
    assert!(least.abs_diff(1_000) < 30, "{kept:?}");
}

#[test]
fn a_load_that_falls_is_kept_whole_again_and_bounds_hold() {
    let mut adaptive = sampler("{strategy: adaptive, target_rate: 100}");
    let load = [[5_000; 20], [50; 20]].concat();
    let after = kept(&mut adaptive, &load);
    assert_eq!(after[30..], [50; 10], "{after:?}");
    let mut bounded = sampler("{target_rate: 1, min_sample_rate: 0.2, max_sample_rate: 0.5}");
    let low = kept(&mut bounded, &[[1_000; 20], [1_000; 20]].concat());
    assert!(
        low[1..].iter().all(|kept| (140..260).contains(kept)),
        "{low:?}"
    );
    let mut bounded = sampler("{target_rate: 1e6, min_sample_rate: 0.2, max_sample_rate: 0.5}");
    let high = kept(&mut bounded, &[1_000; 20]);
    assert!(
        high.iter().all(|kept| (430..570).contains(kept)),
        "{high:?}"
    );
}

#[test]
fn what_is_kept_anyway_counts_against_the_target() {
    let mut sampler = sampler("{strategy: adaptive, target_rate: 500}");
    let start = SystemClock.mono();
    let mut ids = ids(u32::MAX);
    let mut last = 0;
    for n in 0..60_000_u64 {
        let mut span = call(ids.next().unwrap());
        if n % 5 == 0 {
            span.status = Status::Error;
        }
        let goes = goes_at(&mut sampler, &span, start + Duration::from_millis(n / 2));
        assert!(goes || span.status == Status::Ok, "every error is kept");
        last += u32::from(goes && n >= 40_000);
    }
    // 2000 a second, of which 400 failed.
    assert!(last.abs_diff(10 * 500) < 300, "{last}");
}

proptest! {
    #[test]
    fn replicas_agree_and_a_smaller_share_is_within_a_larger_one(
        ids in prop::collection::vec(any::<u128>(), 1..50), a in 0.0..1.0_f64, b in 0.0..1.0_f64,
    ) {
        let (low, high) = (a.min(b), a.max(b));
        let of = |share: f64| sampler(&format!("{{rate: {share}}}"));
        let (mut one, mut other, mut more) = (of(low), of(low), of(high));
        // In whatever order, and whatever came before.
        for id in ids.iter().rev() {
            goes(&mut other, &call(*id));
        }
        for id in &ids {
            let kept = goes(&mut one, &call(*id));
            prop_assert_eq!(kept, goes(&mut other, &call(*id)));
            prop_assert!(!kept || goes(&mut more, &call(*id)));
        }
    }

    #[test]
    fn the_threshold_that_is_told_is_the_one_that_decides(id: u128, share in 0.0001..1.0_f64) {
        let mut sampler = sampler(&format!("{{rate: {share}}}"));
        let told = trace_state(share).unwrap();
        let digits = told.strip_prefix("ot=th:").unwrap();
        let threshold = u64::from_str_radix(&format!("{digits:0<14}"), 16).unwrap();
        let random = u64::try_from(id % u128::from(ALL)).unwrap();
        prop_assert_eq!(goes(&mut sampler, &call(id)), random >= threshold);
    }
}
