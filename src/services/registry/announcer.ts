/** Tells on the bus which keys were written, as EdgeX's services listen for it; what the bus cannot take now waits. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Call, makeCall } from "../../kernel/call.ts";
import type { Envelope } from "../../kernel/edgex.ts";
import { asFailure } from "../../kernel/error.ts";
import { fullJitterMs } from "../../kernel/jitter.ts";
import { stringifyJson } from "../../kernel/json.ts";
import type { Log } from "../../kernel/log.ts";
import type { Bus } from "../bus/api.ts";
import type { KeyValue } from "./kvs.api.ts";

/** Keys that wait for the bus; of more the oldest is not told of (who listens reads all keys anew at each message). */
const WAITING_MAX = 4_096;
const PUBLISH_TIMEOUT_MS = 5_000;
const PAUSE = { firstMs: 100, mostMs: 5_000 };
const SELF = "core-keeper";

interface Waiting {
  readonly pair: KeyValue;
  readonly requestId: string;
}

export class Announcer {
  readonly #options: { readonly bus: Bus; readonly log: Log; readonly signal: AbortSignal };
  /** By key: of one that was written again only the last is told of. */
  readonly #waiting = new Map<string, Waiting>();
  #running = false;

  /** Tells until `signal` aborts. */
  constructor(options: { bus: Bus; log: Log; signal: AbortSignal }) {
    this.#options = options;
  }

  tell(pair: KeyValue, { requestId }: Call): void {
    this.#waiting.delete(pair.key);
    this.#waiting.set(pair.key, { pair, requestId });
    const [oldest] = this.#waiting.keys();
    if (this.#waiting.size > WAITING_MAX && oldest !== undefined) this.#waiting.delete(oldest);
    if (!this.#running) void this.#drain();
  }

  async #drain(): Promise<void> {
    const { signal, log } = this.#options;
    this.#running = true;
    let failures = 0;
    for (let next = this.#first(); next && !signal.aborted; next = this.#first()) {
      const { pair, requestId } = next;
      try {
        await this.#publish(next);
        failures = 0;
      } catch (error) {
        const failure = asFailure(error);
        if (failure.kind === "unavailable" || failure.kind === "deadline") {
          if (failures++ === 0) log.info({ requestId }, "the bus is away: what was written is told of later");
          await sleep(fullJitterMs(failures, PAUSE), undefined, { signal }).catch(() => undefined);
          continue;
        }
        log.warn({ requestId, key: pair.key, code: failure.code }, `a key cannot be told of: ${failure.message}`);
      }
      if (this.#waiting.get(pair.key) === next) this.#waiting.delete(pair.key);
    }
    this.#running = false;
  }

  #first(): Waiting | undefined {
    return this.#waiting.values().next().value;
  }

  async #publish({ pair, requestId }: Waiting): Promise<void> {
    const { bus, signal } = this.#options;
    const envelope: Envelope = {
      apiVersion: "v3",
      receivedTopic: "",
      correlationID: requestId,
      requestID: "",
      errorCode: 0,
      payload: pair,
      contentType: "application/json",
    };
    const call = makeCall({ caller: SELF, timeoutMs: PUBLISH_TIMEOUT_MS, requestId, signal });
    const body = { topic: `edgex/configs/${pair.key}`, payload: Buffer.from(stringifyJson(envelope)) };
    await bus.publish({ body }, call).finally(() => call.end(false));
  }
}
