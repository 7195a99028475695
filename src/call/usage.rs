//! The tokens of one call, as providers report them.

use serde::{Deserialize, Serialize};

/// Token counts. `input` and `output` are totals; every other field is a part of one of them.
/// `None` is "not reported", which is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All prompt tokens, cached ones included.
    pub input: Option<u64>,
    /// Part of `input`: read from the provider's cache.
    pub cache_read: Option<u64>,
    /// Part of `input`: written to the provider's cache, whatever its lifetime.
    pub cache_write: Option<u64>,
    /// Part of `cache_write`: kept for five minutes (Anthropic).
    pub cache_write_5m: Option<u64>,
    /// Part of `cache_write`: kept for an hour (Anthropic).
    pub cache_write_1h: Option<u64>,
    /// Part of `input`: audio.
    pub input_audio: Option<u64>,
    /// Part of `input`: images.
    pub input_image: Option<u64>,
    /// Part of `input`: video.
    pub input_video: Option<u64>,
    /// Part of `cache_read` and of `input_audio`.
    pub cache_audio_read: Option<u64>,
    /// Part of `cache_read` and of `input_image`.
    pub cache_image_read: Option<u64>,
    /// All generated tokens, reasoning included.
    pub output: Option<u64>,
    /// Part of `output`: spent on thinking.
    pub reasoning: Option<u64>,
    /// Part of `output`: audio.
    pub output_audio: Option<u64>,
    /// Part of `output`: images.
    pub output_image: Option<u64>,
    /// Part of `output`: video.
    pub output_video: Option<u64>,
    /// Part of `output`: citations, where they have a price of their own (Perplexity).
    pub citation: Option<u64>,
    /// Web searches that the provider ran and bills by the piece. Not tokens.
    pub web_searches: Option<u64>,
    /// Searches in stored files that the provider ran and bills by the piece. Not tokens.
    pub file_searches: Option<u64>,
    /// Seconds of audio that were read, the last one begun counted whole. Not tokens.
    pub audio_seconds: Option<u64>,
    /// Characters that were spoken. Not tokens.
    pub characters: Option<u64>,
    /// Images that were made and are billed by the piece. Not tokens.
    pub images: Option<u64>,
    /// Searches in a request's own documents, as they are billed to rank them. Not tokens.
    pub search_units: Option<u64>,
    /// Input tokens that the model saw, where `input` is what is billed and that is another number
    /// (Cohere). Then `cache_read` is a part of these.
    pub seen_input: Option<u64>,
    /// Output tokens that the model made, where `output` is what is billed.
    pub seen_output: Option<u64>,
}

impl Usage {
    /// Usage of a call that only reads and writes plain text.
    pub const fn text(input: u64, output: u64) -> Self {
        Self {
            input: Some(input),
            output: Some(output),
            ..Self::NONE
        }
    }

    /// Nothing reported.
    pub const NONE: Self = Self {
        input: None,
        cache_read: None,
        cache_write: None,
        cache_write_5m: None,
        cache_write_1h: None,
        input_audio: None,
        input_image: None,
        input_video: None,
        cache_audio_read: None,
        cache_image_read: None,
        output: None,
        reasoning: None,
        output_audio: None,
        output_image: None,
        output_video: None,
        citation: None,
        web_searches: None,
        file_searches: None,
        audio_seconds: None,
        characters: None,
        images: None,
        search_units: None,
        seen_input: None,
        seen_output: None,
    };

