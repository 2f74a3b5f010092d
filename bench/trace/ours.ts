/** A service of one operation for the bench: `on` with a log line and a span a request, `off` without; tells its CPU when asked. */
import { openSync } from "node:fs";
import { Type } from "typebox";
import { systemClock } from "../../src/kernel/clock.ts";
import { contract, get } from "../../src/kernel/contract.ts";
import { makeLog } from "../../src/kernel/log.ts";
import { serve } from "../../src/kernel/serve.ts";
import { Tracer } from "../../src/kernel/trace.ts";

const isOn = process.argv[2] === "on";
const hello = contract("hello", {
  hello: get("/hello", { quiet: !isOn, input: {}, output: Type.Object({ hello: Type.String() }), callers: ["cli"] }),
});
const tracer = new Tracer("hello", systemClock);
const served = await serve({
  contract: hello,
  service: { hello: async () => ({ hello: "world" }) },
  listen: { host: "127.0.0.1", port: 0 },
  plainCaller: "cli",
  log: makeLog("hello", { to: openSync("/dev/null", "w") }),
  clock: systemClock,
  tracer,
});
// As a process ships them.
setInterval(() => tracer.take(), 100).unref();
process.on("message", () => process.send!({ cpuUs: cpuUs() }));
process.send!({ port: served.port });

function cpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}
