//! How far budgets reach that a ledger keeps: as far as its directory does.

use std::path::Path;

use super::config::{Config, Scope};
use crate::policy::Reach;

impl Config {
    /// How far its budgets reach, by what is written.
    pub const fn reach(&self) -> Reach {
        match self.scope {
            Scope::Volume => Reach::Volume,
            Scope::Pod => Reach::Pod,
        }
    }

    /// The same, by what kind of file system the directory is on, too. Blocks.
    pub fn reach_on_disk(&self) -> Reach {
        match self.reach() {
            Reach::Volume if is_in_memory(&self.path) => Reach::Memory,
            reach => reach,
        }
    }
}

/// Whether what is written at `path` is kept in memory alone. What cannot be known counts as no.
fn is_in_memory(path: &Path) -> bool {
    let there = path.ancestors().find_map(|above| {
        // Of a relative path the last one is empty.
        let above = if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        };
        rustix::fs::statfs(above).ok()
    });
    there.is_some_and(|system| IN_MEMORY.contains(&system.f_type))
}

/// What tmpfs and ramfs are known by (`linux/magic.h`).
const IN_MEMORY: [rustix::fs::FsWord; 2] = [0x0102_1994, 0x8584_58f6];

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(path: &str, scope: Scope) -> Reach {
        let config = Config {
            path: path.into(),
            scope,
            ..Config::default()
        };
        config.reach_on_disk()
    }

    #[test]
    fn a_directory_in_memory_is_no_volume_whether_or_not_it_is_there_yet() {
        assert_eq!(reach("/dev/shm", Scope::Volume), Reach::Memory);
        assert_eq!(
            reach("/dev/shm/tollgate-none/a/b", Scope::Volume),
            Reach::Memory
        );
        assert_eq!(reach("/dev/shm", Scope::Pod), Reach::Pod);
    }

    #[test]
    fn what_cannot_be_known_is_as_it_is_written() {
        assert_eq!(reach("/proc/none/of/this", Scope::Volume), Reach::Volume);
        assert_eq!(reach("/proc/none/of/this", Scope::Pod), Reach::Pod);
    }
}
