/** The table of instances: who may hold which name, how a lease ends, and what each instance is shown as. */
import { type Call, newRequestId, whenOver } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { fail } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import { Audience } from "./audience.ts";
import { REGISTRY_FULL, REGISTRY_LEASE_UNKNOWN, REGISTRY_NAME_REFUSED } from "./codes.ts";
import type { Change, Instance, Listed, State } from "./instances.api.ts";
import { Crowd, Losses } from "./losses.ts";
import type { Held, Lease, Member } from "./member.ts";
import { Watcher } from "./watcher.ts";

/** More are refused with REGISTRY_FULL: a node runs tens. */
export const INSTANCES_MAX = 1024;
/**
 * All registrations together (as JSON); more are refused with REGISTRY_FULL, since a snapshot must fit one frame of 8
 * MiB.
 */
export const INSTANCES_BYTES_MAX = 6 * 1024 * 1024;
/** The registry was itself asleep if two of its ticks are further apart than this: then nobody else is to blame. */
const STALL_MS = 500;

const LATE = "does not renew its lease: busy, or hung";
const CROWDED = "does not renew its lease, like most others: the machine is overloaded, or the registry is";
const UNSEEN = "was lost together with many others: the registry doubts what it sees";

export interface RosterOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** A lease that is not renewed for so long ends. */
  readonly ttlMs: number;
  /** How often holders are asked to renew. */
  readonly renewMs: number;
  /** How long what was lost together with many others is kept; 0: not at all. */
  readonly preserveMs: number;
  /** The revision that it begins after. */
  readonly revision: number;
  /** Whether an operator took a service, or an instance, out of use. */
  readonly isMaintained: (name: string) => boolean;
}

export class Roster {
  readonly #options: RosterOptions;
  readonly #members = new Map<string, Member>();
  readonly #byLease = new Map<string, Held>();
  readonly #losses = new Losses();
  readonly #crowd = new Crowd();
  readonly audience: Audience;
  #sizeBytes = 0;
  #tickedMs: number;

