/** A network of its own whose packets get lost; needs root, `ip` and `nft` (`need("netns")`). */
import { execFileSync } from "node:child_process";
import { findCommand } from "../need.ts";

type After = { after(work: () => unknown): void };

export class LossyNetwork {
  /** Runs a command inside of it. */
  readonly within: readonly string[];
  readonly #name = `holdfast-${process.pid}`;

  constructor(t: After) {
    this.#ip("netns", "add", this.#name);
    t.after(() => this.#ip("netns", "delete", this.#name));
    this.#ip("-n", this.#name, "link", "set", "lo", "up");
    this.within = [findCommand("ip")!, "netns", "exec", this.#name];
    this.#nft("add table inet loss; add chain inet loss input { type filter hook input priority 0; }");
  }

  /** Loses so many of a hundred packets from now on, in either direction. */
  lose(percent: number): void {
    this.#nft(
      `flush chain inet loss input; add rule inet loss input meta l4proto tcp numgen random mod 100 < ${percent} drop`,
    );
  }

  #ip(...args: string[]): void {
    execFileSync(findCommand("ip")!, args);
  }

  #nft(rules: string): void {
    const [command, ...args] = this.within;
    execFileSync(command, [...args, findCommand("nft")!, rules]);
  }
}
