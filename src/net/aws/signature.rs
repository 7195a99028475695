//! Signature Version 4: what is signed, and how.
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use std::fmt::Write as _;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
    uri::PathAndQuery,
};
use ring::{
    digest::{SHA256, digest},
    hmac,
};

use crate::base::{clock::Timestamp, id::hex_text, secret::Secret};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT_HASH: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// What AWS knows a caller by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// `AKIA…`, or `ASIA…` for a while only.
    pub id: String,
    /// What signs.
    pub secret: Secret,
    /// Goes with keys that hold for a while only.
    pub token: Option<Secret>,
}

/// What a signature is good for, besides its day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `eu-west-1`
    pub region: String,
    /// `bedrock`
    pub service: String,
}

impl Scope {
    /// Of a request that is signed already.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        Signed::of(headers).map(|signed| signed.scope)
    }

    /// S3 has the hash of the body in a header, and takes the path as it is sent.
    fn is_s3(&self) -> bool {
        self.service == "s3"
    }
}

/// What the header of a signed request says.
struct Signed {
    id: String,
    scope: Scope,
    headers: Vec<String>,
    signature: String,
}

impl Signed {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let fields = value.strip_prefix(ALGORITHM)?.strip_prefix(' ')?;
        let field = |name: &str| {
            let mut pairs = fields
                .split(',')
                .filter_map(|pair| pair.trim().split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let mut credential = field("Credential")?.split('/');
        let (id, _day) = (credential.next()?, credential.next()?);
        let (region, service) = (credential.next()?, credential.next()?);
        Some(Self {
            id: id.to_owned(),
            scope: Scope {
                region: region.to_owned(),
                service: service.to_owned(),
            },
            headers: field("SignedHeaders")?
                .split(';')
                .map(str::to_owned)
                .collect(),
            signature: field("Signature")?.to_owned(),
        })
    }
}

/// The hash of a body, in hexadecimal digits.
pub fn hash(body: &[u8]) -> String {
    hex_text(digest(&SHA256, body).as_ref())
}

/// Signs a request that has all its other headers, in place of any signature that it has. `body` is
/// its hash; at `now` it must arrive within some minutes.
pub fn sign(
    (method, target): (&Method, &PathAndQuery),
    headers: &mut HeaderMap,
    body: &str,
    (keys, scope): (&Keys, &Scope),
    now: Timestamp,
) {
    for name in [AUTHORIZATION, DATE, TOKEN, CONTENT_HASH] {
        headers.remove(name);
    }
    if scope.is_s3()
        && let Ok(hash) = HeaderValue::from_str(body)
    {
        headers.insert(CONTENT_HASH, hash);
    }
    let date = now.to_jiff().strftime("%Y%m%dT%H%M%SZ").to_string();
    if let Ok(date) = HeaderValue::from_str(&date) {
        headers.insert(DATE, date);
    }
    let token = keys.token.as_ref();
    if let Some(Ok(mut token)) = token.map(|token| HeaderValue::from_str(token.expose())) {
        token.set_sensitive(true);
        headers.insert(TOKEN, token);
    }
    // What AWS asks for: the host and everything of its own; others may change on the way.
    let mut names: Vec<&str> = headers
        .keys()
        .filter(|name| {
            **name == HOST || **name == CONTENT_TYPE || name.as_str().starts_with("x-amz")
        })
        .map(HeaderName::as_str)
        .collect();
    names.sort_unstable();
    let names = names.join(";");
    let canonical = canonical((method, target), headers, &names, body, scope);
    let signature = signature(&canonical, &keys.secret, scope, &date);
    let day = date.get(..8).unwrap_or_default();
    let Scope { region, service } = scope;
    let value = format!(
        "{ALGORITHM} Credential={}/{day}/{region}/{service}/aws4_request, SignedHeaders={names}, \
         Signature={signature}",
        keys.id
    );
    if let Ok(mut value) = HeaderValue::from_str(&value) {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
}

/// Whether the signature of a request is that of the keys that it names, which `known` finds.
///
/// # Errors
/// What is wrong with it, as AWS says it.
pub fn verify(
    (method, target): (&Method, &PathAndQuery),
    headers: &HeaderMap,
    body: &[u8],
    known: impl FnOnce(&str) -> Option<Keys>,
) -> Result<(), &'static str> {
    let signed = Signed::of(headers).ok_or("The request's signature is incomplete.")?;
    let keys = known(&signed.id).ok_or("The security token included in the request is invalid.")?;
    let token = headers.get(TOKEN).map(HeaderValue::as_bytes);
    let expected = keys.token.as_ref().map(|token| token.expose().as_bytes());
    if token != expected {
        return Err("The security token included in the request is invalid.");
    }
    let is_covered = |name: &HeaderName| signed.headers.iter().any(|known| name == known.as_str());
    if !is_covered(&HOST) || (token.is_some() && !is_covered(&TOKEN)) {
        return Err("Host and the security token must be signed.");
    }
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let date = date.ok_or("The request has no date.")?;
    let names = signed.headers.join(";");
    let canonical = canonical(
        (method, target),
        headers,
        &names,
        &hash(body),
        &signed.scope,
    );
    if signature(&canonical, &keys.secret, &signed.scope, date) == signed.signature {
        Ok(())
    } else {
        Err(
            "The request signature we calculated does not match the signature you provided. \
             Check your AWS Secret Access Key and signing method.",
        )
    }
}

/// The form of a request that both sides agree on. `names`: of the headers, sorted.
fn canonical(
    (method, target): (&Method, &PathAndQuery),
    headers: &HeaderMap,
    names: &str,
    body: &str,
    scope: &Scope,
) -> String {
    let mut query: Vec<String> = target
        .query()
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.split_once('=') {
            Some(_) => pair.to_owned(),
            None => format!("{pair}="),
        })
        .collect();
    // By name, then by value; what separates them has no part in it.
    query.sort_unstable_by(|one, other| one.split_once('=').cmp(&other.split_once('=')));
    // What is encoded in the path already is encoded once more, everywhere but at S3.
    let path = if scope.is_s3() {
        target.path().to_owned()
    } else {
        encoded(target.path())
    };
    let mut text = format!("{method}\n{path}\n{}\n", query.join("&"));
    for name in names.split(';') {
        text.push_str(name);
        text.push(':');
        for (n, value) in headers.get_all(name).iter().enumerate() {
            let value = String::from_utf8_lossy(value.as_bytes());
            text.push_str(if n > 0 { "," } else { "" });
            text.push_str(&value.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
        }
        text.push('\n');
    }
    text.push('\n');
    text.push_str(names);
    text.push('\n');
    text.push_str(body);
    text
}

/// With everything encoded but letters, digits, slashes and `-_.~`.
pub fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ok = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn signature(canonical: &str, secret: &Secret, scope: &Scope, date: &str) -> String {
    let day = date.get(..8).unwrap_or_default();
    let Scope { region, service } = scope;
    let text = format!(
        "{ALGORITHM}\n{date}\n{day}/{region}/{service}/aws4_request\n{}",
        hash(canonical.as_bytes())
    );
    let mac = |key: &[u8], text: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, text.as_bytes())
    };
    let first = format!("AWS4{}", secret.expose());
    let key = [day, region, service, "aws4_request"]
        .into_iter()
        .fold(first.into_bytes(), |key, part| {
            mac(&key, part).as_ref().to_vec()
        });
    hex_text(mac(&key, &text).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(token: Option<&str>) -> Keys {
        Keys {
            id: "AKIDEXAMPLE".to_owned(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            token: token.map(Secret::new),
        }
    }

    fn scope(region: &str, service: &str) -> Scope {
        Scope {
            region: region.to_owned(),
            service: service.to_owned(),
        }
    }

    fn signed(method: &Method, target: &str, token: Option<&str>) -> HeaderMap {
        let mut headers =
            HeaderMap::from_iter([(HOST, HeaderValue::from_static("example.amazonaws.com"))]);
        let target: PathAndQuery = target.parse().unwrap();
        // 2015-08-30T12:36:00Z
        let now = Timestamp::from_secs(1_440_938_160);
        let scope = scope("us-east-1", "service");
        sign(
            (method, &target),
            &mut headers,
            &hash(b""),
            (&keys(token), &scope),
            now,
        );
        headers
    }

    /// Signatures of AWS's published test suite.
    #[test]
    fn the_published_vectors_are_met() {
        for (method, target, expected) in [
            (
                Method::GET,
                "/",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                Method::GET,
                "/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                Method::POST,
                "/",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
        ] {
            let headers = signed(&method, target, None);
            let value = headers[AUTHORIZATION].to_str().unwrap();
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders=host;x-amz-date, Signature={expected}"
            );
            assert_eq!(value, expected, "{method} {target}");
        }
    }

    /// Those of S3's documentation ("Signature Calculations for the Authorization Header").
    #[test]
    fn the_vectors_of_s3_are_met() {
        let keys = Keys {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            token: None,
        };
        let scope = scope("us-east-1", "s3");
        let host = HeaderValue::from_static("examplebucket.s3.amazonaws.com");
        // 2013-05-24T00:00:00Z
        let now = Timestamp::from_secs(1_369_353_600);
        let mut headers = HeaderMap::from_iter([(HOST, host)]);
        for (target, expected) in [
            (
                "/?lifecycle",
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "/?max-keys=2&prefix=J",
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let target = target.parse().unwrap();
            let empty = hash(b"");
            sign(
                (&Method::GET, &target),
                &mut headers,
                &empty,
                (&keys, &scope),
                now,
            );
            assert_eq!(headers[CONTENT_HASH], empty);
            assert_eq!(Signed::of(&headers).unwrap().signature, expected);
        }
        // The one of an upload has the date signed besides.
        let path = format!("/{}", encoded("test$file.text"));
        let body = hash(b"Welcome to Amazon S3.");
        for (name, value) in [
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-content-sha256", &body),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ] {
            let name: HeaderName = name.parse().unwrap();
            headers.insert(name, value.parse().unwrap());
        }
        let head = (&Method::PUT, &path.parse().unwrap());
        let names = "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class";
        let text = canonical(head, &headers, names, &body, &scope);
        assert_eq!(
            signature(&text, &keys.secret, &scope, "20130524T000000Z"),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
    }

    #[test]
    fn what_was_signed_is_verified_and_nothing_else() {
        let target: PathAndQuery = "/model/a.b-v1%3A0/converse?x".parse().unwrap();
        let headers = signed(&Method::POST, target.as_str(), Some("t"));
        assert_eq!(Scope::of(&headers), Some(scope("us-east-1", "service")));
        let check = |headers: &HeaderMap, body: &[u8], token| {
            let head = (&Method::POST, &target);
            verify(head, headers, body, |id| {
                (id == "AKIDEXAMPLE").then(|| keys(token))
            })
        };
        assert_eq!(check(&headers, b"", Some("t")), Ok(()));
        assert!(check(&headers, b"x", Some("t")).is_err());
        assert!(check(&headers, b"", Some("u")).is_err());
        assert!(check(&headers, b"", None).is_err());
        let mut elsewhere = headers.clone();
        elsewhere.insert(HOST, HeaderValue::from_static("127.0.0.1:4100"));
        assert!(check(&elsewhere, b"", Some("t")).is_err());
        assert!(check(&HeaderMap::new(), b"", None).is_err());
    }

    #[test]
    fn a_query_is_in_the_order_of_its_names() {
        let target: PathAndQuery = "/?a-b=2&a=3&a=1".parse().unwrap();
        let scope = scope("us-east-1", "service");
        let headers = HeaderMap::new();
        let text = canonical((&Method::GET, &target), &headers, "host", "", &scope);
        assert_eq!(text.lines().nth(2), Some("a=1&a=3&a-b=2"));
    }

    #[test]
    fn what_is_encoded_is_encoded_once_more() {
        assert_eq!(
            encoded("/model/a.b-v1%3A0/converse"),
            "/model/a.b-v1%253A0/converse"
        );
        assert_eq!(encoded("/a:b c"), "/a%3Ab%20c");
    }

    #[test]
    fn a_secret_is_not_shown() {
        let shown = format!("{:?}", keys(Some("hush")));
        assert!(
            !shown.contains("hush") && !shown.contains("wJalr"),
            "{shown}"
        );
        let headers = signed(&Method::GET, "/", Some("hush"));
        assert!(!format!("{headers:?}").contains("hush"));
    }
}
