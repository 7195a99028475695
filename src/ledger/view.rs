//! The ledger as anybody may read it, whether or not an owner runs: the books, and what is only in
//! the journal yet.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::Duration,
};

use super::{
    Damage, LedgerError,
    books::{Books, BooksError, Hash, Verified},
    books_in,
    later::Parked,
    orders,
    posting::{Item, Key, Open, Posting, Reader, records_in},
    record::Record,
    segment::{self, Frames},
};
use crate::{
    base::{clock::Timestamp, id::RequestId},
    policy::{CounterName, Order, Standing},
};

/// A moment of the ledger.
#[derive(Debug)]
pub struct View {
    /// `None`: nothing was ever settled.
    books: Option<Books>,
    reader: Reader,
    /// Over, and not in the books yet.
    over: Vec<Posting>,
    /// Their answers are to be fetched later.
    parked: HashMap<Key, Parked>,
    damage: Option<Damage>,
}

impl View {
    /// Reads the ledger in `dir`; one that is not there is an empty one.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn open(dir: &Path) -> Result<Self, LedgerError> {
        let unusable = |source| LedgerError::Unusable {
            path: dir.to_owned(),
            source,
        };
        let mut view = Self {
            books: None,
            reader: Reader::default(),
            over: Vec::new(),
            parked: HashMap::new(),
            damage: None,
        };
        if !dir.exists() {
            return Ok(view);
        }
        // The journal first: what moves into the books meanwhile is then in both, and not in none.
        let numbers = segment::list(dir).map_err(unusable)?;
        for number in numbers.iter().copied() {
            let bytes = segment::read(dir, number, 0, None).map_err(unusable)?;
            let mut frames = Frames::of(&bytes);
            for payload in frames.by_ref() {
                match view.reader.take(payload, number) {
                    Some(Item::Over(posting)) => view.over.push(posting),
                    Some(Item::Parked(call)) => {
                        view.parked.insert(call.key, call);
                    },
                    Some(Item::Billed(_) | Item::Told(_)) | None => {},
                }
            }
            let last = numbers.last() == Some(&number);
            let damage = Damage::of(&frames, dir, number, last);
            view.damage = view.damage.or(damage);
        }
        let path = books_in(dir);
        if path.exists() {
            view.books = Some(Books::read(&path)?);
        }
        view.leave_what_is_in_the_books()?;
        view.end_what_is_over();
        Ok(view)
    }

    fn leave_what_is_in_the_books(&mut self) -> Result<(), BooksError> {
        let Some(books) = &self.books else {
            return Ok(());
        };
        let known = |key: &Key| Ok::<_, BooksError>(books.body(key.0, key.1)?.is_some());
        let mut over = Vec::new();
        for posting in self.over.drain(..) {
            if !known(&posting.key)? {
                over.push(posting);
            }
        }
        self.over = over;
        let open: Vec<_> = self.reader.open.keys().copied().collect();
        for key in open {
            if known(&key)? {
                self.reader.open.remove(&key);
            }
        }
        let parked: Vec<_> = self.parked.keys().copied().collect();
        for key in parked {
            if known(&key)? {
                self.parked.remove(&key);
            }
        }
        for call in books.parked()? {
            // Its first records may be gone from the journal, or be all that is left there.
            self.reader.open.remove(&call.key);
            self.parked.insert(call.key, call);
        }
        Ok(())
    }

    /// Gives what is over the records from when it was still awaited.
    fn end_what_is_over(&mut self) {
        for posting in &mut self.over {
            if let Some(call) = self.parked.remove(&posting.key) {
                posting.body = posting.body_after(Some(call.body)).into_owned();
            }
        }
    }

    /// Every counter's cells of the last 366 days, and those of windows without end.
    ///
    /// # Errors
    /// The books cannot be read.
    pub fn standings(&self, now: Timestamp) -> Result<Vec<Standing>, BooksError> {
        const LONGEST: Duration = Duration::from_hours(366 * 24);
        let kept = match &self.books {
            Some(books) => books.standings(now - LONGEST)?,
            None => Vec::new(),
        };
        let mut all: BTreeMap<(CounterName, Timestamp), Standing> = kept
            .into_iter()
            .map(|standing| ((standing.counter.clone(), standing.window), standing))
            .collect();
        let mut of = |counter: &CounterName, window: Timestamp, change: &dyn Fn(&mut Standing)| {
            let place = all.entry((counter.clone(), window));
            change(place.or_insert_with(|| Standing {
                counter: counter.clone(),
                spent: 0,
                reserved: 0,
                window,
                raises: Vec::new(),
            }));
        };
        for posting in &self.over {
            for (counter, cell, amount) in &posting.totals {
                of(counter, *cell, &|standing| standing.spent += amount);
            }
            for (counter, cell, raise) in &posting.raises {
                of(counter, *cell, &|standing| standing.raises.push(*raise));
            }
        }
        for post in self.reader.open.values().flat_map(Open::held) {
            of(&post.counter, post.cell, &|standing| {
                standing.reserved += post.amount;
            });
        }
        for call in self.parked.values() {
            for (counter, cell, amount) in Posting::totals_in(&call.body).unwrap_or_default() {
                of(&counter, cell, &|standing| standing.reserved += amount);
            }
        }
        Ok(all.into_values().collect())
    }

    /// Everything that was journalled of one call, in order: why it was admitted or refused, and
    /// what it was charged. A call that was admitted and has no settlement is still in flight, or
    /// was charged what it held when Tollgate was killed.
    ///
    /// # Errors
    /// The books cannot be read.
    pub fn why(&self, request: RequestId) -> Result<Vec<Record>, BooksError> {
        let mut bodies = match &self.books {
            Some(books) => books.bodies(request)?,
            None => Vec::new(),
        };
        let over = self.over.iter().filter(|over| over.key.0 == request);
        bodies.extend(over.map(|posting| posting.body.clone()));
        let parked = self.parked.values().filter(|call| call.key.0 == request);
        bodies.extend(parked.map(|call| call.body.clone()));
        let open = self.reader.open.iter();
        let open = open.filter(|((id, _), _)| *id == request);
        bodies.extend(open.map(|(_, open)| open.body.clone()));
        let records = bodies.iter().filter_map(|body| records_in(body));
        Ok(records.flatten().collect())
    }

    /// Every order that was given about calls, in order; those that were given before
    /// `ledger.retention` are forgotten.
    ///
    /// # Errors
    /// The books cannot be read.
    pub fn orders(&self) -> Result<Vec<Order>, BooksError> {
        let records = self.why(orders::CALL)?.into_iter();
        let orders = records.filter_map(|record| match record {
            Record::Ordered(order) => Some(order),
            _ => None,
        });
        Ok(orders.collect())
    }

    /// The kills that were not lifted, however long ago they were ordered; some may be over.
    ///
    /// # Errors
    /// The books cannot be read.
    pub fn kills(&self) -> Result<Vec<Order>, BooksError> {
        let mut kills = match &self.books {
            Some(books) => books.kills()?,
            None => Vec::new(),
        };
        let over = self.over.iter().filter(|over| over.key.0 == orders::CALL);
        let records = over.filter_map(|posting| records_in(&posting.body));
        for record in records.flatten() {
            let Record::Ordered(order) = record else {
                continue;
            };
            kills.retain(|kill| kill.kill != order.kill);
            kills.extend(order.ordered.is_some().then_some(order));
        }
        Ok(kills)
    }

    /// Shows `more` the records of every call that was admitted from `since` on and before `until`
    /// and is over, and of every change that was made then, in the order in which they were entered,
    /// as long as it says so.
    ///
    /// # Errors
    /// The books cannot be read.
    pub fn entries(
        &self,
        since: Timestamp,
        until: Timestamp,
        mut more: impl FnMut(Timestamp, Vec<Record>) -> bool,
    ) -> Result<(), BooksError> {
        if let Some(books) = &self.books
            && !books.entries(since, until, &mut more)?
        {
            return Ok(());
        }
        let over = self.over.iter();
        let mut over = over.filter(|over| since <= over.at && over.at < until);
        let _all = over.all(|posting| {
            let records = records_in(&posting.body);
            more(posting.at, records.unwrap_or_default())
        });
        Ok(())
    }

    /// The last hash of the books' chain; zeros if nothing was ever settled.
    ///
    /// # Errors
    /// The books cannot be read.
    pub fn head(&self) -> Result<Hash, BooksError> {
        self.books.as_ref().map_or(Ok([0; 32]), Books::head)
    }

    /// Proves every total from the entries, and the entries from the chain; and that the journal can
    /// be read.
    ///
    /// # Errors
    /// What does not hold, or the books cannot be read.
    pub fn verify(&self) -> Result<Verified, LedgerError> {
        if let Some(damage) = &self.damage {
            return Err(LedgerError::Damaged(damage.clone()));
        }
        let verified = self.books.as_ref().map_or_else(
            || {
                Ok(Verified {
                    entries: 0,
                    batches: 0,
                    head: [0; 32],
                })
            },
            Books::verify,
        );
        Ok(verified?)
    }
}
