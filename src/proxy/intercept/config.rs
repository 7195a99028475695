//! The section `intercept`: traffic of clients that were not pointed at Tollgate.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::{
    base::units,
    call::line::clean,
    net::{authority::About, reach::Allowed},
};

/// What becomes of traffic that reaches the proxy by `HTTPS_PROXY` and the like. Changes need a
/// restart.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether it is taken at all.
    pub enabled: bool,
    /// Where the certificate authority is kept (`tollgate ca create`).
    pub ca_dir: PathBuf,
    /// What becomes of connections to hosts that are no provider's.
    pub others: Others,
    /// What becomes of a client's further connections to a provider whose certificate, as we make it,
    /// the client has refused.
    pub on_refused: OnRefused,
    /// Private addresses that may be reached.
    pub allow_private: Vec<Allowed>,
    /// Certificates that are kept for hosts that were asked for last.
    pub leaves: usize,
    /// Tunnels at once; further ones are answered 503.
    pub tunnels: usize,
    /// How long nothing may come through a tunnel before it is closed.
    #[serde(with = "units::duration")]
    pub idle_timeout: Duration,
    /// How long a client may take for its TLS handshake.
    #[serde(with = "units::duration")]
    pub handshake_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            ca_dir: PathBuf::from("./tollgate-data/ca"),
            others: Others::Tunnel,
            on_refused: OnRefused::Fail,
            allow_private: Vec::new(),
            leaves: 1_024,
            tunnels: 4_096,
            idle_timeout: Duration::from_hours(1),
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// What is done with connections, in words. `authority`: what it is done with, where there is one.
    pub fn means(&self, authority: Option<&About>) -> String {
        let with = authority.map_or_else(
            || "without an authority as yet".to_owned(),
            |about| {
                let ends = about.ends.to_jiff().strftime("%Y-%m-%d");
                format!("by {} until {ends}", clean(&about.subject))
            },
        );
        let others = match self.others {
            Others::Tunnel => "those to others pass unread",
            Others::Deny => "those to others are refused",
        };
        format!("connections to providers are opened, {with}; {others}")
    }
}

/// What becomes of connections to hosts that are no provider's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Others {
    /// They pass unread.
    Tunnel,
    /// They are refused.
    Deny,
}

/// What becomes of clients that refuse our certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRefused {
    /// Their connections fail, until they trust our authority.
    Fail,
    /// Their next ones pass unread, and are counted.
    Tunnel,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;

    #[test]
    fn what_it_means_is_said_in_words() {
        let about = About {
            subject: "O=Tollgate, CN=\x1b[1mmine".to_owned(),
            begins: Timestamp::from_secs(0),
            ends: Timestamp::from_secs(1_800_000_000),
            hosts: Vec::new(),
        };
        let said = Config::default().means(Some(&about));
        assert!(said.contains("by O=Tollgate, CN="), "{said}");
        assert!(
            said.ends_with("mine until 2027-01-15; those to others pass unread"),
            "{said}"
        );
        assert!(!said.contains('\x1b'), "{said}");
        let denying = Config {
            others: Others::Deny,
            ..Config::default()
        };
        assert_eq!(
            denying.means(None),
            "connections to providers are opened, without an authority as yet; those to others are \
             refused"
        );
    }

    #[test]
    fn what_is_not_written_is_as_it_is_by_default_and_mistakes_are_refused() {
        let read = |json: &str| serde_json::from_str::<Config>(json);
        let some = read(r#"{"others": "deny", "allow_private": ["10.0.0.0/8", "db:5432"]}"#);
        let expected = Config {
            others: Others::Deny,
            allow_private: vec!["10.0.0.0/8".parse().unwrap(), "db:5432".parse().unwrap()],
            ..Config::default()
        };
        assert_eq!(some.unwrap(), expected);
        for json in [
            r#"{"others": "drop"}"#,
            r#"{"allow_private": ["http://x"]}"#,
            r#"{"on_refused": "ignore"}"#,
            r#"{"enable": true}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
