/** The program of a service of somebody else's: what it tells of itself, and its run; the bundle names it (bundle.ts). */
import { writeSync } from "node:fs";
import { checkConfig } from "../../kernel/config.ts";
import type { ServiceMain } from "../../kernel/service.ts";
import { runChild, runService } from "../child.ts";
import type { Described } from "./make.ts";
import { GUEST_NAME } from "./spec.ts";

export interface GuestRole {
  /** Writes what the service is on standard output. */
  describe(): void;
  run(): Promise<void>;
}

/** Makes the program of a module that exports a service as `main`. */
export const roleOfGuest = (given: Readonly<Record<string, unknown>>): GuestRole => ({
  describe() {
    const { contract, needs, stateful, doors = [] } = mainIn(given);
    const described: Described = { name: contract.name, needs: [...needs], stateful, doors: doors.map((d) => d.name) };
    writeSync(1, `${JSON.stringify(described)}\n`);
  },
  run: () =>
    runChild((options) => {
      const [part] = options.hello.parts;
      const main = mainIn(given);
      // Its schema is its own: a pattern that never ends costs nobody but itself.
      const config = checkConfig(main.config, part.config, "", `config of ${part.name}`) as typeof part.config;
      const hello = { ...options.hello, parts: [{ ...part, config }] };
      return runService({ ...main, contract: { ...main.contract, name: part.name } }, { ...options, hello });
    }),
});

function mainIn(given: Readonly<Record<string, unknown>>): ServiceMain {
  const main = given["main"] as Partial<ServiceMain> | undefined;
  if (typeof main?.start !== "function" || typeof main.contract !== "object")
    throw new TypeError("it exports no 'main' that defineService or defineDevice made");
  if (!new RegExp(GUEST_NAME).test(main.contract.name))
    throw new TypeError(`'${main.contract.name}' is no service's name: lower-case letters, digits and '-', at most 63`);
  if (main.ownIdentity) throw new TypeError("a service with an identity of its own cannot join a node");
  return main as ServiceMain;
}
