/** What a span can be found by, as words: a block's filter holds those of all its spans. */
import type { StoredSpan } from "../api.ts";

export interface SpanFilter {
  readonly service?: string;
  readonly operation?: string;
  readonly device?: string;
  /** Those that failed (status 400 and above). */
  readonly failed?: boolean;
  readonly status?: number;
  /** At least so long. */
  readonly leastUs?: number;
  /** Somewhere in the operation or the note, in any case. */
  readonly text?: string;
  readonly fromNs?: bigint;
  readonly toNs?: bigint;
}

const FAILURE_STATUS = 400;
const FAILED = "failed";

const ofService = (name: string) => `service ${name}`;
const ofOperation = (name: string) => `operation ${name}`;
const ofDevice = (name: string) => `device ${name}`;
const ofStatus = (status: number) => `status ${status}`;

/** Gathers the words of spans: their requests' ids and strangers' ids as they are, the others with what they are in front. */
export function wordsOf(spans: readonly StoredSpan[]): ReadonlySet<string> {
  const words = new Set<string>();
  for (const { requestId, link, service, operation, device, status } of spans) {
    if (requestId !== undefined) words.add(requestId);
    if (link !== undefined) for (const id of link.split(" ")) words.add(id);
    words.add(ofService(service));
    words.add(ofOperation(operation));
    if (device !== undefined) words.add(ofDevice(device));
    if (status !== 0) words.add(ofStatus(status));
    if (status >= FAILURE_STATUS) words.add(FAILED);
  }
  return words;
}

/** Lists the words that every block with a wanted span has. */
export function wordsWanted({ service, operation, device, status, failed }: SpanFilter): string[] {
  return [
    ...(service === undefined ? [] : [ofService(service)]),
    ...(operation === undefined ? [] : [ofOperation(operation)]),
    ...(device === undefined ? [] : [ofDevice(device)]),
    ...(status === undefined || status === 0 ? [] : [ofStatus(status)]),
    ...(failed ? [FAILED] : []),
  ];
}

/** Tells whether a span is wanted. */
export function passes(span: StoredSpan, filter: SpanFilter): boolean {
  const { service, operation, device, failed, status, leastUs, text, fromNs, toNs } = filter;
  return (
    (service === undefined || span.service === service) &&
    (operation === undefined || span.operation === operation) &&
    (device === undefined || span.device === device) &&
    (!failed || span.status >= FAILURE_STATUS) &&
    (status === undefined || span.status === status) &&
    (leastUs === undefined || span.durationUs >= leastUs) &&
    (fromNs === undefined || span.startNs >= fromNs) &&
    (toNs === undefined || span.startNs <= toNs) &&
    (text === undefined || `${span.operation} ${span.note ?? ""}`.toLowerCase().includes(text.toLowerCase()))
  );
}
