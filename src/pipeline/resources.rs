//! `tracing.resource_limits`: how much of its machine Tollgate takes.

use serde::Deserialize;

use crate::base::{cpu::Cpu, units::ByteSize};

/// `tracing.resource_limits` — under the names and in the words of a Kubernetes container's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceLimits {
    /// The most bytes that spans on their way, request bodies being read and what is kept of what was
    /// said take together. What does not say its own bound gets an equal share. None: each has its own
    /// bound alone.
    pub max_memory: Option<ByteSize>,
    /// How many processors there are for calls: so many workers, rounded up. None: one for each that
    /// the machine lets this process use.
    pub max_cpu: Option<Cpu>,
}

impl ResourceLimits {
    /// How many workers carry calls where `processors` can be used.
    pub fn workers(&self, processors: usize) -> usize {
        let most = self.max_cpu.map_or(usize::MAX, Cpu::threads);
        processors.min(most).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_workers_than_processors_and_at_least_one() {
        let limits = |text: &str| ResourceLimits {
            max_cpu: Some(text.parse().unwrap()),
            ..ResourceLimits::default()
        };
        let workers = |text, processors| limits(text).workers(processors);
        assert_eq!(workers("100m", 8), 1);
        assert_eq!(workers("2.5", 8), 3);
        assert_eq!(workers("16", 8), 8);
        assert_eq!(ResourceLimits::default().workers(8), 8);
        assert_eq!(ResourceLimits::default().workers(0), 1);
    }
}
