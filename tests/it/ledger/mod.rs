//! The ledger, through the module's public face: what survives, and what is found again.

mod day;
mod durability;
mod restart;

use std::{path::Path, sync::Arc};

use tollgate::{
    base::clock::TestClock,
    ledger::{Config, Ledger, Recovery, View, repair},
};

use crate::policy::{NOW, engine_over};

pub(crate) use restart::crash;

pub(crate) fn open(dir: &Path) -> (Ledger, Recovery) {
    let config = Config {
        path: dir.join("journal"),
        ..Config::default()
    };
    Ledger::open(&config, Arc::new(TestClock::at(NOW))).unwrap()
}

pub(crate) fn view(dir: &Path) -> View {
    View::open(&dir.join("journal")).unwrap()
}
