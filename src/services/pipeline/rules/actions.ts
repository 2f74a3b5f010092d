/** What rules do: commands to devices and notifications, at once, in order for each device, and never more than can wait. */
import { randomUUID } from "node:crypto";
import { makeCall } from "../../../kernel/call.ts";
import type { Clock } from "../../../kernel/clock.ts";
import { asFailure, fail } from "../../../kernel/error.ts";
import type { Range, Tracer } from "../../../kernel/trace.ts";
import { stringifyJson } from "../../../kernel/json.ts";
import type { Bus } from "../../bus/api.ts";
import type { CoreCommand } from "../../core-command/api.ts";
import { PIPELINE_RULE_BUSY } from "../pipelines.api.ts";
import type { RuleDefinition } from "./definition.ts";

/** A command that takes longer has failed. It is not given again: late, it could be wrong. */
const COMMAND_TIMEOUT_MS = 5_000;
/** Actions that wait for their device to be done with the last one; a further one has failed. */
const WAITING_MAX = 1_024;
const SELF = "pipeline";
const TOPIC = `edgex/notifications/${SELF}`;

/** What a rule acts on. */
export interface Cause {
  readonly rule: string;
  readonly deviceName: string;
  readonly resourceName: string;
  readonly value: unknown;
  readonly requestId: string;
  /** The event, for the trace. */
  readonly range: Range;
}

export interface ActionsOptions {
  readonly bus: Bus;
  readonly coreCommand: CoreCommand;
  readonly clock: Clock;
  readonly tracer: Tracer;
}

export class Actions {
  readonly #o: ActionsOptions;
  readonly #lanes = new Map<string, Promise<void>>();
  #waiting = 0;

  constructor(options: ActionsOptions) {
    this.#o = options;
  }

  /** Does what a rule says; a failure of its command or its notification rejects, after both were tried. PIPELINE_RULE_BUSY. */
  async run({ command, notification }: RuleDefinition, cause: Cause): Promise<void> {
    if (this.#waiting >= WAITING_MAX)
      throw fail(PIPELINE_RULE_BUSY, `${WAITING_MAX} actions of rules wait for their devices: this one is not done`);
    this.#waiting++;
    try {
      const done = await Promise.allSettled([
        command && this.#inLane(command.deviceName, () => this.#command(command, cause)),
        notification && this.#notify(notification, cause),
      ]);
      const failed = done.find((one) => one.status === "rejected");
      if (failed) throw failed.reason as Error;
    } finally {
      this.#waiting--;
    }
  }

  /** Waits for what is being done. */
  async idle(): Promise<void> {
    await Promise.all(this.#lanes.values());
  }

  async #inLane(device: string, work: () => Promise<void>): Promise<void> {
    const done = (this.#lanes.get(device) ?? Promise.resolve()).then(work);
    const lane = done.catch(() => undefined);
    this.#lanes.set(device, lane);
    await lane;
    if (this.#lanes.get(device) === lane) this.#lanes.delete(device);
    await done;
  }

  async #command({ deviceName, commandName, settings }: NonNullable<RuleDefinition["command"]>, cause: Cause) {
    await this.#traced(cause, COMMAND_TIMEOUT_MS, async (call) => {
      await this.#o.coreCommand.write({ name: deviceName, command: commandName, body: settings }, call);
    });
  }

  /** Publishes EdgeX's AddNotificationRequest; the bus keeps it for whoever delivers notifications. */
  async #notify(given: NonNullable<RuleDefinition["notification"]>, cause: Cause) {
    const { bus, clock } = this.#o;
    const { category, severity, labels } = given;
    const filled: Readonly<Record<string, unknown>> = {
      rule: cause.rule,
      device: cause.deviceName,
      resource: cause.resourceName,
      value: cause.value,
    };
    const content = given.content.replace(/\{(rule|device|resource|value)\}/g, (_, name: string) =>
      String(filled[name]),
    );
    const created = clock.wallMs();
    const description = `rule '${cause.rule}'`;
    const notification = {
      apiVersion: "v3",
      id: randomUUID(),
      created,
      category,
      labels,
      content,
      contentType: "text/plain",
      description,
      sender: SELF,
      severity,
      status: "NEW",
    };
    const envelope = {
      apiVersion: "v3",
      receivedTopic: "",
      correlationID: cause.requestId,
      requestID: "",
      errorCode: 0,
      payload: {
        apiVersion: "v3",
        requestId: cause.requestId,
        notification,
      },
      contentType: "application/json",
    };
    const body = { topic: `${TOPIC}/${category}`, payload: Buffer.from(stringifyJson(envelope)) };
    await this.#traced(cause, COMMAND_TIMEOUT_MS, async (call) => void (await bus.publish({ body }, call)));
  }

  /** Does a step under the reading's request id; its span names the event too, so that the story is found from both. */
  async #traced(
    { range, requestId, rule }: Cause,
    timeoutMs: number,
    work: (call: ReturnType<typeof makeCall>) => Promise<void>,
  ): Promise<void> {
    const { clock, tracer } = this.#o;
    const startMs = clock.monotonicMs();
    const startNs = clock.wallNs();
    const call = makeCall({ caller: SELF, requestId, timeoutMs });
    let status = 0;
    let note = `rule '${rule}'`;
    try {
      await work(call);
    } catch (error) {
      const failure = asFailure(error);
      status = failure.status;
      note += `: ${failure.code}`;
      throw error;
    } finally {
      call.end(false);
      const durationUs = Math.max(0, Math.round((clock.monotonicMs() - startMs) * 1_000));
      const { spanId } = call;
      tracer.add({
        requestId,
        spanId,
        service: SELF,
        operation: "rule",
        startNs,
        durationUs,
        status,
        note,
        ranges: [range],
      });
    }
  }
}
