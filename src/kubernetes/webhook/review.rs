//! `AdmissionReview`, version 1: what the API server asks, and how it is answered.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use json_patch::Patch;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kubernetes::Refusal;

/// The version that is spoken.
const VERSION: &str = "admission.k8s.io/v1";
/// The kind of object that is spoken in.
const KIND: &str = "AdmissionReview";

/// The longest warning, in bytes: the API server cuts longer ones.
const WARNING_BYTES: usize = 256;
/// The most warnings: the API server drops what is over 4096 bytes of them.
const WARNINGS: usize = 16;

/// A question that is none, or that cannot be answered: an HTTP status, and what is wrong, where,
/// and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// As the API shows errors: a `Status`, which the API server's own errors quote; with the number
    /// of the question, if it could be read.
    pub(super) fn body(&self, uid: Option<&str>) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Shown<'a> {
            kind: &'static str,
            api_version: &'static str,
            status: &'static str,
            message: &'a str,
            reason: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            details: Option<Details<'a>>,
            code: u16,
        }
        #[derive(Serialize)]
        struct Details<'a> {
            uid: &'a str,
        }
        let reason = self.status.canonical_reason().unwrap_or_default();
        written(&Shown {
            kind: "Status",
            api_version: "v1",
            status: "Failure",
            message: &self.message,
            reason: reason.split(' ').collect(),
            details: uid.map(|uid| Details { uid }),
            code: self.status.as_u16(),
        })
    }
}

/// A question.
#[derive(Debug)]
pub(super) struct Review {
    /// Which of the API server's questions it is.
    pub(super) uid: String,
    /// What is asked about.
    pub(super) subject: Subject,
}

