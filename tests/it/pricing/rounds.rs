//! Answers that several models made.

use serde_json::json;

use crate::support::{Sandbox, Upstream};

#[tokio::test]
async fn each_round_of_an_answer_is_billed_by_its_own_model_and_the_budget_is_charged_the_sum() {
    let provider = Upstream::bind().await;
    let yaml = format!(
        "{}\nbudgets: {{daily: 1}}\npricing:\n  claude-main: {{input: {{base: 1, tiers: [[1200, 2]]}}, output: 10}}\n  \
         claude-wise: {{input: 3, output: 30, cache_read: 0.5}}\n",
        provider.as_provider("anthropic")
    );
    let sandbox = Sandbox::new(&yaml);
    let question = json!({
        "model": "claude-main", "max_tokens": 1_000, "messages": [{"role": "user", "content": "hello"}],
    });
    let answer = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-main",
        "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 1_262, "output_tokens": 11, "iterations": [
            {"type": "message", "input_tokens": 1_128, "output_tokens": 110},
            {"type": "advisor_message", "model": "claude-wise", "input_tokens": 2_500,
             "cache_read_input_tokens": 18, "output_tokens": 22},
            {"type": "message", "input_tokens": 1_262, "output_tokens": 11},
        ]},
    })
    .to_string();
    let play = async {
        let mut line = provider.accept().await;
        let head = line.head().await;
        line.body(&head).await;
        let length = answer.len();
        line.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{answer}"
        ))
        .await;
        // Open until the answer was read.
        line
    };
    let (got, _line) = tokio::join!(sandbox.post("/anthropic/v1/messages", &question), play);
    assert_eq!(got.text(), answer);
    let span = sandbox.span(&got).await;
    // Only the last round of the main model is a long one.
    let main = 1_128 * 1_000 + 110 * 10_000 + 1_262 * 2_000 + 11 * 10_000;
    let wise = 2_500 * 3_000 + 18 * 500 + 22 * 30_000;
    assert_eq!(span.nanos("tollgate.cost.usd"), main + wise);
    assert_eq!(span.get("gen_ai.usage.input_tokens"), 1_128 + 2_518 + 1_262);
    assert_eq!(sandbox.spent("daily").await, main + wise);
}
