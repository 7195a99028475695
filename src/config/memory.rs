//! `tracing.resource_limits.max_memory`, divided among all that hold spans and bodies of requests.

use super::{Config, Document, problem::Problem};
use crate::{base::units::ByteSize, pipeline::Content};

/// The least that a processor's queue is of use with.
const LEAST: ByteSize = ByteSize::mib(1);
/// How much of request bodies may be held.
const PEEK_TOTAL: &str = "limits.peek_total";

/// Who holds something in memory, and how much of it.
struct Holders {
    /// Those whose bound is written down, as it would be named to the user.
    fixed: Vec<(String, u64)>,
    /// How many take what is left in equal shares; at least one.
    sharing: u64,
    /// The least that each of these needs.
    least: ByteSize,
}

impl Config {
    /// Gives everyone whose bound is not written down in `document` an equal share of `max_memory`, or the
    /// usual bound if that is less.
    pub(super) fn divide_memory(&mut self, document: &Document) {
        let Some(most) = self.tracing.resource_limits.max_memory else {
            return;
        };
        let share = self.holders(document).share(most);
        self.tracing.share = Some(share);
        if !document.says(PEEK_TOTAL) {
            self.limits.peek_total = self.limits.peek_total.min(share);
        }
    }

    /// What is wrong if so much cannot be had.
    pub(super) fn check_memory(&self, document: &Document, problems: &mut Vec<Problem>) {
        let Some(most) = self.tracing.resource_limits.max_memory else {
            return;
        };
        let holders = self.holders(document);
        let share = holders.share(most);
        if share >= holders.least {
            return;
        }
        let fixed: Vec<String> = holders
            .fixed
            .iter()
            .map(|(key, bytes)| format!("{key} {}", ByteSize::bytes(*bytes)))
            .collect();
        let after = if fixed.is_empty() {
            String::new()
        } else {
            format!(" after {}", fixed.join(", "))
        };
        let message = format!(
            "{most} leaves {share}{after} for each of {} others, which need {}: the store, and every \
             queue and body of a request that does not say its own bound",
            holders.sharing, holders.least
        );
        let help = "raise it, or lower `limits.peek`, `limits.peek_total` and the processors' \
                    `max_memory_usage`";
        problems.push(Problem::error("tracing.resource_limits.max_memory", message).help(help));
    }

    fn holders(&self, document: &Document) -> Holders {
        let mut holders = Holders {
            fixed: Vec::new(),
            sharing: 1, // The store's queue.
            least: LEAST,
        };
        // What was said is held within a bound of its own that is as large as that of bodies.
        let rooms = if self.tracing.content == Content::None {
            1
        } else {
            2
        };
        if document.says(PEEK_TOTAL) {
            let bytes = self.limits.peek_total.as_u64().saturating_mul(rooms);
            holders.fixed.push((PEEK_TOTAL.to_owned(), bytes));
        } else {
            holders.sharing += rooms;
            holders.least = LEAST.max(self.limits.peek);
        }
        for (place, destination) in self.tracing.processors.iter().enumerate() {
            match destination.options.max_memory_usage {
                Some(size) => {
                    let key = format!("tracing.processors[{place}].max_memory_usage");
                    holders.fixed.push((key, size.as_u64()));
                },
                None => holders.sharing += 1,
            }
        }
        holders
    }
}

impl Holders {
    fn fixed_total(&self) -> u64 {
        let bytes = self.fixed.iter().map(|(_, bytes)| *bytes);
        bytes.fold(0, u64::saturating_add)
    }

    /// What each of those that share gets of `most` bytes.
    fn share(&self, most: ByteSize) -> ByteSize {
        let left = most.as_u64().saturating_sub(self.fixed_total());
        ByteSize::bytes(left / self.sharing)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, parse};
    use crate::{base::units::ByteSize, config::Config};

    fn read(yaml: &str) -> Result<Config, String> {
        let sources = Sources {
            variable: &|_| None,
            file: &|_| Err(std::io::ErrorKind::NotFound.into()),
        };
        let loaded = parse("t.yaml", yaml, &sources);
        loaded
            .map(|it| it.config)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_does_not_say_its_own_bound_gets_an_equal_share() {
        let config = read(
            "tracing:\n  resource_limits: {max_memory: 256Mi}\n  processors:\n    - {type: console}\n    \
             - {type: file}\n    - {type: file, max_memory_usage: 56Mi}\n",
        )
        .unwrap();
        // The store, the console, a file and the bodies of requests.
        assert_eq!(config.tracing.share, Some(ByteSize::mib(50)));
        assert_eq!(config.limits.peek_total, ByteSize::mib(50));
    }

    #[test]
    fn content_and_what_is_written_down_count_as_well() {
        let config = read(
            "limits: {peek_total: 10MiB}\ntracing:\n  content: full\n  resource_limits: {max_memory: \
             60MiB}\n  processors: []\n",
        )
        .unwrap();
        assert_eq!(config.tracing.share, Some(ByteSize::mib(40)));
        assert_eq!(config.limits.peek_total, ByteSize::mib(10));
    }

    #[test]
    fn the_usual_bound_holds_if_it_is_written_down() {
        let config = read(
            "limits: {peek_total: 64MiB}\ntracing:\n  resource_limits: {max_memory: 100MiB}\n  processors: \
             [{type: console}]\n",
        )
        .unwrap();
        assert_eq!(config.limits.peek_total, ByteSize::mib(64));
        assert_eq!(config.tracing.share, Some(ByteSize::mib(18)));
    }

    #[test]
    fn it_is_divided_anew_without_a_restart() {
        let new = read("tracing: {resource_limits: {max_memory: 99Mi, max_cpu: 2}}").unwrap();
        let restart = read("{}").unwrap().needs_restart(&new);
        assert_eq!(restart, ["tracing.resource_limits.max_cpu"]);
    }

    #[test]
    fn more_than_there_is_cannot_be_set_aside() {
        let error = read(
            "limits: {peek_total: 20MiB}\ntracing:\n  resource_limits: {max_memory: 32Mi}\n  processors:\n    \
             - {type: console, max_memory_usage: 16MiB}\n",
        )
        .unwrap_err();
        let part = "t.yaml:3:33: tracing.resource_limits.max_memory: 32MiB leaves 0B after \
                    limits.peek_total 20MiB, tracing.processors[0].max_memory_usage 16MiB";
        assert!(error.contains(part), "{error}");
        let error = read("tracing: {resource_limits: {max_memory: 8Mi}}").unwrap_err();
        assert!(error.contains("which need 4MiB"), "{error}");
    }

    #[test]
    fn without_it_everything_is_as_it_was() {
        assert_eq!(read("{}").unwrap(), Config::default());
        let config = read("tracing: {resource_limits: {max_memory: 10GiB}}").unwrap();
        assert_eq!(config.limits, Config::default().limits);
    }
}
