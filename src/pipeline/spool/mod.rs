//! Spans that wait on disk for one processor: a queue of segments, the oldest first, bounded by a
//! quota. What was appended is still there after a kill; a power cut may take what the system had
//! not yet written.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::record::Record;
use crate::call::stored::Names;

mod cursor;
mod segment;

use cursor::Cursor;
use segment::{BAD, KIND};

/// The longest segment in bytes, and the share of the quota that one may be: what is lost at once
/// when the quota is full.
const LONGEST: u64 = 4 << 20;
const SHARE: u64 = 8;

/// How many bytes are written at once, about.
const WRITE: usize = 256 << 10;

/// The spool of one processor.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    /// The most bytes of all segments, and of those that are set aside.
    quota: u64,
    /// Its lock is held as long as the spool is.
    _owner: File,
    cursor: File,
    segments: VecDeque<Segment>,
    /// Of damaged segments that were read as far as they could be.
    aside: VecDeque<(u64, u64)>,
    /// The last segment, if it can take more.
    tail: Option<File>,
    next: u64,
    /// What stands behind the first of these spans, up to the other, is done; the first is not.
    passed: Option<(Place, Place)>,
    names: Names,
    news: News,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    /// How many of them need not be read any more.
    done: u64,
    /// How many whole spans are in the rest.
    spans: u64,
    damaged: bool,
}

/// What happened to a spool since the last time that it was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Spans that were thrown away: the quota was full, or they could not be read again.
    pub(super) lost: u64,
    /// Half-written lines that were cut.
    pub(super) torn: u64,
    /// Segments with lines that are not as they were written.
    pub(super) damaged: u64,
    /// Attributes of spans that were left out, since there were too many names of them.
    pub(super) nameless: u64,
}

/// Where a span stands on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    segment: u64,
    end: u64,
}

/// A spool cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpoolError {
    /// Another process, or the worker of an earlier configuration, has it.
    #[error("another tollgate has it")]
    Owned,
    /// It cannot be created, opened or read.
    #[error(transparent)]
    Unusable(#[from] io::Error),
}

