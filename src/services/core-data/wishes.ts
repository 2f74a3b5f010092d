/** Reads what the AutoEvents of the node's devices say about retention. */
import { makeCall } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { type Device, MAX_RESULT_COUNT } from "../../kernel/edgex.ts";
import { asFailure } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import type { CoreMetadata } from "../core-metadata/api.ts";
import type { Retention } from "./retention.ts";

/** A change of a device counts after so long at the latest. */
const READ_EVERY_MS = 300_000;
const CALL_TIMEOUT_MS = 15_000;

export interface WishesParts {
  readonly metadata: Pick<CoreMetadata, "allDevices">;
  readonly retention: Retention;
  readonly clock: Pick<Clock, "monotonicMs">;
  readonly log: Log;
  readonly signal: AbortSignal;
}

export class Wishes {
  readonly #p: WishesParts;
  #readMs = Number.NEGATIVE_INFINITY;
  #isFailing = false;

  constructor(parts: WishesParts) {
    this.#p = parts;
  }

  /** Reads them where that is due; true: they are known, if perhaps not the newest. */
  async read(): Promise<boolean> {
    const { clock, log, retention } = this.#p;
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#readMs < READ_EVERY_MS) return true;
    try {
      retention.learn(await this.#devices());
      this.#readMs = nowMs;
      this.#isFailing = false;
    } catch (error) {
      if (!this.#isFailing)
        log.warn({ code: asFailure(error).code, err: error }, "what devices say about retention could not be read");
      this.#isFailing = true;
    }
    return this.#readMs > Number.NEGATIVE_INFINITY;
  }

  async #devices(): Promise<Device[]> {
    const { metadata, signal } = this.#p;
    const found: Device[] = [];
    for (let offset = 0; ; offset += MAX_RESULT_COUNT) {
      const call = makeCall({ caller: "core-data", timeoutMs: CALL_TIMEOUT_MS, signal });
      const asked = metadata.allDevices({ offset, limit: MAX_RESULT_COUNT }, call).finally(() => call.end(false));
      const { devices, totalCount } = await asked;
      found.push(...devices.filter(({ autoEvents }) => autoEvents?.some((one) => one.retention)));
      if (offset + MAX_RESULT_COUNT >= totalCount) return found;
    }
  }
}
