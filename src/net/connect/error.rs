//! Why a connection cannot be made.

use std::time::Duration;

use super::super::{BoxError, lookups::Crowded, reach::Forbidden};

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It took longer than `upstream.connect_timeout`.
    #[error("no connection within {0:?} (upstream.connect_timeout)")]
    Timeout(Duration),
    /// The host is where nobody shall be led.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There are too many lookups of names that somebody else chooses.
    #[error(transparent)]
    Crowded(#[from] Crowded),
    /// The host could not be resolved or reached, or TLS failed.
    #[error("{0}")]
    Failed(String),
}

impl From<BoxError> for ConnectError {
    fn from(error: BoxError) -> Self {
        if let Some(forbidden) = error.downcast_ref::<Forbidden>() {
            return Self::Forbidden(forbidden.clone());
        }
        match error.downcast_ref::<Crowded>() {
            Some(crowded) => Self::Crowded(*crowded),
            None => Self::Failed(describe(&*error)),
        }
    }
}

/// The whole chain of causes: the outermost rarely says what to do.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
