//! From a file to a [`Config`]: read, parse, expand, type, check.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use super::{
    Config,
    check::check,
    document::Document,
    expand::{Sources, expand},
    overrides::{self, OVERRIDES},
    problem::{Problem, Severity},
    read::read,
    tree,
};
use crate::base::stamp::Stamp;

/// The file that is used if none is named and it is there.
pub const DEFAULT_PATH: &str = "tollgate.yaml";
/// The longest configuration, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// The file; none if the defaults are used.
    pub document: Option<Document>,
    /// What may not do what its author thinks.
    pub warnings: Vec<Problem>,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is wrong.
    #[error("{}", lines(.0))]
    Invalid(Box<Invalid>),
}

/// What is wrong with a configuration.
#[derive(Debug)]
pub struct Invalid {
    /// The name of the file.
    pub file: String,
    /// Its text.
    pub text: String,
    /// At least one error, and warnings, in the order of the file.
    pub problems: Vec<Problem>,
}

/// One line a problem.
fn lines(invalid: &Invalid) -> String {
    let lines: Vec<String> = invalid
        .problems
        .iter()
        .map(|problem| problem.line(&invalid.file))
        .collect();
    lines.join("\n")
}

/// The file to use: the one that is named, else `./tollgate.yaml` if it is there, else none.
pub fn locate(named: Option<PathBuf>) -> Option<PathBuf> {
    named.or_else(|| {
        let default = PathBuf::from(DEFAULT_PATH);
        default.exists().then_some(default)
    })
}

/// Loads the file at `path`, or the defaults; what `TOLLGATE_OVERRIDES` sets goes before them.
///
/// # Errors
/// It cannot be read, or something in it is wrong.
pub fn load(path: Option<&Path>, sources: &Sources<'_>) -> Result<Loaded, LoadError> {
    let overrides = || (sources.variable)(OVERRIDES).is_some_and(|text| !text.trim().is_empty());
    let Some(path) = path else {
        if overrides() {
            return parse(OVERRIDES, "", sources);
        }
        let mut config = Config::default();
        config.identity.located(sources.variable);
        return Ok(Loaded {
            config,
            document: None,
            warnings: Vec::new(),
        });
    };
    let text = read_text(path).map_err(|source| LoadError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    parse(&path.display().to_string(), &text, sources)
}

/// The text of the file at `path`.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let length = fs::metadata(path)?.len();
    if length > MAX_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    let bytes = fs::read(path)?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error
            .as_bytes()
            .iter()
            .take(error.utf8_error().valid_up_to())
            .filter(|byte| **byte == b'\n')
            .count();
        io::Error::other(format!("line {} is not UTF-8", line + 1))
    })
}

/// Reads a configuration from text; `file` is what to call it. What `TOLLGATE_OVERRIDES` sets goes
/// before it.
///
/// # Errors
/// Something in it is wrong.
pub fn parse(file: &str, text: &str, sources: &Sources<'_>) -> Result<Loaded, LoadError> {
    let invalid = |problems: Vec<Problem>| {
        let mut problems: Vec<Problem> = problems.into_iter().map(overrides::told).collect();
        problems.sort_by_key(|problem| {
            let place = problem.place.map(|place| (place.line, place.column));
            (place.is_none(), place)
        });
        LoadError::Invalid(Box::new(Invalid {
            file: file.to_owned(),
            text: text.to_owned(),
            problems,
        }))
    };
    let (mut root, mut problems) = tree::parse(text).map_err(|problem| invalid(vec![problem]))?;
    if let Some(over) = (sources.variable)(OVERRIDES) {
        let laid = overrides::lay(&mut root, &over);
        problems.append(&mut laid.map_err(|problem| invalid(vec![problem]))?);
    }
    let files = Mutex::new(Vec::new());
    let noting = Sources {
        variable: sources.variable,
        file: &|path| {
            files.lock().push((path.to_owned(), Stamp::of(path)));
            (sources.file)(path)
        },
    };
    problems.append(&mut expand(&mut root, &noting));
    let mut config: Config = match read(&root) {
        Ok(config) => config,
        Err(mut more) => {
            problems.append(&mut more);
            return Err(invalid(problems));
        },
    };
    config.identity.located(sources.variable);
    let document = Document::new(file, text, files.into_inner(), root);
    let mut found = check(&config, sources);
    config.check_memory(&document, &mut found);
    problems.extend(found.into_iter().map(|problem| document.located(problem)));
    if problems
        .iter()
        .any(|problem| problem.severity == Severity::Error)
    {
        return Err(invalid(problems));
    }
    config.divide_memory(&document);
    Ok(Loaded {
        config,
        document: Some(document),
        warnings: problems.into_iter().map(overrides::told).collect(),
    })
}
