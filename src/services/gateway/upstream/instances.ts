/** Who is where, as the registry's change stream tells it; the last known serves while the registry is away. */
import type { Change, Instance } from "../../registry/api.ts";

/** After a stream's first snapshot, instances that it leaves out are kept so long, here as in every process. */
export { UNCONFIRMED_KEPT_MS } from "../../registry/api.ts";
const NONE: readonly Known[] = [];

export interface Known {
  readonly instance: Instance;
  /** False for one that the registry has not named since its stream began anew. */
  readonly confirmed: boolean;
}

export class Instances {
  readonly #known = new Map<string, Known>();
  readonly #byService = new Map<string, readonly Known[]>();
  /** Services whose last instance that went had said before that it drains. */
  readonly #handedOver = new Set<string>();
  readonly #listeners: ((service: string, known: readonly Known[]) => void)[] = [];
  #first = true;
  readonly #heard = Promise.withResolvers<void>();
  /** True from the first snapshot on. */
  heard = false;

  /** Resolves at the first snapshot. */
  get firstHeard(): Promise<void> {
    return this.#heard.promise;
  }

  of(service: string): readonly Known[] {
    return this.#byService.get(service) ?? NONE;
  }

  /** True where the instance that went last was to be followed by another. */
  isHandedOver(service: string): boolean {
    return this.#handedOver.has(service);
  }

  /** Calls back for each service that something changed of. */
  onChange(listener: (service: string, known: readonly Known[]) => void): void {
    this.#listeners.push(listener);
  }

  /** Told that a new stream begins, maybe that of a registry which was just started. */
  begin(): void {
    this.#first = true;
  }

  apply(change: Change): void {
    if (change.kind === "lease") return;
    const touched = new Set<string>();
    if (change.kind === "snapshot") this.#compare(change.instances, touched);
    for (const instance of change.instances) {
      if (change.kind === "down") {
        this.#known.delete(instance.instance);
        if (instance.state === "draining") this.#handedOver.add(instance.service);
        else this.#handedOver.delete(instance.service);
      } else this.#known.set(instance.instance, { instance, confirmed: true });
      touched.add(instance.service);
    }
    this.#regroup(touched);
    if (change.kind !== "snapshot") return;
    this.heard = true;
    this.#heard.resolve();
  }

  /** Drops what nothing has named since the stream began. */
  settle(): void {
    const touched = new Set<string>();
    for (const [id, { instance, confirmed }] of this.#known) {
      if (confirmed) continue;
      this.#known.delete(id);
      touched.add(instance.service);
    }
    this.#regroup(touched);
  }

  #compare(named: readonly Instance[], touched: Set<string>): void {
    const names = new Set(named.map((i) => i.instance));
    for (const [id, { instance }] of this.#known) {
      if (names.has(id)) continue;
      if (this.#first) this.#known.set(id, { instance, confirmed: false });
      else this.#known.delete(id);
      touched.add(instance.service);
    }
    this.#first = false;
  }

  #regroup(services: ReadonlySet<string>): void {
    for (const service of services) {
      const known = [...this.#known.values()].filter((k) => k.instance.service === service);
      this.#byService.set(service, known);
      for (const listener of this.#listeners) listener(service, known);
    }
  }
}