    /// The counts that OpenTelemetry has no names for, by those that spans have after
    /// `tollgate.usage.`. With the others they are all that a bill depends on.
    pub const fn further(&self) -> [(&'static str, Option<u64>); 19] {
        [
            ("cache_write_5m_tokens", self.cache_write_5m),
            ("cache_write_1h_tokens", self.cache_write_1h),
            ("input_audio_tokens", self.input_audio),
            ("input_image_tokens", self.input_image),
            ("input_video_tokens", self.input_video),
            ("cache_audio_read_tokens", self.cache_audio_read),
            ("cache_image_read_tokens", self.cache_image_read),
            ("output_audio_tokens", self.output_audio),
            ("output_image_tokens", self.output_image),
            ("output_video_tokens", self.output_video),
            ("citation_tokens", self.citation),
            ("web_searches", self.web_searches),
            ("file_searches", self.file_searches),
            ("audio_seconds", self.audio_seconds),
            ("characters", self.characters),
            ("images", self.images),
            ("search_units", self.search_units),
            ("seen_input_tokens", self.seen_input),
            ("seen_output_tokens", self.seen_output),
        ]
    }

    /// Sets the count that [`Usage::further`] gives that name; nothing if there is none.
    pub(super) fn set_further(&mut self, name: &str, count: Option<u64>) {
        let field = match name {
            "cache_write_5m_tokens" => &mut self.cache_write_5m,
            "cache_write_1h_tokens" => &mut self.cache_write_1h,
            "input_audio_tokens" => &mut self.input_audio,
            "input_image_tokens" => &mut self.input_image,
            "input_video_tokens" => &mut self.input_video,
            "cache_audio_read_tokens" => &mut self.cache_audio_read,
            "cache_image_read_tokens" => &mut self.cache_image_read,
            "output_audio_tokens" => &mut self.output_audio,
            "output_image_tokens" => &mut self.output_image,
            "output_video_tokens" => &mut self.output_video,
            "citation_tokens" => &mut self.citation,
            "web_searches" => &mut self.web_searches,
            "file_searches" => &mut self.file_searches,
            "audio_seconds" => &mut self.audio_seconds,
            "characters" => &mut self.characters,
            "images" => &mut self.images,
            "search_units" => &mut self.search_units,
            "seen_input_tokens" => &mut self.seen_input,
            "seen_output_tokens" => &mut self.seen_output,
            _ => return,
        };
        *field = count;
    }

    /// Input and output tokens together; what a limit in tokens counts.
    pub fn total(&self) -> u64 {
        self.input
            .unwrap_or(0)
            .saturating_add(self.output.unwrap_or(0))
    }

    /// Whether what a call is billed by was reported at all: tokens, or pieces of any kind but
    /// those that are billed beside tokens.
    pub const fn is_reported(&self) -> bool {
        let by_tokens = self.input.is_some() || self.output.is_some();
        let by_sound = self.audio_seconds.is_some() || self.characters.is_some();
        by_tokens || by_sound || self.images.is_some() || self.search_units.is_some()
    }

    /// Takes every field that `later` reports: a provider's later word replaces its earlier one
    /// and is never added to it.
    pub fn update(&mut self, later: &Self) {
        for (now, later) in self.fields(later) {
            *now = later.or(*now);
        }
    }

    /// Adds the usage of another answer; what neither reports stays unknown.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.fields(other) {
            *sum = self::sum(*sum, more);
        }
    }

    /// Each field, with the same one of `other`.
    const fn fields<'a>(&'a mut self, other: &Self) -> [(&'a mut Option<u64>, Option<u64>); 24] {
        [
            (&mut self.input, other.input),
            (&mut self.cache_read, other.cache_read),
            (&mut self.cache_write, other.cache_write),
            (&mut self.cache_write_5m, other.cache_write_5m),
            (&mut self.cache_write_1h, other.cache_write_1h),
            (&mut self.input_audio, other.input_audio),
            (&mut self.input_image, other.input_image),
            (&mut self.input_video, other.input_video),
            (&mut self.cache_audio_read, other.cache_audio_read),
            (&mut self.cache_image_read, other.cache_image_read),
            (&mut self.output, other.output),
            (&mut self.reasoning, other.reasoning),
            (&mut self.output_audio, other.output_audio),
            (&mut self.output_image, other.output_image),
            (&mut self.output_video, other.output_video),
            (&mut self.citation, other.citation),
            (&mut self.web_searches, other.web_searches),
            (&mut self.file_searches, other.file_searches),
            (&mut self.audio_seconds, other.audio_seconds),
            (&mut self.characters, other.characters),
            (&mut self.images, other.images),
            (&mut self.search_units, other.search_units),
            (&mut self.seen_input, other.seen_input),
            (&mut self.seen_output, other.seen_output),
        ]
    }
}

/// Two counts together; unknown if both are.
pub fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}

/// How a usage came to be known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UsageSource {
    /// The provider said so.
    Reported,
    /// We counted what we saw.
    Estimated,
    /// The most that it can have been: the reservation.
    Ceiling,
    /// Nothing is known.
    #[default]
    Absent,
}

impl UsageSource {
    /// As it stands on spans.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Estimated => "estimated",
            Self::Ceiling => "ceiling",
            Self::Absent => "absent",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_report_replaces_and_never_adds() {
        let mut usage = Usage {
            cache_read: Some(4),
            ..Usage::text(10, 1)
        };
        usage.update(&Usage {
            output: Some(20),
            ..Usage::NONE
        });
        assert_eq!(
            usage,
            Usage {
                cache_read: Some(4),
                ..Usage::text(10, 20)
            }
        );
        assert_eq!(usage.total(), 30);
    }

    #[test]
    fn what_neither_of_two_answers_reports_is_unknown_in_their_sum() {
        let mut sum = Usage {
            cache_read: Some(4),
            ..Usage::text(10, 1)
        };
        sum.add(&Usage {
            images: Some(2),
            ..Usage::text(5, 6)
        });
        let expected = Usage {
            cache_read: Some(4),
            images: Some(2),
            ..Usage::text(15, 7)
        };
        assert_eq!(sum, expected);
    }
}
