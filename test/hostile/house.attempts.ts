/** Attempts on the house: to be somebody else, to be obeyed, to be believed. Each goes over its own certificate and its own line. */
import { writeSync } from "node:fs";
import { makeCall } from "../../src/kernel/call.ts";
import { spiffeName } from "../../src/kernel/identity/names.ts";
import { makeKeyAndRequest } from "../../src/kernel/identity/request.ts";
import type { Context } from "../../src/kernel/service.ts";
import { LINE_FD } from "../../src/node/hello.ts";
import { bus } from "../../src/services/bus/api.ts";
import { coreMetadata } from "../../src/services/core-metadata/api.ts";
import { identity } from "../../src/services/identity/api.ts";
import { registry } from "../../src/services/registry/api.ts";
import type { Attempt, Box, Target } from "./attempt.ts";

const TIMEOUT_MS = 5_000;
/** What a forged authority is recognised by. */
export const FORGED = "forged by the hostile service";

const house = (
  name: string,
  refused: RegExp,
  run: (context: Context<never>, target: Target) => Promise<unknown>,
): Attempt => ({
  name,
  refused,
  control: false,
  run: ({ context, target }: Box) => context && run(context, target),
});
const call = ({ name }: Context<never>) => makeCall({ caller: name, timeoutMs: TIMEOUT_MS });
const first = async (stream: AsyncIterable<unknown>): Promise<string> => {
  for await (const item of stream) return JSON.stringify(item).slice(0, 200);
  return "a stream";
};
const instanceOf = ({ node, version }: Context<never>, service: string, instance: string) => ({
  service,
  instance,
  host: "127.0.0.1",
  port: 9,
  pid: 1,
  version: `${node} ${version}`,
  startedAtMs: 0,
  state: "passing" as const,
  routes: [],
});
const registrationOf = (serviceId: string) => ({
  body: {
    apiVersion: "v3",
    registration: { serviceId, host: "127.0.0.1", port: 9, healthCheck: { interval: "10s", path: "/", type: "http" } },
  },
});

export const asSomebodyElse: readonly Attempt[] = [
  house("join as a neighbour", /IDENTITY_JOIN_REFUSED/, async (c, { neighbour, neighbourInstance }) => {
    const { csrPem } = await makeKeyAndRequest(spiffeName(c.node, neighbour));
    const body = { service: neighbour, instance: neighbourInstance, secret: "A".repeat(43), csrPem };
    return c.connect(identity).join({ body }, call(c));
  }),
  house("renew into a neighbour's name", /nothing happened|IDENTITY/, async (c, { neighbour }) => {
    const { csrPem } = await makeKeyAndRequest(spiffeName(c.node, neighbour));
    const { certPem } = await c.connect(identity).renew({ body: { csrPem } }, call(c));
    const { X509Certificate } = await import("node:crypto");
    const named = new X509Certificate(certPem).subjectAltName ?? "";
    return named.includes(`/${neighbour}`) ? named : undefined;
  }),
  house("register as a neighbour", /REGISTRY_NAME_REFUSED/, (c, { neighbour }) =>
    first(c.connect(registry).hold({ instance: instanceOf(c, neighbour, "stolen") }, call(c))),
  ),
  house("take a neighbour's place", /REGISTRY_NAME_REFUSED/, (c, { neighbourInstance }) =>
    first(c.connect(registry).hold({ instance: instanceOf(c, c.name, neighbourInstance) }, call(c))),
  ),
  house("register as a neighbour the way of EdgeX", /REGISTRY_NAME_REFUSED/, (c, { neighbour }) =>
    c.connect(registry).addRegistration(registrationOf(neighbour), call(c)),
  ),
  house("take a neighbour out of the registry", /REGISTRY_NAME_REFUSED|REGISTRY_SERVICE_UNKNOWN/, (c, { neighbour }) =>
    c.connect(registry).removeRegistration({ serviceId: neighbour }, call(c)),
  ),
  house("take a neighbour out of use", /CALLER_REFUSED/, (c, { neighbour }) =>
    c.connect(registry).maintain({ body: { name: neighbour, on: true } }, call(c)),
  ),
  house("change the settings of others", /CALLER_REFUSED/, (c) =>
    c
      .connect(registry)
      .setValues({ key: "edgex/v3/core-data/Writable", flatten: true, body: { value: { a: "b" } } }, call(c)),
  ),
  house("issue itself an admin's token", /CALLER_REFUSED/, (c) =>
    c.connect(identity).issueToken({ body: { subject: "root", role: "admin", lifetimeS: 3_600 } }, call(c)),
  ),
  house("call what its contract does not name", /EACCES|UNAVAILABLE|CALLER_REFUSED/, (c) =>
    c.connect(coreMetadata).deleteDevice({ name: "x" }, call(c)),
  ),
];

export const onTheBus: readonly Attempt[] = [
  house("publish as another service", /BUS_TOPIC_REFUSED/, (c) =>
    c
      .connect(bus)
      .publish(
        { body: { topic: "edgex/system-events/core-metadata/device/delete/x/y", payload: Buffer.from("{}") } },
        call(c),
      ),
  ),
  house("command devices", /BUS_TOPIC_REFUSED/, (c) =>
    c
      .connect(bus)
      .publish({ body: { topic: "edgex/core/command/request/device/write/set", payload: Buffer.from("{}") } }, call(c)),
  ),
  house("listen to everything", /BUS_TOPIC_REFUSED/, (c) => first(c.connect(bus).listen({ topics: ["#"] }, call(c)))),
  house("follow the journal", /CALLER_REFUSED/, (c) =>
    first(c.connect(bus).follow({ follower: "core-data", after: 0 }, call(c))),
  ),
  house("confirm what core-data has not kept", /CALLER_REFUSED/, (c) =>
    c.connect(bus).confirm({ body: { follower: "core-data", position: 1_000_000 } }, call(c)),
  ),
  house("append events that are none", /BUS_BATCH_REFUSED|INPUT/, (c) =>
    c.connect(bus).append({ body: { blocks: Buffer.from("no block") } }, call(c)),
  ),
];

/** On its line and in its log it can say what it likes; the test looks at what was believed. */
export const onTheLine: readonly Attempt[] = [
  house("tell everybody of another authority", /nothing happened/, async (c) => {
    say({ kind: "line", service: "identity", name: "authority", message: { caPem: FORGED } });
    say({ kind: "line", service: "identity", name: "authority", message: null });
    say({ kind: "ready", service: "identity" });
    say({ kind: "need-join", service: "identity" });
    say({ kind: "state", service: "identity", state: "warning", reason: FORGED });
    c.supervisor.send("authority", { caPem: FORGED });
    return undefined;
  }),
  house("write in another's name in the log", /nothing happened/, async () => {
    const line = {
      level: 50,
      time: new Date().toISOString(),
      service: "identity",
      msg: `\u001b]0;${FORGED}\u0007\u001b[2J${FORGED}`,
    };
    writeSync(1, `${JSON.stringify(line)}\n`);
    return undefined;
  }),
];

function say(message: unknown): void {
  writeSync(LINE_FD, `${JSON.stringify(message)}\n`);
}