/// What is asked about.
#[derive(Debug)]
pub(super) enum Subject {
    /// A pod that is to be made.
    Pod {
        /// The namespace that it is to be in.
        namespace: String,
        pod: Value,
    },
    /// Something that we need not be asked about; what, in words.
    Other(String),
    /// A pod that is to be made, which is not in the question, or in no namespace; what is missing.
    Nothing(&'static str),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource: Resource,
    sub_resource: Option<String>,
    namespace: Option<String>,
    #[serde(default)]
    operation: String,
    object: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource {
    group: String,
    version: String,
    resource: String,
}

impl Review {
    /// Reads a question.
    ///
    /// # Errors
    /// It is none, or of another version. One that has a `uid` can be answered.
    pub(super) fn read(body: &[u8]) -> Result<Self, Problem> {
        let asked: Asked = serde_json::from_slice(body).map_err(|error| {
            Problem::bad(format!(
                "the body is no {KIND} in JSON ({error}): only the API server is to call this"
            ))
        })?;
        let Asked {
            api_version,
            kind,
            request,
        } = asked;
        if kind != KIND {
            let kind = shown(&kind);
            let message = format!("the body's kind is `{kind}`; expected {KIND}");
            return Err(Problem::bad(message));
        }
        if api_version != VERSION {
            return Err(Problem::bad(format!(
                "the {KIND} is of version `{}`; expected {VERSION}: put `admissionReviewVersions: \
                 [v1]` into the MutatingWebhookConfiguration",
                shown(&api_version)
            )));
        }
        let request = request.ok_or_else(|| {
            Problem::bad(format!("the {KIND} has no `request`: nothing is asked"))
        })?;
        if request.uid.is_empty() {
            let message = format!("the {KIND} has no `request.uid`: there is nobody to answer");
            return Err(Problem::bad(message));
        }
        let (uid, subject) = request.subject();
        Ok(Self { uid, subject })
    }
}

impl Request {
    fn subject(self) -> (String, Subject) {
        let Resource {
            group,
            version,
            resource,
        } = &self.resource;
        let is_pod = group.is_empty() && version == "v1" && resource == "pods";
        let sub = self.sub_resource.as_deref().unwrap_or_default();
        if !is_pod || !sub.is_empty() || self.operation != "CREATE" {
            let mut what = vec![shown(&self.operation), shown(resource)];
            what.extend((!sub.is_empty()).then(|| shown(sub)));
            let at = [group, version].map(|part| shown(part));
            let what = format!(
                "{} ({})",
                what.join(" "),
                at.join("/").trim_start_matches('/')
            );
            return (self.uid, Subject::Other(what));
        }
        let namespace = self.namespace.filter(|namespace| !namespace.is_empty());
        let subject = match (self.object, namespace) {
            (Some(pod), Some(namespace)) if pod.is_object() => Subject::Pod { namespace, pod },
            (Some(pod), None) if pod.is_object() => Subject::Nothing("request.namespace"),
            _ => Subject::Nothing("request.object"),
        };
        (self.uid, subject)
    }
}

/// Words from outside, short enough to be repeated.
fn shown(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(80)
        .collect()
}

/// An answer.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Let it in as it is.
    AsItIs,
    /// Let it in so changed.
    Changed(Patch),
    /// Let it not in.
    Refused(Denial),
}

/// Why a pod is not let in.
#[derive(Debug)]
pub(super) struct Denial {
    message: String,
    reason: &'static str,
    code: StatusCode,
}

impl From<&Refusal> for Denial {
    fn from(refusal: &Refusal) -> Self {
        Self {
            message: refusal.to_string(),
            reason: refusal.reason(),
            code: StatusCode::UNPROCESSABLE_ENTITY,
        }
    }
}

impl Denial {
    /// The question lacks something.
    pub(super) fn lacks(what: &str) -> Self {
        Self {
            message: format!("the {KIND} has no `{what}`, so there is no pod to look at"),
            reason: "BadRequest",
            code: StatusCode::BAD_REQUEST,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'a str>,
}

#[derive(Serialize)]
struct Status<'a> {
    status: &'static str,
    message: &'a str,
    reason: &'static str,
    code: u16,
}

/// The answer to a question, with things that whoever makes the pod should know.
pub(super) fn answer(uid: &str, verdict: &Verdict, warnings: &[String]) -> String {
    let patch = match verdict {
        Verdict::Changed(patch) => Some(STANDARD.encode(written(patch))),
        _ => None,
    };
    let status = match verdict {
        Verdict::Refused(denial) => Some(Status {
            status: "Failure",
            message: &denial.message,
            reason: denial.reason,
            code: denial.code.as_u16(),
        }),
        _ => None,
    };
    written(&Answer {
        api_version: VERSION,
        kind: KIND,
        response: Response {
            uid,
            allowed: status.is_none(),
            status,
            patch_type: patch.as_ref().map(|_| "JSONPatch"),
            patch,
            warnings: warnings
                .iter()
                .take(WARNINGS)
                .map(|text| cut(text))
                .collect(),
        },
    })
}

/// The beginning of a warning.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(WARNING_BYTES))
        .unwrap_or(text)
}

/// Plain data into memory: that cannot fail.
fn written(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn asked(request: &Value) -> Result<Review, Problem> {
        let review = json!({"apiVersion": VERSION, "kind": KIND, "request": request});
        Review::read(review.to_string().as_bytes())
    }

    fn pod_request() -> Value {
        json!({
            "uid": "705ab4f5",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "object": {"metadata": {"generateName": "web-"}, "spec": {"containers": []}},
            "oldObject": null,
            "dryRun": false,
        })
    }

    #[test]
    fn a_pod_is_read_with_its_namespace() {
        let review = asked(&pod_request()).unwrap();
        assert_eq!(review.uid, "705ab4f5");
        let Subject::Pod { namespace, pod } = review.subject else {
            panic!("{review:?}");
        };
        assert_eq!(namespace, "shop");
        assert_eq!(pod["metadata"]["generateName"], "web-");
    }

    #[test]
    fn what_is_no_review_is_refused_and_says_why() {
        let said = |body: &str| Review::read(body.as_bytes()).unwrap_err().message;
        for (body, expected) in [
            ("", "no AdmissionReview in JSON"),
            ("{", "no AdmissionReview in JSON"),
            ("[]", "no AdmissionReview in JSON"),
            ("{}", "kind is ``"),
            (r#"{"kind": "Pod", "apiVersion": "v1"}"#, "kind is `Pod`"),
            (
                r#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"}"#,
                "`admission.k8s.io/v1beta1`; expected admission.k8s.io/v1",
            ),
            (
                r#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}"#,
                "no `request`",
            ),
            (
                r#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {}}"#,
                "no `request.uid`",
            ),
        ] {
            let said = said(body);
            assert!(said.contains(expected), "{body}: {said}");
        }
    }

    #[test]
    fn other_things_than_new_pods_need_not_be_asked_about() {
        for (member, value, expected) in [
            ("operation", json!("UPDATE"), "UPDATE pods (v1)"),
            ("subResource", json!("exec"), "CREATE pods exec (v1)"),
            (
                "resource",
                json!({"group": "apps", "version": "v1", "resource": "deployments"}),
                "CREATE deployments (apps/v1)",
            ),
        ] {
            let mut request = pod_request();
            request[member] = value;
            let review = asked(&request).unwrap();
            assert!(
                matches!(&review.subject, Subject::Other(what) if what == expected),
                "{review:?}"
            );
        }
    }

    #[test]
    fn a_question_without_its_pod_has_an_answer_all_the_same() {
        for (member, value) in [
            ("object", json!(null)),
            ("object", json!([])),
            ("namespace", json!("")),
        ] {
            let mut request = pod_request();
            request[member] = value;
            let review = asked(&request).unwrap();
            assert!(matches!(review.subject, Subject::Nothing(_)), "{review:?}");
        }
    }

    #[test]
    fn warnings_are_as_long_as_the_api_server_shows_them() {
        let long = vec!["\u{e9}".repeat(300); 40];
        let answer: Value = serde_json::from_str(&answer("u", &Verdict::AsItIs, &long)).unwrap();
        let warnings = answer["response"]["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), WARNINGS);
        assert!(
            warnings
                .iter()
                .all(|it| it.as_str().unwrap().len() <= WARNING_BYTES)
        );
        assert_eq!(answer["response"]["allowed"], true);
        assert!(answer["response"].get("patch").is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Err(problem) = Review::read(&bytes) {
                prop_assert!(problem.status.is_client_error());
                prop_assert!(serde_json::from_str::<Value>(&problem.body(None)).is_ok());
            }
        }
    }
}
