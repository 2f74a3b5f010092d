/** Who works on the node's keys while it runs: status, rotation, another provider, escrow, secrets. */
import { code, fail } from "../../kernel/error.ts";
import type { KeyRing } from "../../kernel/seal/keyring.ts";
import type { Log } from "../../kernel/log.ts";
import type { NodeConfig } from "../config.ts";
import type { Manifest } from "../manifest.ts";
import type { KeysOperations } from "./api.ts";
import { providerOf } from "./open.ts";
import type { Secrets } from "./secrets.ts";

export const NODE_KEYS_ROTATION_LATE = code(
  "NODE_KEYS_ROTATION_LATE",
  "unavailable",
  "Nothing is lost: the service takes its new key at its next start. 'holdfast status' tells how it is.",
);

/** A service takes a new key in milliseconds, however much it has; one that is busy for so long has the key at its next start. */
const TAKEN_MS_MAX = 10_000;

/** The way to the services, as the supervisor has it. */
export interface Units {
  /** Sends a message on a service's line; answers how many processes got it. */
  tell(service: string, name: string, message: Readonly<Record<string, unknown>>): number;
}

export interface DeskOptions {
  readonly ring: KeyRing;
  readonly secrets: Secrets;
  readonly node: NodeConfig;
  readonly manifests: readonly Manifest[];
  readonly env: NodeJS.ProcessEnv;
  readonly log: Log;
}

interface Taken {
  readonly pauseMs?: number;
  readonly error?: string;
}

export class KeyDesk implements Omit<KeysOperations, "forgetDevice"> {
  readonly #o: DeskOptions;
  readonly #waiting = new Map<string, (taken: Taken) => void>();
  units: Units | undefined;

  constructor(options: DeskOptions) {
    this.#o = options;
  }

  /** A service says that it has taken a key. */
  took(service: string, { id, ...taken }: Readonly<Record<string, unknown>>): void {
    this.#waiting.get(`${service} ${String(id)}`)?.(taken);
  }

  async keys(): Promise<Awaited<ReturnType<KeysOperations["keys"]>>> {
    const { escrow, ...status } = this.#o.ring.status();
    return { ...status, stores: [...status.stores], ...(escrow === undefined ? {} : { escrow }) };
  }

  async rotateKeys({ body }: Parameters<KeysOperations["rotateKeys"]>[0]) {
    const { ring, secrets, manifests, log } = this.#o;
    await ring.rotateKek();
    await secrets.rotate();
    const rotated: { store: string; pauseMs: number; error?: string }[] = [];
    const stateful = manifests.filter((m) => m.stateful && (body.store === undefined || m.name === body.store));
    for (const { name } of stateful) {
      await ring.rotate(name);
      const taken = await this.#handOver(name);
      rotated.push({ store: name, pauseMs: taken.pauseMs ?? 0, ...(taken.error === undefined ? {} : taken) });
    }
    log.info({ rotated }, "the keys were rotated");
    return { rotated };
  }

  /** Gives a service its newest key, and waits until it writes with it. */
  async #handOver(service: string): Promise<Taken> {
    const newest = (await this.#o.ring.dataKeys(service)).at(-1);
    if (!newest) return {};
    const waited = Promise.withResolvers<Taken>();
    const place = `${service} ${newest.id}`;
    this.#waiting.set(place, waited.resolve);
    const message = { id: newest.id, key: newest.key.toString("base64") };
    newest.key.fill(0);
    const late = (): void =>
      waited.resolve({ error: fail(NODE_KEYS_ROTATION_LATE, `${service} has not taken its new key`).message });
    const timer = setTimeout(late, TAKEN_MS_MAX).unref();
    if ((this.units?.tell(service, "key", message) ?? 0) === 0) waited.resolve({});
    try {
      return await waited.promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(place);
    }
  }

  async migrateKeys({ body }: Parameters<KeysOperations["migrateKeys"]>[0]) {
    const { ring, node, env, log } = this.#o;
    await ring.changeProvider(await providerOf(body.provider, { node, env }, body.passphrase));
    log.info({ provider: body.provider }, "the keys are sealed by another provider");
    return ring.provider;
  }

  async resealKeys({ body }: Parameters<KeysOperations["resealKeys"]>[0]) {
    const { ring, env, log } = this.#o;
    const { node } = this.#o;
    const { tpm } = node.keys;
    const eased = { ...node, keys: { ...node.keys, tpm: { ...tpm, pcrs: body.open ? [] : tpm.pcrs } } };
    await ring.changeProvider(await providerOf(ring.provider.name, { node: eased, env }, body.passphrase));
    log.info({ open: body.open }, "the keys were sealed anew");
    return ring.provider;
  }

  async escrowKeys({ body }: Parameters<KeysOperations["escrowKeys"]>[0]) {
    const { ring, log } = this.#o;
    await ring.escrow(body.publicKey === undefined ? undefined : Buffer.from(body.publicKey, "base64"));
    const { escrow } = ring.status();
    log.info({ escrow: escrow ?? "none" }, "the escrow key was changed");
    return escrow === undefined ? {} : { escrow };
  }

  async secrets() {
    return { names: this.#o.secrets.names() };
  }

  async setSecret({ body }: Parameters<KeysOperations["setSecret"]>[0]) {
    await this.#o.secrets.set(body.name, body.value);
    this.#o.log.info({ name: body.name }, "a secret was set");
    return {};
  }

  async removeSecret({ body }: Parameters<KeysOperations["removeSecret"]>[0]) {
    await this.#o.secrets.remove(body.name);
    this.#o.log.info({ name: body.name }, "a secret was removed");
    return {};
  }
}
