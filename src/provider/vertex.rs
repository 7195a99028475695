//! Vertex AI: each location has a host of its own, and the path names the location; models of other
//! publishers are called in their publisher's dialect, with the model in the path.

use super::wire::percent;

/// The longest name of a location that is believed, in bytes.
const LONGEST: usize = 40;

/// The host for a path like `/v1/projects/p/locations/us-east5/…`; `None` if it names no location.
pub(super) fn host(path: &str) -> Option<String> {
    let mut segments = path.split('/');
    segments.find(|segment| *segment == "locations")?;
    let location = segments.next().filter(|name| is_location(name))?;
    Some(match location {
        "global" => "aiplatform.googleapis.com".to_owned(),
        "us" | "eu" => format!("aiplatform.{location}.rep.googleapis.com"),
        region => format!("{region}-aiplatform.googleapis.com"),
    })
}

/// A call of another publisher's model, in that publisher's own form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Raw<'a> {
    /// Whose model it is: `anthropic`.
    pub(super) publisher: &'a str,
    /// The model, or what stands in its place.
    pub(super) model: Box<str>,
    /// The answer shall be a stream.
    pub(super) stream: bool,
}

/// Reads a path like `…/publishers/anthropic/models/claude-x:rawPredict`.
pub(super) fn raw(path: &str) -> Option<Raw<'_>> {
    let mut segments = path.rsplit('/');
    let (model, method) = segments.next()?.rsplit_once(':')?;
    let stream = match method {
        "rawPredict" => false,
        "streamRawPredict" => true,
        _ => return None,
    };
    let (models, publisher, publishers) = (segments.next()?, segments.next()?, segments.next()?);
    (models == "models" && publishers == "publishers").then(|| Raw {
        publisher,
        model: percent::name(model).unwrap_or_default(),
        stream,
    })
}

/// Nothing else may become a part of a host's name.
fn is_location(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= LONGEST
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_call_names_its_publisher_and_model() {
        let base = "/v1/projects/p/locations/l/publishers/anthropic/models";
        for (end, model, stream) in [
            ("claude-x@1:rawPredict", "claude-x@1", false),
            ("claude-x%401:streamRawPredict", "claude-x@1", true),
        ] {
            let path = format!("{base}/{end}");
            let expected = Raw {
                publisher: "anthropic",
                model: Box::from(model),
                stream,
            };
            assert_eq!(raw(&path), Some(expected));
        }
        let long = format!("{base}/{}:rawPredict", "m".repeat(9_000));
        assert_eq!(raw(&long).unwrap().model.len(), 512);
        assert_eq!(raw(&format!("{base}/claude-x:predict")), None);
        assert_eq!(
            raw("/v1/projects/p/locations/l/endpoints/1:rawPredict"),
            None
        );
    }

    #[test]
    fn the_location_in_the_path_tells_the_host() {
        let of = |location: &str| host(&format!("/v1/projects/p/locations/{location}/x"));
        for (location, expected) in [
            ("us-east5", "us-east5-aiplatform.googleapis.com"),
            ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
            ("global", "aiplatform.googleapis.com"),
            ("eu", "aiplatform.eu.rep.googleapis.com"),
        ] {
            assert_eq!(of(location).as_deref(), Some(expected));
        }
        assert_eq!(host("/v1beta1/publishers/google/models/g:x"), None);
        let long = "a".repeat(41);
        for wrong in ["", "-", "us-", "evil.org%23", "US-EAST5", "a@b", "1", &long] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
