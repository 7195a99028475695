//! Which of the book's lists is a provider's, and the model's name in it.

use std::borrow::Cow;

/// The book's list for `provider`, as Tollgate names it, and the model's name in it.
pub(super) fn list_of<'a>(
    provider: &'a str,
    path: &str,
    model: &'a str,
) -> (Cow<'a, str>, &'a str) {
    let list = match provider {
        "gemini" | "vertex" => return (Cow::Borrowed("google"), without_path(model)),
        "bedrock" | "bedrock-mantle" => "aws",
        "xai" => "x-ai",
        "moonshot" => "moonshotai",
        "voyage" => "voyageai",
        "zhipu" => "zhipuai",
        "huggingface" => return router_list(path, model),
        other => other,
    };
    (Cow::Borrowed(list), model)
}

/// Google's models have paths before their names in some places: `models/gemini-2.5-flash`,
/// `google/gemini-2.5-flash`, `publishers/google/models/gemini-2.5-flash`.
fn without_path(model: &str) -> &str {
    model.rsplit_once('/').map_or(model, |(_, name)| name)
}

/// Hugging Face's router: the host that answers is the first segment of the path, or follows the
/// model's name (`deepseek-ai/DeepSeek-R1:together`). Without either the router chooses, and the
/// price is not known.
fn router_list<'a>(path: &str, model: &'a str) -> (Cow<'a, str>, &'a str) {
    let segment = path.trim_start_matches('/').split('/').next();
    let (name, chosen) = match model.rsplit_once(':') {
        Some((name, host)) => (name, Some(host)),
        None => (model, None),
    };
    let (host, name) = match segment {
        Some(host) if !matches!(host, "" | "v1" | "models") => (host, model),
        _ => (chosen.unwrap_or_default(), name),
    };
    (Cow::Owned(format!("huggingface_{host}")), name)
}
