/** A cable to a network of its own, which can be unplugged; needs root and `ip` (`need("netns")`). */
import { execFileSync } from "node:child_process";
import { findCommand } from "../need.ts";

/** Of the addresses for tests (RFC 2544): nobody else's. */
const OUR_END = "198.18.53.1";
const THEIR_END = "198.18.53.2";

export class Cable {
  /** Where this side is reached from within. */
  readonly host = OUR_END;
  /** Runs a command at the other end. */
  readonly within: readonly [command: string, ...args: string[]];
  /** Of the network, and of this side's end. */
  readonly #name = `hf-${process.pid}`;

  constructor() {
    this.within = [findCommand("ip")!, "netns", "exec", this.#name];
    this.#ip("netns", "add", this.#name);
    this.#ip("link", "add", this.#name, "type", "veth", "peer", "name", "far", "netns", this.#name);
    this.#ip("addr", "add", `${OUR_END}/30`, "dev", this.#name);
    this.#ip("-n", this.#name, "addr", "add", `${THEIR_END}/30`, "dev", "far");
    this.#ip("-n", this.#name, "link", "set", "lo", "up");
    this.#ip("-n", this.#name, "link", "set", "far", "up");
    this.#ip("link", "set", this.#name, "up");
  }

  /** From now on nothing arrives at either end, and nobody is told. */
  unplug(): void {
    this.#ip("link", "set", this.#name, "down");
  }

  remove(): void {
    this.#ip("netns", "delete", this.#name);
  }

  #ip(...args: string[]): void {
    execFileSync(findCommand("ip")!, args);
  }
}
