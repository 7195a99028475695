//! `tollgate ca show`.

use std::io::Write as _;

use clap::Args;
use serde::Serialize;

use super::{
    super::{Failure, format::TextFormat},
    Place, open,
};
use crate::{
    base::clock::{Clock as _, SystemClock, Timestamp},
    call::line::clean,
    net::authority::{Authority, Trouble, fingerprint},
};

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Text for people, or JSON
    #[arg(long, value_enum, default_value_t = TextFormat::Text)]
    format: TextFormat,
    #[command(flatten)]
    place: Place,
}

/// What is shown.
#[derive(Serialize)]
struct Shown {
    dir: String,
    issuer: String,
    begins: Timestamp,
    ends: Timestamp,
    /// The hosts that it may vouch for, with all names below each; empty: any.
    hosts: Vec<String>,
    /// The fingerprints of what clients trust, the one in use first.
    roots: Vec<String>,
    trouble: Option<String>,
}

impl Show {
    pub(super) fn run(self) -> Result<(), Failure> {
        let dir = self.place.dir()?;
        let authority = open(&dir)?;
        let now = SystemClock.wall();
        let trouble = authority.trouble(now);
        let shown = Shown::new(dir.display().to_string(), &authority, trouble);
        let mut out = anstream::stdout().lock();
        match self.format {
            TextFormat::Json => {
                let json = serde_json::to_string_pretty(&shown).map_err(Failure::failed)?;
                writeln!(out, "{json}")?;
            },
            TextFormat::Text => write!(out, "{}", shown.text())?,
        }
        out.flush()?;
        match trouble {
            Some(Trouble::Ended(_) | Trouble::NotYet(_)) => Err(Failure::Said(1)),
            _ => Ok(()),
        }
    }
}

impl Shown {
    fn new(dir: String, authority: &Authority, trouble: Option<Trouble>) -> Self {
        let about = authority.about();
        Self {
            dir,
            issuer: about.subject.clone(),
            begins: about.begins,
            ends: about.ends,
            hosts: about.hosts.clone(),
            roots: authority.roots().iter().map(fingerprint).collect(),
            trouble: trouble.map(|trouble| trouble.to_string()),
        }
    }

    fn text(&self) -> String {
        let minute = |at: Timestamp| at.to_jiff().strftime("%Y-%m-%d %H:%M").to_string();
        let hosts = match self.hosts.as_slice() {
            [] => vec!["any host".to_owned()],
            hosts => hosts.to_vec(),
        };
        let mut roots = self.roots.iter();
        let lines = [
            ("directory", self.dir.clone()),
            ("issuer", self.issuer.clone()),
        ]
        .into_iter()
        .chain([("begins", minute(self.begins)), ("ends", minute(self.ends))])
        .chain(roots.next().map(|root| ("root", root.clone())))
        .chain(roots.map(|root| ("trusted too", root.clone())))
        .chain(
            hosts
                .into_iter()
                .enumerate()
                .map(|(at, host)| (if at == 0 { "may vouch for" } else { "" }, host)),
        )
        .chain(
            self.trouble
                .iter()
                .map(|trouble| ("trouble", trouble.clone())),
        );
        let lines = lines.map(|(name, value)| format!("{name:<14} {}\n", clean(&value)));
        lines.collect::<Vec<_>>().concat()
    }
}
