//! The proxies that a connection has come through, as they say it of themselves (`Via`, RFC 9110,
//! 7.6.3): so that one that comes back to a proxy ends there, and does not go round.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header::VIA};

/// The longest list of proxies that is passed on, in bytes.
const MOST: usize = 1 << 10;

/// Our own name among proxies.
#[derive(Clone, Debug)]
pub struct Me(Arc<str>);

/// The proxies that a connection has come through, ourselves last.
#[derive(Clone, Debug)]
pub struct Hops(HeaderValue);

/// Why a connection goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Looped {
    /// It has been here.
    #[error("it has come through here before: the proxy on the way out leads back")]
    Round,
    /// It has come through more proxies than anybody has.
    #[error("it has come through too many proxies (Via)")]
    TooMany,
}

impl Default for Me {
    /// A name that nobody else has.
    fn default() -> Self {
        Self(Arc::from(format!("tollgate-{:016x}", fastrand::u64(..))))
    }
}

impl Me {
    /// Ourselves alone: for what begins here.
    pub fn alone(&self) -> Hops {
        self.behind("")
            .unwrap_or(Hops(HeaderValue::from_static("1.1 tollgate")))
    }

    /// Those of a connection that is asked for with this head, and ourselves.
    ///
    /// # Errors
    /// We are among them, or they are too many.
    pub fn after(&self, head: &HeaderMap) -> Result<Hops, Looped> {
        let told = head.get_all(VIA).iter().filter_map(|via| via.to_str().ok());
        let told = told.collect::<Vec<_>>().join(", ");
        // `1.1 name`, `HTTP/1.1 name:port (comment)`.
        let mut names = told.split([',', ' ', '\t']);
        if names.any(|name| *name == *self.0) {
            return Err(Looped::Round);
        }
        self.behind(&told).ok_or(Looped::TooMany)
    }

    fn behind(&self, told: &str) -> Option<Hops> {
        let between = if told.is_empty() { "" } else { ", " };
        let all = format!("{told}{between}1.1 {}", self.0);
        let all = Some(all).filter(|all| all.len() <= MOST)?;
        HeaderValue::try_from(all).ok().map(Hops)
    }
}

impl Hops {
    /// The same, behind what a head says already.
    pub fn append_to(&self, head: &mut HeaderMap) {
        head.append(VIA, self.0.clone());
    }

    /// What is said to the next proxy.
    pub fn headers(&self) -> HeaderMap {
        HeaderMap::from_iter([(VIA, self.0.clone())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_come_through_here_is_known_among_others_and_is_not_endless() {
        let (me, other) = (Me::default(), Me::default());
        let theirs = HeaderMap::from_iter([(VIA, HeaderValue::from_static("1.0 squid (a, b)"))]);
        let first = other.after(&theirs).unwrap().headers();
        let expected = format!("1.0 squid (a, b), 1.1 {}", other.0);
        assert_eq!(first[VIA], expected);
        let second = me.after(&first).unwrap().headers();
        assert_eq!(me.after(&second).unwrap_err(), Looped::Round);
        assert_eq!(other.after(&second).unwrap_err(), Looped::Round);
        assert!(Me::default().after(&second).is_ok());
        assert!(other.after(&me.alone().headers()).is_ok());
        let mut long = HeaderMap::new();
        for _ in 0..MOST {
            long.append(VIA, HeaderValue::from_static("1.1 x"));
        }
        assert_eq!(me.after(&long).unwrap_err(), Looped::TooMany);
    }
}
