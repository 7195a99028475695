//! The rules as scripts for `sh`, which say the same however often they are run.
//!
//! Connections are led to a port of this machine (`REDIRECT`), where Tollgate asks the system where
//! they were to go. Three kinds are left alone: those to this machine itself, those to link-local
//! addresses (where clouds keep their metadata), and Tollgate's own, which would come back to it.

use std::{
    fmt::{self, Write as _},
    num::NonZeroU32,
    str::FromStr,
};

use clap::ValueEnum;

use super::user::User;

/// How many ports one rule of iptables names at most.
pub(super) const MAX_PORTS: usize = 15;

/// The program that keeps the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Backend {
    /// `nft`, in a table of its own
    Nft,
    /// `iptables` and `ip6tables`, in chains of their own
    Iptables,
}

/// What is redirected, and to where.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// Who on this machine is left alone.
    pub(super) except: Option<User>,
    /// Whose connections are left alone, by their mark; neither: those of everybody are.
    pub(super) except_marked: Option<NonZeroU32>,
    /// The interfaces whose incoming connections are redirected.
    pub(super) from: Vec<Interface>,
    /// The ports that connections go to; not empty.
    pub(super) ports: Vec<u16>,
    /// The port that they are led to.
    pub(super) to: u16,
    /// Whether those by IPv6 are, too.
    pub(super) ipv6: bool,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface(String);

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Interface {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        word(text, 15)
            .map(Self)
            .ok_or("expected an interface's name, like eth1")
    }
}

/// A word that means nothing but itself, to a shell, nft or iptables.
pub(super) fn word(text: &str, longest: usize) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let good = (1..=longest).contains(&text.len()) && !text.starts_with('-');
    (good && text.bytes().all(is_plain)).then(|| text.to_owned())
}

impl Rules {
    /// Whether what programs on this machine send is redirected.
    pub(super) const fn redirects_output(&self) -> bool {
        self.except.is_some() || self.except_marked.is_some()
    }

    /// What puts them in force, in place of earlier ones.
    pub(super) fn script(&self, backend: Backend) -> String {
        match backend {
            Backend::Nft => self.nft(),
            Backend::Iptables => {
                let families = families(self.ipv6);
                families.map(|family| self.iptables(family)).collect()
            },
        }
    }

    /// One transaction: a table is declared, so that it can be deleted, and is made anew.
    fn nft(&self) -> String {
        let ports = self.ports_as_text(", ");
        let mut meant = String::new();
        if !self.ipv6 {
            meant.push_str("    meta nfproto ipv6 return\n");
        }
        let to = self.to;
        _ = write!(
            meant,
            "    fib daddr type local return\n    \
                 ip daddr 169.254.0.0/16 return\n    \
                 ip6 daddr fe80::/10 return\n    \
                 tcp dport {{ {ports} }} redirect to :{to}\n"
        );
        let mut chains = String::new();
        let user = self.except.as_ref();
        let user = user.map(|user| format!("meta skuid \"{user}\" return\n    "));
        let mark = self.except_marked;
        let mark = mark.map(|mark| format!("meta mark {mark} return\n    "));
        let except: String = user.into_iter().chain(mark).collect();
        if !except.is_empty() {
            _ = write!(
                chains,
                "  chain output {{\n    type nat hook output priority -100; policy accept;\n    \
                 {except}goto meant\n  }}\n"
            );
        }
        if !self.from.is_empty() {
            let names: Vec<_> = self.from.iter().map(|at| format!("\"{}\"", at.0)).collect();
            _ = write!(
                chains,
                "  chain incoming {{\n    type nat hook prerouting priority -100; policy accept;\n    \
                 iifname {{ {} }} goto meant\n  }}\n",
                names.join(", ")
            );
        }
        format!(
            "nft -f - <<'RULES'\ntable inet tollgate\ndelete table inet tollgate\ntable inet tollgate \
             {{\n  chain meant {{\n{meant}  }}\n{chains}}}\nRULES\n"
        )
    }

    /// Chains are made or emptied, and filled, in one transaction; what leads to them stays.
    fn iptables(&self, family: Family) -> String {
        let (ports, to) = (self.ports_as_text(","), self.to);
        let Family {
            program,
            link_local,
        } = family;
        let mut lines = format!(
            "-A TOLLGATE -m addrtype --dst-type LOCAL -j RETURN\n\
             -A TOLLGATE -d {link_local} -j RETURN\n\
             -A TOLLGATE -p tcp -m multiport --dports {ports} -j REDIRECT --to-ports {to}\n"
        );
        let user = self.except.as_ref();
        let user = user.map(|user| format!("owner --uid-owner {user}"));
        let mark = self.except_marked;
        let mark = mark.map(|mark| format!("mark --mark {mark}"));
        let except: Vec<String> = user.into_iter().chain(mark).collect();
        for one in &except {
            _ = writeln!(lines, "-A TOLLGATE_OUTPUT -m {one} -j RETURN");
        }
        if !except.is_empty() {
            lines.push_str("-A TOLLGATE_OUTPUT -j TOLLGATE\n");
        }
        for Interface(name) in &self.from {
            _ = writeln!(lines, "-A TOLLGATE_INCOMING -i {name} -j TOLLGATE");
        }
        let mut script = restore(program, &format!("{MADE}{lines}"));
        for jump in JUMPS {
            _ = writeln!(
                script,
                "{program} -w -t nat -C {jump} 2>/dev/null || {program} -w -t nat -I {jump}"
            );
        }
        script
    }

