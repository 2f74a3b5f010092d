/** `holdfast forget device`: each room that holds a device's events makes them unreadable, in the order in which they travel. */
import { setTimeout as pause } from "node:timers/promises";
import { bus } from "../services/bus/api.ts";
import { coreData } from "../services/core-data/api.ts";
import { pipeline } from "../services/pipeline/api.ts";
import type { Supervisor } from "./supervisor.ts";

const ROOM_TIMEOUT_MS = 10_000;
/** What the bus had handed out just before has arrived by then where it goes. */
const IN_FLIGHT_MS = 200;

/** Answers how long it took, in ms. UNAVAILABLE where a room is not there: ask again, what was done stays done. */
export async function forgetDevice(supervisor: Supervisor, device: string): Promise<{ ms: number }> {
  const startMs = performance.now();
  const call = supervisor.call(ROOM_TIMEOUT_MS);
  try {
    await supervisor.connect(bus).forgetDevice({ body: { device } }, call);
    await pause(IN_FLIGHT_MS);
    await Promise.all([
      supervisor.connect(coreData).forgetDevice({ name: device }, call),
      supervisor.connect(pipeline).forgetDevice({ body: { device } }, call),
    ]);
    return { ms: performance.now() - startMs };
  } finally {
    call.end(false);
  }
}
