/**
 * Places for services that come later: sockets that are open from the node's start, since the sandboxes of those who may call
 * any service (the gateway) or any device service cannot be widened after theirs.
 */
import { closeSync } from "node:fs";
import { fail } from "../../kernel/error.ts";
import { listenTcp } from "../confine/listen.ts";
import type { Listening } from "../sockets.ts";
import { NODE_GUESTS_TOO_MANY } from "./spec.ts";

/** For `holdfast run`, besides those that the config names. */
export const FREE_PLACES = 8;
const LOOPBACK = "127.0.0.1";

/** A service's socket, and the one of its successor. */
export interface Place {
  readonly listen: Listening;
  readonly spare: Listening;
}

export class Places {
  readonly all: readonly Place[];
  readonly #free: Place[];

  constructor(count: number) {
    const open = () => listenTcp({ host: LOOPBACK, port: 0 });
    this.all = Array.from({ length: count }, () => ({ listen: open(), spare: open() }));
    this.#free = [...this.all];
  }

  /** NODE_GUESTS_TOO_MANY. */
  take(): Place {
    const place = this.#free.shift();
    if (place) return place;
    throw fail(NODE_GUESTS_TOO_MANY, `all ${this.all.length} places for further services are taken`);
  }

  giveBack(place: Place): void {
    this.#free.push(place);
  }

  close(): void {
    for (const { listen, spare } of this.all) for (const { fd } of [listen, spare]) closeSync(fd);
  }
}
