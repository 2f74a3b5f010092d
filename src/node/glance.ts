/** What the start page shows of the node at work: asked like anybody asks, through the gateway with a token, and of the pipeline. */
import { request } from "node:https";
import { identity } from "../services/identity/api.ts";
import { pipeline } from "../services/pipeline/api.ts";
import type { Supervisor } from "./supervisor.ts";

export interface Glance {
  /** What the machine measures, a few values. */
  measured?: string;
  /** What the cloud has acknowledged, and what waits. */
  cloud?: string;
}

const ASK_TIMEOUT_MS = 3_000;
const TOKEN_LIFETIME_S = 3_600;
const ANSWER_BYTES_MAX = 1_048_576;
const DEVICE_SERVICE = "device-host";
const VALUES_MAX = 6;
/** What people look for first on a machine, in this order; others fill up. */
const FIRST = ["CpuUser", "Load1", "MemoryUsed", "DiskUsed", "NetworkReceiveRate", "NetworkSendRate"];
const READINGS_ASKED = 60;

interface Device {
  readonly name: string;
}
interface Reading {
  readonly resourceName: string;
  readonly value?: string;
  readonly units?: string;
}

const rankOf = ({ resourceName }: Reading): number => {
  const rank = FIRST.indexOf(resourceName);
  return rank < 0 ? FIRST.length : rank;
};

/** Looks at the node; asks for a token once, and again when that has ended. */
export class Observer {
  readonly #supervisor: Supervisor;
  readonly #gatewayUrl: string | undefined;
  readonly #has: (service: string) => boolean;
  #token: { text: string; untilMs: number } | undefined;
  #device: string | undefined;

  constructor(options: { supervisor: Supervisor; gatewayUrl: string | undefined; has: (service: string) => boolean }) {
    this.#supervisor = options.supervisor;
    this.#gatewayUrl = options.gatewayUrl;
    this.#has = options.has;
  }

  /** What can be seen now; what cannot be asked is left out. */
  async look(): Promise<Glance> {
    const [measured, cloud] = await Promise.allSettled([this.#measured(), this.#cloud()]);
    return {
      ...(measured.status === "fulfilled" && measured.value ? { measured: measured.value } : {}),
      ...(cloud.status === "fulfilled" && cloud.value ? { cloud: cloud.value } : {}),
    };
  }

  async #measured(): Promise<string | undefined> {
    if (this.#gatewayUrl === undefined || !this.#has(DEVICE_SERVICE) || !this.#has("core-data")) return undefined;
    const { devices = [] } = (await this.#get(`/core-metadata/api/v3/device/service/name/${DEVICE_SERVICE}`)) as {
      devices?: Device[];
    };
    this.#device ??= devices[0]?.name;
    if (this.#device === undefined) return undefined;
    const { readings = [] } = (await this.#get(
      `/core-data/api/v3/reading/device/name/${encodeURIComponent(this.#device)}?limit=${READINGS_ASKED}`,
    )) as { readings?: Reading[] };
    const newest = new Map<string, Reading>();
    for (const reading of readings)
      if (reading.value !== undefined && !newest.has(reading.resourceName)) newest.set(reading.resourceName, reading);
    if (newest.size === 0) return undefined;
    const values = [...newest.values()]
      .sort((a, b) => rankOf(a) - rankOf(b))
      .slice(0, VALUES_MAX)
      .map(({ resourceName, value, units }) => `${resourceName} ${shortNumber(value!)}${units ? ` ${units}` : ""}`);
    return `${this.#device}: ${values.join(", ")}${newest.size > VALUES_MAX ? `, and ${newest.size - VALUES_MAX} more` : ""}`;
  }

  async #cloud(): Promise<string | undefined> {
    if (!this.#has("pipeline")) return undefined;
    const call = this.#supervisor.call(ASK_TIMEOUT_MS);
    try {
      const { destinations } = await this.#supervisor.connect(pipeline).status({}, call);
      return destinations
        .map(({ url, state, acknowledged, waiting }) => {
          if (state === "not-enrolled") return "not joined to a cloud yet; readings wait in the outbox";
          const held =
            waiting.batches === 0
              ? "nothing waits"
              : `${waiting.batches} ${waiting.batches === 1 ? "batch waits" : "batches wait"}`;
          return `${acknowledged.readings.toLocaleString("en")} readings acknowledged, ${held}${state === "offline" ? " (offline)" : ""}, ${url}`;
        })
        .join("; ");
    } finally {
      call.end(false);
    }
  }

  async #get(path: string): Promise<unknown> {
    const token = await this.#freshToken();
    const caPem = await this.#supervisor.caPem;
    return new Promise((resolve, reject) => {
      const asked = request(
        `${this.#gatewayUrl}${path}`,
        {
          ca: caPem,
          timeout: ASK_TIMEOUT_MS,
          headers: { authorization: `Bearer ${token}`, accept: "application/json" },
        },
        (response) => {
          let text = "";
          response.setEncoding("utf8");
          response.on("data", (part: string) => {
            text += part;
            if (text.length > ANSWER_BYTES_MAX) asked.destroy(new Error("the answer is too long"));
          });
          response.on("end", () => {
            if (response.statusCode !== 200) return reject(new Error(`the gateway answered ${response.statusCode}`));
            resolve(JSON.parse(text));
          });
          response.on("error", reject);
        },
      );
      asked.on("timeout", () => asked.destroy(new Error("the gateway did not answer")));
      asked.on("error", reject);
      asked.end();
    });
  }

  async #freshToken(): Promise<string> {
    const nowMs = performance.now();
    if (this.#token && this.#token.untilMs > nowMs) return this.#token.text;
    const call = this.#supervisor.call(ASK_TIMEOUT_MS);
    try {
      const { token } = await this.#supervisor
        .connect(identity)
        .issueToken({ body: { subject: "start page", role: "viewer", lifetimeS: TOKEN_LIFETIME_S } }, call);
      this.#token = { text: token, untilMs: nowMs + (TOKEN_LIFETIME_S - 60) * 1_000 };
      return token;
    } finally {
      call.end(false);
    }
  }
}

/** Writes a reading's value as short as a glance needs: EdgeX's floats come as 1.234560e+01. */
export function shortNumber(text: string): string {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) return text.slice(0, 20);
  if (Math.abs(value) >= 1e6)
    return `${(value / 10 ** (Math.floor(Math.log10(Math.abs(value)) / 3) * 3)).toPrecision(3)}${["", "k", "M", "G", "T", "P", "E"][Math.floor(Math.log10(Math.abs(value)) / 3)] ?? ""}`;
  return String(Number(value.toPrecision(3)));
}
