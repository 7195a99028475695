//! Why a model stopped, in one set of words for all providers.

/// The word of OpenTelemetry's conventions for a provider's own; what has none stays as it is.
pub(super) fn common(raw: &str) -> String {
    let lower = raw.to_ascii_lowercase();
    let word = match &*lower {
        "stop" | "end_turn" | "stop_sequence" | "complete" | "completed" | "finish"
        | "finished" | "eos" | "eos_token" | "pause_turn" | "end_of_text" => "stop",
        "length"
        | "max_tokens"
        | "max_output_tokens"
        | "max_completion_tokens"
        | "maximum_tokens"
        | "model_length"
        | "model_context_window_exceeded"
        | "token_limit" => "length",
        "content_filter"
        | "content_filtered"
        | "safety"
        | "recitation"
        | "refusal"
        | "blocklist"
        | "prohibited_content"
        | "spii"
        | "image_safety"
        | "guardrail_intervened"
        | "error_toxic"
        | "language" => "content_filter",
        "tool_call" | "tool_calls" | "tool_use" | "function_call" => "tool_call",
        "error" | "failed" | "malformed_function_call" | "unexpected_tool_call" => "error",
        _ => return lower,
    };
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_words_become_common_ones() {
        let words = [
            "STOP",
            "end_turn",
            "MAX_TOKENS",
            "tool_use",
            "SAFETY",
            "Cancelled",
        ];
        let common = words.map(common);
        let expected = [
            "stop",
            "stop",
            "length",
            "tool_call",
            "content_filter",
            "cancelled",
        ];
        assert_eq!(common, expected);
    }
}
