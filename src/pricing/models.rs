//! What models can produce and read at most. The price book does not say; this small table does.
//!
//! It only serves reservations: a row that is missing or too generous reserves too much, one that
//! is too tight lets a call cost more than was reserved, which is then charged and counted as
//! overrun. So a model is only said not to think if that is certain.
//!
//! Sources, read in November 2026: the model pages of OpenAI (developers.openai.com, Models),
//! Anthropic (platform.claude.com, Models overview; Vision), Google (ai.google.dev, Models; Media
//! resolution; the Gemini 4 guide for its default of 65,536), Amazon (docs.aws.amazon.com: Nova's
//! "What is Amazon Nova", Titan Text's model page), Cohere (docs.cohere.com, Models; Command A
//! Reasoning: 32,000) and Mistral; for images, `OpenAI`'s guide "Images and vision". What GPT Image
//! makes at most is in its guide "Image generation" (6,240 tokens for the largest image of GPT Image
//! 1, and 100 for each of three unfinished ones); of GPT Image 2 its calculator there says it, as
//! read by the community (community.openai.com, topic 1382699): 23,719 for a square of 8,294,400
//! pixels. Of
//! Qwen and DeepSeek what gateways list (Vercel: 65,536 for Qwen3 Max, 128,000 for Qwen3.8 Max;
//! Bifrost: 65,536 and a window of 1,048,576 for DeepSeek's reasoner), of Grok the default that xAI
//! publishes for 4.3 (131,072). A window is the largest that any option of the request can buy.

use crate::base::glob;

/// The limits of a model, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most output of one choice, thinking included, when the request sets no limit.
    pub output: u64,
    /// The context window; `None` if it is not known.
    pub window: Option<u64>,
    /// The most that one image counts for.
    pub image: u64,
    /// Whether it may spend output tokens that the stream does not show as they are made.
    pub thinks_unseen: bool,
    /// Whether input may be written to the cache, at the cache-write price, without the request
    /// asking for it.
    pub caches_unasked: bool,
}

/// What is assumed of a model that is not in the table.
pub(super) const UNKNOWN: Limits = Limits {
    output: 32_768,
    window: None,
    image: 12_000, // 10,000 patches of OpenAI's `detail: original`, and some
    thinks_unseen: true,
    caches_unasked: true,
};

impl Limits {
    /// The limits of `model`, whoever serves it.
    pub fn of(model: &str) -> Self {
        let name = model.to_lowercase();
        let name = name.rsplit_once('/').map_or(&*name, |(_, name)| name);
        let name = name.strip_prefix("ft:").unwrap_or(name);
        let row = ROWS
            .iter()
            .find(|(pattern, _)| glob::matches(pattern, name));
        row.map_or(UNKNOWN, |(_, limits)| *limits)
    }

    /// With a context window of at least `window`, where another source knows one.
    #[must_use]
    pub fn with_window(self, window: Option<u64>) -> Self {
        Self {
            window: self.window.max(window),
            ..self
        }
    }
}

/// Shows every output token as it is made.
const fn open(output: u64, window: u64) -> Limits {
    Limits {
        output,
        window: Some(window),
        thinks_unseen: false,
        ..UNKNOWN
    }
}

const fn thinking(output: u64, window: u64) -> Limits {
    Limits {
        thinks_unseen: true,
        ..open(output, window)
    }
}

const fn images(image: u64, limits: Limits) -> Limits {
    Limits { image, ..limits }
}

/// Claude writes to the cache only when told to, and shrinks images to at most 4,784 tokens.
const fn claude(limits: Limits) -> Limits {
    Limits {
        image: 5_000,
        caches_unasked: false,
        ..limits
    }
}

/// Generates nothing. The window holds for each text of a request, so it bounds no request.
const EMBEDDING: Limits = Limits {
    output: 0,
    thinks_unseen: false,
    caches_unasked: false,
    ..UNKNOWN
};

/// Makes images, each of at most so many tokens; none shows before it is made.
const fn image_maker(output: u64) -> Limits {
    Limits { output, ..UNKNOWN }
}

/// Of an image cut into tiles of 512 pixels: at most eight of 170 tokens, and 85 (or five quarters
/// of that).
const TILES: u64 = 1_445;

