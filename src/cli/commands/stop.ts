/** `holdfast stop`: asks the node on this machine to stop, and waits until it has. */
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fail } from "../../kernel/error.ts";
import { NODE_OPTION_INVALID } from "../../node/codes.ts";
import { localNode } from "../local-node.ts";
import type { Command } from "../command.ts";

const help = `Usage: holdfast stop [--state DIR]

Stops the node that runs on this state directory, in order, and waits for its
end (at most 15 s). What is not yet at the cloud is kept and goes there at the
next start.`;

const WAIT_MS_MAX = 15_000;
const LOOK_MS = 50;
const EXIT_STILL_RUNNING = 75;

export const command: Command = {
  name: "stop",
  summary: "Stop the node.",
  help,
  async run(args) {
    const state = readState(args);
    const { client, call, path, close } = localNode(state);
    await client.stop({}, call(5_000));
    close();
    const untilMs = performance.now() + WAIT_MS_MAX;
    while (existsSync(join(path, "control.sock"))) {
      if (performance.now() > untilMs) {
        process.stderr.write(`holdfast: the node has not ended within ${WAIT_MS_MAX / 1000} s\n`);
        return EXIT_STILL_RUNNING;
      }
      await sleep(LOOK_MS);
    }
    process.stdout.write("stopped\n");
    return 0;
  },
};

function readState(args: readonly string[]): string | undefined {
  try {
    return parseArgs({ args: [...args], options: { state: { type: "string" } }, strict: true }).values.state;
  } catch (cause) {
    throw fail(NODE_OPTION_INVALID, cause instanceof Error ? cause.message : String(cause), { cause });
  }
}
