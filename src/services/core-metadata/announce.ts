/** How core-metadata speaks on the bus: system events of every change, and the question to a device service. */
import { randomUUID } from "node:crypto";
import type { Call } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { type Device, type DeviceProfile, type DeviceService, type Envelope, TOPIC } from "../../kernel/edgex.ts";
import { Failure, fail } from "../../kernel/error.ts";
import { levelOf } from "../../kernel/event-topic.ts";
import { parseJson, stringifyJson } from "../../kernel/json.ts";
import type { Log } from "../../kernel/log.ts";
import { BUS_REQUEST_TIMEOUT, type Bus } from "../bus/api.ts";
import { METADATA_DEVICE_REFUSED, METADATA_SERVICE_SILENT } from "./codes.ts";

export type Action = "add" | "update" | "delete";

export interface Announcer {
  device(action: Action, device: Device, call: Call): Promise<void>;
  /** `services`: those that own devices of the profile; each is told by its own name, as EdgeX does. */
  profile(action: Action, profile: DeviceProfile, services: readonly string[], call: Call): Promise<void>;
  service(action: Action, service: DeviceService, call: Call): Promise<void>;
  /** Asks the device's service whether it takes the device. METADATA_DEVICE_REFUSED, METADATA_SERVICE_SILENT. */
  validate(device: Device, call: Call): Promise<void>;
}

/** EdgeX's Service.RequestTimeout. */
const VALIDATE_TIMEOUT_MS = 5_000;
const SELF = "core-metadata";

const envelope = (call: Call, payload: unknown, requestID = ""): Envelope => ({
  apiVersion: "v3",
  receivedTopic: "",
  correlationID: call.requestId,
  requestID,
  errorCode: 0,
  payload,
  contentType: "application/json",
});

const encode = (e: Envelope): Uint8Array => Buffer.from(stringifyJson(e));

/** Longest topic that the bus takes; a longer one goes without its last level, which no filter of a service needs. */
const TOPIC_BYTES_MAX = 1_024;

interface Parts {
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
}

/** Makes the announcer. A change is kept even when the bus is down: then the event is logged as missed, and caches resync at their next start. */
export function makeAnnouncer(parts: Parts): Announcer {
  const { clock, bus, log } = parts;
  async function tell(type: string, action: Action, owner: string, details: object, call: Call, profile?: string) {
    const short = `${TOPIC.systemEvents}/${SELF}/${type}/${action}/${levelOf(owner)}`;
    const long = profile ? `${short}/${levelOf(profile)}` : short;
    const topic = Buffer.byteLength(long) > TOPIC_BYTES_MAX ? short : long;
    const told = {
      apiVersion: "v3",
      type,
      action,
      source: SELF,
      owner,
      tags: null,
      details,
      timestamp: clock.wallNs(),
    };
    try {
      await bus.publish({ body: { topic, payload: encode(envelope(call, told)) } }, call);
    } catch (error) {
      log.warn({ requestId: call.requestId, topic, err: error }, "a change could not be announced on the bus");
    }
  }
  return {
    device: (action, device, call) => tell("device", action, device.serviceName, device, call, device.profileName),
    async profile(action, profile, services, call) {
      await tell("deviceprofile", action, SELF, profile, call, profile.name);
      for (const service of services) await tell("deviceprofile", action, service, profile, call, profile.name);
    },
    service: (action, service, call) => tell("deviceservice", action, service.name, service, call),
    validate: (device, call) => validate(bus, device, call),
  };
}

async function validate(bus: Bus, device: Device, call: Call): Promise<void> {
  const requestID = randomUUID();
  const question = envelope(call, { apiVersion: "v3", requestId: requestID, device }, requestID);
  const { serviceName, name } = device;
  const service = levelOf(serviceName);
  const asked = {
    topic: `edgex/${service}/validate/device`,
    responseTopic: `${TOPIC.response}/${service}/${requestID}`,
    payload: encode(question),
    timeoutMs: VALIDATE_TIMEOUT_MS,
  };
  let answer: Envelope;
  try {
    answer = parseJson((await bus.request({ body: asked }, call)).payload) as Envelope;
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== BUS_REQUEST_TIMEOUT.code) throw error;
    const waited = `did not say within ${VALIDATE_TIMEOUT_MS} ms whether it takes device '${name}'`;
    throw fail(METADATA_SERVICE_SILENT, `device service '${serviceName}' ${waited}`, { cause: error });
  }
  if (answer.errorCode === 0) return;
  const words = textOf(answer.payload);
  throw fail(METADATA_DEVICE_REFUSED, `device service '${serviceName}' refused device '${name}': ${words}`);
}

/** An error's text travels as the payload itself, plain or in base64 (FACTS: message envelope). */
function textOf(payload: unknown): string {
  if (typeof payload !== "string") return stringifyJson(payload).slice(0, 500);
  const decoded = Buffer.from(payload, "base64");
  return (
    decoded.toString("base64").replace(/=+$/, "") === payload.replace(/=+$/, "") ? decoded.toString() : payload
  ).slice(0, 500);
}
