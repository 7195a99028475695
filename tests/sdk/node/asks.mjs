// The Node SDKs, asked by the tests in Python: `POST /` with `{way, url, headers, options}` asks once,
// with the SDK's retries as they come, and says what came of it: `{answer}`, or the SDK's exception
// as `{error: {names, message}}`. The first line of the output is the address.

import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';

import Anthropic from '@anthropic-ai/sdk';
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema';
import OpenAI from 'openai';

const input = 'Say something.';
const messages = [{ role: 'user', content: input }];
const gpt = { model: 'gpt-4o', messages };
const claude = { model: 'claude-haiku-4-5', max_tokens: 500, messages };
// What the mock calls it with is the only thing that it may be called with.
const property = { type: 'string', enum: ['x'.repeat(1_400)] };
const parameters = { type: 'object', properties: { text: property }, required: ['text'] };

/** Of a stream of chunks: how many have text, and why it ended. */
async function ofChoices(stream) {
  const came = { pieces: 0, reasons: [] };
  for await (const { choices } of stream) {
    for (const { delta, finish_reason } of choices) {
      if (delta.content) came.pieces += 1;
      if (finish_reason) came.reasons.push(finish_reason);
    }
  }
  return came;
}

/** The same of a stream of events, once the SDK's own helper took it to its end. */
async function ofEvents(stream, isPiece, reason) {
  let pieces = 0;
  for await (const event of stream) if (isPiece(event)) pieces += 1;
  return { pieces, reasons: [await reason(stream)] };
}

const isText = ({ type, delta }) => type === 'content_block_delta' && delta.type === 'text_delta';

/** Has a helper that calls tools by itself go on for as long as it wants; `ran`: what it called. */
async function running(start) {
  const ran = [];
  const write = (text) => {
    ran.push(text);
    return 'written';
  };
  try {
    return { ran, reason: await start(write) };
  } catch (error) {
    return { ran, error: named(error) };
  }
}

const ways = {
  'chat': ({ openai }) => openai.chat.completions.create({ ...gpt, max_tokens: 200 }),
  'chat stream': async ({ openai }) =>
    ofChoices(await openai.chat.completions.create({ ...gpt, stream: true })),
  'responses': ({ openai }) =>
    openai.responses.create({ model: 'gpt-4o', max_output_tokens: 200, input }),
  'responses stream': ({ openai }) =>
    ofEvents(
      openai.responses.stream({ model: 'gpt-4o', input }),
      ({ type }) => type === 'response.output_text.delta',
      async (stream) => (await stream.finalResponse()).incomplete_details?.reason,
    ),
  'embeddings': ({ openai }) =>
    openai.embeddings.create({ model: 'text-embedding-3-small', input }),
  'messages': ({ anthropic }) => anthropic.messages.create(claude),
  'messages stream': ({ anthropic }) =>
    ofEvents(
      anthropic.messages.stream(claude),
      isText,
      async (stream) => (await stream.finalMessage()).stop_reason,
    ),
  'run tools': ({ openai }) =>
    running(async (write) => {
      const tool = { name: 'write', parse: JSON.parse, function: write, parameters };
      const runner = openai.chat.completions.runTools({
        ...gpt,
        model: 'gpt-4o-mini',
        stream: true,
        tools: [{ type: 'function', function: tool }],
      });
      return (await runner.finalChatCompletion()).choices[0].finish_reason;
    }),
  'tool runner': ({ anthropic }) =>
    running(async (write) => {
      const described = { name: 'write', description: 'Writes.', inputSchema: parameters };
      const runner = anthropic.beta.messages.toolRunner({
        ...claude,
        stream: true,
        tools: [betaTool({ ...described, run: write })],
      });
      return (await runner.runUntilDone()).stop_reason;
    }),
};

/** An exception by its names, from its class to the first, and its message. */
function named(error) {
  const names = [];
  for (let at = error; at?.constructor?.name !== 'Object' && at; at = Object.getPrototypeOf(at)) {
    names.push(at.constructor.name);
  }
  return { names: [...new Set(names)], message: String(error.message) };
}

async function ask({ way, url, headers, options }) {
  const settings = { apiKey: 'sk-test', defaultHeaders: headers, ...options };
  const openai = new OpenAI({ ...settings, baseURL: `${url}/v1` });
  const anthropic = new Anthropic({ ...settings, baseURL: url });
  try {
    return { answer: await ways[way]({ openai, anthropic }) };
  } catch (error) {
    return { error: named(error) };
  }
}

const server = createServer(async (request, response) => {
  const came = await ask(JSON.parse(await text(request)));
  response.end(JSON.stringify(came));
});
server.listen(0, '127.0.0.1', () => {
  console.log(`127.0.0.1:${server.address().port}`);
});
