/**
 * An edge node as Sparkplug sees it: which devices and metrics were born, under which aliases, what they said last, and the
 * messages that follow from that. It knows no network: whoever has a connection publishes what it makes, in order.
 */
import { rowsInOrder } from "../../../../kernel/events/blocks.ts";
import type { Block } from "../../../../kernel/events/model.ts";
import { encodePayload, type Metric, type MetricType, type MetricValue, TYPE } from "./payload.ts";
import { metricTypeOf, metricValueOf } from "./values.ts";

/** Metrics of one message, about: large enough for its head not to count, far below what brokers take. */
const METRICS_MAX = 1_000;
export const REBIRTH = "Node Control/Rebirth";

export interface SparkplugMessage {
  readonly topic: string;
  readonly payload: Buffer;
}

interface KnownMetric {
  readonly name: string;
  readonly alias: number;
  readonly type: MetricType;
  readonly units: string | undefined;
  value: MetricValue | undefined;
  timestampMs: number;
}

interface Device {
  readonly metrics: Map<string, KnownMetric>;
  isBorn: boolean;
  /** Monotonic. */
  seenMs: number;
}

export interface EdgeNodeOptions {
  readonly groupId: string;
  readonly edgeNodeId: string;
  readonly wallMs: () => number;
  readonly monotonicMs: () => number;
}

/** What cannot stand in an element of a topic is percent-encoded. */
const elementOf = (name: string): string =>
  name.replace(/[/+#\0%]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`);

export class EdgeNode {
  readonly #o: EdgeNodeOptions;
  readonly #devices = new Map<string, Device>();
  #aliases = 0;
  #seq = 0;
  #bdSeq: number;
  #isBorn = false;

  constructor(options: EdgeNodeOptions) {
    this.#o = options;
    // The host compares a death with the birth before it: after a restart another number than before.
    this.#bdSeq = Math.floor(options.wallMs() / 1_000) % 256;
  }

  get isBorn(): boolean {
    return this.#isBorn;
  }

  topic(kind: string, device?: string): string {
    const { groupId, edgeNodeId } = this.#o;
    return `spBv1.0/${groupId}/${kind}/${edgeNodeId}${device === undefined ? "" : `/${elementOf(device)}`}`;
  }

  /** Begins with another connection: nobody was born in it. The message is its will. */
  begin(): SparkplugMessage {
    this.#bdSeq = (this.#bdSeq + 1) % 256;
    this.#isBorn = false;
    return this.death();
  }

  /** NDEATH; all devices die with the node. */
  death(): SparkplugMessage {
    this.#isBorn = false;
    const metrics = [{ name: "bdSeq", type: TYPE.Int64, value: this.#bdSeq }];
    return { topic: this.topic("NDEATH"), payload: encodePayload({ timestampMs: this.#o.wallMs(), metrics }) };
  }

  /** NBIRTH, and DBIRTH of every device that is known: to begin with, and when a host asks for it. */
  births(): SparkplugMessage[] {
    const timestampMs = this.#o.wallMs();
    this.#seq = 0;
    this.#isBorn = true;
    const metrics: Metric[] = [
      { name: "bdSeq", timestampMs, type: TYPE.Int64, value: this.#bdSeq },
      { name: REBIRTH, timestampMs, type: TYPE.Boolean, value: false },
    ];
    return [
      this.#message("NBIRTH", undefined, metrics),
      ...[...this.#devices].filter(([, { isBorn }]) => isBorn).map(([name, device]) => this.#birth(name, device)),
    ];
  }

  /** Messages of a batch: DBIRTH where a device or a metric is new, then DDATA. Rows keep their order by device. */
  *data(blocks: readonly Block[], isHistorical: boolean): Generator<SparkplugMessage> {
    const byDevice = Map.groupBy(blocks, ({ series }) => series.deviceName);
    for (const [name, own] of byDevice) {
      const device = this.#device(name, own);
      if (!device.isBorn) {
        device.isBorn = true;
        yield this.#birth(name, device);
      }
      device.seenMs = this.#o.monotonicMs();
      let metrics: Metric[] = [];
      for (const { block, row } of rowsInOrder(own)) {
        for (const metric of readings(device, block, row, isHistorical)) metrics.push(metric);
        if (metrics.length < METRICS_MAX) continue;
        yield this.#message("DDATA", name, metrics);
        metrics = [];
      }
      if (metrics.length > 0) yield this.#message("DDATA", name, metrics);
    }
  }

  /** DDEATH of the devices that have been silent for so long. */
  deaths(silenceMs: number): SparkplugMessage[] {
    if (!this.#isBorn) return [];
    const sinceMs = this.#o.monotonicMs() - silenceMs;
    return [...this.#devices]
      .filter(([, { isBorn, seenMs }]) => isBorn && seenMs <= sinceMs)
      .map(([name, device]) => {
        device.isBorn = false;
        return this.#message("DDEATH", name, []);
      });
  }

  /** Finds a device; one with metrics that are new or of another type is to be born again. */
  #device(name: string, blocks: readonly Block[]): Device {
    let device = this.#devices.get(name);
    if (!device) this.#devices.set(name, (device = { metrics: new Map(), isBorn: false, seenMs: 0 }));
    for (const { series } of blocks)
      for (const resource of series.resources) {
        const type = metricTypeOf(resource.valueType);
        // A resource that stays on the node leaves a column without a name.
        if (resource.name === "" || device.metrics.get(resource.name)?.type === type) continue;
        const { name: metric, units } = resource;
        device.metrics.set(metric, {
          name: metric,
          alias: ++this.#aliases,
          type,
          units,
          value: undefined,
          timestampMs: 0,
        });
        device.isBorn = false;
      }
    return device;
  }

  #birth(name: string, { metrics }: Device): SparkplugMessage {
    const nowMs = this.#o.wallMs();
    const all = [...metrics.values()].map(({ name: metric, alias, type, units, value, timestampMs }): Metric => {
      const known = { name: metric, alias, type, value, timestampMs: timestampMs || nowMs };
      return units === undefined ? known : { ...known, units };
    });
    return this.#message("DBIRTH", name, all);
  }

  #message(kind: string, device: string | undefined, metrics: readonly Metric[]): SparkplugMessage {
    const seq = this.#seq;
    this.#seq = (seq + 1) % 256;
    const payload = encodePayload({ timestampMs: this.#o.wallMs(), metrics, seq });
    return { topic: this.topic(kind, device), payload };
  }
}

/** The metrics of an event; what they say is remembered for the next birth. */
function* readings(device: Device, block: Block, row: number, isHistorical: boolean): Generator<Metric> {
  const { series, columns, origins, extras } = block;
  for (const [k, { name, valueType }] of series.resources.entries()) {
    const given = columns[k][row];
    const known = device.metrics.get(name);
    if (given === undefined || !known) continue;
    const timestampMs = Number((extras.get(row)?.origins?.[k] ?? origins[row]) / 1_000_000n);
    const value = metricValueOf(given, valueType);
    if (timestampMs >= known.timestampMs) Object.assign(known, { value, timestampMs });
    const { alias, type } = known;
    yield { alias, type, timestampMs, value, ...(isHistorical ? { isHistorical } : {}) };
  }
}
