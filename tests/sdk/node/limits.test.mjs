// What the Node SDKs make of Tollgate's own refusals, with their retries as they come.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';

import { assertPart, Calls } from './calls.mjs';

const messages = [{ role: 'user', content: 'Say something.' }];
const claude = { model: 'claude-haiku-4-5', max_tokens: 500, messages };

const openai = (defaultHeaders) => new OpenAI({ defaultHeaders });
const anthropic = (defaultHeaders) => new Anthropic({ defaultHeaders });

const ways = {
  chat: [(h) => openai(h).chat.completions.create({ model: 'gpt-4o', messages }), OpenAI],
  'chat stream': [
    (h) => openai(h).chat.completions.create({ model: 'gpt-4o', messages, stream: true }),
    OpenAI,
  ],
  responses: [(h) => openai(h).responses.create({ model: 'gpt-4o', input: 'Hi' }), OpenAI],
  embeddings: [
    (h) => openai(h).embeddings.create({ model: 'text-embedding-3-small', input: 'Hi' }),
    OpenAI,
  ],
  messages: [(h) => anthropic(h).messages.create(claude), Anthropic],
  'messages stream': [(h) => anthropic(h).messages.create({ ...claude, stream: true }), Anthropic],
};

for (const [name, [call, { RateLimitError }]] of Object.entries(ways)) {
  test(`an exhausted budget costs one attempt: ${name}`, async () => {
    const calls = new Calls();
    const error = await call(calls.headers('broke')).then(assert.fail, (error) => error);
    assert.ok(error instanceof RateLimitError, `${error}`);
    assert.match(error.message, /nothing/);
    assert.equal(error.headers.get('x-tollgate-blocked-by'), 'budget.nothing');
    const span = await calls.span();
    assert.equal(span.status, 'blocked');
    assertPart(span, { 'tollgate.decision': 'refused', 'http.response.status_code': 429 });
    assert.equal((await calls.received()).length, 1, 'the provider saw the marker only');
  });
}

for (const name of ['chat', 'messages']) {
  test(`a rate limit that clears is waited for: ${name}`, async () => {
    const calls = new Calls();
    let allowed = 0;
    while ((await calls.byHand('hurried')).ok) assert.ok(++allowed < 100, 'a call is refused');
    const [call] = ways[name];
    assert.ok((await call(calls.headers('hurried'))).id);
    const [refused, done] = (await calls.spans(allowed + 3)).slice(-2);
    assert.deepEqual([refused.status, done.status], ['blocked', 'ok']);
  });
}
