//! What the running sidecar let pass without metering it: so that nobody believes a sum that calls are
//! missing from.

use super::{
    super::owner,
    finding::{Finding, Part},
};
use crate::config::Config;

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
    let unmetered: Vec<String> = metrics.lines().filter_map(line).collect();
    if unmetered.is_empty() {
        let says = "no connection to a provider passed without being metered since the start";
        return Finding::ok(Part::Here, NAME, says);
    }
    let says = format!("not metered since the start: {}", unmetered.join(", "));
    let advice = "calls on them are in no sum and under no limit. `pinned` and `refused`: the client \
                  does not trust our certificate (tollgate ca env), or trusts no authority but its \
                  own; point it at Tollgate by its base URL";
    Finding::unsure(Part::Here, NAME, says, advice)
}

/// One line of the metric, in words.
fn line(line: &str) -> Option<String> {
    let (labels, count) = line.strip_prefix(METRIC)?.rsplit_once("} ")?;
    let label = |name: &str| {
        let (_, rest) = labels.split_once(&format!("{name}=\""))?;
        rest.split('"').next()
    };
    let (host, reason) = (label("host")?, label("reason")?);
    let is_some = host != OTHER && count.parse::<f64>().is_ok_and(|count| count > 0.0);
    is_some.then(|| format!("{count} connections to {host} ({reason})"))
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
        let others = text.replace("api.openai.com", "other");
        assert_eq!(of(&others).verdict, Verdict::Ok);
    }
}
