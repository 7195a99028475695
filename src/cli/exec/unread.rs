//! Connections of a run that nobody read: what was said on them is in no sum.

use prometheus::proto::MetricFamily;

use super::summary::whole;
use crate::{
    call::line::{clean, counted},
    proxy::intercept::Unmetered,
};

const METRIC: &str = "tollgate_unmetered_connections_total";

/// What hosts of no provider are counted as.
const OTHER: &str = "other";

/// Connections to one host that passed, or failed, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    host: String,
    reason: String,
    count: u64,
}

/// Reads what was counted, providers' hosts first.
pub(super) fn read(families: &[MetricFamily]) -> Vec<Unread> {
    let families = families.iter().filter(|family| family.name() == METRIC);
    let metrics = families.flat_map(MetricFamily::get_metric);
    let mut all: Vec<_> = metrics
        .map(|metric| {
            let label = |name: &str| {
                let mut labels = metric.get_label().iter();
                let found = labels.find(|label| label.name() == name);
                found.map_or_else(String::new, |label| label.value().to_owned())
            };
            Unread {
                host: label("host"),
                reason: label("reason"),
                count: whole(metric.get_counter().get_value()),
            }
        })
        .filter(|unread| unread.count > 0)
        .collect();
    all.sort_by_key(Unread::is_other);
    all
}

impl Unread {
    fn is_other(&self) -> bool {
        self.host == OTHER
    }

    /// What it is, in a word.
    pub(super) fn what(&self) -> &'static str {
        if self.is_other() {
            "unread"
        } else {
            "unmetered"
        }
    }

    /// The same in more words.
    pub(super) fn says(&self) -> String {
        let connections = counted(self.count, "connection");
        if self.is_other() {
            return format!("{connections} to hosts of no known provider");
        }
        let host = clean(&self.host);
        let Some(why) = Unmetered::named(&self.reason) else {
            return format!("{connections} to {host} ({})", clean(&self.reason));
        };
        let missing = if why.has_failed() {
            ""
        } else {
            "; calls on what passed are in no figure here"
        };
        format!("{connections} to {host}: {}{missing}", why.says())
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{IntCounterVec, Opts, Registry};

    use super::*;

    #[test]
    fn what_nobody_read_is_said_and_providers_come_first() {
        let registry = Registry::new();
        let labels = ["host", "reason"];
        let counters = IntCounterVec::new(Opts::new(METRIC, "-"), &labels).unwrap();
        registry.register(Box::new(counters.clone())).unwrap();
        let count = |host, reason, count| {
            counters.with_label_values(&[host, reason]).inc_by(count);
        };
        count("other", "tunnelled", 2);
        count("api.openai.com", "refused", 1);
        count("api.openai.com", "pinned", 0);
        let all = read(&registry.gather());
        let said: Vec<_> = all.iter().map(Unread::says).collect();
        assert_eq!(
            said,
            [
                "1 connection to api.openai.com: the program does not trust the certificate, or pins \
                 another",
                "2 connections to hosts of no known provider"
            ]
        );
        assert_eq!(all[0].what(), "unmetered");
        let passed = Unread {
            host: "api.openai.com".to_owned(),
            reason: Unmetered::Port.name().to_owned(),
            count: 1,
        };
        assert!(passed.says().ends_with("are in no figure here"));
    }
}
