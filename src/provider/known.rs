//! The providers that are known without configuration.

use super::{
    aleph_alpha::AlephAlpha, anthropic::Anthropic, bedrock::Bedrock, cohere::Cohere,
    dialect::Dialect, gemini::Gemini, http::Http, ollama::Ollama, openai::OpenAi, watsonx::Watsonx,
};

/// A provider as this program knows it.
pub(super) struct Known {
    /// Its name in routes, configuration and spans.
    pub(super) name: &'static str,
    /// Scheme and host; empty where every customer has an own one.
    pub(super) base_url: &'static str,
    /// Hosts besides the base URL's by which it is known: a leading `*.` stands for any names, and
    /// `*` in between for a part of one.
    pub(super) hosts: &'static [&'static str],
    /// What it speaks.
    pub(super) dialect: &'static dyn Dialect,
}

/// Every known provider. Paths keep their own prefixes (`/openai/v1` at Groq, `/api/v1` at
/// OpenRouter): what a client sends is what the provider gets.
pub(super) const KNOWN: &[Known] = &[
    known(
        "openai",
        "https://api.openai.com",
        &["*.api.openai.com"],
        &OpenAi::Current,
    ),
    known(
        "azure",
        "",
        &[
            "*.openai.azure.com",
            "*.cognitiveservices.azure.com",
            "*.services.ai.azure.com",
        ],
        &OpenAi::Current,
    ),
    known("anthropic", "https://api.anthropic.com", &[], &Anthropic),
    known(
        "gemini",
        "https://generativelanguage.googleapis.com",
        &[],
        &Gemini,
    ),
    known(
        "vertex",
        "https://aiplatform.googleapis.com",
        &[
            "*-aiplatform.googleapis.com",
            "aiplatform.us.rep.googleapis.com",
            "aiplatform.eu.rep.googleapis.com",
        ],
        &Gemini,
    ),
    known(
        "bedrock",
        "https://bedrock-runtime.us-east-1.amazonaws.com",
        &[
            "bedrock-runtime.*.amazonaws.com",
            "bedrock-runtime-fips.*.amazonaws.com",
        ],
        &Bedrock,
    ),
    // The same models behind OpenAI's API, and Anthropic's.
    known(
        "bedrock-mantle",
        "https://bedrock-mantle.us-east-1.api.aws",
        &["bedrock-mantle.*.api.aws"],
        &OpenAi::Current,
    ),
    known(
        "mistral",
        "https://api.mistral.ai",
        &[],
        &OpenAi::Compatible,
    ),
    known("groq", "https://api.groq.com", &[], &OpenAi::Current),
    known(
        "cohere",
        "https://api.cohere.com",
        &["api.cohere.ai"],
        &Cohere,
    ),
    known("xai", "https://api.x.ai", &["*.api.x.ai"], &OpenAi::Current),
    known(
        "deepseek",
        "https://api.deepseek.com",
        &[],
        &OpenAi::Compatible,
    ),
    known("openrouter", "https://openrouter.ai", &[], &OpenAi::Current),
    known(
        "together",
        "https://api.together.xyz",
        &["api.together.ai"],
        &OpenAi::Compatible,
    ),
    known(
        "fireworks",
        "https://api.fireworks.ai",
        &[],
        &OpenAi::Compatible,
    ),
    known("cerebras", "https://api.cerebras.ai", &[], &OpenAi::Current),
    known(
        "perplexity",
        "https://api.perplexity.ai",
        &[],
        &OpenAi::Compatible,
    ),
    known(
        "huggingface",
        "https://router.huggingface.co",
        &[],
        &OpenAi::Compatible,
    ),
    known("ollama", "http://127.0.0.1:11434", &[], &Ollama),
    known("ollama-cloud", "https://ollama.com", &[], &Ollama),
    known(
        "aleph-alpha",
        "https://api.aleph-alpha.com",
        &[],
        &AlephAlpha,
    ),
    known(
        "baseten",
        "https://inference.baseten.co",
        &[],
        &OpenAi::Compatible,
    ),
    known(
        "crusoe",
        "https://api.inference.crusoecloud.com",
        &[],
        &OpenAi::Compatible,
    ),
    known(
        "databricks",
        "",
        &[
            "*.cloud.databricks.com",
            "*.azuredatabricks.net",
            "*.gcp.databricks.com",
        ],
        &OpenAi::Compatible,
    ),
    known(
        "deepinfra",
        "https://api.deepinfra.com",
        &[],
        &OpenAi::Compatible,
    ),
    known(
        "heroku",
        "https://us.inference.heroku.com",
        &["*.inference.heroku.com"],
        &OpenAi::Compatible,
    ),
    known(
        "minimax",
        "https://api.minimax.io",
        &["api.minimaxi.com"],
        &OpenAi::Compatible,
    ),
    known(
        "moonshot",
        "https://api.moonshot.ai",
        &["api.moonshot.cn"],
        &OpenAi::Compatible,
    ),
    known(
        "nebius",
        "https://api.studio.nebius.com",
        &["api.tokenfactory.nebius.com"],
        &OpenAi::Compatible,
    ),
    known("novita", "https://api.novita.ai", &[], &OpenAi::Compatible),
    known(
        "ovhcloud",
        "https://oai.endpoints.kepler.ai.cloud.ovh.net",
        &[],
        &OpenAi::Compatible,
    ),
    known(
        "replicate",
        "https://api.replicate.com",
        &["*.replicate.net"],
        &Http,
    ),
    known(
        "sambanova",
        "https://api.sambanova.ai",
        &[],
        &OpenAi::Compatible,
    ),
    known(
        "snowflake",
        "",
        &["*.snowflakecomputing.com"],
        &OpenAi::Current,
    ),
    known(
        "voyage",
        "https://api.voyageai.com",
        &[],
        &OpenAi::Compatible,
    ),
    known(
        "watsonx",
        "https://us-south.ml.cloud.ibm.com",
        &["*.ml.cloud.ibm.com"],
        &Watsonx,
    ),
    known("writer", "https://api.writer.com", &[], &OpenAi::Compatible),
    known("zai", "https://api.z.ai", &[], &OpenAi::Compatible),
    known(
        "zhipu",
        "https://open.bigmodel.cn",
        &[],
        &OpenAi::Compatible,
    ),
];

/// Those that put usage into every stream, asked or not (each seen on the wire): they are not asked,
/// so that their streams pass as they are.
pub(super) const REPORT_UNASKED: &[&str] = &["deepseek", "groq", "huggingface", "mistral", "zai"];

/// Those that run on one's own machine: what they do costs nothing.
pub(super) const FREE: &[&str] = &["ollama"];

/// Those that take keys in one header, whatever the dialect of a request.
pub(super) const KEY_HEADERS: &[(&str, &str)] = &[
    ("azure", "api-key"),
    ("bedrock", "authorization"),
    ("vertex", "authorization"),
];

const fn known(
    name: &'static str,
    base_url: &'static str,
    hosts: &'static [&'static str],
    dialect: &'static dyn Dialect,
) -> Known {
    Known {
        name,
        base_url,
        hosts,
        dialect,
    }
}
