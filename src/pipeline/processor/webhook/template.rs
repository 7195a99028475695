//! The text of a message, from a template of the user's own. What a template may do is bounded: it
//! sees the spans, has only so many steps, and its text only so many bytes.

use std::io;

use minijinja::{AutoEscape, Environment, Value, context, value::Serde};
use serde::de::IgnoredAny;

/// The steps that a template may take; one that shows a hundred spans takes some thousands.
const FUEL: u64 = 100_000;
/// The longest text, in bytes.
const MOST: usize = 1 << 20;

/// A template. In one of JSON, each `{{ value }}` is written as JSON, texts with their quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    text: Box<str>,
    json: bool,
}

/// What a template is shown.
pub(super) struct Shown<'a> {
    /// The spans, as in files and the API.
    pub(super) spans: Vec<serde_json::Value>,
    /// The first one's agent.
    pub(super) agent: Option<&'a str>,
    /// The first one's model.
    pub(super) model: Option<&'a str>,
    /// Whether the first one failed or was refused.
    pub(super) failed: bool,
    /// Spans that no message was sent for since the last one.
    pub(super) suppressed: u64,
    /// `tracing.service_name`.
    pub(super) service_name: &'a str,
    /// `tracing.environment`.
    pub(super) environment: Option<&'a str>,
}

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub(super) enum TemplateError {
    /// It cannot be read, or fails, or goes beyond its bounds.
    #[error("template: {0}")]
    Fails(minijinja::Error),
    /// What it makes is no JSON, though it is sent as that.
    #[error("template: what it makes is not JSON: {0}; texts are written with their quotes")]
    NotJson(serde_json::Error),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// It breaks the rules of its language; the error has the line.
    pub(super) fn new(text: &str, content_type: &str) -> Result<Self, TemplateError> {
        let template = Self {
            text: Box::from(text),
            json: content_type.contains("json"),
        };
        template
            .environment()
            .template_from_str(text)
            .map_err(TemplateError::Fails)?;
        Ok(template)
    }

    /// The text for what is shown.
    ///
    /// # Errors
    /// The template fails on it.
    pub(super) fn render(&self, shown: Shown<'_>) -> Result<Vec<u8>, TemplateError> {
        let spans = Value::from(Serde(shown.spans));
        let first = spans.get_item_by_index(0).unwrap_or_default();
        let context = context! {
            span => first,
            spans => spans,
            agent => shown.agent,
            model => shown.model,
            failed => shown.failed,
            suppressed => shown.suppressed,
            service_name => shown.service_name,
            environment => shown.environment,
        };
        let environment = self.environment();
        let template = environment.template_from_str(&self.text);
        let mut out = Bounded(Vec::new());
        template
            .and_then(|template| template.render_captured_to(context, &mut out).map(drop))
            .map_err(TemplateError::Fails)?;
        if self.json {
            serde_json::from_slice::<IgnoredAny>(&out.0).map_err(TemplateError::NotJson)?;
        }
        Ok(out.0)
    }

    fn environment(&self) -> Environment<'_> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        let json = self.json;
        environment.set_auto_escape_callback(move |_name| {
            if json {
                AutoEscape::Json
            } else {
                AutoEscape::None
            }
        });
        environment.add_filter("cut", cut);
        environment.add_filter("slack", slack);
        environment
    }
}

/// `{{ text | cut(80) }}`: at most so many characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// `{{ text | slack }}`: as Slack shows it, so that no name in it calls people or makes links.
fn slack(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Bytes up to a bound.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len().saturating_add(bytes.len()) > MOST {
            let message = format!("the text is longer than {MOST} bytes");
            return Err(io::Error::other(message));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown() -> Shown<'static> {
        Shown {
            spans: vec![
                json!({"duration_ms": 812.4, "attributes": {"gen_ai.request.model": "a\"b"}}),
                json!({"duration_ms": 7}),
            ],
            agent: Some("<!channel> & co"),
            model: None,
            failed: true,
            suppressed: 3,
            service_name: "agents",
            environment: None,
        }
    }

    fn render(template: &str, content_type: &str) -> Result<String, TemplateError> {
        let text = Template::new(template, content_type)?.render(shown())?;
        Ok(String::from_utf8(text).unwrap())
    }

    #[test]
    fn in_json_each_value_is_json() {
        let text = render(
            "{\"model\": {{ span.attributes['gen_ai.request.model'] }}, \
             \"took\": {{ span.duration_ms ~ 'ms' }}, \"all\": {{ spans | length }}, \
             \"agent\": {{ agent | slack }}, \"none\": {{ model }}, \"gone\": {{ span.gone }}, \
             \"failed\": {{ failed }}}",
            "application/json",
        );
        let expected = json!({
            "model": "a\"b", "took": "812.4ms", "all": 2, "agent": "&lt;!channel&gt; &amp; co",
            "none": null, "gone": null, "failed": true,
        });
        let text: serde_json::Value = serde_json::from_str(&text.unwrap()).unwrap();
        assert_eq!(text, expected);
    }

    #[test]
    fn in_text_each_value_is_itself() {
        let template =
            "{% for span in spans %}{{ span.duration_ms }} {% endfor %}{{ agent | cut(4) }}";
        assert_eq!(render(template, "text/plain").unwrap(), "812.4 7 <!c…");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (template, word) in [
            ("{{ span", "template"),
            ("{{ span.a.b.c }}", "template"),
            (
                "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
                "template",
            ),
            ("\"{{ agent }}\"", "not JSON"),
            ("{{ nobody | nothing }}", "nothing"),
        ] {
            let error = render(template, "application/json")
                .unwrap_err()
                .to_string();
            assert!(error.contains(word), "{template}: {error}");
        }
        let thousand = "x".repeat(1_000);
        let long = format!("{{% for a in range(3000) %}}{thousand}{{% endfor %}}");
        let error = render(&long, "text/plain").unwrap_err();
        assert!(matches!(error, TemplateError::Fails(_)), "{error}");
    }
}
