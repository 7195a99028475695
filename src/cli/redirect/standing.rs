//! Rules of ours that stand, whichever program they were made by, and their removal.

use super::{
    rules::{Backend, CHAINS, WITHOUT_TABLE, without_chains},
    system::{self, Trouble},
};

/// A program that may keep rules of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeper {
    Nft,
    Iptables,
    Ip6tables,
}

/// What came of a removal.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// What was taken away.
    pub(super) what: Vec<&'static str>,
    /// Who could not be asked, and why: some programs are there, and this system does not serve them.
    pub(super) unasked: Vec<(Keeper, Trouble)>,
}

impl Keeper {
    const ALL: [Self; 3] = [Self::Nft, Self::Iptables, Self::Ip6tables];

    /// Those by which a backend makes rules.
    pub(super) const fn of(backend: Backend, ipv6: bool) -> &'static [Self] {
        match (backend, ipv6) {
            (Backend::Nft, _) => &[Self::Nft],
            (Backend::Iptables, true) => &[Self::Iptables, Self::Ip6tables],
            (Backend::Iptables, false) => &[Self::Iptables],
        }
    }

    /// Those that are installed.
    pub(super) fn installed() -> impl Iterator<Item = Self> {
        let all = Self::ALL.into_iter();
        all.filter(|keeper| system::is_installed(keeper.program()))
    }

    /// What is run.
    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Iptables => "iptables",
            Self::Ip6tables => "ip6tables",
        }
    }

    /// What it keeps of ours.
    const fn keeps(self) -> &'static str {
        match self {
            Self::Nft => "the table `inet tollgate` of nft",
            Self::Iptables => "the chains TOLLGATE* of iptables",
            Self::Ip6tables => "the chains TOLLGATE* of ip6tables",
        }
    }

    fn has_ours(self) -> Result<bool, Trouble> {
        if self == Self::Nft {
            let tables = system::ask("nft", &["list", "tables"])?;
            return Ok(tables.lines().any(|line| line == "table inet tollgate"));
        }
        let rules = system::ask(self.program(), &["-w", "-t", "nat", "-S"])?;
        let mut chains = rules.lines().filter_map(|line| line.strip_prefix("-N "));
        Ok(chains.any(|chain| CHAINS.contains(&chain)))
    }

    fn removal(self) -> String {
        match self {
            Self::Nft => WITHOUT_TABLE.to_owned(),
            _ => without_chains(self.program()),
        }
    }
}

/// Takes away what these keep of ours.
///
/// # Errors
/// Something stays that is ours.
pub(super) fn remove(keepers: &[Keeper]) -> Result<Removed, Trouble> {
    let mut removed = Removed::default();
    for keeper in keepers {
        match keeper.has_ours() {
            Ok(false) => {},
            Ok(true) => {
                system::execute(&keeper.removal())?;
                removed.what.push(keeper.keeps());
            },
            Err(trouble) => removed.unasked.push((*keeper, trouble)),
        }
    }
    Ok(removed)
}
