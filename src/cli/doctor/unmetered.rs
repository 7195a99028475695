//! What the running sidecar let pass without metering it: so that nobody believes a sum that calls are
//! missing from.

use super::{
    super::owner,
    finding::{Finding, Part},
};
use crate::{call::line::counted, config::Config, proxy::intercept::Unmetered};

const NAME: &str = "interception";

/// The metric, up to its labels.
const METRIC: &str = "tollgate_unmetered_connections_total{";

/// What hosts of no provider are counted as: that they pass is what was configured.
const OTHER: &str = "other";

/// What it counts since its start; nothing if none runs.
pub(super) fn look(config: &Config) -> Option<Finding> {
    if !config.intercept.enabled {
        return None;
    }
    let here = Part::Here;
    match owner::get(config, "/metrics") {
        Ok(None) => None,
        Ok(Some(metrics)) => Some(of(&String::from_utf8_lossy(&metrics))),
        Err(_silent) => Some(Finding::unsure(
            here,
            NAME,
            "the running tollgate does not tell what passed without being metered",
            "its log and its /readyz say why",
        )),
    }
}

fn of(metrics: &str) -> Finding {
    let all: Vec<_> = metrics.lines().filter_map(line).collect();
    if all.is_empty() {
        let says = "no connection to a provider passed without being metered since the start";
        return Finding::ok(Part::Here, NAME, says);
    }
    let said = all.iter().map(|(host, reason, count)| {
        format!("{} to {host} ({reason})", counted(*count, "connection"))
    });
    let said: Vec<_> = said.collect();
    let says = format!("not metered since the start: {}", said.join(", "));
    let reasons = Unmetered::ALL.into_iter();
    let reasons = reasons.filter(|why| all.iter().any(|(_, reason, _)| *reason == why.name()));
    let mut advice = Vec::new();
    if reasons.clone().any(|why| !why.has_failed()) {
        advice.push("calls on what passed are in no sum and under no limit".to_owned());
    }
    advice.extend(reasons.map(|why| format!("{}: {}", why.name(), why.help())));
    Finding::unsure(Part::Here, NAME, says, &advice.join("; "))
}

/// One line of the metric: host, reason and count.
fn line(line: &str) -> Option<(&str, &str, u64)> {
    let (labels, count) = line.strip_prefix(METRIC)?.rsplit_once("} ")?;
    let label = |name: &str| {
        let (_, rest) = labels.split_once(&format!("{name}=\""))?;
        rest.split('"').next()
    };
    let (host, reason) = (label("host")?, label("reason")?);
    let count = count.parse().ok()?;
    (host != OTHER && count > 0).then_some((host, reason, count))
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    #[test]
    fn connections_to_providers_that_nobody_read_are_named() {
        let text = "# HELP tollgate_unmetered_connections_total …\n\
            tollgate_unmetered_connections_total{host=\"api.openai.com\",reason=\"pinned\"} 3\n\
            tollgate_unmetered_connections_total{host=\"api.openai.com\",reason=\"refused\"} 0\n\
            tollgate_unmetered_connections_total{host=\"other\",reason=\"tunnelled\"} 99\n";
        let found = of(text);
        assert_eq!(found.verdict, Verdict::Unsure);
        let expected = "not metered since the start: 3 connections to api.openai.com (pinned)";
        assert_eq!(found.says, expected);
        let advice = found.advice.unwrap();
        assert!(advice.contains("in no sum") && advice.contains("pinned: the program"));
        assert!(!advice.contains("refused: "), "{advice}");
        let others = text.replace("api.openai.com", "other");
        assert_eq!(of(&others).verdict, Verdict::Ok);
    }
}
