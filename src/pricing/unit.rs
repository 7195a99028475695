//! What is counted and has a price.

use serde::Deserialize;

use crate::{base::money::PerMillion, call::usage::Usage};

/// A kind of thing that is billed. Token units overlap (a cached audio token is also a cached, an
/// audio and an input token): a token is billed as the most specific unit that has a price.
///
/// The order is from the most specific to the least, and the names are those of the price book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Input tokens written to a cache that keeps them for an hour.
    #[serde(rename = "cache_write_1h")]
    CacheWrite1h,
    /// Audio input tokens read from the cache.
    CacheAudioRead,
    /// Image input tokens read from the cache.
    CacheImageRead,
    /// Input tokens read from the cache.
    CacheRead,
    /// Input tokens written to the cache.
    CacheWrite,
    /// Audio input tokens.
    InputAudio,
    /// Image input tokens.
    InputImage,
    /// Video input tokens.
    InputVideo,
    /// Audio output tokens.
    OutputAudio,
    /// Image output tokens.
    OutputImage,
    /// Video output tokens.
    OutputVideo,
    /// Output tokens spent on thinking.
    Reasoning,
    /// Output tokens of citations.
    Citation,
    /// Input tokens.
    Input,
    /// Output tokens.
    Output,
    /// Web searches that the provider ran. Priced per thousand.
    WebSearches,
    /// Searches in stored files that the provider ran. Priced per thousand.
    FileSearches,
    /// Seconds of audio that were read. Priced per thousand.
    AudioSeconds,
    /// Characters that were spoken. Priced per thousand.
    Characters,
    /// Images that were made, where they are billed by the piece. Priced per thousand.
    Images,
    /// Searches in a request's own documents. Priced per thousand.
    SearchUnits,
    /// The call itself. Priced per thousand.
    Requests,
}

impl Unit {
    /// Every unit, the most specific first.
    pub const ALL: [Self; 22] = [
        Self::CacheWrite1h,
        Self::CacheAudioRead,
        Self::CacheImageRead,
        Self::CacheRead,
        Self::CacheWrite,
        Self::InputAudio,
        Self::InputImage,
        Self::InputVideo,
        Self::OutputAudio,
        Self::OutputImage,
        Self::OutputVideo,
        Self::Reasoning,
        Self::Citation,
        Self::Input,
        Self::Output,
        Self::WebSearches,
        Self::FileSearches,
        Self::AudioSeconds,
        Self::Characters,
        Self::Images,
        Self::SearchUnits,
        Self::Requests,
    ];

