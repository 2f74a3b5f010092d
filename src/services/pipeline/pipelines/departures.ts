/** What has left for the destinations: of each pipeline and resource, how many readings in how many bytes. */
import type { Part } from "../batch.ts";

export type Counted = Part & { readonly lastAtMs: number };

/** Resources that are counted by name; further ones go under OTHER. */
const RESOURCES_MAX = 4_096;
const OTHER = "(others)";

/** Values that CBOR carries. */
type Saved = readonly Counted[];

export class Departures {
  readonly #load: (pipeline: string) => unknown;
  readonly #wallMs: () => number;
  readonly #byPipeline = new Map<string, Map<string, Counted>>();
  readonly #changed = new Set<string>();

  constructor(load: (pipeline: string) => unknown, wallMs: () => number) {
    this.#load = load;
    this.#wallMs = wallMs;
  }

  /** Counts the parts of a batch that is in the outbox. */
  add(pipeline: string, parts: readonly Part[]): void {
    const counted = this.#counted(pipeline);
    this.#changed.add(pipeline);
    const lastAtMs = this.#wallMs();
    for (const part of parts) {
      const { profileName, resourceName } =
        counted.size < RESOURCES_MAX || counted.has(keyOf(part)) ? part : { profileName: OTHER, resourceName: OTHER };
      const key = keyOf({ profileName, resourceName });
      const known = counted.get(key) ?? { readings: 0, bytes: 0 };
      const readings = known.readings + part.readings;
      counted.set(key, { profileName, resourceName, readings, bytes: known.bytes + part.bytes, lastAtMs });
    }
  }

  /** What was counted of a pipeline. */
  of(pipeline: string): Saved {
    return [...this.#counted(pipeline).values()];
  }

  /** Pipelines of which something was counted since this was asked last. */
  takeChanged(): string[] {
    const names = [...this.#changed];
    this.#changed.clear();
    return names;
  }

  #counted(pipeline: string): Map<string, Counted> {
    let counted = this.#byPipeline.get(pipeline);
    if (!counted) {
      const saved = (this.#load(pipeline) as Saved | undefined) ?? [];
      this.#byPipeline.set(pipeline, (counted = new Map(saved.map((one) => [keyOf(one), one]))));
    }
    return counted;
  }

  forget(pipeline: string): void {
    this.#byPipeline.delete(pipeline);
    this.#changed.delete(pipeline);
  }
}

const keyOf = ({ profileName, resourceName }: Pick<Part, "profileName" | "resourceName">): string =>
  `${profileName.length} ${profileName}${resourceName}`;
