/** The options of `holdfast start` and `holdfast cloud`, from the command line to the node's process. */
import { parseArgs } from "node:util";
import { fail } from "../kernel/error.ts";
import { NODE_OPTION_INVALID } from "./codes.ts";

export interface NodeOptions {
  readonly compact: boolean;
  readonly openEdgex: boolean;
  readonly noCloud: boolean;
  readonly config?: string;
  readonly state?: string;
  /** Services to start instead of all. */
  readonly only?: readonly string[];
}

export const startOptions = {
  compact: { type: "boolean" },
  "open-edgex": { type: "boolean" },
  "no-cloud": { type: "boolean" },
  config: { type: "string" },
  state: { type: "string" },
  only: { type: "string" },
  help: { type: "boolean", short: "h" },
} as const;

/** Reads the options; NODE_OPTION_INVALID. */
export function readOptions(args: readonly string[]): NodeOptions & { help: boolean } {
  try {
    const { values } = parseArgs({ args: [...args], options: startOptions, strict: true, allowPositionals: false });
    return {
      help: values.help ?? false,
      compact: values.compact ?? false,
      openEdgex: values["open-edgex"] ?? false,
      noCloud: values["no-cloud"] ?? false,
      ...(values.config === undefined ? {} : { config: values.config }),
      ...(values.state === undefined ? {} : { state: values.state }),
      ...(values.only === undefined
        ? {}
        : {
            only: values.only
              .split(",")
              .map((name) => name.trim())
              .filter(Boolean),
          }),
    };
  } catch (cause) {
    throw fail(NODE_OPTION_INVALID, cause instanceof Error ? cause.message : String(cause), { cause });
  }
}
