/** The registry's loopback door for EdgeX's software, with its own ticks, in this process. */
import type { TestContext } from "node:test";
import { systemClock } from "../../src/kernel/clock.ts";
import { serve } from "../../src/kernel/serve.ts";
import { Tracer } from "../../src/kernel/trace.ts";
import { registry } from "../../src/services/registry/api.ts";
import type { KeyValue } from "../../src/services/registry/kvs.api.ts";
import type { Registration } from "../../src/services/registry/registrations.api.ts";
import type { RegistryOptions } from "../../src/services/registry/service.ts";
import { type Held, turn } from "./leases.ts";
import { quiet, registryOf } from "./registry.ts";

/** What answers hold; each has some of it. */
export interface Body {
  readonly apiVersion: string;
  readonly statusCode: number;
  readonly totalCount: number;
  readonly registration: Registration;
  readonly registrations: Registration[];
  /** Keys, or pairs. */
  readonly response: string[] & KeyValue[];
}

export interface Answered {
  readonly status: number;
  readonly body: Body;
}

/** Opens it; ends with the test. */
export async function openEdgex(t: TestContext, options: Partial<RegistryOptions> = {}) {
  const running = registryOf(options);
  const ticking = setInterval(() => running.tick(), 10);
  const served = await serve({
    contract: registry,
    service: running.service,
    listen: { host: "127.0.0.1", port: 0 },
    plainCaller: "open-edgex",
    log: quiet,
    clock: systemClock,
    tracer: new Tracer("core-keeper", systemClock),
  });
  t.after(async () => {
    clearInterval(ticking);
    await served.close();
    running.remove();
  });
  const ask = async (method: string, path: string, body?: unknown): Promise<Answered> => {
    const url = `http://127.0.0.1:${served.port}${path}`;
    const response = await fetch(url, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
    const text = await response.text();
    return { status: response.status, body: (text === "" ? {} : JSON.parse(text)) as Body };
  };
  /** Waits until the last change that a watcher saw is of a state; what was seen is then forgotten. */
  const until = async (watcher: Held, state: string): Promise<void> => {
    while (watcher.changes.at(-1)?.instances[0]?.state !== state) await turn();
    watcher.changes.length = 0;
  };
  return { ask, registry: { ...running, until } };
}