    fn ports_as_text(&self, between: &str) -> String {
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        ports.join(between)
    }
}

/// What takes nft's table away.
pub(super) const WITHOUT_TABLE: &str =
    "nft -f - <<'RULES'\ntable inet tollgate\ndelete table inet tollgate\nRULES\n";

/// What takes the chains of `program`, iptables or ip6tables, away.
///
/// They are made first, so that all of them can be deleted.
pub(super) fn without_chains(program: &str) -> String {
    let mut script = restore(program, MADE);
    for jump in JUMPS {
        _ = writeln!(
            script,
            "while {program} -w -t nat -D {jump} 2>/dev/null; do :; done"
        );
    }
    let deleted = CHAINS.map(|chain| format!("-X {chain}\n"));
    script.push_str(&restore(program, &deleted.concat()));
    script
}

fn restore(program: &str, lines: &str) -> String {
    format!("{program}-restore --wait --noflush <<'RULES'\n*nat\n{lines}COMMIT\nRULES\n")
}

/// The chains, each after those that lead to it.
pub(super) const CHAINS: [&str; 3] = ["TOLLGATE_OUTPUT", "TOLLGATE_INCOMING", "TOLLGATE"];

/// The chains, empty.
const MADE: &str = ":TOLLGATE - [0:0]\n:TOLLGATE_OUTPUT - [0:0]\n:TOLLGATE_INCOMING - [0:0]\n";

/// What leads to them.
const JUMPS: [&str; 2] = [
    "OUTPUT -p tcp -j TOLLGATE_OUTPUT",
    "PREROUTING -p tcp -j TOLLGATE_INCOMING",
];

/// iptables for one version of IP.
#[derive(Clone, Copy)]
struct Family {
    program: &'static str,
    link_local: &'static str,
}

fn families(ipv6: bool) -> impl Iterator<Item = Family> {
    let all = [
        Family {
            program: "iptables",
            link_local: "169.254.0.0/16",
        },
        Family {
            program: "ip6tables",
            link_local: "fe80::/10",
        },
    ];
    all.into_iter().take(if ipv6 { 2 } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            except: Some(User::Number(1337)),
            except_marked: None,
            from: vec![Interface("veth0".to_owned())],
            ports: vec![80, 443],
            to: 4143,
            ipv6: true,
        }
    }

    #[test]
    fn what_could_be_read_as_more_than_a_name_is_refused() {
        for good in ["1337", "tollgate", "my-user", "svc.llm"] {
            assert_eq!(good.parse::<User>().unwrap().to_string(), good);
        }
        for bad in ["", "-j", "a b", "a;b", "$(x)", "\"", "x\n"] {
            assert!(bad.parse::<User>().is_err(), "{bad:?}");
        }
        assert!("eth0".parse::<Interface>().is_ok());
        assert!("a-name-that-is-too-long".parse::<Interface>().is_err());
    }

    #[test]
    fn both_backends_leave_tollgates_own_traffic_and_local_addresses_alone() {
        let nft = rules().script(Backend::Nft);
        for line in [
            "meta skuid \"1337\" return",
            "fib daddr type local return",
            "iifname { \"veth0\" } goto meant",
            "tcp dport { 80, 443 } redirect to :4143",
        ] {
            assert!(nft.contains(line), "{line}\n{nft}");
        }
        let iptables = rules().script(Backend::Iptables);
        for line in [
            "ip6tables-restore --wait --noflush",
            "-A TOLLGATE_OUTPUT -m owner --uid-owner 1337 -j RETURN\n-A TOLLGATE_OUTPUT -j TOLLGATE",
            "-A TOLLGATE_INCOMING -i veth0 -j TOLLGATE",
            "-A TOLLGATE -d fe80::/10 -j RETURN",
            "--dports 80,443 -j REDIRECT --to-ports 4143",
        ] {
            assert!(iptables.contains(line), "{line}\n{iptables}");
        }
    }

    #[test]
    fn what_is_marked_is_left_alone() {
        let marked = Rules {
            except: None,
            except_marked: NonZeroU32::new(77),
            ..rules()
        };
        let nft = marked.script(Backend::Nft);
        assert!(
            nft.contains("    meta mark 77 return\n    goto meant\n"),
            "{nft}"
        );
        let iptables = marked.script(Backend::Iptables);
        let lines =
            "-A TOLLGATE_OUTPUT -m mark --mark 77 -j RETURN\n-A TOLLGATE_OUTPUT -j TOLLGATE\n";
        assert!(
            iptables.contains(lines) && !iptables.contains("owner"),
            "{iptables}"
        );
        let both = Rules {
            except: rules().except,
            ..marked
        };
        let nft = both.script(Backend::Nft);
        assert!(
            nft.contains("meta skuid \"1337\" return\n    meta mark 77 return"),
            "{nft}"
        );
    }

    #[test]
    fn nobodys_output_is_redirected_unless_tollgates_own_is_told_apart() {
        let forwarded = Rules {
            except: None,
            ipv6: false,
            ..rules()
        };
        let nft = forwarded.script(Backend::Nft);
        assert!(!nft.contains("hook output") && nft.contains("nfproto ipv6 return"));
        let iptables = forwarded.script(Backend::Iptables);
        assert!(!iptables.contains("-A TOLLGATE_OUTPUT") && !iptables.contains("ip6tables"));
    }
}
