//! A certificate that we make, kept in a Secret: all replicas show the same.
//!
//! The Secret holds the one that is shown and, while it is being changed, the next one. Each change
//! is one write that fails if another replica was faster, and each replica goes by what it reads:
//!
//! 1. Two thirds of its life are over: the next one is made and put beside it.
//! 2. The API server is told of both roots. Old ones stay in its bundle until they end.
//! 3. A replica that has seen the next root in there for [`Place::settle`] puts the next one in the
//!    place of the first, and every replica shows it from its next look on.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use serde_json::{Value, json};

use super::{
    Place, Shown,
    bundle::{self, BundleError},
    made::Made,
};
use crate::{
    base::{
        clock::{Clock, Timestamp},
        secret::Secret,
    },
    kubernetes::webhook::api::{Api, ApiError, JSON},
};

/// How often a write is tried again at one look when others are faster.
const TRIES: usize = 5;

/// Names of what is in the Secret: leaf, key and root, in use and next.
const CURRENT: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];
const NEXT: [&str; 3] = ["next-tls.crt", "next-tls.key", "next-ca.crt"];

/// What is in the Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kept {
    current: Option<Made>,
    next: Option<Made>,
}

/// The certificate in the Secret.
pub(super) struct Shared {
    place: Place,
    api: Arc<Api>,
    clock: Arc<dyn Clock>,
    /// The next root, and since when the API server has been told of it at every look.
    told: Option<(String, Timestamp)>,
}

/// Why a look has failed.
enum Failed {
    /// Another replica was faster.
    Faster(ApiError),
    Other(String),
}

impl Shared {
    pub(super) const fn new(place: Place, api: Arc<Api>, clock: Arc<dyn Clock>) -> Self {
        Self {
            place,
            api,
            clock,
            told: None,
        }
    }

