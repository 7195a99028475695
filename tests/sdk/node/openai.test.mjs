// OpenAI's Node SDK.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import OpenAI from 'openai';

import { assertPart, Calls, until } from './calls.mjs';

const messages = [{ role: 'user', content: 'Say something.' }];
const parameters = { type: 'object', properties: { city: { type: 'string' } } };
const weather = { type: 'function', function: { name: 'weather', parameters } };
const asked = { input: 1000, output: 200 };

const clientWith = (defaultHeaders, more) => new OpenAI({ defaultHeaders, ...more });

test('a plain call is metered and priced', async () => {
  const calls = new Calls();
  const client = clientWith(calls.headers('support', asked));
  const { data, response } = await client.chat.completions
    .create({ model: 'gpt-4o', messages })
    .withResponse();
  assert.ok(data.choices[0].message.content);
  assertPart(await calls.span(), {
    'gen_ai.request.model': 'gpt-4o',
    'gen_ai.response.model': data.model,
    'gen_ai.response.id': data.id,
    'gen_ai.response.finish_reasons': ['stop'],
    'gen_ai.usage.input_tokens': 1000,
    'gen_ai.usage.output_tokens': 200,
    'tollgate.request_id': response.headers.get('x-tollgate-request-id'),
    'tollgate.agent': 'support',
    'tollgate.cost.usd': '0.004500000',
  });
});

for (const include_usage of [true, false]) {
  test(`a stream is metered, usage asked for: ${include_usage}`, async () => {
    const calls = new Calls();
    const client = clientWith(calls.headers('tester', asked));
    const options = include_usage ? { stream_options: { include_usage } } : {};
    const stream = await client.chat.completions.create({
      model: 'gpt-4o',
      messages,
      stream: true,
      ...options,
    });
    const usages = [];
    let text = '';
    for await (const chunk of stream) {
      if (chunk.usage) usages.push(chunk.usage.prompt_tokens);
      text += chunk.choices[0]?.delta.content ?? '';
    }
    assert.ok(text);
    assert.deepEqual(usages, include_usage ? [1000] : []);
    assertPart(await calls.span(), {
      'gen_ai.request.stream': true,
      'tollgate.cost.usd': '0.004500000',
      'tollgate.usage.source': 'reported',
    });
  });
}

test('a tool is called and its result answered', async () => {
  const calls = new Calls();
  const client = clientWith(calls.headers());
  const question = { role: 'user', content: 'What is the weather in Paris?' };
  const ask = async (messages) => {
    const stream = client.chat.completions.stream({ model: 'gpt-4o', messages, tools: [weather] });
    return (await stream.finalChatCompletion()).choices[0].message;
  };
  const first = await ask([question]);
  const [call] = first.tool_calls;
  const result = { role: 'tool', tool_call_id: call.id, content: 'sunny' };
  const second = await ask([question, first, result]);
  assert.match(second.content, /sunny/);
  const [span] = await calls.spans(2);
  assertPart(span, {
    'gen_ai.response.finish_reasons': ['tool_calls'],
    'tollgate.tool_calls': [{ id: call.id, name: 'weather' }],
  });
});

test('responses are metered and priced, streamed or not', async () => {
  const calls = new Calls();
  const client = clientWith(calls.headers('tester', asked));
  const body = { model: 'gpt-4o', input: 'Say something.' };
  const plain = await client.responses.create(body);
  const streamed = await client.responses.stream(body).finalResponse();
  assert.ok(plain.output_text && streamed.output_text);
  const spans = await calls.spans(2);
  spans.forEach((span, index) =>
    assertPart(span, {
      'gen_ai.response.id': [plain, streamed][index].id,
      'gen_ai.response.finish_reasons': ['completed'],
      'tollgate.cost.usd': '0.004500000',
    }),
  );
});

test('embeddings are metered and priced', async () => {
  const calls = new Calls();
  const client = clientWith(calls.headers('tester', { input: 1000 }));
  const model = 'text-embedding-3-small';
  const answer = await client.embeddings.create({ model, input: ['a', 'b'] });
  assert.equal(answer.data.length, 2);
  assertPart(await calls.span(), {
    'gen_ai.usage.input_tokens': 1000,
    'tollgate.cost.usd': '0.000020000',
  });
});

for (const [status, kind] of [
  [400, OpenAI.BadRequestError],
  [401, OpenAI.AuthenticationError],
  [429, OpenAI.RateLimitError],
  [500, OpenAI.InternalServerError],
]) {
  test(`the provider's ${status} is the SDK's usual exception`, async () => {
    const calls = new Calls();
    const client = clientWith(calls.headers('tester', { status }), { maxRetries: 0 });
    await assert.rejects(client.chat.completions.create({ model: 'gpt-4o', messages }), kind);
    const span = await calls.span();
    assert.equal(span.status, 'error');
    assertPart(span, { 'http.response.status_code': status });
  });
}

test('a client that leaves mid-stream ends the call at the provider', async () => {
  const calls = new Calls();
  const client = clientWith(calls.headers('tester', { events: 10_000, gap: '20ms' }));
  const stream = await client.chat.completions.create({ model: 'gpt-4o', messages, stream: true });
  for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
  const span = await calls.span();
  assert.equal(span.status, 'cancelled');
  assertPart(span, { 'tollgate.end': 'client' });
  await until('the mock is left', async () => (await calls.received())[0].end === 'left');
});
