//! `tollgate ca create`.

use std::{io::Write as _, net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, value_parser};

use super::{
    super::Failure,
    Place,
    install::{give, given, ready},
};
use crate::{
    base::clock::{Clock as _, SystemClock},
    config::Config,
    net::{
        authority::{Authority, Before, Scope, Terms},
        tls,
    },
    provider::Providers,
};

#[derive(Debug, Args)]
pub(super) struct Create {
    /// A host that it may vouch for, with all names below it, instead of the providers': a name,
    /// *.example.com, or an address
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Let it vouch for any host
    #[arg(long, conflicts_with = "hosts")]
    any_host: bool,
    /// How many days it holds
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = value_parser!(u32).range(1..=3_650))]
    days: u32,
    /// Make another in the place of one that is there, whose root stays among those to trust until it
    /// ends: running clients go on
    #[arg(long)]
    replace: bool,
    /// With --replace: take the root of the one before out of those to trust at once, where somebody
    /// else may have its key: clients are to be given the new files and started again
    #[arg(long, requires = "replace")]
    distrust: bool,
    /// Put what clients need of it into this directory, too; the key stays where it is
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

impl Create {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.place.load()?.config;
        let hosts = self.hosts(&config)?;
        let scope = match &hosts {
            None => Scope::any(),
            Some(hosts) => {
                let hosts = hosts.iter().map(String::as_str);
                Scope::of(hosts).map_err(Failure::wrong)?
            },
        };
        let terms = Terms {
            scope,
            lifetime: Duration::from_hours(u64::from(self.days) * 24),
            before: match (self.replace, self.distrust) {
                (false, _) => Before::Stay,
                (true, false) => Before::Keep,
                (true, true) => Before::Distrust,
            },
        };
        let dir = self.place.dir()?;
        if let Some(to) = &self.to {
            // Before there is an authority that clients cannot be given.
            ready(to)?;
        }
        let now = SystemClock.wall();
        let made = Authority::create(&dir, &terms, &tls::system_roots(), now);
        let made = made.map_err(Failure::failed)?;
        let mut out = anstream::stdout().lock();
        let (dir, about) = (dir.display(), made.about());
        let ends = about.ends.to_jiff().strftime("%Y-%m-%d");
        writeln!(
            out,
            "Made a certificate authority in {dir}. It ends {ends}."
        )?;
        match &*about.hosts {
            [] => writeln!(
                out,
                "It may vouch for any host: whoever gets its key can, too."
            )?,
            [host] if host.parse::<IpAddr>().is_ok() => writeln!(out, "It may vouch for {host}.")?,
            [host] => writeln!(out, "It may vouch for {host} and what is below it.")?,
            hosts => writeln!(
                out,
                "It may vouch for {} hosts and what is below them (tollgate ca show).",
                hosts.len()
            )?,
        }
        for wide in hosts.iter().flatten().filter_map(|host| wide(host)) {
            writeln!(out, "{wide}")?;
        }
        if let Some(to) = &self.to {
            give(&made, to)?;
            writeln!(out, "{}", given(to))?;
            return Ok(out.flush()?);
        }
        writeln!(
            out,
            "Have clients trust it: eval \"$(tollgate ca env)\", or tollgate ca install.\n\
             For clients that other users run, tollgate ca install --to DIR puts what they need where \
             they can read it, without the key."
        )?;
        Ok(out.flush()?)
    }

    /// The hosts that it may vouch for; `None`: any.
    fn hosts(&self, config: &Config) -> Result<Option<Vec<String>>, Failure> {
        if self.any_host {
            return Ok(None);
        }
        if !self.hosts.is_empty() {
            return Ok(Some(self.hosts.clone()));
        }
        let known = Providers::build(&config.providers).map_err(|errors| {
            let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
            Failure::Wrong(lines.join("\n"))
        })?;
        Ok(Some(providers(&known)))
    }
}

/// For the hosts of these providers alone.
pub(in crate::cli) fn scope(known: &Providers) -> Result<Scope, Failure> {
    let hosts = providers(known);
    Scope::of(hosts.iter().map(String::as_str)).map_err(Failure::wrong)
}

/// The hosts of providers that are reached by TLS.
fn providers(known: &Providers) -> Vec<String> {
    let of = |provider: &crate::provider::Provider| {
        let plain = provider.base.as_ref().filter(|base| !base.tls);
        let plain = plain.map(|base| base.host.clone());
        let hosts = provider.hosts.iter();
        let hosts = hosts.filter(|host| Some(*host) != plain.as_ref());
        hosts.map(ToString::to_string).collect::<Vec<_>>()
    };
    known.iter().flat_map(|provider| of(provider)).collect()
}

/// What to know about a host that no constraint fits: more is let pass.
fn wide(host: &str) -> Option<String> {
    let (_any, rest) = host.rsplit_once('*')?;
    let only = host
        .strip_prefix("*.")
        .is_some_and(|name| !name.contains('*'));
    let (_part, domain) = rest.split_once('.')?;
    (!only).then(|| {
        format!(
            "Nothing narrower than all of {domain} fits {host}; name the hosts that you use with \
             --host."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider;

    #[test]
    fn it_is_bound_to_the_providers_that_are_reached_by_tls() {
        let config: provider::Config = serde_json::from_str(
            r#"{"mine": {"base_url": "https://llm.example", "dialect": "openai"},
                "plain": {"base_url": "http://10.0.0.7:8000", "dialect": "openai"}}"#,
        )
        .unwrap();
        let hosts = providers(&Providers::build(&config).unwrap());
        let has = |host: &str| hosts.iter().any(|known| known == host);
        assert!(has("api.openai.com") && has("*.openai.azure.com") && has("llm.example"));
        assert!(!has("127.0.0.1") && !has("10.0.0.7"), "{hosts:?}");
        assert!(Scope::of(hosts.iter().map(String::as_str)).is_ok());
    }

    #[test]
    fn what_is_let_pass_besides_is_said() {
        for host in ["api.openai.com", "*.openai.azure.com", "10.0.0.1"] {
            assert_eq!(wide(host), None);
        }
        for (host, domain) in [
            (
                "bedrock-runtime.*.amazonaws.com",
                "all of amazonaws.com fits",
            ),
            ("*-aiplatform.googleapis.com", "all of googleapis.com fits"),
        ] {
            let said = wide(host).unwrap();
            assert!(said.contains(domain), "{said}");
        }
    }
}
