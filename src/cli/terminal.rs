//! The terminal that a command writes to.

use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

use crate::config::Sources;

/// The columns of the terminal that `out` is. Where it is none, `COLUMNS` counts, which `watch`
/// sets; else there is no limit.
pub(super) fn width(out: impl AsFd) -> Option<usize> {
    let terminal = tcgetwinsize(out).map_or(0, |size| usize::from(size.ws_col));
    let variable = || (Sources::SYSTEM.variable)("COLUMNS")?.parse().ok();
    let columns = Some(terminal).filter(|columns| *columns > 0);
    columns.or_else(variable).filter(|columns| *columns > 0)
}
