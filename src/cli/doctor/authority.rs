//! The certificate authority by which connections are opened: whether it can be used, until when, and
//! for which of the configured providers.

use super::finding::{Finding, Part};
use crate::{
    base::clock::{Clock as _, SystemClock, Timestamp},
    config::Config,
    net::authority::{Authority, Trouble},
    provider::Providers,
};

const NAME: &str = "authority";
const HERE: Part = Part::Here;

/// What is to be said of it; nothing where no connection is opened.
pub(super) fn look(config: &Config) -> Option<Finding> {
    let intercept = &config.intercept;
    if !intercept.enabled {
        return None;
    }
    Some(match Authority::open(&intercept.ca_dir) {
        Ok(authority) => of(&authority, config, SystemClock.wall()),
        Err(error) => Finding::failed(HERE, NAME, format!("intercept.ca_dir: {error}")),
    })
}

fn of(authority: &Authority, config: &Config, now: Timestamp) -> Finding {
    match authority.trouble(now) {
        Some(soon @ Trouble::EndsSoon(_)) => {
            let advice = "agents that are running trust the next one when they are started again";
            return Finding::unsure(HERE, NAME, soon.to_string(), advice);
        },
        Some(over) => return Finding::failed(HERE, NAME, over.to_string()),
        None => {},
    }
    let left_out = left_out(authority, config, now);
    let ends = authority.about().ends.to_jiff().strftime("%Y-%m-%d");
    if left_out.is_empty() {
        let says = format!("holds until {ends}, for every provider that has a host of its own");
        return Finding::ok(HERE, NAME, says);
    }
    let says = format!("may not vouch for {}", left_out.join(", "));
    let advice = "their connections are not opened: `tollgate ca create --replace` makes an authority \
                  for the providers as they are configured now";
    Finding::unsure(HERE, NAME, says, advice)
}

/// The hosts that clients reach providers at by TLS, and that it may not vouch for.
fn left_out(authority: &Authority, config: &Config, now: Timestamp) -> Vec<String> {
    // What is wrong with them is said elsewhere.
    let providers = Providers::build(&config.providers);
    let bases = providers.iter().flat_map(Providers::iter);
    let bases = bases.filter_map(|provider| provider.base.as_ref());
    let hosts = bases.filter(|base| base.tls).map(|base| &*base.host);
    let mut left_out: Vec<String> = hosts
        .filter(|host| authority.leaf(host, now).is_err())
        .map(str::to_owned)
        .collect();
    left_out.sort();
    left_out.dedup();
    left_out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::finding::Verdict, *};
    use crate::{net::authority::Terms, provider};

    const DAY: Duration = Duration::from_hours(24);

    fn config(providers: &str) -> Config {
        let providers: provider::Config = serde_json::from_str(providers).unwrap();
        Config {
            providers,
            ..Config::default()
        }
    }

    fn found(terms: &Terms, config: &Config, later: Duration) -> Finding {
        let (dir, now) = (tempfile::tempdir().unwrap(), SystemClock.wall());
        let authority = Authority::create(dir.path(), terms, &[], now).unwrap();
        of(&authority, config, now + later)
    }

    #[test]
    fn an_authority_is_well_until_it_ends() {
        let (any, config) = (Terms::default(), config("{}"));
        for (later, expected) in [
            (DAY, Verdict::Ok),
            (DAY * 350, Verdict::Unsure),
            (DAY * 366, Verdict::Failed),
        ] {
            let found = found(&any, &config, later);
            assert_eq!(found.verdict, expected, "{found:?}");
        }
    }

    #[test]
    fn providers_that_came_after_it_are_named() {
        let known = Providers::build(&provider::Config::default()).unwrap();
        let hosts = known.iter().flat_map(|provider| &provider.hosts);
        let terms = Terms::of(hosts.map(|host| &**host)).unwrap();
        let all = found(&terms, &config("{}"), DAY);
        assert_eq!(all.verdict, Verdict::Ok, "{all:?}");
        let one = r#"{"mine": {"base_url": "https://llm.example"}, "plain": {"base_url": "http://a.example"}}"#;
        let later = found(&terms, &config(one), DAY);
        assert_eq!(later.verdict, Verdict::Unsure);
        assert_eq!(later.says, "may not vouch for llm.example");
    }
}
