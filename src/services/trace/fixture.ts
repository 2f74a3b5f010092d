/** Spans as a node makes them, from a seed: requests over three services, batches of events between them. */
import { asUuid } from "../../kernel/call.ts";
import type { StoredSpan } from "./api.ts";

/** A small generator with a seed (mulberry32): whole numbers below 2^32. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
}

const OPERATIONS = ["deviceByName", "read", "write", "eventsByDevice", "latest", "profileByName", "readings", "ping"];
const SERVICES = ["core-data", "core-metadata", "core-command", "device-virtual", "support-scheduler"];
const STEP_NS = 1_000_000n;

/** Makes spans one after another: `next` gives those of one request, or one batch, some time after those before. */
export class SpanMaker {
  readonly #random: () => number;
  #sequence = 1;
  nowNs: bigint;

  constructor(seed: number, fromNs: bigint) {
    this.#random = randomFrom(seed);
    this.nowNs = fromNs;
  }

  next(): StoredSpan[] {
    const random = this.#random;
    this.nowNs += STEP_NS * BigInt(1 + (random() % 8)) + BigInt(random() % 1_000) * 1_000n;
    return random() % 4 === 0 ? this.#batch() : this.#request();
  }

  #request(): StoredSpan[] {
    const random = this.#random;
    const requestId = asUuid(Array.from({ length: 4 }, () => hex8(random())).join(""));
    const operation = OPERATIONS[random() % OPERATIONS.length];
    const service = SERVICES[random() % SERVICES.length];
    const tookUs = this.#tookUs();
    const status = random() % 50 === 0 ? 404 : random() % 200 === 0 ? 503 : 0;
    const top = {
      requestId,
      spanId: this.#id(),
      service: "gateway",
      operation: `${service} ${operation}`,
      startNs: this.nowNs,
      durationUs: tookUs + 200 + (random() % 50),
      status,
      bytes: 100 + (random() % 900),
      ...(status === 0 ? {} : { note: "DEVICE_UNKNOWN" }),
    };
    const step = (name: string, parent: StoredSpan, afterUs: number, durationUs: number): StoredSpan => ({
      requestId,
      spanId: this.#id(),
      parentId: parent.spanId,
      service: name,
      operation,
      startNs: parent.startNs + BigInt(afterUs) * 1_000n,
      durationUs,
      status,
      device: `device-${random() % 40}`,
    });
    const second = step(service, top, 90 + (random() % 30), tookUs);
    return random() % 2 === 0
      ? [second, top]
      : [step("device-virtual", second, 40 + (random() % 20), Math.floor(tookUs / 2)), second, top];
  }

  #batch(): StoredSpan[] {
    const from = this.#sequence;
    this.#sequence += 1 + (this.#random() % 200);
    const ranges = [{ publisher: "device-virtual", epoch: 1_900_000_000, from, to: this.#sequence - 1 }];
    const services = [
      ["device-virtual", "send", `${this.#sequence - from} events`],
      ["bus", "append", `of device-virtual at ${from}`],
      ["core-data", "keep", `positions to ${this.#sequence}`],
    ] as const;
    return services.map(([service, operation, note], at) => ({
      spanId: this.#id(),
      service,
      operation,
      startNs: this.nowNs + BigInt(at) * STEP_NS,
      durationUs: this.#tookUs(),
      status: 0,
      note,
      ranges,
    }));
  }

  /** Durations have a long tail. */
  #tookUs(): number {
    const u = (this.#random() + 1) / 2 ** 32;
    return Math.round(300 * u ** -0.7);
  }

  #id(): string {
    return hex8(this.#random()) + hex8(this.#random());
  }
}

const hex8 = (value: number): string => value.toString(16).padStart(8, "0");
