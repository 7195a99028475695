//! Processors in the configuration: the keys that all of them have, and mistakes in those.

use super::{super::pipeline, assert_problem, shipped};

#[test]
fn the_reference_has_every_option_of_processors() {
    let text = shipped("tollgate.yaml");
    for key in pipeline::Options::KEYS {
        let key_or_alias = [format!("#      {key}: "), format!("; also {key}\n")];
        let named = key_or_alias.iter().any(|line| text.contains(line));
        assert!(named, "config/tollgate.yaml lacks {key}");
    }
}

#[test]
fn a_wrong_option_of_a_processor_has_its_place_and_the_right_one() {
    assert_problem(
        "tracing: {processors: [{type: console, batch_sise: 1}]}",
        "t.yaml:1:40: tracing.processors[0].batch_sise: ",
        "did you mean `batch_size`?",
    );
    assert_problem(
        "tracing: {processors: [{batch_size: 0, type: console}]}",
        "t.yaml:1:37: tracing.processors[0].batch_size: ",
        "a whole number above zero",
    );
    assert_problem(
        "tracing: {processors: [{type: console, retry_backoff: exponental}]}",
        "t.yaml:1:55: tracing.processors[0].retry_backoff: ",
        "did you mean `exponential`?",
    );
    assert_problem(
        "tracing: {processors: [{type: consol, batch_size: 1}]}",
        "t.yaml:1:31: tracing.processors[0].type: ",
        "did you mean `console`?",
    );
    assert_problem(
        "tracing: {processors: [{type: console, circuit_breaker: {timeuot: 1s}}]}",
        "t.yaml:1:58: tracing.processors[0].circuit_breaker.timeuot: ",
        "did you mean `timeout`?",
    );
}

#[test]
fn a_processor_gets_no_more_of_what_was_said_than_spans_may_hold() {
    assert_problem(
        "tracing: {content: redacted, processors: [{type: console, content: full}]}",
        "t.yaml:1:68: tracing.processors[0].content: ",
        "more than `tracing.content`, which is redacted",
    );
    assert_problem(
        "tracing: {content: everything}",
        "t.yaml:1:20: tracing.content: ",
        "redacted",
    );
    assert_problem(
        "tracing: {redaction: {patterns: [{name: a, pattern: '('}]}}",
        "t.yaml:1:53: tracing.redaction.patterns[0].pattern: ",
        "unclosed group",
    );
    assert_problem(
        "tracing: {redaction: {paths: [customer]}}",
        "t.yaml:1:31: tracing.redaction.paths[0]: ",
        "$.metadata.customer",
    );
}

#[test]
fn sampling_that_contradicts_itself_has_its_place_and_says_what_to_do() {
    assert_problem(
        "tracing: {sampling: {rate: 1.5}}",
        "t.yaml:1:28: tracing.sampling.rate: ",
        "from 0 to 1",
    );
    assert_problem(
        "tracing: {sampling: {strategy: adaptive, rate: 0.1}}",
        "t.yaml:1:32: tracing.sampling.strategy: ",
        "target_rate",
    );
}
