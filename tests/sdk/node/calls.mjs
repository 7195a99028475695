// One test's calls: what the SDK is to send along, and what Tollgate and the mock wrote of them.

import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';

const { TOLLGATE, TRACES, MOCK } = process.env;
const DEADLINE = 20_000; // milliseconds until something that is sure to happen counts as failed

/** The first true answer of `probe`, asked every 10 ms. */
export async function until(what, probe) {
  const end = Date.now() + DEADLINE;
  for (;;) {
    const found = await probe();
    if (found) return found;
    assert.ok(Date.now() < end, `${what}: not within ${DEADLINE} ms`);
    await pause(10);
  }
}

/** Those attributes of a span that `wanted` has are as it has them. */
export function assertPart(span, wanted) {
  const part = Object.fromEntries(Object.keys(wanted).map((name) => [name, span.attributes[name]]));
  assert.deepEqual(part, wanted);
}

let number = 0;

export class Calls {
  session = `node-${process.pid}-${++number}`;

  /** Who calls, and how the mock shall answer: `{input: 1000}` is `x-mock-input: 1000`. */
  headers(agent = 'tester', settings = {}) {
    const asked = Object.entries(settings).map(([name, value]) => [`x-mock-${name}`, `${value}`]);
    return {
      'x-tollgate-session': this.session,
      'x-tollgate-agent': agent,
      'x-test': this.session,
      ...Object.fromEntries(asked),
    };
  }

  /** A chat call that no SDK makes. */
  async byHand(agent) {
    const messages = [{ role: 'user', content: 'Hi' }];
    const answer = await fetch(`${TOLLGATE}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...this.headers(agent) },
      body: JSON.stringify({ model: 'gpt-4o', max_tokens: 10, messages }),
    });
    await answer.text();
    return answer;
  }

  /** Exactly so many spans. A last call by hand shows that no more are on their way. */
  async spans(count = 1) {
    await this.#written(count);
    await this.byHand('marker');
    const all = await this.#written(count + 1);
    const found = all.filter((span) => span.attributes['tollgate.agent'] !== 'marker');
    assert.equal(found.length, count);
    return found;
  }

  async span() {
    const [span] = await this.spans();
    return span;
  }

  /** The requests that the mock got. */
  async received() {
    const { requests } = await (await fetch(`${MOCK}/__mock/requests`)).json();
    const ours = ([name, value]) => name === 'x-test' && value === this.session;
    return requests.filter((request) => request.headers.some(ours));
  }

  #written(count) {
    return until(`${count} spans of ${this.session}`, async () => {
      const spans = await readSpans();
      const ours = spans.filter((s) => s.attributes['tollgate.session'] === this.session);
      return ours.length >= count && ours;
    });
  }
}

async function readSpans() {
  const files = (await readdir(TRACES)).filter((name) => name.endsWith('.jsonl')).sort();
  const texts = await Promise.all(files.map((name) => readFile(`${TRACES}/${name}`, 'utf8')));
  const whole = texts.flatMap((text) => text.split('\n').slice(0, -1));
  return whole.map((line) => JSON.parse(line));
}
