//! Spans as objects in an S3-compatible store: lines of JSON, compressed, by day. An object is named by
//! what is in it, so that a batch that comes again is written over itself.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::CONTENT_TYPE};
use ring::digest::{SHA256, digest};
use serde::Deserialize;

use self::place::Place;
use super::{
    super::{BuildContext, Outlet, Record, Sampling},
    BoxFuture, BuildError, DeliverError, Processor, Upkeep,
    file::Compression,
};
use crate::{
    base::{clock::Timestamp, secret::Secret, units::ByteSize},
    net::{
        aws::{Keyring, Scope, encoded, hash},
        config::Egress,
        post::{self, Address, Courier, Letter, PostError, Tls, headers, shown_host},
    },
};

mod place;

/// Asked for by buckets whose objects are locked.
const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");

/// The errors of S3 that pass although their status says otherwise: the clock is set, the keys are
/// renewed, somebody else is done.
const PASSING: [&str; 6] = [
    "ConditionalRequestConflict",
    "ExpiredToken",
    "OperationAborted",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "TokenRefreshRequired",
];

/// The most spans of one object, and bytes of JSON: few large objects are cheaper than many small ones.
const SPANS: usize = 5_000;
const BYTES: ByteSize = ByteSize::mib(8);
/// The longest that a span waits for its object.
const AGE: Duration = Duration::from_mins(5);

/// `{type: object_store, …}`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `s3://bucket/prefix`
    pub url: Box<str>,
    /// Where the store is; none: the variable `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, else AWS.
    pub endpoint: Option<Box<str>>,
    /// Its region; none: the variable `AWS_REGION` or `AWS_DEFAULT_REGION`.
    pub region: Option<Box<str>>,
    /// Whether the bucket is named in the path, not in the host; none: at AWS it is not.
    pub path_style: Option<bool>,
    /// The keys; none: those of `profile`, else those of the environment.
    pub access_key_id: Option<Box<str>>,
    /// What goes with it.
    pub secret_access_key: Option<Secret>,
    /// What goes with keys that hold for a while only.
    pub session_token: Option<Secret>,
    /// The profile in AWS's own files that the keys are in.
    pub profile: Option<Box<str>>,
    /// How objects are compressed.
    pub compression: Compression,
    /// Further headers of each object, signed if they begin with `x-amz-`.
    pub headers: BTreeMap<Box<str>, Secret>,
    /// Certificates of its own.
    pub tls: Tls,
    /// The proxy on the way there; none: that of `upstream`.
    pub proxy: Option<Egress>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: Box::default(),
            endpoint: None,
            region: None,
            path_style: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            profile: None,
            compression: Compression::Gzip,
            headers: BTreeMap::new(),
            tls: Tls::default(),
            proxy: None,
        }
    }
}

/// Makes the processor. Spans wait on disk for their object.
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    let wrong = BuildError::of("object_store");
    let variable = |name: &str| (context.variable)(name).filter(|value| !value.is_empty());
    let place = Place::of(config, &variable).map_err(&wrong)?;
    let source = place::source(config, &place.region, &variable).map_err(&wrong)?;
    let mut headers = headers(&config.headers).map_err(BuildError::of("object_store"))?;
    let content_type = HeaderValue::from_static(match config.compression {
        Compression::None => "application/x-ndjson",
        Compression::Gzip => "application/gzip",
        Compression::Zstd => "application/zstd",
    });
    headers.entry(CONTENT_TYPE).or_insert(content_type);
    let courier = context.courier(&config.tls, config.proxy.as_ref());
    let store = Store {
        courier: courier.map_err(BuildError::of("object_store"))?,
        keyring: Keyring::open(source).map_err(&wrong)?,
        scope: Scope {
            region: place.region,
            service: "s3".to_owned(),
        },
        host: shown_host(&place.base),
        base: place.base,
        prefix: place.prefix,
        is_aws: place.is_aws,
        compression: config.compression,
        headers,
        batch: Vec::new(),
        known: BTreeMap::new(),
        upkeep: Upkeep::default(),
    };
    let mut outlet = context.remote("object_store", store);
    outlet.delivery.batch = SPANS;
    outlet.delivery.batch_bytes = BYTES.as_usize();
    outlet.delivery.max_age = AGE;
    outlet.delivery.on_disk = true;
    // It is what somebody will look into for any call.
    outlet.sampling = Some(Sampling::default());
    Ok(outlet)
}

