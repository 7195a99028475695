//! A journal that is damaged: a start refuses it, and this sets the damaged segments aside.
//!
//! A torn end of the newest segment is no damage: the process was killed while it wrote, and no call
//! has gone on by what is torn. Whatever else cannot be read may have been written once and be lost: a
//! power cut while a new segment is begun looks like that too, and it is not for a start to guess.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    LedgerError, record,
    segment::{self, Frames},
};
use crate::{
    base::clock::Timestamp,
    policy::{Adjustment, Entry},
};

/// Where a journal is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub file: PathBuf,
    /// Its first byte that cannot be read.
    pub offset: u64,
    /// How many cannot be read.
    pub bytes: u64,
}

/// A segment that was repaired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// What was wrong.
    pub damage: Damage,
    /// Where it was set aside, as it was.
    pub aside: PathBuf,
    /// Entries that were read and kept.
    pub kept: u64,
}

impl Damage {
    /// Of segment `number` of `dir`, whose bytes `frames` has read to their end; `last`: it is the
    /// newest one.
    pub(super) fn of(frames: &Frames<'_>, dir: &Path, number: u64, last: bool) -> Option<Self> {
        let offset = frames.hole.or(if last { None } else { frames.torn });
        Some(Self {
            file: segment::path(dir, number),
            offset: offset?,
            bytes: frames.damaged,
        })
    }
}

/// Cuts a torn end off segment `number`: it is not the newest one any more, soon.
///
/// # Errors
/// It cannot be written.
pub(super) fn cut(dir: &Path, number: u64, from: u64) -> io::Result<()> {
    let file = File::options()
        .write(true)
        .open(segment::path(dir, number))?;
    file.set_len(from)?;
    file.sync_all()
}

/// Sets every damaged segment of the journal in `dir` aside (`….log.damaged`), and puts in its place
/// one with what could be read of it, and with an entry that says so. The directory must have no
/// other user: see [`Owner`](super::Owner). Can be repeated: what is sound is not touched.
///
/// # Errors
/// The directory cannot be read or written.
pub fn repair(dir: &Path, now: Timestamp) -> Result<Vec<Repaired>, LedgerError> {
    let unusable = |source| LedgerError::Unusable {
        path: dir.to_owned(),
        source,
    };
    let numbers = segment::list(dir).map_err(unusable)?;
    let mut repaired = Vec::new();
    for number in &numbers {
        let bytes = segment::read(dir, *number, 0, None).map_err(unusable)?;
        let last = numbers.last() == Some(number);
        repaired.extend(repair_one(dir, *number, &bytes, last, now).map_err(unusable)?);
    }
    Ok(repaired)
}

fn repair_one(
    dir: &Path,
    number: u64,
    bytes: &[u8],
    last: bool,
    now: Timestamp,
) -> io::Result<Option<Repaired>> {
    let mut frames = Frames::of(bytes);
    let (mut sound, mut kept) = (Vec::new(), 0);
    for payload in frames.by_ref() {
        kept += 1;
        // It was in a frame, so it is not too long for one.
        let _framed = segment::frame(&mut sound, |out| out.extend_from_slice(payload));
    }
    let Some(damage) = Damage::of(&frames, dir, number, last) else {
        return Ok(None);
    };
    let said = Adjustment {
        at: now,
        who: format!(
            "tollgate ledger repair: {} bytes from byte {} of segment {number} on are lost",
            damage.bytes, damage.offset
        )
        .into_boxed_str(),
        changes: Vec::new(),
    };
    let _framed = segment::frame(&mut sound, |out| {
        record::encode(&Entry::Adjusted(&said), out);
    });
    let aside = set_aside(&damage.file)?;
    // Whatever happens in between, the segment's name stands for all of it or for what is sound.
    let new = damage.file.with_extension("log.new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&sound)?;
    file.sync_all()?;
    fs::rename(&new, &damage.file)?;
    File::open(dir)?.sync_all()?;
    Ok(Some(Repaired {
        damage,
        aside,
        kept,
    }))
}

/// Gives the file a second name, which is not taken yet.
fn set_aside(file: &Path) -> io::Result<PathBuf> {
    let mut aside = file.with_extension("log.damaged");
    for number in 2_u32.. {
        match fs::hard_link(file, &aside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                aside = file.with_extension(format!("log.damaged.{number}"));
            },
            linked => return linked.map(|()| aside),
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}
