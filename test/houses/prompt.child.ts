/**
 * The command line in a process that stays: it runs each command that it is sent, as bin/holdfast does, but for the start of a
 * process, which costs more than the command itself, and stories ask again and again.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { runCli } from "../../src/cli/command.ts";
import { sayFailure } from "../../src/cli/exit.ts";

export interface Asked {
  readonly id: number;
  readonly args: readonly string[];
}
export interface Answered {
  readonly id: number;
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

const written = new AsyncLocalStorage<Record<"stdout" | "stderr", string>>();
for (const name of ["stdout", "stderr"] as const) {
  const stream = process[name];
  const write = stream.write.bind(stream);
  // What a command writes is its answer's, whichever others run at the same time.
  stream.write = ((...args: Parameters<typeof write>) => {
    const own = written.getStore();
    if (!own) return write(...args);
    own[name] += typeof args[0] === "string" ? args[0] : Buffer.from(args[0]).toString();
    return true;
  }) as typeof stream.write;
}

process.on("message", ({ id, args }: Asked) => {
  const own = { stdout: "", stderr: "" };
  void written.run(own, async () => {
    let status: number;
    try {
      status = await runCli(args);
    } catch (error) {
      status = sayFailure(error);
    }
    process.send!({ id, status, ...own } satisfies Answered);
  });
});
process.once("disconnect", () => process.exit());
