// Anthropic's Node SDK.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import Anthropic from '@anthropic-ai/sdk';

import { assertPart, Calls, until } from './calls.mjs';

const messages = [{ role: 'user', content: 'Say something.' }];
const body = { model: 'claude-haiku-4-5', max_tokens: 500, messages };
const input_schema = { type: 'object', properties: { city: { type: 'string' } } };
const asked = { input: 1000, output: 200 };

const clientWith = (defaultHeaders, more) => new Anthropic({ defaultHeaders, ...more });

test('a message is metered and priced', async () => {
  const calls = new Calls();
  const answer = await clientWith(calls.headers('writer', asked)).messages.create(body);
  assert.ok(answer.content[0].text);
  assertPart(await calls.span(), {
    'gen_ai.provider.name': 'anthropic',
    'gen_ai.response.model': answer.model,
    'gen_ai.response.id': answer.id,
    'gen_ai.response.finish_reasons': ['end_turn'],
    'tollgate.agent': 'writer',
    'tollgate.cost.usd': '0.006000000',
  });
});

test('a streamed message is metered and priced', async () => {
  const calls = new Calls();
  const stream = clientWith(calls.headers('tester', asked)).messages.stream(body);
  const answer = await stream.finalMessage();
  assert.ok(answer.content[0].text);
  assertPart(await calls.span(), {
    'gen_ai.request.stream': true,
    'gen_ai.response.id': answer.id,
    'tollgate.cost.usd': '0.006000000',
  });
});

test('a tool is called and its result answered', async () => {
  const calls = new Calls();
  const client = clientWith(calls.headers());
  const question = { role: 'user', content: 'What is the weather in Paris?' };
  const ask = (messages) =>
    client.messages.create({ ...body, messages, tools: [{ name: 'weather', input_schema }] });
  const first = await ask([question]);
  const use = first.content.find((block) => block.type === 'tool_use');
  const result = { type: 'tool_result', tool_use_id: use.id, content: 'sunny' };
  const second = await ask([
    question,
    { role: 'assistant', content: first.content },
    { role: 'user', content: [result] },
  ]);
  assert.match(second.content[0].text, /sunny/);
  const [span] = await calls.spans(2);
  assertPart(span, {
    'gen_ai.response.finish_reasons': ['tool_use'],
    'tollgate.tool_calls': [{ id: use.id, name: 'weather' }],
  });
});

for (const [status, kind] of [
  [400, Anthropic.BadRequestError],
  [401, Anthropic.AuthenticationError],
  [429, Anthropic.RateLimitError],
  [529, Anthropic.InternalServerError],
]) {
  test(`the provider's ${status} is the SDK's usual exception`, async () => {
    const calls = new Calls();
    const client = clientWith(calls.headers('tester', { status }), { maxRetries: 0 });
    await assert.rejects(client.messages.create(body), kind);
    const span = await calls.span();
    assert.equal(span.status, 'error');
    assertPart(span, { 'http.response.status_code': status });
  });
}

test('a client that leaves mid-stream ends the call at the provider', async () => {
  const calls = new Calls();
  const client = clientWith(calls.headers('tester', { events: 10_000, gap: '20ms' }));
  const stream = await client.messages.create({ ...body, stream: true });
  for await (const event of stream) if (event.type === 'content_block_delta') break;
  const span = await calls.span();
  assert.equal(span.status, 'cancelled');
  assertPart(span, { 'tollgate.end': 'client' });
  await until('the mock is left', async () => (await calls.received())[0].end === 'left');
});
