/** The destinations of a node: an uplink each, and who sends by it. */
import type { Clock } from "../../kernel/clock.ts";
import { asFailure, fail } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import type { Tracer } from "../../kernel/trace.ts";
import { type Destination, PIPELINE_CLOUDS_TWO } from "./api.ts";
import type { BackfillBook } from "./backfill/book.ts";
import { ASK_EVERY_MS, type CloudConfig, type DestinationConfig } from "./destinations/config.ts";
import { makeSender } from "./destinations/senders.ts";
import type { Gaps } from "./outbox/gaps.ts";
import type { Outbox } from "./outbox/outbox.ts";
import type { Spent } from "./pacing/budget.ts";
import type { PipelineStore } from "./store.ts";
import { Enrolled } from "./uplink/enrolled.ts";
import { canConnect } from "./uplink/probe.ts";
import { Paces } from "./uplink/route.ts";
import { Uplink } from "./uplink/uplink.ts";

export interface DestinationsOptions {
  readonly node: string;
  readonly config: Readonly<Record<string, DestinationConfig>>;
  readonly secrets: Readonly<Record<string, string>>;
  readonly outbox: Outbox;
  readonly store: PipelineStore;
  readonly gaps: Gaps;
  readonly backfills: BackfillBook;
  readonly clock: Clock;
  readonly log: Log;
  readonly tracer: Tracer;
  readonly signal: AbortSignal;
}

export class Destinations {
  /** The cloud that the node is enrolled at, or will be. */
  readonly cloud: Enrolled;
  readonly #uplinks: readonly { readonly uplink: Uplink; readonly config: DestinationConfig }[];
  readonly #o: DestinationsOptions;

  /** PIPELINE_CLOUDS_TWO where the config names more than one cloud. */
  constructor(options: DestinationsOptions) {
    this.#o = options;
    this.#uplinks = Object.entries(options.config).map(([name, config]) => ({
      uplink: new Uplink({ ...options, name }),
      config,
    }));
    const clouds = this.#uplinks.filter(({ config }) => config.kind === "cloud");
    if (clouds.length > 1) throw fail(PIPELINE_CLOUDS_TWO, `there are ${clouds.length} destinations of kind 'cloud'`);
    const { uplink, config } = clouds[0] ?? { uplink: undefined, config: NO_CLOUD };
    const name = uplink?.name ?? "cloud";
    const { askEveryMs } = config.kind === "cloud" ? config : NO_CLOUD;
    this.cloud = new Enrolled({ ...options, name, askEveryMs }, uplink, this.#pacesOf(name, config));
  }

  /** Runs all until the signal aborts. */
  async run(): Promise<void> {
    for (const { uplink, config } of this.#uplinks) if (config.kind !== "cloud") await this.#open(uplink, config);
    await Promise.all(this.#uplinks.map(({ uplink }) => uplink.run()));
  }

  async status(): Promise<Destination[]> {
    return Promise.all(
      this.#uplinks.map(async ({ uplink, config }) => ({
        ...(await uplink.status()),
        kind: config.kind,
        url: config.kind === "cloud" ? this.cloud.url : config.url,
      })),
    );
  }

  /** What each has waiting and has had acknowledged, for the metrics. */
  counts() {
    return this.#uplinks.map(({ uplink }) => ({ ...uplink.counts(), acknowledged: uplink.totals.acknowledged }));
  }

  async #open(uplink: Uplink, config: Exclude<DestinationConfig, { kind: "cloud" }>): Promise<void> {
    const { node, secrets, clock, log } = this.#o;
    try {
      const paces = this.#pacesOf(uplink.name, config);
      const route = await paces.routeLater(async (way) => ({
        name: way.name,
        pacer: way.pacer,
        sender: await makeSender({ name: uplink.name, node, config, way, secrets, clock, log }),
        probe: () => canConnect(way.url ?? config.url, way.localAddress),
      }));
      uplink.use(route);
    } catch (error) {
      const { message } = asFailure(error);
      uplink.unusable(message);
      log.error({ destination: uplink.name, err: message }, "a destination cannot be used; what it is sent waits");
    }
  }

  #pacesOf(name: string, config: DestinationConfig): Paces {
    const { clock, store } = this.#o;
    return new Paces(clock, config, store.get(`spent ${name}`) as Record<string, Spent> | undefined);
  }
}

const NO_CLOUD: CloudConfig = {
  kind: "cloud",
  askEveryMs: ASK_EVERY_MS,
  pace: { windows: [], zone: "UTC", overridePriority: 10 },
  uplinks: [],
};