    /// Its name in the price book and in `pricing:`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CacheWrite1h => "cache_write_1h",
            Self::CacheAudioRead => "cache_audio_read",
            Self::CacheImageRead => "cache_image_read",
            Self::CacheRead => "cache_read",
            Self::CacheWrite => "cache_write",
            Self::InputAudio => "input_audio",
            Self::InputImage => "input_image",
            Self::InputVideo => "input_video",
            Self::OutputAudio => "output_audio",
            Self::OutputImage => "output_image",
            Self::OutputVideo => "output_video",
            Self::Reasoning => "reasoning",
            Self::Citation => "citation",
            Self::Input => "input",
            Self::Output => "output",
            Self::WebSearches => "web_searches",
            Self::FileSearches => "file_searches",
            Self::AudioSeconds => "audio_seconds",
            Self::Characters => "characters",
            Self::Images => "images",
            Self::SearchUnits => "search_units",
            Self::Requests => "requests",
        }
    }

    /// How many of it a written price is for: a million tokens, or a thousand of anything else.
    pub const fn per(self) -> u32 {
        match self {
            Self::WebSearches
            | Self::FileSearches
            | Self::AudioSeconds
            | Self::Characters
            | Self::Images
            | Self::SearchUnits
            | Self::Requests => 1_000,
            _ => 1_000_000,
        }
    }

    /// A price as it is written, turned into a price per million; `None` beyond the range.
    pub const fn per_million(self, written: PerMillion) -> Option<PerMillion> {
        match written.nanos().checked_mul(1_000_000 / self.per() as i64) {
            Some(nanos) => Some(PerMillion::from_nanos(nanos)),
            None => None,
        }
    }

    /// The price of [`Unit::per`] of it, from the price of a million.
    pub const fn as_written(self, price: PerMillion) -> PerMillion {
        PerMillion::from_nanos(price.nanos() / (1_000_000 / self.per() as i64))
    }

    /// Whether what is counted as `part` is also counted as `self`.
    pub const fn contains(self, part: Self) -> bool {
        matches!(
            (self, part),
            (
                Self::Input,
                Self::CacheWrite1h
                    | Self::CacheAudioRead
                    | Self::CacheImageRead
                    | Self::CacheRead
                    | Self::CacheWrite
                    | Self::InputAudio
                    | Self::InputImage
                    | Self::InputVideo
            ) | (
                Self::Output,
                Self::OutputAudio
                    | Self::OutputImage
                    | Self::OutputVideo
                    | Self::Reasoning
                    | Self::Citation
            ) | (Self::CacheWrite, Self::CacheWrite1h)
                | (Self::CacheRead, Self::CacheAudioRead | Self::CacheImageRead)
                | (Self::InputAudio, Self::CacheAudioRead)
                | (Self::InputImage, Self::CacheImageRead)
        )
    }

    /// Whether it is input tokens or a part of them.
    pub const fn is_input(self) -> bool {
        matches!(self, Self::Input) || Self::Input.contains(self)
    }

    /// Whether it is output tokens or a part of them.
    pub const fn is_output(self) -> bool {
        matches!(self, Self::Output) || Self::Output.contains(self)
    }

    /// Whether it is a fee for a call of a tool that the provider ran.
    pub const fn is_tool_fee(self) -> bool {
        matches!(self, Self::WebSearches | Self::FileSearches)
    }

    /// Whether a call can be billed by it alone, without any token.
    pub const fn is_piece(self) -> bool {
        matches!(
            self,
            Self::AudioSeconds
                | Self::Characters
                | Self::Images
                | Self::SearchUnits
                | Self::Requests
        )
    }

    /// How much of it `usage` reports, its parts included.
    pub const fn reported(self, usage: &Usage) -> Option<u64> {
        match self {
            Self::CacheWrite1h => usage.cache_write_1h,
            Self::CacheAudioRead => usage.cache_audio_read,
            Self::CacheImageRead => usage.cache_image_read,
            // Not a part of what is billed, where that is not what the model saw.
            Self::CacheRead if usage.seen_input.is_some() => None,
            Self::CacheRead => usage.cache_read,
            Self::CacheWrite => usage.cache_write,
            Self::InputAudio => usage.input_audio,
            Self::InputImage => usage.input_image,
            Self::InputVideo => usage.input_video,
            Self::OutputAudio => usage.output_audio,
            Self::OutputImage => usage.output_image,
            Self::OutputVideo => usage.output_video,
            Self::Reasoning => usage.reasoning,
            Self::Citation => usage.citation,
            Self::Input => usage.input,
            Self::Output => usage.output,
            Self::WebSearches => usage.web_searches,
            Self::FileSearches => usage.file_searches,
            Self::AudioSeconds => usage.audio_seconds,
            Self::Characters => usage.characters,
            Self::Images => usage.images,
            Self::SearchUnits => usage.search_units,
            Self::Requests => Some(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_before_what_contains_them() {
        for (place, unit) in Unit::ALL.into_iter().enumerate() {
            assert_eq!(unit as usize, place);
            assert!(
                Unit::ALL
                    .iter()
                    .skip(place)
                    .all(|later| !unit.contains(*later))
            );
        }
    }

    #[test]
    fn containment_is_transitive() {
        for (a, b, c) in Unit::ALL.into_iter().flat_map(|a| {
            Unit::ALL
                .into_iter()
                .flat_map(move |b| Unit::ALL.into_iter().map(move |c| (a, b, c)))
        }) {
            assert!(
                !(a.contains(b) && b.contains(c)) || a.contains(c),
                "{a:?} {b:?} {c:?}"
            );
        }
    }

    #[test]
    fn a_unit_is_read_by_its_own_name() {
        for unit in Unit::ALL {
            let read: Unit = serde_json::from_value(unit.name().into()).unwrap();
            assert_eq!(read, unit);
        }
    }

    #[test]
    fn a_price_per_thousand_is_a_thousand_times_that_per_million() {
        let written = PerMillion::from_nanos(10);
        assert_eq!(Unit::Input.per_million(written), Some(written));
        let searches = Unit::WebSearches.per_million(written);
        assert_eq!(searches, Some(PerMillion::from_nanos(10_000)));
        assert_eq!(
            searches.map(|price| Unit::WebSearches.as_written(price)),
            Some(written)
        );
    }
}
