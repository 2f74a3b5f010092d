/** A client's own copy of who is where: fed by the change stream, kept while the registry is away. */
import type { Change, Instance } from "./api.ts";

export interface Entry {
  readonly instance: Instance;
  /** False for one that the registry has not named since it came back. */
  readonly confirmed: boolean;
}

const NONE: readonly Entry[] = [];

export class Table {
  readonly #entries = new Map<string, Entry>();
  /** By service, in order of instance, made when asked for; a service that ever was here stays a key. */
  readonly #byService = new Map<string, readonly Entry[] | undefined>();
  /** Services whose last instance that went had said before that it drains. */
  readonly #handedOver = new Set<string>();
  readonly #listeners = new Set<() => void>();
  #first = true;
  /** That of the last change that is here; a stream may go on after it. 0: nobody has told anything yet. */
  revision = 0;

  /**
   * The entries of a service. The same array as long as nothing of that service changed, so that a caller can compare
   * by identity.
   */
  of(service: string): readonly Entry[] {
    const known = this.#byService.get(service);
    if (known || !this.#byService.has(service)) return known ?? NONE;
    const list = [...this.#entries.values()].filter((entry) => entry.instance.service === service);
    list.sort((a, b) => (a.instance.instance < b.instance.instance ? -1 : 1));
    this.#byService.set(service, list);
    return list;
  }

  /** True where an instance of the service was ever here. */
  knows(service: string): boolean {
    return this.#byService.has(service);
  }

  /** True where the instance that went last was to be followed by another. */
  isHandedOver(service: string): boolean {
    return this.#handedOver.has(service);
  }

  instances(): Instance[] {
    return [...this.#entries.values()].map((e) => e.instance);
  }

  /** Calls back after each change; the result stops that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Told that a new stream begins: its first snapshot may come from a registry that has just been started. */
  beginStream(): void {
    this.#first = true;
  }

  apply(change: Change): void {
    if (change.kind === "lease") return;
    // Nothing is missing between what is here and what follows.
    if (change.kind === "resumed") return this.#confirm();
    const touched = new Set<string>();
    if (change.kind === "snapshot") this.#compare(change.instances, touched);
    // The stream before told it already.
    else if (change.revision <= this.revision) return;
    this.revision = change.revision;
    for (const instance of change.instances) {
      if (change.kind === "down") {
        this.#entries.delete(instance.instance);
        if (instance.state === "draining") this.#handedOver.add(instance.service);
        else this.#handedOver.delete(instance.service);
      } else this.#entries.set(instance.instance, { instance, confirmed: true });
      touched.add(instance.service);
    }
    this.#regroup(touched);
  }

  /** Takes what was kept from an earlier run, unconfirmed, where nobody has told anything yet. */
  recall(revision: number, instances: readonly Instance[]): void {
    if (this.revision !== 0) return;
    this.revision = revision;
    for (const instance of instances) this.#entries.set(instance.instance, { instance, confirmed: false });
    this.#regroup(new Set(instances.map((i) => i.service)));
  }

  /** Drops what no snapshot or change has named since the stream began. */
  settle(): void {
    const touched = new Set<string>();
    for (const [id, entry] of this.#entries) {
      if (entry.confirmed) continue;
      this.#entries.delete(id);
      touched.add(entry.instance.service);
    }
    this.#regroup(touched);
  }

  #confirm(): void {
    const touched = new Set<string>();
    for (const [id, { instance, confirmed }] of this.#entries) {
      if (confirmed) continue;
      this.#entries.set(id, { instance, confirmed: true });
      touched.add(instance.service);
    }
    this.#first = false;
    this.#regroup(touched);
  }

  /** What a snapshot leaves out is gone; only after a stream's first one it might be about to come back. */
  #compare(named: readonly Instance[], touched: Set<string>): void {
    const names = new Set(named.map((i) => i.instance));
    for (const [id, entry] of this.#entries) {
      if (names.has(id)) continue;
      if (this.#first) this.#entries.set(id, { instance: entry.instance, confirmed: false });
      else this.#entries.delete(id);
      touched.add(entry.instance.service);
    }
    this.#first = false;
  }

  #regroup(services: ReadonlySet<string>): void {
    if (services.size === 0) return;
    for (const service of services) this.#byService.set(service, undefined);
    for (const listener of this.#listeners) listener();
  }
}
