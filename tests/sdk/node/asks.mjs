// The Node SDKs, asked by the tests in Python: `POST /` with `{way, url, headers, options, then}` asks
// once, with the SDK's retries as they come, and says what came of it: `{answer}`, or the SDK's
// exception as `{error: {names, message}}`. When the first piece of a stream has come, `then.body` is
// sent to `then.url`. The first line of the output is the address.

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
async function ofChoices(stream, begun) {
  const came = { pieces: 0, reasons: [] };
  for await (const { choices } of stream) {
    for (const { delta, finish_reason } of choices) {
      if (delta.content) {
        came.pieces += 1;
        await begun();
      }
      if (finish_reason) came.reasons.push(finish_reason);
    }
  }
  return came;
}

/** The same of a stream of events, by the SDK's own helper. */
async function ofEvents(stream, isPiece, reason, begun) {
  let pieces = 0;
  for await (const event of stream) {
    if (isPiece(event)) {
      pieces += 1;
      await begun();
    }
  }
  return { pieces, reasons: [await reason()] };
}

/** Has a helper go on that runs tools by itself: `ran` is what it ran. */
async function running(start) {
  const ran = [];
  const write = ({ text }) => {
    ran.push(text);
    return 'Written.';
  };
  try {
    return { ran, reason: await start(write) };
  } catch (error) {
    return { ran, error: named(error) };
  }
}

const ways = {
  'chat': ({ openai }) => openai.chat.completions.create(gpt),
  'chat stream': async ({ openai, begun }) =>
    ofChoices(await openai.chat.completions.create({ ...gpt, stream: true }), begun),
  'responses': ({ openai }) => openai.responses.create({ model: 'gpt-4o', input }),
  'responses stream': ({ openai, begun }) => {
    const stream = openai.responses.stream({ model: 'gpt-4o', input });
    let said = '';
    const isPiece = ({ type, delta }) => {
      if (type !== 'response.output_text.delta') return false;
      said += delta;
      return true;
    };
    const reason = async () => {
      const { output, incomplete_details } = await stream.finalResponse();
      const parts = output.flatMap(({ content }) => content ?? []);
      if (parts.map(({ text }) => text).join('') !== said) throw new Error('it lost what was said');
      return incomplete_details?.reason;
    };
    return ofEvents(stream, isPiece, reason, begun);
  },
  'responses call': async ({ openai, begun }) => {
    const tools = [{ type: 'function', name: 'write', parameters, strict: false }];
    const stream = openai.responses.stream({ model: 'gpt-4o', input, tools });
    for await (const { type } of stream) {
      if (type === 'response.function_call_arguments.delta') await begun();
    }
    const { output, incomplete_details } = await stream.finalResponse();
    return { ...output[0], reason: incomplete_details?.reason };
  },
  'embeddings': ({ openai }) =>
    openai.embeddings.create({ model: 'text-embedding-3-small', input }),
  'messages': ({ anthropic }) => anthropic.messages.create(claude),
  'messages stream': ({ anthropic, begun }) => {
    const stream = anthropic.messages.stream(claude);
    const isPiece = ({ type }) => type === 'content_block_delta';
    const reason = async () => (await stream.finalMessage()).stop_reason;
    return ofEvents(stream, isPiece, reason, begun);
  },
  'run tools': ({ openai, begun }) =>
    running(async (write) => {
      const tool = { name: 'write', parse: JSON.parse, function: write, parameters };
      const runner = openai.chat.completions.runTools({
        ...gpt,
        stream: true,
        tools: [{ type: 'function', function: tool }],
      });
      for await (const { choices } of runner) if (choices[0]?.delta.tool_calls) await begun();
      return (await runner.finalChatCompletion()).choices[0].finish_reason;
    }),
  'tool runner': ({ anthropic, begun }) =>
    running(async (write) => {
      const described = { name: 'write', description: 'Writes.', inputSchema: parameters };
      const runner = anthropic.beta.messages.toolRunner({
        ...claude,
        stream: true,
        runToolsEagerly: true,
        tools: [betaTool({ ...described, run: write })],
      });
      for await (const stream of runner) {
        for await (const { type } of stream) if (type === 'content_block_delta') await begun();
      }
      return (await runner.done()).stop_reason;
    }),
};

/** What is thrown, by the names of its classes, and its message. Some throw an event of a stream. */
function named(error) {
  const names = error instanceof Error ? [] : [error.type];
  for (let at = error; at instanceof Error; at = Object.getPrototypeOf(at)) {
    if (!names.includes(at.constructor.name)) names.push(at.constructor.name);
  }
  return { names, message: String(error.message) };
}

async function ask({ way, url, headers, options, then }) {
  const settings = { apiKey: 'sk-test', defaultHeaders: headers, ...options };
  const openai = new OpenAI({ ...settings, baseURL: `${url}/v1` });
  const anthropic = new Anthropic({ ...settings, baseURL: url });
  const begun = once(() => then && post(then));
  try {
    return { answer: await ways[way]({ openai, anthropic, begun }) };
  } catch (error) {
    return { error: named(error) };
  }
}

const once = (what) => {
  let done;
  return () => (done ??= Promise.resolve(what()));
};

async function post({ url, body }) {
  const headers = { 'content-type': 'application/json' };
  await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
}

const server = createServer(async (request, response) => {
  const came = await ask(JSON.parse(await text(request)));
  response.end(JSON.stringify(came));
});
server.listen(0, '127.0.0.1', () => {
  console.log(`127.0.0.1:${server.address().port}`);
});
