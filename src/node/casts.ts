/** Which processes there are, and which services each of them runs. */
import type { Manifest } from "./manifest.ts";
import { levelsOf } from "./order.ts";
import type { ServiceSockets } from "./sockets.ts";

/** One process: which services, and which instance of them. */
export interface Cast {
  readonly name: string;
  readonly services: readonly string[];
  readonly index: number;
}

/** Divides the services into processes: each its own, or with `--compact` all in one but the cloud, which is another machine's. */
export function castsOf(
  manifests: readonly Manifest[],
  compact: boolean,
  sockets: ReadonlyMap<string, ServiceSockets>,
): { casts: Cast[]; order: string[][] } {
  const inside = manifests.filter(({ name }) => name !== "cloud").map(({ name }) => name);
  if (compact && inside.length > 0) {
    const whole = { name: "compact", services: inside, index: 0 };
    const cloud = manifests
      .filter(({ name }) => name === "cloud")
      .map(({ name }) => ({ name, services: [name], index: 0 }));
    return { casts: [whole, ...cloud], order: [["compact"], ...cloud.map(({ name }) => [name])] };
  }
  const casts = manifests.flatMap(({ name }) =>
    sockets
      .get(name)!
      .listen.map((_, index) => ({ name: index === 0 ? name : `${name}#${index + 1}`, services: [name], index })),
  );
  return { casts, order: levelsOf(manifests) };
}