impl Spool {
    /// Takes the spool in `dir`, which is created if need be, with what an earlier process left.
    ///
    /// # Errors
    /// Somebody else has it, or it cannot be used.
    pub(super) fn open(dir: &Path, quota: u64) -> Result<Self, SpoolError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let owner = private(dir, "owner")?;
        owner.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => SpoolError::Owned,
            TryLockError::Error(error) => error.into(),
        })?;
        let mut spool = Self {
            dir: dir.to_owned(),
            quota,
            _owner: owner,
            cursor: private(dir, "cursor")?,
            segments: VecDeque::new(),
            aside: VecDeque::new(),
            tail: None,
            next: 1,
            passed: None,
            names: Names::default(),
            news: News::default(),
        };
        spool.find()?;
        Ok(spool)
    }

    /// Looks at what is there.
    fn find(&mut self) -> io::Result<()> {
        let cursor = Cursor::read(&self.cursor)?;
        let cursor = cursor.unwrap_or_else(|_damaged| {
            self.news.damaged += 1;
            Cursor::default()
        });
        for number in segment::list(&self.dir, BAD)? {
            let bytes = fs::metadata(segment::path(&self.dir, number, BAD))?.len();
            self.aside.push_back((number, bytes));
            self.next = self.next.max(number + 1);
        }
        self.next = self.next.max(cursor.segment + 1);
        for number in segment::list(&self.dir, KIND)? {
            self.next = self.next.max(number + 1);
            if number < cursor.segment {
                // All of it was delivered; the kill came before it was deleted.
                fs::remove_file(segment::path(&self.dir, number, KIND))?;
                continue;
            }
            let done = if number == cursor.segment {
                cursor.offset
            } else {
                0
            };
            let found = self.look_at(number, done)?;
            self.segments.push_back(found);
        }
        Ok(())
    }

    /// Counts what is in a segment that another process wrote, and cuts its torn end.
    fn look_at(&mut self, number: u64, done: u64) -> io::Result<Segment> {
        let bytes = segment::read(&self.dir, number, done, u64::MAX)?;
        let (mut spans, mut damaged, mut whole) = (0, false, 0);
        for entry in segment::entries(&bytes) {
            spans += u64::from(entry.line.is_some());
            damaged |= entry.line.is_none();
            whole = entry.end;
        }
        let length = done + count(whole);
        if whole < bytes.len() {
            self.news.torn += 1;
            let path = segment::path(&self.dir, number, KIND);
            OpenOptions::new().write(true).open(path)?.set_len(length)?;
        }
        self.news.damaged += u64::from(damaged);
        Ok(Segment {
            number,
            bytes: length,
            done,
            spans,
            damaged,
        })
    }

    /// How many spans wait.
    pub(super) fn len(&self) -> u64 {
        self.segments.iter().map(|segment| segment.spans).sum()
    }

    /// How many bytes those take, with their checksums.
    pub(super) fn unread(&self) -> u64 {
        self.segments.iter().map(|it| it.bytes - it.done).sum()
    }

    /// Whether the span at this place is kept.
    pub(super) fn has(&self, place: Place) -> bool {
        let mut segments = self.segments.iter();
        segments.any(|it| it.number == place.segment && it.done < place.end)
    }

    /// What happened since the last time.
    pub(super) fn news(&mut self) -> News {
        self.news.nameless = self.names.left_out();
        std::mem::take(&mut self.news)
    }

    fn bytes(&self) -> u64 {
        let segments = self.segments.iter().map(|segment| segment.bytes);
        let aside = self.aside.iter().map(|(_, bytes)| *bytes);
        segments.chain(aside).sum()
    }

    /// Appends spans, the oldest first, and says where they stand: as many as could be written. The
    /// oldest segments go where there is no room.
    pub(super) fn append(&mut self, records: &[Arc<Record>]) -> (Vec<Place>, io::Result<()>) {
        let mut places = Vec::with_capacity(records.len());
        let mut rest = records;
        while !rest.is_empty() {
            match self.append_some(rest, &mut places) {
                Ok(taken) => rest = rest.get(taken.max(1)..).unwrap_or_default(),
                Err(error) => return (places, Err(error)),
            }
        }
        (places, Ok(()))
    }

    /// Writes as many as go into the last segment at once; says how many.
    fn append_some(
        &mut self,
        records: &[Arc<Record>],
        places: &mut Vec<Place>,
    ) -> io::Result<usize> {
        let most = (self.quota / SHARE).clamp(1, LONGEST);
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let begun = self.segments.back().filter(|_| self.tail.is_some());
        let room = begun.map_or(most, |tail| most.saturating_sub(tail.bytes));
        for record in records {
            let after = count(bytes.len() + segment::length(&record.line));
            if bytes.len() >= WRITE || after > room && !(bytes.is_empty() && begun.is_none()) {
                break;
            }
            segment::put(&mut bytes, &record.line);
            ends.push(after);
        }
        if ends.is_empty() {
            self.tail = None;
            return self.append_some(records, places);
        }
        if !self.make_room(count(bytes.len())) {
            // It has no room even alone: it is never there, and counted.
            self.news.lost += count(ends.len());
            let nowhere = Place { segment: 0, end: 0 };
            places.extend(ends.iter().map(|_| nowhere));
            return Ok(ends.len());
        }
        self.write(&bytes, count(ends.len()))?;
        if let Some(tail) = self.segments.back() {
            let before = tail.bytes - count(bytes.len());
            places.extend(ends.iter().map(|end| Place {
                segment: tail.number,
                end: before + end,
            }));
        }
        Ok(ends.len())
    }

    /// Writes whole lines of so many spans to the last segment, which is begun if need be.
    fn write(&mut self, bytes: &[u8], spans: u64) -> io::Result<()> {
        let file = match &mut self.tail {
            Some(file) => file,
            none => {
                let file = segment::create(&self.dir, self.next)?;
                self.segments.push_back(Segment {
                    number: self.next,
                    bytes: 0,
                    done: 0,
                    spans: 0,
                    damaged: false,
                });
                self.next += 1;
                none.insert(file)
            },
        };
        let Some(tail) = self.segments.back_mut() else {
            return Ok(());
        };
        if let Err(error) = file.write_all(bytes) {
            // What was half written is cut; where that fails, nothing is written behind it.
            if file.set_len(tail.bytes).is_err() {
                self.tail = None;
            }
            return Err(error);
        }
        tail.bytes += count(bytes.len());
        tail.spans += spans;
        Ok(())
    }

    /// Deletes the oldest segments until so many bytes are free; false if there never are.
    fn make_room(&mut self, bytes: u64) -> bool {
        while self.bytes().saturating_add(bytes) > self.quota {
            if let Some((number, _)) = self.aside.pop_front() {
                self.delete(number, BAD);
            } else if let Some(oldest) = self.segments.pop_front() {
                self.news.lost += oldest.spans;
                if self.segments.is_empty() {
                    self.tail = None;
                }
                self.delete(oldest.number, KIND);
            } else {
                return false;
            }
        }
        true
    }

    fn delete(&self, number: u64, kind: &str) {
        let path = segment::path(&self.dir, number, kind);
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(file = %path.display(), %error, "A spool's file cannot be deleted");
        }
    }

    /// The oldest spans: at most `most`, and `bytes` of JSON but for one span that has more. They
    /// stay until they are [done](Self::done).
    ///
    /// # Errors
    /// The segment cannot be read now.
    pub(super) fn oldest(
        &mut self,
        most: usize,
        bytes: usize,
    ) -> io::Result<Vec<(Arc<Record>, Place)>> {
        // What so many spans take, usually.
        let usual = count(most).saturating_mul(2_048).clamp(64 << 10, LONGEST);
        let (mut batch, mut size) = (Vec::new(), 0);
        self.reach_passed();
        let passed = self.passed;
        // Where it is read: as long as nothing was found, in the first segment.
        let (mut at, mut offset) = (0, None);
        while batch.len() < most
            && let Some(segment) = self.segments.get_mut(at)
        {
            let (number, to) = (segment.number, segment.bytes);
            let from: u64 = offset.unwrap_or(segment.done);
            let mut read = segment::read(&self.dir, number, from, to.min(from + usual));
            if matches!(&read, Ok(read) if !read.contains(&b'\n')) {
                read = segment::read(&self.dir, number, from, to);
            }
            let read = match read {
                Ok(read) => read,
                Err(error) if batch.is_empty() => return Err(error),
                // It may be readable again: what is read behind it must not strike it out.
                Err(_) => return Ok(batch),
            };
            let mut end = 0;
            for entry in segment::entries(&read) {
                let place = Place {
                    segment: number,
                    end: from + count(entry.end),
                };
                if passed.is_some_and(|(first, last)| first < place && place <= last) {
                    end = entry.end;
                    continue;
                }
                let line = entry.line;
                let record = line.and_then(|line| Record::read(line, &mut self.names));
                if let Some(record) = record {
                    size += record.line.len();
                    if batch.len() >= most || (size > bytes && !batch.is_empty()) {
                        return Ok(batch);
                    }
                    batch.push((Arc::new(record), place));
                } else {
                    self.news.damaged += u64::from(!segment.damaged);
                    segment.damaged = true;
                }
                end = entry.end;
            }
            let reached = from + count(end);
            let over = end == 0 || reached >= to;
            if batch.is_empty() {
                segment.done = reached;
                if over {
                    self.finish();
                }
            } else if over {
                (at, offset) = (at + 1, None);
            } else {
                offset = Some(reached);
            }
        }
        Ok(batch)
    }

    /// Strikes out spans that need not be kept any more, which were the oldest; says how many of
    /// them were still there.
    ///
    /// # Errors
    /// That cannot be noted on disk: after a kill they come again.
    pub(super) fn done(&mut self, places: &[Place]) -> (u64, io::Result<()>) {
        let mut struck = 0;
        for place in places {
            if let Some(first) = self.reach(*place) {
                first.spans = first.spans.saturating_sub(1);
                struck += 1;
            }
        }
        self.reach_passed();
        let noted = self.note();
        if noted.is_ok() && self.segments.front().is_some_and(|it| it.done >= it.bytes) {
            self.finish();
        }
        (struck, noted)
    }

    /// Strikes out the span that stands behind the `oldest` one, which stays. That is not noted on disk
    /// before the other is done: after an edit or a restart it comes again.
    ///
    /// # Errors
    /// As those of [`done`](Self::done), where the oldest is gone.
    pub(super) fn pass(&mut self, oldest: Place, place: Place) -> (u64, io::Result<()>) {
        self.reach_passed();
        if !self.has(oldest) {
            return self.done(&[place]);
        }
        let mut segments = self.segments.iter_mut();
        let Some(segment) = segments.find(|it| it.number == place.segment) else {
            return (0, Ok(()));
        };
        segment.spans = segment.spans.saturating_sub(1);
        self.passed = Some((oldest, place));
        (1, Ok(()))
    }

    /// All up to this place is done now; the place's segment, unless the place was done before.
    fn reach(&mut self, place: Place) -> Option<&mut Segment> {
        self.finish_before(place.segment);
        let first = self.segments.front_mut();
        let first = first.filter(|it| it.number == place.segment && it.done < place.end)?;
        first.done = place.end;
        Some(first)
    }

    /// All that was passed is done, once the span before it is gone, be it to the quota.
    fn reach_passed(&mut self) {
        if let Some((_, last)) = self.passed.filter(|(first, _)| !self.has(*first)) {
            self.passed = None;
            self.reach(last);
        }
    }

    /// Notes how far the first segment is done.
    fn note(&self) -> io::Result<()> {
        let Some(first) = self.segments.front() else {
            return Ok(());
        };
        let cursor = Cursor {
            segment: first.number,
            offset: first.done,
        };
        self.cursor.write_all_at(cursor.text().as_bytes(), 0)
    }

    /// Puts away all segments before that one.
    fn finish_before(&mut self, segment: u64) {
        while self.segments.front().is_some_and(|it| it.number < segment) {
            self.finish();
        }
    }

    /// Puts the first segment away: nothing in it can be read any more.
    fn finish(&mut self) {
        let Some(first) = self.segments.pop_front() else {
            return;
        };
        self.news.lost += first.spans;
        if self.segments.is_empty() {
            self.tail = None;
        }
        let [from, to] = [KIND, BAD].map(|kind| segment::path(&self.dir, first.number, kind));
        if first.damaged && fs::rename(from, to).is_ok() {
            self.aside.push_back((first.number, first.bytes));
        } else {
            self.delete(first.number, KIND);
        }
    }
}

/// Opens or creates a file for nobody else to read.
fn private(dir: &Path, name: &str) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join(name))
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
