// An agent as people write them, which knows nothing of Tollgate: asks through the SDK, by a stream,
// and by fetch. Ends with the exit code 1 if anything of that fails.

import OpenAI from "openai";

const ask = { model: "gpt-4o", max_tokens: 100, messages: [{ role: "user", content: "Hi" }] };

const client = new OpenAI();
const stream = await client.chat.completions.create({ ...ask, stream: true });
let said = "";
for await (const event of stream) {
  said += event.choices[0]?.delta?.content ?? "";
}
if (!said) throw new Error("nothing was said");

const answer = await fetch("https://api.openai.com/v1/chat/completions", {
  method: "POST",
  headers: { "content-type": "application/json", authorization: "Bearer sk-test" },
  body: JSON.stringify(ask),
});
if (answer.status !== 200) throw new Error(await answer.text());
