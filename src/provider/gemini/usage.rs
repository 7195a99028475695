//! Token counts as Google reports them.

use crate::{
    call::usage::{Usage, sum},
    provider::wire::json::Ahead,
};

/// What a usage object says.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The counts.
    pub(super) usage: Usage,
    /// The service tier that is charged.
    pub(super) tier: Option<Box<str>>,
}

/// Reads a usage object: thoughts are output besides the candidates, and what tools fetched is
/// input besides the prompt.
pub(super) fn read(usage: Ahead<'_, '_>) -> Report {
    let mut found = Usage::NONE;
    let (mut tier, mut traffic) = (None, None);
    let (mut prompt, mut fetched, mut written, mut total) = (None, None, None, None);
    usage.object(|key, value| match key {
        b"promptTokenCount" => prompt = value.take().u64(),
        b"toolUsePromptTokenCount" => fetched = value.take().u64(),
        b"candidatesTokenCount" | b"responseTokenCount" => written = value.take().u64(),
        b"thoughtsTokenCount" => found.reasoning = value.take().u64(),
        b"cachedContentTokenCount" => found.cache_read = value.take().u64(),
        b"totalTokenCount" => total = value.take().u64(),
        b"serviceTier" => tier = value.take().name(),
        b"trafficType" => traffic = value.take().name(),
        b"promptTokensDetails" | b"promptTokenDetails" => {
            let [audio, image, video] = by_modality(value);
            (found.input_audio, found.input_image, found.input_video) = (audio, image, video);
        },
        b"candidatesTokensDetails" | b"responseTokensDetails" => {
            let [audio, image, _] = by_modality(value);
            (found.output_audio, found.output_image) = (audio, image);
        },
        b"cacheTokensDetails" => {
            let [audio, image, _] = by_modality(value);
            (found.cache_audio_read, found.cache_image_read) = (audio, image);
        },
        _ => {},
    });
    found.input = sum(prompt, fetched);
    found.output = sum(written, found.reasoning);
    if let (Some(input), Some(total)) = (found.input, total) {
        // A count of zero is left out, and so was one that the total has.
        found.output = found.output.max(Some(total.saturating_sub(input)));
    }
    Report {
        usage: found,
        tier: traffic.and_then(tier_of).or(tier),
    }
}

/// The service tier that Vertex AI's kind of traffic is; `None` for the usual one.
fn tier_of(traffic: Box<str>) -> Option<Box<str>> {
    match &*traffic {
        "ON_DEMAND" | "TRAFFIC_TYPE_UNSPECIFIED" => None,
        "ON_DEMAND_FLEX" => Some("flex".into()),
        "ON_DEMAND_PRIORITY" => Some("priority".into()),
        // `PROVISIONED_THROUGHPUT`, and what is not known yet.
        _ => Some(traffic),
    }
}

/// Reads the usage of an embedding: there is no output.
pub(super) fn read_embedding(usage: Ahead<'_, '_>) -> Report {
    let mut report = read(usage);
    report.usage.output = report.usage.input.map(|_| 0);
    report
}

/// Counts of audio, images and video.
fn by_modality(details: Ahead<'_, '_>) -> [Option<u64>; 3] {
    let mut counts = [None; 3];
    details.items(|detail| {
        let (mut modality, mut count) = (None, None);
        detail.object(|key, value| match key {
            b"modality" => modality = value.take().str(),
            b"tokenCount" => count = value.take().u64(),
            _ => {},
        });
        let [audio, image, video] = &mut counts;
        let place = match modality.as_deref() {
            Some("AUDIO") => audio,
            Some("IMAGE") => image,
            Some("VIDEO") => video,
            _ => return,
        };
        *place = sum(*place, count);
    });
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::wire::json::Json;

    fn usage(text: &str) -> Usage {
        Json::document(text.as_bytes()).read(read).usage
    }

    #[test]
    fn thoughts_are_output_and_fetched_text_is_input() {
        let found = usage(
            r#"{"promptTokenCount":46,"toolUsePromptTokenCount":4,"candidatesTokenCount":57,
            "thoughtsTokenCount":67,"totalTokenCount":174,"cachedContentTokenCount":30,
            "promptTokensDetails":[{"modality":"TEXT","tokenCount":40},{"modality":"AUDIO","tokenCount":6}]}"#,
        );
        let expected = Usage {
            cache_read: Some(30),
            input_audio: Some(6),
            reasoning: Some(67),
            ..Usage::text(50, 124)
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn an_output_that_is_left_out_is_what_the_total_says() {
        assert_eq!(
            usage(r#"{"promptTokenCount":11,"totalTokenCount":11}"#),
            Usage::text(11, 0)
        );
        assert_eq!(
            usage(r#"{"promptTokenCount":11,"totalTokenCount":15}"#),
            Usage::text(11, 4)
        );
        assert_eq!(usage(r#"{"promptTokenCount":11}"#).output, None);
    }

    #[test]
    fn no_counts_are_unknown() {
        assert_eq!(usage(r#"{"trafficType":"ON_DEMAND"}"#), Usage::NONE);
    }
}
