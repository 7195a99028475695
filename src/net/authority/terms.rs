//! For whom an authority may vouch, and how long.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};
use rustls::pki_types::DnsName;

use super::NOWHERE;

/// For whom an authority may vouch, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// For whom.
    pub scope: Scope,
    /// From when it is made.
    pub lifetime: Duration,
    /// What becomes of one that is there.
    pub before: Before,
}

/// For whom an authority may vouch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Hosts by name, each with all names below it; none of them is below another.
    names: Vec<String>,
    /// Hosts by address.
    addresses: Vec<IpAddr>,
    /// For anybody, whatever the lists say.
    any: bool,
}

/// What becomes of an authority where another is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It stays, and none is made.
    Stay,
    /// It goes. Its root stays among those to trust, for what it has vouched for.
    Keep,
    /// It goes, and its root is not to be trusted any more.
    Distrust,
}

/// No authority can be bound to such a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no host: expected one like api.example.com, *.example.com or 10.1.2.3")]
pub struct WrongHost(String);

/// For any host, for a year, if there is none yet.
impl Default for Terms {
    fn default() -> Self {
        Self {
            scope: Scope::any(),
            lifetime: Duration::from_hours(365 * 24),
            before: Before::Stay,
        }
    }
}

impl Terms {
    /// As by default, but for these hosts alone.
    ///
    /// # Errors
    /// See [`Scope::of`].
    pub fn of<'a, I: IntoIterator<Item = &'a str>>(hosts: I) -> Result<Self, WrongHost> {
        Ok(Self {
            scope: Scope::of(hosts)?,
            ..Self::default()
        })
    }
}

impl Scope {
    /// For these hosts alone: names, names with `*` for any letters, or addresses. A constraint in a
    /// certificate has no `*`: it lets pass all names that end like what is behind the last one.
    ///
    /// # Errors
    /// One of them is no host, or would let pass a whole top-level domain.
    pub fn of<'a, I: IntoIterator<Item = &'a str>>(hosts: I) -> Result<Self, WrongHost> {
        let (mut names, mut addresses) = (Vec::new(), Vec::new());
        for host in hosts {
            if let Ok(address) = host.parse() {
                addresses.push(address);
            } else {
                names.push(below(host).ok_or_else(|| WrongHost(host.to_owned()))?);
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        names.sort_unstable();
        names.dedup();
        let is_below_another = |name: &String| {
            let mut others = names.iter();
            others.any(|other| {
                let above = name.strip_suffix(other.as_str());
                above.is_some_and(|above| above.ends_with('.'))
            })
        };
        let (_below, names) = names.clone().into_iter().partition(is_below_another);
        Ok(Self {
            names,
            addresses,
            any: false,
        })
    }

    /// For any host.
    pub const fn any() -> Self {
        Self {
            names: Vec::new(),
            addresses: Vec::new(),
            any: true,
        }
    }

    /// The same as an extension of a certificate.
    pub(super) fn constraints(&self) -> Option<NameConstraints> {
        if self.any {
            return None;
        }
        let names = self.names.iter().cloned().map(GeneralSubtree::DnsName);
        let addresses = self.addresses.iter();
        let addresses = addresses.map(|address| match address {
            IpAddr::V4(_) => CidrSubnet::from_addr_prefix(*address, 32),
            IpAddr::V6(_) => CidrSubnet::from_addr_prefix(*address, 128),
        });
        let mut permitted: Vec<_> = names
            .chain(addresses.map(GeneralSubtree::IpAddress))
            .collect();
        let mut excluded = Vec::new();
        // A list bounds only the kind of names that is in it.
        if self.addresses.is_empty() {
            let all = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
            let all = all.map(|first: IpAddr| CidrSubnet::from_addr_prefix(first, 0));
            excluded.extend(all.map(GeneralSubtree::IpAddress));
        }
        if self.names.is_empty() {
            permitted.push(GeneralSubtree::DnsName(NOWHERE.to_owned()));
        }
        Some(NameConstraints {
            permitted_subtrees: permitted,
            excluded_subtrees: excluded,
        })
    }
}

/// What is behind the last `*` of a host, from the next dot on; the host itself if there is none.
/// `None`: that is no name, or a top-level domain.
fn below(host: &str) -> Option<String> {
    let name = match host.rsplit_once('*') {
        Some((_any, rest)) => rest.split_once('.')?.1,
        None => host,
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let is_domain = host.contains('*') && !name.contains('.');
    (DnsName::try_from(name.as_str()).is_ok() && !is_domain).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_with_all_below_and_addresses() {
        let scope = Scope::of([
            "api.OpenAI.com",
            "*.api.openai.com",
            "*.openai.azure.com",
            "*-aiplatform.googleapis.com",
            "bedrock-runtime.*.amazonaws.com",
            "xapi.openai.com",
            "10.1.2.3",
            "::1",
            "localhost",
        ])
        .unwrap();
        let names = [
            "amazonaws.com",
            "api.openai.com",
            "googleapis.com",
            "localhost",
            "openai.azure.com",
            "xapi.openai.com",
        ];
        assert_eq!(scope.names, names);
        assert_eq!(scope.addresses.len(), 2);
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for host in ["", "*", "*.com", "a b", "https://x.example", "a.*", "*com"] {
            assert_eq!(Scope::of([host]), Err(WrongHost(host.to_owned())), "{host}");
        }
    }

    #[test]
    fn a_kind_of_names_that_is_not_listed_is_not_free() {
        let names = Scope::of(["a.example"]).unwrap().constraints().unwrap();
        assert_eq!(names.excluded_subtrees.len(), 2, "no address");
        let addresses = Scope::of(["10.0.0.1"]).unwrap().constraints().unwrap();
        assert_eq!(addresses.permitted_subtrees.len(), 2, "no name");
        assert!(addresses.excluded_subtrees.is_empty());
        assert!(Scope::any().constraints().is_none());
        let none = Scope::of([]).unwrap().constraints();
        assert!(none.is_some(), "nobody is not anybody");
    }
}
