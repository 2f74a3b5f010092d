/** The cloud that the node is enrolled at, as a way for batches: who it is, its certificate, what it is told besides them. */
import { CALLER_REFUSED, asFailure, fail, type Failure } from "../../../kernel/error.ts";
import type { SequenceRange } from "../../../kernel/sequences.ts";
import { GAPS_MAX } from "../../cloud/api.ts";
import { PIPELINE_ENROLL_FAILED } from "../api.ts";
import type { BackfillBook } from "../backfill/book.ts";
import type { QueueClass } from "../pacing/priority.ts";
import type { Enrollment } from "../store.ts";
import { CloudSender } from "./cloud.ts";
import { type Link, type LinkOptions, openLink, type Signed } from "./link.ts";
import { Mark } from "./mark.ts";
import { canConnect } from "./probe.ts";
import { Renewal } from "./renewal.ts";
import type { Paces, Way } from "./route.ts";
import type { Uplink, UplinkOptions } from "./uplink.ts";

export interface EnrolledOptions extends UplinkOptions {
  readonly backfills: BackfillBook;
  /** After so long without an answer the cloud is asked whether it wants something. */
  readonly askEveryMs: number;
}

export class Enrolled {
  readonly #o: EnrolledOptions;
  readonly #pace: Paces;
  /** Undefined where no destination is a cloud: then nothing can be enrolled. */
  readonly #uplink: Uplink | undefined;
  readonly #mark: Mark | undefined;
  #enrollment: Enrollment | undefined;

  constructor(options: EnrolledOptions, uplink: Uplink | undefined, pace: Paces) {
    const { backfills, store, log, gaps } = options;
    this.#o = options;
    this.#pace = pace;
    this.#uplink = uplink;
    if (!uplink) return;
    this.#mark = new Mark({ ...options, totals: uplink.totals });
    gaps.onAdded(() => uplink.wake());
    backfills.onChanged(() => uplink.wake());
    try {
      if (store.enrollment) this.use(store.enrollment);
    } catch (error) {
      const reason = `the enrollment cannot be used: ${asFailure(error).message}`;
      uplink.unusable(reason);
      log.error({ err: error }, reason);
    }
  }

  /** Resolves when the cloud was asked for the first time where it stands; at once where there is no cloud. */
  get asked(): Promise<void> {
    return this.#mark && this.#enrollment ? this.#mark.asked : Promise.resolve();
  }

  /** The destination's name; undefined where none is a cloud. */
  get destination(): string | undefined {
    return this.#uplink?.name;
  }

  get url(): string {
    return this.#enrollment?.url ?? "";
  }

  /**
   * Sends to this cloud from now on. IDENTITY_CERTIFICATE_INVALID when it is none, PIPELINE_ENROLL_FAILED where no
   * destination is a cloud; then all stays as it was.
   */
  use(enrollment: Enrollment): void {
    const { askEveryMs, backfills, clock, log, outbox, tracer } = this.#o;
    const [uplink, mark] = [this.#uplink, this.#mark];
    if (!uplink || !mark) throw fail(PIPELINE_ENROLL_FAILED, "the config names no destination of kind 'cloud'");
    const renewal = new Renewal({ certPem: enrollment.certPem, clock, log });
    const route = this.#pace.route(({ url = enrollment.url, localAddress, ...way }): Way => {
      const asked: LinkOptions["asked"] = (requests, isAll) => backfills.heard(requests, isAll);
      const link = openLink({ ...enrollment, url }, clock, { localAddress, asked });
      const askInMs = () => link.answeredMs + askEveryMs - clock.monotonicMs();
      const sender = new CloudSender({ name: uplink.name, link, outbox, tracer });
      return {
        ...way,
        sender,
        begin: (isWanted, signal) => mark.ask(sender, enrollment, isWanted, signal),
        tend: async (signal) => {
          await this.#renew(renewal, link, signal);
          await this.#tellGaps(link, signal);
          await this.#tellBackfills(link, signal);
          const { low } = outbox.queues;
          if (askInMs() <= 0) await link.mark(low.name, low.stream.epoch, signal);
        },
        tendInMs: askInMs,
        sending: (name, sequence) => mark.sending(name, sequence),
        probe: () => canConnect(url, localAddress),
        explain,
      };
    });
    this.#enrollment = enrollment;
    uplink.use(route);
  }

  /** The enrollment for another cloud: what this one has acknowledged stays with it. */
  moved(enrollment: Enrollment): Enrollment {
    const known = this.#enrollment ?? this.#o.store.enrollment;
    if (!known || !this.#uplink) return enrollment;
    if (known.caPem === enrollment.caPem) return known.settled ? { ...enrollment, settled: known.settled } : enrollment;
    const settled: Partial<Record<QueueClass, readonly SequenceRange[]>> = {};
    for (const queue of Object.values(this.#o.outbox.queues))
      settled[queue.name] = [...(known.settled?.[queue.name] ?? []), ...this.#uplink.totals.counted(queue).ranges()];
    return { ...enrollment, settled };
  }

  /** Renews the node's certificate when it is time; failing that the old one serves on. */
  async #renew(renewal: Renewal, link: Link, signal: AbortSignal): Promise<void> {
    const renewed: Signed | undefined = await renewal.ifDue(link, signal);
    if (!renewed || signal.aborted || !this.#enrollment) return;
    this.#enrollment = { ...this.#enrollment, ...renewed };
    this.#o.store.enrollment = this.#enrollment;
  }

  async #tellBackfills(link: Link, signal: AbortSignal): Promise<void> {
    const { backfills } = this.#o;
    const progress = backfills.untold();
    if (progress.length > 0) backfills.told(progress, await link.reportBackfills(progress, signal));
  }

  /** The cloud learns what it does not get, and why, before all that it gets. */
  async #tellGaps(link: Link, signal: AbortSignal): Promise<void> {
    const { store } = this.#o;
    for (;;) {
      const { ids, gaps } = store.gaps.untold(GAPS_MAX);
      if (gaps.length === 0) return;
      await link.reportGaps(gaps, signal);
      store.gaps.told(ids);
    }
  }
}

const explain = (failure: Failure): string =>
  failure.code === CALLER_REFUSED.code
    ? `the cloud does not take the node's certificate (it ended, or the cloud was made anew): enroll again. ${failure.message}`
    : failure.message;
