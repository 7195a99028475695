//! Orders in the books: each is an entry, as all that people do by hand, and the kills that are not
//! lifted stand beside, since they hold however old their entries are.

use ring::digest;
use rusqlite::{Connection, params};

use super::{
    books::{Books, BooksError, time},
    posting::{Key, records_in},
    record::{self, Record},
};
use crate::{
    base::{clock::Timestamp, id::RequestId},
    policy::{HoldId, Order},
};

pub(super) const SCHEMA: &str = "
-- The record of each kill that was not lifted.
CREATE TABLE IF NOT EXISTS kills(
    seq INTEGER PRIMARY KEY, kill TEXT NOT NULL UNIQUE, until INTEGER, record BLOB NOT NULL);
";

/// The call that orders stand under in the books; there is none of that name.
pub(super) const CALL: RequestId = RequestId::from_bytes([0; 16]);

/// An order is its own name.
pub(super) fn key(payload: &[u8]) -> Key {
    let name = digest::digest(&digest::SHA256, payload);
    let mut id = [0; 8];
    for (place, byte) in id.iter_mut().zip(name.as_ref()) {
        *place = *byte;
    }
    (CALL, HoldId(u64::from_le_bytes(id)))
}

/// Takes in what an entry orders, if it does.
pub(super) fn take(db: &Connection, key: Key, body: &[u8]) -> Result<(), BooksError> {
    if key.0 != CALL {
        return Ok(());
    }
    for record in records_in(body).unwrap_or_default() {
        let Record::Ordered(order) = record else {
            continue;
        };
        if let Some(ordered) = &order.ordered {
            let until = ordered.until.map(time);
            db.prepare_cached(
                "INSERT OR REPLACE INTO kills(kill, until, record) VALUES (?, ?, ?)",
            )?
            .execute(params![order.kill, until, record::ordered(&order)])?;
        } else {
            db.prepare_cached("DELETE FROM kills WHERE kill = ?")?
                .execute((order.kill,))?;
        }
    }
    Ok(())
}

/// Forgets kills that were over before `oldest`.
pub(super) fn prune(db: &Connection, oldest: Timestamp) -> Result<(), BooksError> {
    db.execute("DELETE FROM kills WHERE until < ?", (time(oldest),))?;
    Ok(())
}

impl Books {
    /// Kills that were not lifted, in the order in which they were ordered; some may be over.
    pub(super) fn kills(&self) -> Result<Vec<Order>, BooksError> {
        let mut all = self
            .db
            .prepare_cached("SELECT record FROM kills ORDER BY seq")?;
        let found = all.query_map((), |row| row.get::<_, Vec<u8>>(0))?;
        let records: Vec<_> = found.collect::<Result<_, _>>()?;
        let orders = records.iter().filter_map(|one| match record::decode(one) {
            Some(Record::Ordered(order)) => Some(order),
            _ => None,
        });
        Ok(orders.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger::posting::Reader, policy::Ordered};

    fn order(at: u64, kill: &str, ordered: bool) -> Order {
        Order {
            at: Timestamp::from_secs(at),
            who: "ada".into(),
            kill: kill.into(),
            ordered: ordered.then(|| Ordered {
                selector: "{}".into(),
                until: (at > 1).then(|| Timestamp::from_secs(9)),
                reason: "why".into(),
            }),
        }
    }

    #[test]
    fn an_order_is_read_back_whole_or_not_at_all() {
        for order in [
            order(1, "a", true),
            order(2, "b", true),
            order(3, "c", false),
        ] {
            let bytes = record::ordered(&order);
            for end in 0..bytes.len() {
                assert_eq!(record::decode(&bytes[..end]), None);
            }
            assert_eq!(record::decode(&bytes), Some(Record::Ordered(order)));
        }
    }

    #[test]
    fn a_kill_stays_until_it_is_lifted_though_its_entry_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let mut books = Books::open(&directory.path().join("books.sqlite")).unwrap();
        let mut reader = Reader::default();
        let mut post = |books: &mut Books, order: &Order| {
            let item = reader.take(&record::ordered(order), 1).unwrap();
            // However often it is brought.
            books.post(std::slice::from_ref(&item), order.at).unwrap();
            books.post(&[item], order.at).unwrap();
        };
        let kept = order(1, "kept", true);
        for order in [&kept, &order(2, "gone", true), &order(3, "gone", false)] {
            post(&mut books, order);
        }
        assert_eq!(books.kills().unwrap(), std::slice::from_ref(&kept));
        assert_eq!(books.verify().unwrap().entries, 3);
        books.prune(Timestamp::from_secs(100)).unwrap();
        assert_eq!(books.verify().unwrap().entries, 0);
        assert_eq!(books.kills().unwrap(), [kept]);
        let over = order(150, "over", true);
        post(&mut books, &over);
        assert_eq!(books.kills().unwrap().len(), 2);
        books.prune(Timestamp::from_secs(100)).unwrap();
        assert_eq!(books.kills().unwrap().len(), 1);
        post(&mut books, &order(200, "kept", false));
        assert_eq!(books.kills().unwrap(), []);
    }
}
