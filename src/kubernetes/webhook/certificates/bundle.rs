//! Who vouches for the webhook, as the `MutatingWebhookConfiguration` tells the API server:
//! `caBundle`. What is in there and has not ended stays, for whatever another replica still shows.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::{Place, pair};
use crate::{
    base::clock::Timestamp,
    kubernetes::webhook::api::{Api, ApiError, JSON_PATCH},
    net::authority::pem,
};

/// The most certificates in there; those that end first go first, but never ours.
const MOST: usize = 8;

/// Why the API server does not know who vouches for us.
#[derive(Debug, thiserror::Error)]
pub(super) enum BundleError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(
        "the MutatingWebhookConfiguration {configuration} has no webhook that calls the service \
         {namespace}/{service}: --configuration, --namespace and --service name them"
    )]
    NoWebhook {
        configuration: String,
        namespace: String,
        service: String,
    },
}

/// Sees to it that the API server is told of these roots.
///
/// # Errors
/// The API server does not answer or says no, or the configuration calls somebody else. A conflict
/// is an error too: it is to be tried again.
pub(super) async fn tell(
    api: &Api,
    place: &Place,
    roots: &[&str],
    now: Timestamp,
) -> Result<(), BundleError> {
    let path = format!(
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{}",
        place.configuration
    );
    let configuration = api.get(&path).await?;
    match patch(&configuration, place, roots, now) {
        None => Err(BundleError::NoWebhook {
            configuration: place.configuration.clone(),
            namespace: place.namespace.clone(),
            service: place.service.clone(),
        }),
        Some(changes) if changes.is_empty() => Ok(()),
        Some(changes) => {
            let changes = Value::Array(changes);
            api.send(Method::PATCH, &path, JSON_PATCH, &changes).await?;
            tracing::info!(
                configuration = place.configuration,
                "The API server is told who vouches for the webhook"
            );
            Ok(())
        },
    }
}

/// What has to change, if anything; `None`: no webhook of it is ours.
fn patch(
    configuration: &Value,
    place: &Place,
    roots: &[&str],
    now: Timestamp,
) -> Option<Vec<Value>> {
    let webhooks = configuration.get("webhooks")?.as_array()?;
    let ours = webhooks.iter().enumerate().filter(|(_, webhook)| {
        let service = webhook.pointer("/clientConfig/service");
        let is = |member: &str, wanted: &str| {
            service.and_then(|service| service.get(member)?.as_str()) == Some(wanted)
        };
        is("name", &place.service) && is("namespace", &place.namespace)
    });
    let mut found = false;
    let mut patch = Vec::new();
    for (index, webhook) in ours {
        found = true;
        let before = webhook.pointer("/clientConfig/caBundle");
        let before = before.and_then(Value::as_str).unwrap_or_default();
        let Some(after) = with(before, roots, now) else {
            continue;
        };
        // Not of another webhook that has come in its place meanwhile.
        patch.push(json!({
            "op": "test",
            "path": format!("/webhooks/{index}/name"),
            "value": webhook.get("name"),
        }));
        patch.push(json!({
            "op": "add",
            "path": format!("/webhooks/{index}/clientConfig/caBundle"),
            "value": after,
        }));
    }
    let version = configuration.pointer("/metadata/resourceVersion");
    if let Some(version) = version.filter(|_| !patch.is_empty()) {
        let test = json!({"op": "test", "path": "/metadata/resourceVersion", "value": version});
        patch.insert(0, test);
    }
    found.then_some(patch)
}

/// A bundle with these roots in it; `None`: they are in there, and there is nothing that has ended.
fn with(before: &str, roots: &[&str], now: Timestamp) -> Option<String> {
    let der = |text: &[u8]| -> Vec<CertificateDer<'static>> {
        // A placeholder is no certificate: nothing is lost with it.
        CertificateDer::pem_slice_iter(text)
            .map_while(Result::ok)
            .collect()
    };
    let there = der(&STANDARD.decode(before).unwrap_or_default());
    let mut all: Vec<_> = roots.iter().flat_map(|root| der(root.as_bytes())).collect();
    let ends = |root: &CertificateDer<'_>| {
        pair::holds(root)
            .map(|(_begins, ends)| ends)
            .unwrap_or_default()
    };
    let mut others: Vec<_> = there.iter().filter(|root| ends(root) > now).collect();
    others.sort_by_key(|root| std::cmp::Reverse(ends(root)));
    for root in others {
        if !all.contains(root) && all.len() < MOST {
            all.push(root.clone());
        }
    }
    let is_same = all.len() == there.len() && all.iter().all(|root| there.contains(root));
    (!is_same).then(|| STANDARD.encode(pem(&all)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::made::Made, *};

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn place() -> Place {
        Place {
            namespace: "tollgate".to_owned(),
            service: "hook".to_owned(),
            secret: "hook-certificate".to_owned(),
            configuration: "hook".to_owned(),
            lifetime: Duration::from_hours(24),
            settle: Duration::from_mins(2),
        }
    }

    fn root(now: Timestamp) -> String {
        Made::new(&place(), now).unwrap().root
    }

    fn count(bundle: &str) -> usize {
        let text = STANDARD.decode(bundle).unwrap();
        CertificateDer::pem_slice_iter(&text).count()
    }

    #[test]
    fn what_is_there_stays_until_it_ends() {
        let (old, new) = (root(NOW), root(NOW + Duration::from_hours(16)));
        let first = with("Cg==", &[&old], NOW).unwrap();
        assert_eq!(count(&first), 1);
        assert_eq!(with(&first, &[&old], NOW), None, "nothing to do");
        let both = with(&first, &[&new], NOW).unwrap();
        assert_eq!(count(&both), 2);
        assert_eq!(with(&both, &[&old], NOW), None, "whatever the order");
        let later = NOW + Duration::from_hours(25);
        assert_eq!(count(&with(&both, &[&new], later).unwrap()), 1);
    }

    #[test]
    fn a_bundle_does_not_grow_without_end() {
        let mut bundle = String::new();
        for hour in 0..MOST + 3 {
            let now = NOW + Duration::from_mins(u64::try_from(hour).unwrap());
            bundle = with(&bundle, &[&root(now)], NOW).unwrap();
        }
        assert_eq!(count(&bundle), MOST);
    }

    #[test]
    fn only_webhooks_that_call_the_service_are_changed() {
        let service = |name: &str| json!({"service": {"name": name, "namespace": "tollgate"}});
        let configuration = json!({
            "metadata": {"resourceVersion": "7"},
            "webhooks": [
                {"name": "a", "clientConfig": service("other")},
                {"name": "b", "clientConfig": service("hook")},
                {"name": "c", "clientConfig": {"url": "https://hook.tollgate.svc/mutate"}},
            ],
        });
        let root = root(NOW);
        let patch = patch(&configuration, &place(), &[&root], NOW).unwrap();
        let paths: Vec<_> = patch
            .iter()
            .map(|op| op["path"].as_str().unwrap())
            .collect();
        let expected = [
            "/metadata/resourceVersion",
            "/webhooks/1/name",
            "/webhooks/1/clientConfig/caBundle",
        ];
        assert_eq!(paths, expected);
        let nobody = json!({"webhooks": [{"name": "a", "clientConfig": service("other")}]});
        assert_eq!(super::patch(&nobody, &place(), &[&root], NOW), None);
    }
}