struct Store {
    courier: Courier,
    keyring: Keyring,
    scope: Scope,
    /// The address of the bucket, without a slash at its end.
    base: String,
    host: Option<Box<str>>,
    /// What all keys begin with, up to its slash; or nothing.
    prefix: String,
    is_aws: bool,
    compression: Compression,
    /// Of every object.
    headers: HeaderMap,
    /// The keys of the objects of the batch that was tried last, if that failed, …
    batch: Vec<String>,
    /// … and what became of some of them, and of their parts.
    known: BTreeMap<String, Known>,
    /// What was counted since the last one.
    upkeep: Upkeep,
}

/// The spans of one day in a batch, or a part of them.
struct Object {
    /// Its name in the bucket.
    key: String,
    lines: String,
    records: Vec<Arc<Record>>,
}

/// What became of an object.
#[derive(Clone, Copy)]
enum Known {
    Taken,
    TooLarge,
}

impl Store {
    /// An object for each day of the batch, in UTC, by the beginnings of the spans; the first day last.
    fn objects(&self, batch: &[Arc<Record>]) -> Vec<Object> {
        let mut days: BTreeMap<u64, Vec<Arc<Record>>> = BTreeMap::new();
        for record in batch {
            let day = record.span.start.as_secs() / 86_400;
            days.entry(day).or_default().push(Arc::clone(record));
        }
        let days = days.into_values().rev();
        days.map(|records| self.object(records)).collect()
    }

    fn object(&self, records: Vec<Arc<Record>>) -> Object {
        let first = records.iter().map(|record| record.span.start).min();
        let time = first.unwrap_or(Timestamp::from_secs(0)).to_string();
        let (day, time) = time.split_once('T').unwrap_or((&time, ""));
        let time: String = time.chars().take(8).filter(|it| *it != ':').collect();
        let mut lines = String::new();
        for record in &records {
            lines.push_str(&record.line);
            lines.push('\n');
        }
        let name = hash(lines.as_bytes());
        let name = name.get(..32).unwrap_or(&name);
        let prefix = &self.prefix;
        let extension = self.compression.extension().unwrap_or_default();
        Object {
            key: format!("{prefix}dt={day}/{time}-{name}.jsonl{extension}"),
            lines,
            records,
        }
    }

    async fn put(&self, object: &Object) -> Result<(), DeliverError> {
        let body = packed(object.lines.as_bytes(), self.compression);
        let body = body.map_err(|error| DeliverError::Reject(error.into()))?;
        let mut headers = self.headers.clone();
        // Other stores may not know it.
        if self.is_aws {
            let sum = STANDARD.encode(digest(&SHA256, &body));
            if let Ok(sum) = HeaderValue::from_str(&sum) {
                headers.insert(CHECKSUM, sum);
            }
        }
        let url = format!("{}/{}", self.base, encoded(&object.key));
        let address = Address::parse(&Secret::new(url));
        let address = address.map_err(|error| DeliverError::Reject(error.into()))?;
        let letter = Letter {
            method: Method::PUT,
            headers,
            body: body.into(),
            compression: post::Compression::None,
        };
        let signed = (&self.keyring, &self.scope);
        let sent = self.courier.send_signed(&address, letter, signed).await;
        sent.map(|_answer| ()).map_err(meaning)
    }

