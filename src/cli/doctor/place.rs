//! What is here: the configuration, what a sidecar keeps on disk, and what it knows of prices.

use std::{fs, path::Path, time::Duration};

use super::{
    super::owner,
    authority,
    finding::{Finding, Part, Verdict},
    unmetered,
};
use crate::{
    admin::Archive,
    app,
    base::{
        clock::{Clock as _, SystemClock},
        directory::try_write,
        secret::Secret,
    },
    call::line::{counted, grouped},
    config::{Config, Document, Loaded},
    ledger::Owner,
    pipeline::ProcessorConfig,
};

/// Prices change; a book that is older may be wrong.
const OLD_BOOK: Duration = Duration::from_hours(60 * 24);

const HERE: Part = Part::Here;

/// Looks at all of it.
pub(super) fn look(loaded: &Loaded) -> Vec<Finding> {
    let config = &loaded.config;
    let mut found = vec![
        timed(|| configuration(loaded)),
        timed(|| data(config)),
        timed(|| ledger(config)),
        timed(|| store(config)),
    ];
    let buffering = &config.tracing.buffering;
    let is_used = buffering.persist_buffer && buffering.max_disk.as_u64() > 0;
    if is_used && has_destinations_elsewhere(config) {
        let directory = &buffering.buffer_directory;
        let help = "tracing.buffering.buffer_directory";
        found.push(timed(|| directory_finding("buffer", directory, help)));
    }
    found.push(timed(|| prices(config)));
    found.extend(authority::look(config));
    found.extend(unmetered::look(config));
    found
}

/// The finding, with the time that it took.
fn timed(look: impl FnOnce() -> Finding) -> Finding {
    let begun = SystemClock.mono();
    let found = look();
    found.after(SystemClock.mono().duration_since(begun))
}

fn configuration(loaded: &Loaded) -> Finding {
    let name = loaded
        .document
        .as_ref()
        .map_or("built-in defaults", Document::name);
    match u64::try_from(loaded.warnings.len()).unwrap_or(u64::MAX) {
        0 => Finding::ok(HERE, "configuration", name),
        count => {
            let says = format!("{name}, with {}", counted(count, "warning"));
            Finding::unsure(HERE, "configuration", says, "`tollgate check` shows them")
        },
    }
}

/// The data directory: owned by a sidecar that answers, or there to be owned.
fn data(config: &Config) -> Finding {
    let directory = &config.store.path;
    let Some((pid, address)) = Owner::of(directory) else {
        return directory_finding("data", directory, "store.path");
    };
    let says = format!(
        "{}: in use by the running tollgate with pid {pid}, at http://{address}",
        directory.display()
    );
    match owner::get(config, "/readyz") {
        Ok(_) => Finding::ok(HERE, "data", format!("{says}, which is ready")),
        Err(_not_ready) => Finding::failed(HERE, "data", format!("{says}, which is not ready"))
            .with_advice(Some("its log and its /readyz say why")),
    }
}

/// Whether `directory` can be written, or made if it is not there.
fn directory_finding(name: &str, directory: &Path, key: &str) -> Finding {
    let shown = directory.display();
    match try_write(directory) {
        Ok(()) if directory.exists() => Finding::ok(HERE, name, format!("{shown} can be written")),
        Ok(()) => Finding::ok(HERE, name, format!("{shown} can be made")),
        Err(error) => Finding::failed(HERE, name, format!("{shown} cannot be written: {error}"))
            .with_advice(Some(format!(
                "let the user that Tollgate runs as write there, or set `{key}`"
            ))),
    }
}

fn ledger(config: &Config) -> Finding {
    let archive = Archive::new(&config.store, &config.ledger);
    match archive.verify() {
        Ok(proved) if proved.entries == 0 => {
            Finding::ok(HERE, "ledger", "nothing is entered in its books yet")
        },
        Ok(proved) => {
            let entries = grouped(proved.entries);
            Finding::ok(
                HERE,
                "ledger",
                format!("{entries} entries, of which every total is the sum"),
            )
        },
        Err(error) => Finding::failed(HERE, "ledger", error.to_string()).with_advice(Some(
            "see `tollgate ledger verify` and `tollgate ledger repair`",
        )),
    }
}

fn store(config: &Config) -> Finding {
    let file = config.store.file();
    if !file.exists() {
        return Finding::ok(HERE, "store", "nothing is stored yet");
    }
    let archive = Archive::new(&config.store, &config.ledger);
    let last = archive.reader().and_then(|reader| reader.last_id());
    match last {
        Ok(_) => Finding::ok(HERE, "store", format!("{} can be read", file.display())),
        Err(error) => Finding::failed(HERE, "store", error.to_string()).with_advice(Some(
            "put a sound copy in its place, or move it away: the next start makes a new one",
        )),
    }
}

/// Which price book is used, and whether it may be too old.
fn prices(config: &Config) -> Finding {
    let pricing = match app::pricing(config) {
        Ok(pricing) => pricing,
        Err(error) => return Finding::failed(HERE, "prices", error.to_string()),
    };
    let book = pricing.book();
    if let Some(trouble) = app::price_trouble(config) {
        let help = "until it can be fetched again the last good one is used";
        return Finding::unsure(HERE, "prices", format!("{book}: {trouble}"), help);
    }
    let Some(file) = &config.pricing.file else {
        return Finding::ok(HERE, "prices", book);
    };
    let age = fs::metadata(file).and_then(|it| it.modified()).ok();
    let age = age.and_then(|at| at.elapsed().ok()).unwrap_or_default();
    let days = age.as_secs() / 86_400;
    let found = Finding::ok(
        HERE,
        "prices",
        format!("{book}, {} old", counted(days, "day")),
    );
    if age < OLD_BOOK {
        return found;
    }
    Finding {
        verdict: Verdict::Unsure,
        ..found.with_advice(Some(
            "prices change: bring `pricing.file` up to date, or use `pricing.url`",
        ))
    }
}

/// Whether any spans go over a network.
fn has_destinations_elsewhere(config: &Config) -> bool {
    let here = |it: &ProcessorConfig| match it {
        ProcessorConfig::Console(_) | ProcessorConfig::File(_) | ProcessorConfig::Exec(_) => true,
        ProcessorConfig::Database(database) => {
            let url = database.url.as_ref().map_or("", Secret::expose);
            url.starts_with("sqlite:")
        },
        _ => false,
    };
    let mut all = config.tracing.processors.iter();
    all.any(|destination| !here(&destination.config))
}