    /// Does what is due, and shows what is to be shown.
    ///
    /// # Errors
    /// What could not be done, where, and what to do about it. What is shown stays.
    pub(super) async fn look(&mut self, shown: &Shown) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..TRIES {
            match self.once(shown).await {
                Ok(()) => return Ok(()),
                Err(Failed::Faster(error)) => last = error.to_string(),
                Err(Failed::Other(error)) => return Err(error),
            }
        }
        Err(format!("others are always faster: {last}"))
    }

    async fn once(&mut self, shown: &Shown) -> Result<(), Failed> {
        let now = self.clock.wall();
        let object = self.read().await?;
        let mut kept = object.as_ref().map(Kept::read).unwrap_or_default();
        if self.change(&mut kept, now).map_err(Failed::Other)? {
            self.write(object, &kept).await?;
        }
        let Some(current) = &kept.current else {
            return Err(Failed::Other("no certificate could be made".to_owned()));
        };
        let pair = current.pair(&self.place, now).map_err(Failed::Other)?;
        let roots: Vec<&str> = [Some(current), kept.next.as_ref()]
            .into_iter()
            .flatten()
            .map(|made| made.root.as_str())
            .collect();
        let told = bundle::tell(&self.api, &self.place, &roots, now).await;
        self.note(&kept, told.is_ok(), now);
        // One of which the API server may not know is better than none, and than one that has ended.
        if told.is_ok() || shown.ends().is_none_or(|ends| ends <= now) {
            shown.show(pair);
        }
        told.map_err(|error| self.untold(error))
    }

    /// What is due; whether there was anything.
    ///
    /// # Errors
    /// No certificate can be made.
    fn change(&self, kept: &mut Kept, now: Timestamp) -> Result<bool, String> {
        let another = || {
            Made::new(&self.place, now)
                .map_err(|error| format!("no certificate could be made: {error}"))
        };
        let current = match &kept.current {
            Some(made) => made.pair(&self.place, now),
            None => Err("there is none in it yet".to_owned()),
        };
        let current = match current {
            Ok(current) => current,
            Err(why) => {
                let begins = kept.current.as_ref().and_then(Made::begins);
                if let Some(begins) = begins.filter(|begins| *begins > now) {
                    return Err(format!(
                        "the certificate in the Secret {} holds from {begins} on, and here it is \
                         {now}: is the clock right?",
                        self.place.secret
                    ));
                }
                tracing::info!(secret = self.place.secret, why, "A certificate is made");
                kept.current = Some(another()?);
                kept.next = None;
                return Ok(true);
            },
        };
        let is_usable = |made: &Made| made.pair(&self.place, now).is_ok();
        match &kept.next {
            Some(next) if is_usable(next) => {
                let has_settled = self.told.as_ref().is_some_and(|(root, since)| {
                    *root == next.root && now.since(*since) >= self.place.settle
                });
                if has_settled {
                    kept.current = kept.next.take();
                }
                Ok(has_settled)
            },
            next => {
                let life = current.ends.since(current.begins);
                let is_due = now.since(current.begins) >= life / 3 * 2;
                let is_broken = next.is_some();
                kept.next = if is_due { Some(another()?) } else { None };
                Ok(is_due || is_broken)
            },
        }
    }

    /// Since when the API server has been told of the next root without a break.
    fn note(&mut self, kept: &Kept, was_told: bool, now: Timestamp) {
        let next = kept.next.as_ref().filter(|_| was_told);
        self.told = next.map(|next| {
            let since = self.told.take().filter(|(root, _)| *root == next.root);
            since.unwrap_or_else(|| (next.root.clone(), now))
        });
    }

    /// Of all Secrets of the namespace.
    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", self.place.namespace)
    }

    /// The Secret, if there is one.
    async fn read(&self) -> Result<Option<Value>, Failed> {
        let path = format!("{}/{}", self.path(), self.place.secret);
        match self.api.get(&path).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(self.unkept(error)),
        }
    }

    /// Writes the Secret; what else is in it stays.
    async fn write(&self, object: Option<Value>, kept: &Kept) -> Result<(), Failed> {
        let (method, path, mut object) = if let Some(object) = object {
            let path = format!("{}/{}", self.path(), self.place.secret);
            (Method::PUT, path, object)
        } else {
            let object = json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": self.place.secret,
                    "namespace": self.place.namespace,
                    "labels": {"app.kubernetes.io/managed-by": "tollgate"},
                },
                "type": "Opaque",
            });
            (Method::POST, self.path(), object)
        };
        kept.write(&mut object);
        let written = self.api.send(method, &path, JSON, &object).await;
        written.map(drop).map_err(|error| self.unkept(error))
    }

    fn unkept(&self, error: ApiError) -> Failed {
        if error.is_conflict() {
            return Failed::Faster(error);
        }
        let Place {
            namespace, secret, ..
        } = &self.place;
        if error.is_denied() {
            return Failed::Other(format!(
                "{error}. The certificate is kept in the Secret {namespace}/{secret}, which the \
                 service account has to be allowed to get and update, and to create if it is not \
                 there (or make it, empty, yourself); or use --cert-dir."
            ));
        }
        Failed::Other(error.to_string())
    }

    fn untold(&self, error: BundleError) -> Failed {
        match error {
            BundleError::Api(error) if error.is_conflict() => Failed::Faster(error),
            BundleError::Api(error) if error.is_denied() => Failed::Other(format!(
                "{error}. The service account has to be allowed to get and patch the \
                 MutatingWebhookConfiguration {}; or use --cert-dir.",
                self.place.configuration
            )),
            BundleError::Api(error) if error.is_missing() => Failed::Other(format!(
                "there is no MutatingWebhookConfiguration {}: make it, or say by --configuration \
                 what its name is",
                self.place.configuration
            )),
            error => Failed::Other(error.to_string()),
        }
    }
}

impl Kept {
    /// What is in a Secret. What is incomplete is not there.
    fn read(object: &Value) -> Self {
        let text = |name: &str| {
            let encoded = object.get("data")?.get(name)?.as_str()?;
            String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
        };
        let made = |[leaf, key, root]: [&str; 3]| {
            Some(Made {
                leaf: text(leaf)?,
                key: Secret::new(text(key)?),
                root: text(root)?,
            })
        };
        Self {
            current: made(CURRENT),
            next: made(NEXT),
        }
    }

    /// Puts it into a Secret.
    fn write(&self, object: &mut Value) {
        let Some(object) = object.as_object_mut() else {
            return;
        };
        let data = object.entry("data").or_insert_with(|| json!({}));
        if !data.is_object() {
            *data = json!({});
        }
        let Some(data) = data.as_object_mut() else {
            return;
        };
        for (names, made) in [(CURRENT, &self.current), (NEXT, &self.next)] {
            for (place, name) in names.into_iter().enumerate() {
                data.remove(name);
                if let Some(made) = made {
                    let texts = [&made.leaf, made.key.expose(), &made.root];
                    let text = texts.get(place).copied().unwrap_or_default();
                    data.insert(name.to_owned(), STANDARD.encode(text).into());
                }
            }
        }
    }
}