/// By the model's name in lower case, without what stands before a slash and without `ft:`; the
/// first pattern that matches holds.
const ROWS: &[(&str, Limits)] = &[
    ("*embed*", EMBEDDING),
    ("voyage-*", EMBEDDING),
    // OpenAI's images and audio, billed by the piece, or by tokens that are no text.
    ("dall-e*", EMBEDDING),
    ("tts-1*", EMBEDDING),
    ("*whisper*", EMBEDDING),
    // The unfinished images of a stream come on top, and of GPT Image 1.5 some text.
    ("gpt-image-1", image_maker(8_192)),
    ("gpt-image-1-*", image_maker(8_192)),
    ("gpt-image-1.5*", image_maker(16_384)),
    ("gpt-image-2", image_maker(24_576)),
    ("gpt-image-2-*", image_maker(24_576)),
    ("gpt-4o*-transcribe*", thinking(2_000, 16_000)),
    ("gpt-4o*-tts*", thinking(32_768, 65_536)),
    // OpenAI's realtime models: their audio is no text that could be counted. A response has at most
    // 4,096 tokens (its reference, `max_output_tokens`); the second generation's is not said.
    ("gpt-realtime-2*", thinking(32_768, 128_000)),
    ("gpt-realtime*", thinking(4_096, 32_000)),
    ("gpt-4o*-realtime*", thinking(4_096, 128_000)),
    // OpenAI. gpt-4o-mini counts 2,833 and 5,667 a tile for an image.
    ("gpt-4o-mini*", images(48_169, open(16_384, 128_000))),
    ("gpt-4o-2024-05-13*", images(TILES, open(4_096, 128_000))),
    ("gpt-4o*", images(TILES, open(16_384, 128_000))),
    ("chatgpt-4o*", images(TILES, open(16_384, 128_000))),
    ("gpt-4.1*", images(4_000, open(32_768, 1_047_576))),
    ("gpt-4.5*", images(TILES, open(16_384, 128_000))),
    ("gpt-4-turbo*", images(TILES, open(4_096, 128_000))),
    ("gpt-4-*preview*", images(TILES, open(4_096, 128_000))),
    ("gpt-4-32k*", open(32_768, 32_768)),
    ("gpt-4", open(8_192, 8_192)),
    ("gpt-4-0*", open(8_192, 8_192)),
    ("gpt-3.5*", open(4_096, 16_385)),
    ("gpt-35*", open(4_096, 16_385)),
    ("babbage-002", open(16_384, 16_384)),
    ("davinci-002", open(16_384, 16_384)),
    ("gpt-5-pro*", thinking(272_000, 400_000)),
    ("gpt-5", thinking(128_000, 400_000)),
    ("gpt-5-*", thinking(128_000, 400_000)),
    ("gpt-5.*", thinking(128_000, 1_050_000)),
    ("gpt-6*", thinking(128_000, 1_050_000)),
    ("gpt-oss*", thinking(131_072, 131_072)),
    ("o1-mini*", thinking(65_536, 128_000)),
    ("o1-preview*", thinking(32_768, 128_000)),
    ("o1*", thinking(100_000, 200_000)),
    ("o3*", thinking(100_000, 200_000)),
    ("o4*", thinking(100_000, 200_000)),
    ("codex-mini*", thinking(100_000, 200_000)),
    // Anthropic, also by the names of Bedrock and Vertex AI.
    ("*claude-instant*", claude(open(4_096, 100_000))),
    ("*claude-2*", claude(open(4_096, 200_000))),
    ("*claude-v2*", claude(open(4_096, 200_000))),
    ("*claude-3-5*", claude(open(8_192, 200_000))),
    ("*claude-3.5*", claude(open(8_192, 200_000))),
    ("*claude-3-7*", claude(thinking(128_000, 200_000))),
    ("*claude-3.7*", claude(thinking(128_000, 200_000))),
    ("*claude-3-*", claude(open(4_096, 200_000))),
    ("*claude*", claude(thinking(128_000, 1_000_000))),
    // Amazon.
    ("*nova-micro-v1*", open(10_000, 128_000)),
    ("*nova-lite-v1*", open(10_000, 300_000)),
    ("*nova-pro-v1*", open(10_000, 300_000)),
    ("*nova-premier-v1*", open(32_000, 1_000_000)),
    ("*nova-2-*", thinking(65_536, 1_000_000)),
    ("*titan-text-lite*", open(4_096, 4_096)),
    ("*titan-text-express*", open(8_192, 8_192)),
    ("*titan-text-premier*", open(3_072, 32_000)),
    // Google.
    ("gemini-1.5-pro*", open(8_192, 2_097_152)),
    ("gemini-1.5*", open(8_192, 1_048_576)),
    ("gemini-2.0-flash-thinking*", thinking(65_536, 1_048_576)),
    ("gemini-2.0*", open(8_192, 2_097_152)),
    ("gemini*", thinking(65_536, 1_048_576)),
    // Cohere and Mistral's models without a thinking mode; Mistral documents no limit but the window.
    ("command-r*", open(4_096, 131_072)),
    ("command-a-03-2025", open(8_192, 262_144)),
    ("command-a-reasoning*", thinking(32_768, 262_144)),
    ("open-mistral*", open(131_072, 131_072)),
    ("open-mixtral*", open(65_536, 65_536)),
    ("mistral-large-2407", open(131_072, 131_072)),
    ("mistral-large-2411", open(131_072, 131_072)),
    ("codestral*", open(262_144, 262_144)),
    ("pixtral*", open(131_072, 131_072)),
    ("magistral*", thinking(131_072, 131_072)),
    ("mistral-*", thinking(262_144, 262_144)),
    ("ministral*", thinking(262_144, 262_144)),
    ("devstral*", thinking(262_144, 262_144)),
    // Open weights without a thinking mode; their hosts stop at the window.
    ("*r1-distill*", thinking(131_072, 131_072)),
    ("*nemotron*", thinking(131_072, 262_144)),
    ("*llama-3*", open(131_072, 131_072)),
    ("*llama3*", open(131_072, 131_072)),
    ("deepseek-reasoner*", thinking(65_536, 1_048_576)),
    ("deepseek*", thinking(65_536, 1_048_576)),
    ("qwen3.*", thinking(131_072, 1_048_576)),
    ("qwen*", thinking(65_536, 1_048_576)),
    // xAI: the default where a request sets no limit.
    ("grok*", thinking(131_072, 2_000_000)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_are_known_not_to_think_are_not_said_to() {
        for model in [
            "gpt-4o",
            "GPT-4o-2024-08-06",
            "openai/gpt-4.1-mini",
            "ft:gpt-4o-mini:org::id",
            "gpt-3.5-turbo",
            "us.anthropic.claude-3-5-haiku-20241022-v1:0",
            "gemini-2.0-flash",
            "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        ] {
            assert!(!Limits::of(model).thinks_unseen, "{model}");
        }
    }

    #[test]
    fn in_doubt_a_model_thinks() {
        for model in [
            "o3-mini",
            "gpt-5-nano",
            "gpt-6.1-sol",
            "claude-sonnet-4-5",
            "claude-3-7-sonnet-latest",
            "gemini-2.5-flash-lite",
            "gemini-2.0-flash-thinking-exp",
            "deepseek-chat",
            "mistral-medium-latest",
            "command-a-reasoning-08-2025",
            "grok-4.5",
            "qwen/qwen3.8-max",
            "groq/deepseek-r1-distill-llama-70b",
            "nvidia/llama-3.1-nemotron-ultra-253b-v1",
            "something-new",
        ] {
            assert!(Limits::of(model).thinks_unseen, "{model}");
        }
        assert_eq!(Limits::of("something-new"), UNKNOWN);
        assert_eq!(UNKNOWN.output, 32_768);
    }

    #[test]
    fn a_row_is_not_hidden_by_one_before_it() {
        for (place, (pattern, _)) in ROWS.iter().enumerate() {
            let name = pattern.replace('*', "");
            let first = ROWS
                .iter()
                .position(|(other, _)| glob::matches(other, &name));
            assert_eq!(first, Some(place), "{pattern}");
        }
    }

    #[test]
    fn the_larger_window_of_two_sources_holds() {
        let window = |known| Limits::of("gpt-4o").with_window(known).window;
        assert_eq!(window(None), Some(128_000));
        assert_eq!(window(Some(1)), Some(128_000));
        assert_eq!(window(Some(1_000_000)), Some(1_000_000));
    }
}
