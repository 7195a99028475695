// Failed calls as lines of a table: time, agent, model, error. A command for `type: exec`.
//
//   failures.mjs FILE
import { appendFileSync } from "node:fs";
import { createInterface } from "node:readline";

const path = process.argv[2];

for await (const line of createInterface({ input: process.stdin })) {
  const { batch, spans } = JSON.parse(line);
  const rows = spans
    .filter((span) => span.status !== "ok")
    .map(({ start_time, attributes }) =>
      [
        start_time,
        attributes["tollgate.agent"] ?? "unknown",
        attributes["gen_ai.request.model"] ?? "unknown",
        attributes["error.type"] ?? "unknown",
      ].map((cell) => cell.replaceAll(/[\t\r\n]/g, " ")).join("\t") + "\n");
  try {
    appendFileSync(path, rows.join(""));
    console.log(JSON.stringify({ ack: batch }));
  } catch (error) {
    console.log(JSON.stringify({ retry: batch, after_ms: 1000, error: error.code }));
  }
}