  constructor(options: RosterOptions) {
    this.#options = options;
    this.audience = new Audience(options.revision, () => [...this.#members.values()].map((m) => m.instance));
    this.#tickedMs = options.clock.monotonicMs();
  }

  /**
   * Checks at once, so that a refusal is an answer and not a broken stream; the lease begins with the first item
   * taken.
   */
  hold(instance: Instance, after: number | undefined, call: Call): AsyncIterable<Change> {
    if (instance.service !== call.caller)
      throw fail(REGISTRY_NAME_REFUSED, `'${call.caller}' may not register as '${instance.service}'`);
    // Of these the registry alone decides.
    const { check: _, maintenance: __, node: ___, ...own } = instance;
    return this.#held(own, this.#fitting(own), after, call);
  }

  /** Shows an instance that holds no lease, or shows it anew. REGISTRY_FULL. */
  show(instance: Instance): void {
    const before = this.#members.get(instance.instance);
    const sizeBytes = this.#fitting(instance);
    const { host, port, check } = instance;
    const isSame = before?.instance.host === host && before.instance.port === port && before.instance.check === check;
    if (before && isSame) this.#appear(before, instance);
    else this.#put({ instance: this.#marked(instance), sizeBytes });
  }

  /** Takes an instance out; none is no error. */
  remove(instance: string): void {
    const member = this.#members.get(instance);
    if (member) this.#drop(member, "removed");
  }

  renew(id: string, told: { state: State; reason?: string; weight?: number }, call: Call): void {
    const member = this.#byLease.get(id);
    // A lease of somebody else is told apart from none by nobody.
    if (member?.instance.service !== call.caller)
      throw fail(REGISTRY_LEASE_UNKNOWN, `'${call.caller}' holds no such lease`);
    member.lease.renewedMs = this.#options.clock.monotonicMs();
    member.lease.told = told;
    this.#appear(member, told);
  }

  /** Ends a lease in order. Doing so twice, or after it ended, is what a termination may well do: no error. */
  release(id: string, call: Call): void {
    const member = this.#byLease.get(id);
    if (member?.instance.service === call.caller) this.#drop(member, "released");
  }

  /**
   * What is there, of one service or of all; the revision is that of the last change of it. The same frozen value until
   * something changes: it is encoded once, however many ask.
   */
  list(service?: string): Listed {
    return this.audience.list(service);
  }

  /** As `list`, once its revision is another than `after`, or after `waitMs`. REGISTRY_FULL. */
  async listAfter(service: string | undefined, after: number | undefined, waitMs: number, call: Call): Promise<Listed> {
    const listed = this.list(service);
    if (listed.revision !== after || waitMs === 0) return listed;
    await this.audience.wait(service, waitMs, call);
    return this.list(service);
  }

  /** Shows anew, with or without the mark of maintenance, those that are meant; answers the instances. */
  mark(isMeant: (instance: Instance) => boolean): string[] {
    const meant = [...this.#members.values()].filter(({ instance }) => isMeant(instance));
    for (const member of meant) this.#appear(member, member.instance);
    return meant.map(({ instance }) => instance.instance);
  }

  tick(): void {
    const { clock, log, ttlMs, renewMs, preserveMs } = this.#options;
    const nowMs = clock.monotonicMs();
    const asleepMs = nowMs - this.#tickedMs;
    this.#tickedMs = nowMs;
    if (asleepMs > STALL_MS) {
      // Renewals wait unread in our own sockets: everybody gets the whole time again before anybody is judged.
      const late = [...this.#byLease.values()].filter(({ lease }) => nowMs - lease.renewedMs >= renewMs * 2).length;
      for (const { lease } of this.#byLease.values()) lease.renewedMs = nowMs;
      // While a dozen services start on two cores nothing ticks in time: worth a word only where it would have cost a lease.
      const said = "the registry itself was held up; no lease ends for that";
      log[late > 0 ? "warn" : "debug"]({ asleepMs: Math.round(asleepMs), late }, said);
      return;
    }
    const isOverdue = ({ lease }: Held) => nowMs - lease.renewedMs >= ttlMs;
    const overdue = [...this.#byLease.values()].filter(isOverdue).length;
    const fate = this.#crowd.judge(overdue, this.#byLease.size - overdue, nowMs, preserveMs);
    for (const member of this.#members.values()) this.#judge(member, nowMs, fate);
  }

  counts() {
    const { watchers, revision } = this.audience;
    return { instances: this.#members.size, watchers, revision };
  }

  #judge(member: Member, nowMs: number, fate: ReturnType<Crowd["judge"]>): void {
    const { ttlMs, renewMs } = this.#options;
    const { lease, untilMs } = member;
    if (untilMs !== undefined && nowMs >= untilMs) this.#drop(member, "it did not come back");
    if (!lease) return;
    const sinceMs = nowMs - lease.renewedMs;
    const why = `it did not renew for ${Math.round(sinceMs)} ms`;
    if (sinceMs >= ttlMs) {
      if (fate === "kept") this.#appear(member, { state: "unverified", reason: CROWDED });
      else if (fate === "lost") this.#lose(member, why);
      else this.#drop(member, why);
    } else if (sinceMs >= renewMs * 2 && lease.told.state === "passing")
      // Callers turn to others before a hung one is given up; the holder's next renewal takes this back.
      this.#appear(member, { state: "warning", reason: LATE });
  }

  async *#held(instance: Instance, sizeBytes: number, after: number | undefined, call: Call): AsyncGenerator<Change> {
    const { clock, ttlMs, renewMs } = this.#options;
    if (call.signal.aborted) return;
    const { state, reason } = instance;
    const told = {
      state: state === "unverified" ? "warning" : state,
      ...(reason === undefined ? {} : { reason }),
    } as const;
    const lease: Lease = { id: newRequestId(), watcher: new Watcher(), told, renewedMs: clock.monotonicMs() };
    const member: Held = { sizeBytes, lease, instance: this.#marked({ ...instance, ...told }) };
    // The abort tells at once that the holder's connection is gone, wherever this stream is being written.
    const gone = () => this.#lose(member, "its connection ended");
    const stop = whenOver(call, gone);
    try {
      this.#put(member);
      const { revision } = this.audience;
      yield { revision, kind: "lease", lease: { id: lease.id, ttlMs, renewMs }, instances: [] };
      yield* this.audience.changes(lease.watcher, after);
    } finally {
      stop();
      gone();
    }
  }

  /** Answers an instance's size where there is room for it. */
  #fitting(instance: Instance): number {
    const present = this.#members.get(instance.instance);
    if (present && present.instance.service !== instance.service)
      throw fail(REGISTRY_NAME_REFUSED, `instance '${instance.instance}' belongs to '${present.instance.service}'`);
    const sizeBytes = JSON.stringify(instance).length;
    if (!present && this.#members.size >= INSTANCES_MAX)
      throw fail(REGISTRY_FULL, `the registry holds ${INSTANCES_MAX} instances, no room for another`);
    if (this.#sizeBytes - (present?.sizeBytes ?? 0) + sizeBytes > INSTANCES_BYTES_MAX)
      throw fail(REGISTRY_FULL, `the registry's ${INSTANCES_BYTES_MAX} bytes of registrations are used up`);
    return sizeBytes;
  }

  /**
   * A second registration of one instance (its stream broke unnoticed, or it was restarted) takes the place of the
   * first; so does one at the address of an instance that is only kept: the port is another's now.
   */
  #put(member: Member): void {
    const { service, instance, host, port, node } = member.instance;
    const former = node === undefined ? this.#at(host, port) : undefined;
    if (former?.untilMs !== undefined && former.instance.instance !== instance)
      this.#drop(former, "its address is another's now");
    const before = this.#members.get(instance);
    if (before) this.#forget(before);
    this.#members.set(instance, member);
    if (member.lease) this.#byLease.set(member.lease.id, member as Held);
    this.#sizeBytes += member.sizeBytes;
    member.instance = this.audience.tell(before ? "changed" : "up", member.instance);
    this.#options.log.info({ instance, host, port }, `${service} is up`);
  }

  #at(host: string, port: number): Member | undefined {
    // Of another node's it is another machine's loopback.
    for (const { instance } of this.#members.values())
      if (instance.port === port && instance.host === host && instance.node === undefined)
        return this.#members.get(instance.instance);
    return undefined;
  }

  /** Ends what was held unasked: for good, or with many others for a while. */
  #lose(member: Member, why: string): void {
    const { clock, preserveMs, log } = this.#options;
    if (!this.#drop(member, why) || preserveMs === 0) return;
    const nowMs = clock.monotonicMs();
    for (const instance of this.#losses.note(member.instance, nowMs, this.#byLease.size)) {
      const { instance: id, host, port } = instance;
      if (this.#members.has(id) || this.#at(host, port)) continue;
      this.#put({
        instance: { ...instance, state: "unverified", reason: UNSEEN },
        sizeBytes: JSON.stringify(instance).length,
        untilMs: nowMs + preserveMs,
      });
      log.warn({ instance: id, preserveMs }, `${instance.service} is kept, unverified: many were lost at once`);
    }
  }

  /** Takes a member out, once: its stream ends and everybody is told. Answers whether it was there. */
  #drop(member: Member, why: string): boolean {
    const { instance, service } = member.instance;
    if (this.#members.get(instance) !== member) return false;
    this.#forget(member);
    this.audience.tell("down", member.instance);
    this.#options.log.info({ instance, why }, `${service} is down`);
    return true;
  }

  #forget({ instance, sizeBytes, lease }: Member): void {
    this.#members.delete(instance.instance);
    this.#sizeBytes -= sizeBytes;
    if (!lease) return;
    this.#byLease.delete(lease.id);
    lease.watcher.end();
  }

  #marked(given: Instance): Instance {
    const { isMaintained } = this.#options;
    // Out of use there, or not: that is not ours to say.
    if (given.node !== undefined) return given;
    const { maintenance: _, ...instance } = given;
    const isOut = isMaintained(instance.service) || isMaintained(instance.instance);
    return isOut ? { ...instance, maintenance: true } : instance;
  }

  #appear(member: Member, shown: Pick<Instance, "state" | "reason" | "weight" | "maintenance">): void {
    const { state, reason, weight, maintenance } = shown;
    const before = member.instance;
    const { reason: _, maintenance: __, ...rest } = before;
    const next = this.#marked({
      ...rest,
      state,
      ...(maintenance === undefined ? {} : { maintenance }),
      ...(reason === undefined ? {} : { reason }),
      ...(weight === undefined ? {} : { weight }),
    });
    const isSame = (["state", "reason", "weight", "maintenance"] as const).every((key) => before[key] === next[key]);
    if (!isSame) member.instance = this.audience.tell("changed", next);
  }
}
