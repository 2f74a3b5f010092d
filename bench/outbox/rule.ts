/**
 * From a reading to the command that a local rule gives to a device, on a whole node that has lost its cloud: each service
 * is a confined process, with mutual TLS between them, and the story of each event is asked of the trace.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { parseJson } from "../../src/kernel/json.ts";
import { Whole } from "../../test/houses/whole.ts";
import { asker } from "../asker.ts";
import { info, type Row, rowOf } from "../table.ts";

const EVENTS = 1_000;
const INTERVAL_MS = 25;
/** Services hand over their spans every second: the story of what is newer may not be known yet. */
const LATE_MS = 3_000;
const LATE = LATE_MS / INTERVAL_MS;
/** A number at random of either sign: the rule acts on about every fourth event. */
const CONFIG = JSON.stringify({ interval: `${INTERVAL_MS}ms` });
const RULE = JSON.stringify({
  devices: ["virtual-1"],
  resource: "Float64",
  when: { above: 0 },
  command: { deviceName: "virtual-1", commandName: "Int32", settings: { Int32: 7 } },
});

interface Story {
  readonly spans: readonly {
    service: string;
    operation: string;
    startNs: bigint;
    durationUs: number;
    status: number;
  }[];
}

/** Milliseconds from the reading of an event to the end of the command, once the device has done it; none where no rule acted. */
function latencyMs({ spans }: Story, originNs: bigint): number | undefined {
  const rule = spans.find(({ service, operation }) => service === "pipeline" && operation === "rule");
  if (!rule) return undefined;
  if (rule.status !== 0) throw new Error("the rule's command failed");
  return Number(rule.startNs - originNs) / 1e6 + rule.durationUs / 1_000;
}

/** Measures how long it takes from a reading to a local rule's command, the cloud cut. */
export async function measureRule(): Promise<Row[]> {
  const config = `device-virtual: ${CONFIG}\npipeline: { rules: { positive: ${RULE} } }\n`;
  const house = new Whole({ config });
  try {
    await house.start();
    const isEnrolled = async () => /"acknowledged":\{"batches":[1-9]/.test(await house.text("backlog", "--json"));
    await house.until(isEnrolled, "the cloud to have something");
    await house.stop();
    // It knows its cloud, and nobody answers there.
    await house.start(["--no-cloud"]);
    const ask = await asker(house);
    await sleep(EVENTS * INTERVAL_MS + LATE_MS);
    const page = parseJson(
      await ask(`/core-data/api/v3/event/device/name/virtual-1?offset=${LATE}&limit=${EVENTS}`),
    ) as {
      events: { id: string; origin: bigint; sourceName: string }[];
    };
    const tookMs: number[] = [];
    for (const { id, origin, sourceName } of page.events) {
      if (sourceName !== "floats") continue;
      const ms = latencyMs(parseJson(await ask(`/trace/story/${id}`)) as Story, origin);
      if (ms !== undefined) tookMs.push(ms);
    }
    const at = (share: number) => tookMs.toSorted((a, b) => a - b)[Math.ceil(tookMs.length * share) - 1];
    return [
      info(`a reading to a local rule's device command, the cloud cut, p50 of ${tookMs.length}`, at(0.5), "ms"),
      rowOf("a reading to a local rule's device command, the cloud cut, p99", at(0.99), "ms", 20),
    ];
  } finally {
    await house.remove();
  }
}