    /// Puts every object that the store does not have yet. What it refuses for good is told at the end.
    async fn store(&mut self, batch: &[Arc<Record>]) -> Result<(), DeliverError> {
        let mut objects = self.objects(batch);
        let keys: Vec<String> = objects.iter().map(|object| object.key.clone()).collect();
        if self.batch != keys {
            self.known.clear();
            self.batch = keys;
        }
        let (mut refused, mut too_large, mut trouble) = (0, 0, None);
        while let Some(object) = objects.pop() {
            let spans = object.records.len();
            match self.known.get(&object.key) {
                Some(Known::Taken) => continue,
                Some(Known::TooLarge) => {},
                None => match self.put(&object).await {
                    Ok(()) => {
                        self.known.insert(object.key, Known::Taken);
                        continue;
                    },
                    Err(DeliverError::TooLarge(_)) if spans > 1 => {
                        self.known.insert(object.key, Known::TooLarge);
                        self.upkeep.halved += 1;
                    },
                    Err(DeliverError::TooLarge(error)) => {
                        refused += spans;
                        too_large += 1;
                        trouble = Some(error);
                        continue;
                    },
                    Err(DeliverError::Reject(error)) => {
                        refused += spans;
                        trouble = Some(error);
                        continue;
                    },
                    Err(error) => return Err(error),
                },
            }
            // Its halves are put instead. Those of the whole batch would be other objects, with what is
            // there already among them.
            let (first, second) = object.records.split_at(spans.div_ceil(2));
            objects.extend([second, first].map(|half| self.object(half.to_vec())));
        }
        self.batch.clear();
        self.known.clear();
        self.upkeep.too_large += too_large;
        match trouble {
            None => Ok(()),
            Some(error) if refused == batch.len() => Err(DeliverError::Reject(error)),
            Some(source) => Err(DeliverError::Partly { refused, source }),
        }
    }
}

/// The same bytes come of the same bytes: there is no time in them.
fn packed(lines: &[u8], kind: Compression) -> io::Result<Vec<u8>> {
    match kind {
        Compression::None => Ok(lines.to_vec()),
        Compression::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(lines)?;
            encoder.finish()
        },
        Compression::Zstd => zstd::encode_all(lines, zstd::DEFAULT_COMPRESSION_LEVEL),
    }
}

/// What an error means for the batch.
fn meaning(error: PostError) -> DeliverError {
    match error {
        PostError::Status {
            after, ref words, ..
        } if PASSING.iter().any(|code| words.ends_with(code)) => DeliverError::Retry {
            after,
            source: error.into(),
        },
        error => error.into(),
    }
}

impl Processor for Store {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(self.store(batch))
    }

    fn upkeep(&mut self) -> Upkeep {
        std::mem::take(&mut self.upkeep)
    }

    fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        let error = |code: u16, words: &str| {
            meaning(PostError::Status {
                status: StatusCode::from_u16(code).unwrap(),
                after: None,
                words: words.to_owned(),
            })
        };
        for (code, words) in [
            (403, ": RequestTimeTooSkewed"),
            (400, ": RequestTimeout"),
            (400, ": ExpiredToken"),
            (409, ": OperationAborted"),
            (503, ": SlowDown"),
            (500, ": InternalError"),
        ] {
            let means = error(code, words);
            assert!(matches!(means, DeliverError::Retry { .. }), "{words}");
        }
        for (code, words) in [
            (403, ": AccessDenied"),
            (403, ": SignatureDoesNotMatch"),
            (404, ": NoSuchBucket"),
            (301, ": PermanentRedirect"),
            (400, ""),
        ] {
            let means = error(code, words);
            assert!(matches!(means, DeliverError::Reject(_)), "{words}");
        }
        let unsigned = meaning(PostError::Unsigned("no token".to_owned()));
        assert!(matches!(unsigned, DeliverError::Retry { .. }));
    }

    #[test]
    fn what_is_packed_is_the_same_each_time_and_unpacked_again() {
        let lines = "{\"a\":1}\n".repeat(100);
        for kind in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let once = packed(lines.as_bytes(), kind).unwrap();
            assert_eq!(once, packed(lines.as_bytes(), kind).unwrap());
            let mut plain = String::new();
            let _read = match kind {
                Compression::None => io::Read::read_to_string(&mut &*once, &mut plain),
                Compression::Gzip => {
                    io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*once), &mut plain)
                },
                Compression::Zstd => {
                    io::Read::read_to_string(&mut zstd::Decoder::new(&*once).unwrap(), &mut plain)
                },
            };
            assert_eq!(plain, lines);
        }
    }
}
