/** Ports for servers that are started later, by a number that is known before. */
import { closeSync } from "node:fs";
import { randomInt } from "node:crypto";
import { listenTcp } from "../../src/node/confine/listen.ts";

/** Below those that the kernel gives to connections (ip_local_port_range): none of these takes it meanwhile. */
const FROM = 10_000;
const TO = 32_000;
const TRIES_MAX = 100;

/** Finds a port of 127.0.0.1 that nobody listens on. */
export function freePort(): number {
  for (let n = 0; n < TRIES_MAX; n++) {
    const port = randomInt(FROM, TO);
    try {
      closeSync(listenTcp({ host: "127.0.0.1", port }).fd);
      return port;
    } catch {
      continue; // Somebody listens there.
    }
  }
  throw new Error(`none of ${TRIES_MAX} ports is free`);
}
