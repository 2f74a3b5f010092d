/** What a service says of itself, as plain JSON: the supervisor reads it and need not load the services. */
import type { ConfigSchema } from "../kernel/config.ts";
import type { Door, ServiceMain } from "../kernel/service.ts";

export interface Manifest {
  readonly name: string;
  readonly needs: readonly string[];
  readonly stateful: boolean;
  readonly spreads: boolean;
  readonly ownIdentity: boolean;
  readonly doors: readonly Door[];
  /** Paths of the machine that it reads. */
  readonly reads: readonly string[];
  /** Loopback port of `--open-edgex`. */
  readonly edgexPort?: number;
  readonly config: ConfigSchema;
}

/** Where V8's cache lies beside the code. */
export const COMPILE_CACHE = "compile-cache";

/** How the files of made code end that are the program of one service (role.ts). */
export const ROLE_ENDING = ".role.cjs";

/** The services by key, each loaded when asked for: a process loads only its role. */
export type ServiceTable = Readonly<Record<string, () => Promise<{ main: unknown }>>>;

/** Loads a service of the table. */
export async function loadMain(table: ServiceTable, name: string): Promise<ServiceMain> {
  const load = table[name];
  if (!load) throw new Error(`there is no service '${name}'`);
  return (await load()).main as ServiceMain;
}

/** Says what a service is. */
export const manifestOf = (main: ServiceMain): Manifest => ({
  name: main.contract.name,
  needs: main.needs,
  stateful: main.stateful,
  spreads: main.spreads ?? false,
  ownIdentity: main.ownIdentity ?? false,
  doors: main.doors ?? [],
  reads: main.reads ?? [],
  ...(main.contract.edgexPort === undefined ? {} : { edgexPort: main.contract.edgexPort }),
  config: main.config,
});

/** A service's doors, with EdgeX's own port as the door `edgex` where it has one. */
export const allDoors = ({ doors, edgexPort }: Pick<Manifest, "doors" | "edgexPort">): readonly Door[] =>
  edgexPort === undefined ? doors : [...doors, { name: "edgex", port: edgexPort, when: "open-edgex" }];

/** Loads every service of the table and says what each is. */
export async function manifestsOf(table: ServiceTable): Promise<Manifest[]> {
  const mains = await Promise.all(Object.keys(table).map((name) => loadMain(table, name)));
  return mains.map(manifestOf);
}
