/** Measures the journal on this machine: `bin/node src/kernel/journal/measure.ts [directory]`. Needs some 1.2 GB of disk for a moment. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { openJournal, type Journal, type JournalOptions } from "./journal.ts";

const base = process.argv[2] ?? process.cwd();
const key = Buffer.alloc(32, 7);
const topic = "edgex/events/device/device-host/host/host-1/load";
const sizeBytesMax = 2 * 1024 ** 3;

const payloadOf = (bytes: number): Buffer => Buffer.alloc(bytes, "0123456789abcdef");
const secondsSince = (start: number): number => (performance.now() - start) / 1000;
const say = (what: string, value: string): void => void process.stdout.write(`${what.padEnd(62)} ${value}\n`);
const writtenBytes = (): number => Number(/write_bytes: (\d+)/.exec(readFileSync("/proc/self/io", "utf8"))?.[1]);
const fileBytes = (directory: string): number =>
  readdirSync(directory).reduce((sum, name) => sum + statSync(join(directory, name)).size, 0);

async function withJournal(
  work: (journal: Journal, directory: string) => Promise<void>,
  options: Partial<JournalOptions> = {},
): Promise<void> {
  const directory = mkdtempSync(join(base, ".measure-"));
  try {
    const journal = await openJournal({ directory, key, sizeBytesMax, ...options });
    await work(journal, directory);
    await journal.close();
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function measureWindow(): Promise<void> {
  await withJournal(async (journal) => {
    const payload = payloadOf(200);
    const total = 400_000;
    let started = 0;
    const start = performance.now();
    const cpu = process.cpuUsage();
    const writer = async (): Promise<void> => {
      while (started++ < total) await journal.append(1, topic, payload);
    };
    await Promise.all(Array.from({ length: 1000 }, writer));
    const used = process.cpuUsage(cpu);
    say("200 bytes, 1000 appends outstanding, durable records/s", (total / secondsSince(start)).toFixed(0));
    say("  CPU per record, us; syncs", `${((used.user + used.system) / total).toFixed(2)}; ${journal.syncs}`);
  });
}

async function measureGroups(): Promise<void> {
  await withJournal(async (journal, directory) => {
    const group = Array.from({ length: 10 }, () => ({ kind: 1, key: topic, payload: payloadOf(200) }));
    const [files, written] = [fileBytes(directory), writtenBytes()];
    const count = 2000;
    const start = performance.now();
    for (let i = 0; i < count; i++) await journal.appendMany(group);
    const payloadBytes = count * 2000;
    say("groups of 10 x 200 bytes, one sync each, durable records/s", ((count * 10) / secondsSince(start)).toFixed(0));
    say("  bytes in the file per payload byte", ((fileBytes(directory) - files) / payloadBytes).toFixed(3));
    say("  bytes handed to the disk per payload byte", ((writtenBytes() - written) / payloadBytes).toFixed(2));
  });
  await withJournal(async (journal) => {
    const group = Array.from({ length: 10 }, () => ({ kind: 1, key: topic, payload: payloadOf(200) }));
    const total = 60_000;
    let started = 0;
    const start = performance.now();
    const writer = async (): Promise<void> => {
      while (started++ < total) await journal.appendMany(group);
    };
    await Promise.all(Array.from({ length: 1000 }, writer));
    say(
      "groups of 10 x 200 bytes, 1000 outstanding, durable records/s",
      ((total * 10) / secondsSince(start)).toFixed(0),
    );
  });
}

async function measureSingle(): Promise<void> {
  await withJournal(async (journal) => {
    const payload = payloadOf(64);
    const count = 2000;
    const start = performance.now();
    for (let i = 0; i < count; i++) await journal.append(1, topic, payload);
    say(
      "64 bytes one at a time, durable records/s; syncs per record",
      `${(count / secondsSince(start)).toFixed(0)}; ${journal.syncs / count}`,
    );
  });
}

async function measureReading(): Promise<void> {
  const directory = mkdtempSync(join(base, ".measure-"));
  const total = 5_000_000;
  try {
    const journal = await openJournal({ directory, key, sizeBytesMax });
    const group = Array.from({ length: 1000 }, () => ({ kind: 1, key: topic, payload: payloadOf(200) }));
    for (let i = 0; i < total / 10_000; i++)
      await Promise.all(Array.from({ length: 10 }, () => journal.appendMany(group)));
    await journal.close();
    globalThis.gc?.();
    const rss = process.memoryUsage().rss;
    let start = performance.now();
    const again = await openJournal({ directory, key, sizeBytesMax });
    say(
      `opening ${total} records (${(again.sizeBytes / 1e6).toFixed(0)} MB), ms; memory grown, MB`,
      `${(secondsSince(start) * 1000).toFixed(0)}; ${((process.memoryUsage().rss - rss) / 1e6).toFixed(1)}`,
    );
    start = performance.now();
    let after = 0;
    let count = 0;
    while (after < again.last) {
      const { records, next } = await again.read(after, { recordsMax: 100_000 });
      count += records.length;
      after = next;
    }
    say("reading all of it in chunks of 1 MiB, records/s", (count / secondsSince(start)).toFixed(0));
    start = performance.now();
    for (after = 0; after < again.last;) after = (await again.read(after, { match: () => false })).next;
    say("reading with a match that nothing meets, records/s", (count / secondsSince(start)).toFixed(0));
    start = performance.now();
    const seeks = 200;
    for (let i = 0; i < seeks; i++) await again.read(Math.floor((i * 7919 * 1009) % total), { recordsMax: 1 });
    say("one record at a random position, ms", ((secondsSince(start) * 1000) / seeks).toFixed(2));
    await again.close();
  } finally {
    rmSync(directory, { recursive: true });
  }
}

await measureWindow();
await measureGroups();
await measureSingle();
await measureReading();
