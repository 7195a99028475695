//! OpenAI's images: made and changed, as JSON and as a stream. Every image is one pixel.

use super::{
    answer::failing,
    behaviour::Newline,
    conversation::tokens,
    endpoint::Order,
    json::{Json, Members, object},
    problem::{Dialect, Problem},
    reply::{Payload, named_event},
};

/// A PNG of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
/// Tokens of an image, as a square one of medium quality has.
const IMAGE: u64 = 1056;
/// Tokens of an image that is brought.
const BROUGHT: u64 = 323;

/// Answers a request. Only models named `gpt-image` count tokens, and stream.
pub(super) fn write(order: &Order<'_>, edited: bool) -> Result<Payload, Problem> {
    if order.body.get("image").is_none() || !edited {
        order.required("prompt")?;
    }
    let by_token = order.model.contains("gpt-image");
    let count = order.number("n").unwrap_or(1).clamp(1, 10);
    if by_token && order.flag("stream") {
        return Ok(stream(order, edited, count));
    }
    let image = if by_token {
        object! {"b64_json": PIXEL}
    } else {
        object! {"revised_prompt": "A pixel", "url": format!("{}/pixel.png", order.origin)}
    };
    let images = vec![image; usize::try_from(count).unwrap_or(1)];
    let mut members = Members::new()
        .with("created", &order.now)
        .with("data", &images);
    if by_token {
        for (key, value) in LOOK {
            members.put(key, &value);
        }
        put_usage(&mut members, order, edited, count);
    }
    Ok(Payload::json(&members.close()))
}

const LOOK: [(&str, &str); 4] = [
    ("background", "opaque"),
    ("output_format", "png"),
    ("quality", "medium"),
    ("size", "1024x1024"),
];

fn put_usage(members: &mut Members, order: &Order<'_>, edited: bool, count: u64) {
    let wanted = order.behaviour.answer.usage;
    if wanted.absent {
        return;
    }
    let text = tokens(order.required("prompt").unwrap_or_default().len());
    let brought = if edited { BROUGHT } else { 0 };
    let input = wanted.input.unwrap_or(text + brought);
    let output = wanted.output.unwrap_or_else(|| IMAGE.saturating_mul(count));
    let details = object! {
        "image_tokens": brought.min(input),
        "text_tokens": input - brought.min(input),
    };
    let usage = object! {
        "input_tokens": input,
        "input_tokens_details": details,
        "output_tokens": output,
        "total_tokens": input.saturating_add(output),
    };
    members.put("usage", &usage);
}

/// Of each image the unfinished ones that were asked for, then itself, with its own usage.
fn stream(order: &Order<'_>, edited: bool, count: u64) -> Payload {
    let name = if edited {
        "image_edit"
    } else {
        "image_generation"
    };
    let begin = |kind: &str| {
        let mut members = Members::new()
            .with("type", &kind)
            .with("b64_json", &PIXEL)
            .with("created_at", &order.now);
        for (key, value) in LOOK {
            members.put(key, &value);
        }
        members
    };
    let mut events = Vec::new();
    for _ in 0..count {
        for index in 0..order.number("partial_images").unwrap_or(0).min(3) {
            let kind = format!("{name}.partial_image");
            let data = begin(&kind).with("partial_image_index", &index).close();
            events.push(named_event(&kind, &data));
        }
        let kind = format!("{name}.completed");
        let mut last = begin(&kind);
        put_usage(&mut last, order, edited, 1);
        events.push(named_event(&kind, &last.close()));
    }
    Payload::Events(
        failing(events, order.behaviour, |problem| {
            named_event("error", &error(problem))
        }),
        Newline::Lf,
    )
}

/// The data of an error in the middle of a stream.
pub(super) fn error(problem: &Problem) -> Json {
    problem.body(Dialect::OpenAi, "")
}
