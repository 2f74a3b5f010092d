/** A registry without a wire, with a clock that the test turns, and holders whose streams it reads. */
import assert from "node:assert/strict";
import { after } from "node:test";
import { type Call, makeCall } from "../../src/kernel/call.ts";
import type { Clock } from "../../src/kernel/clock.ts";
import { Failure } from "../../src/kernel/error.ts";
import type { Change, Instance, State } from "../../src/services/registry/api.ts";
import type { RegistryOptions, RunningRegistry } from "../../src/services/registry/service.ts";
import { registryOf } from "./registry.ts";

/** A clock whose hands the test turns. */
export class HandClock implements Clock {
  nowMs = 1_000;
  wall = Date.UTC(2026, 0, 1);
  monotonicMs = () => this.nowMs;
  wallMs = () => this.wall;
  wallNs = () => BigInt(this.wall) * 1_000_000n;
}

/** Holds a lease (or, without an instance, watches) and collects what the stream brings, until its call ends. */
export class Held {
  readonly call: Call & { end(abort: boolean): void };
  readonly changes: Change[] = [];
  readonly done: Promise<void>;

  constructor(
    running: Pick<RunningRegistry, "service">,
    instance?: Instance,
    options: { caller?: string; after?: number } = {},
  ) {
    const { caller = instance?.service ?? "node", after: revision } = options;
    const call = makeCall({ caller, timeoutMs: Number.POSITIVE_INFINITY });
    this.call = call;
    // The call's signal exists before anybody ends it.
    assert.equal(call.signal.aborted, false);
    const from = revision === undefined ? {} : { after: revision };
    const stream = instance ? running.service.hold({ instance, ...from }, call) : running.service.watch(from, call);
    this.done = (async () => {
      for await (const change of stream) this.changes.push(change);
    })();
  }

  get lease(): string {
    return this.changes[0].lease!.id;
  }

  words(): string[] {
    return this.changes.map((c) => `${c.kind} ${c.instances.map((i) => `${i.instance}:${i.state}`).join(",")}`.trim());
  }
}

export const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Makes a registry whose time passes when the test says so. */
export function setUp(options: Partial<RegistryOptions> = {}) {
  const clock = new HandClock();
  const running = registryOf({ clock, ttlMs: 3_000, renewMs: 1_000, ...options });
  after(running.remove);
  const pass = (ms: number, stepMs = 250) => {
    for (let left = ms; left > 0; left -= stepMs) {
      clock.nowMs += Math.min(stepMs, left);
      running.tick();
    }
  };
  const renew = (held: Held, state: State = "passing", reason?: string, weight?: number) =>
    running.service.renew(
      {
        body: {
          lease: held.lease,
          state,
          ...(reason === undefined ? {} : { reason }),
          ...(weight === undefined ? {} : { weight }),
        },
      },
      held.call,
    );
  return { clock, running, pass, renew };
}

export const codeOf = (code: string) => (error: unknown) => error instanceof Failure && error.code === code;
