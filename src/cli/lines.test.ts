import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Reading } from "../kernel/edgex.ts";
import { DEADLINE, Failure, fail } from "../kernel/error.ts";
import { NODE_NOT_RUNNING } from "../node/codes.ts";
import { TRACE_UNKNOWN, type StoredSpan } from "../services/trace/api.ts";
import { durationOf, readArguments, wholeNumber } from "./arguments.ts";
import { type Backlog, backlogInShort, backlogLines } from "./backlog.ts";
import { auditLines } from "./cloud.ts";
import type { Command } from "./command.ts";
import { deviceTable, shellWord } from "./commands/devices.ts";
import { findingLines } from "./commands/doctor.ts";
import { after } from "./commands/logs.ts";
import { type AboutNode, statusLines } from "./commands/status.ts";
import { valuesOf } from "./commands/write.ts";
import { diskFindings } from "./doctor/disk.ts";
import { clockFindings } from "./doctor/machine.ts";
import { CLI_USAGE, failureLines, statusOf } from "./exit.ts";
import { logLine } from "./log-line.ts";
import { openPage, type Page } from "./page.ts";
import { storyLines, treeOf } from "./story.ts";
import { table } from "./table.ts";
import { cut, plain, widthOf, wrap } from "./text.ts";
import { ago, clockTime, count, duration, size } from "./units.ts";
import { valueOf } from "./value.ts";

const NOW_MS = new Date(2026, 10, 24, 12, 0, 0).getTime();
/** A terminal of so many columns, without colours. */
const terminal = (columns: number): Page =>
  openPage({ isTTY: true, columns, write: () => undefined }, { NO_COLOR: "1" });
const pipe = openPage({ write: () => undefined }, {});
const fits = (lines: readonly string[], columns: number): void => {
  for (const line of lines) assert.ok(widthOf(line) <= columns, `${widthOf(line)} columns: ${line}`);
};

test("numbers read as people say them", () => {
  const said = [0, 0.0004, 0.42, 3.1234, 99.96, 999.7, 61_000, 3_600_000, 93_784_000].map(duration);
  assert.deepEqual(said, ["0", "0 us", "420 us", "3.1 ms", "100 ms", "1.0 s", "1 min 1 s", "1 h", "1 d 2 h"]);
  assert.deepEqual([0, 999, 1_000, 1_234_567, 999_999_999].map(size), ["0 B", "999 B", "1.0 kB", "1.2 MB", "1.0 GB"]);
  assert.deepEqual([400, 3_900, -2_000, 5.6 * 60_000, 3 * 86_400_000].map(ago), [
    "now",
    "3 s ago",
    "in 2 s",
    "5 min ago",
    "3 d ago",
  ]);
  assert.deepEqual([count(1, "batch", "batches"), count(12_345, "reading")], ["1 batch", "12,345 readings"]);
  assert.equal(clockTime(NOW_MS + 7, NOW_MS), "12:00:00.007");
  assert.equal(clockTime(NOW_MS - 86_400_000, NOW_MS), "2026-11-23 12:00:00.000");
});

test("what a device is called or says cannot move the cursor, nor turn the line around", () => {
  assert.equal(plain("\u001b[2J\u001b]0;x\u0007pump\n7\u202E"), "pump·7·");
  assert.equal(plain("Pumpe-7 °C 泵"), "Pumpe-7 °C 泵");
});

test("text is measured, cut and broken by the columns it takes", () => {
  assert.deepEqual([widthOf("泵站"), widthOf("é"), widthOf("🌊"), widthOf("\u001b[1mx\u001b[22m")], [4, 1, 2, 1]);
  assert.equal(cut("泵站泵站", 5), "泵站…");
  assert.deepEqual(wrap("one two three https://a.example/very/long", 9), [
    "one two",
    "three",
    "https://a.example/very/long",
  ]);
});

test("a table takes what it needs, cuts the roomy columns on a narrow terminal, and leaves out the least", () => {
  const columns = [
    { title: "NAME", min: 6 },
    { title: "N", right: true, drop: 1 },
    { title: "WHY", min: 8, wraps: true },
  ];
  const rows = [
    ["a-rather-long-name", "7", "because of this and that"],
    ["b", "1234", ""],
  ];
  assert.deepEqual(table(pipe, columns, rows), [
    "NAME                   N  WHY",
    "a-rather-long-name     7  because of this and that",
    "b                   1234",
  ]);
  const narrow = table(terminal(40), columns, rows);
  fits(narrow, 40);
  assert.ok(!narrow.join("\n").includes("1234"));
  assert.match(narrow.join(" "), /because of this/);
});

test("a value is shown with its unit, floats without EdgeX's exponents, bytes by number", () => {
  const reading = (valueType: string, rest: object) => valueOf({ valueType, ...rest });
  assert.equal(reading("Float64", { value: "1.234560e+01", units: "°C" }), "12.3456 °C");
  assert.equal(reading("Float32Array", { value: "[1.5e+00, -2e-07]" }), "[1.5, -2e-7]");
  assert.equal(reading("String", { value: "1e3" }), "1e3");
  assert.equal(reading("Int64", { value: "9007199254740993" }), "9007199254740993");
  assert.equal(reading("Binary", { binaryValue: new Uint8Array(3), mediaType: "image/png" }), "<3 bytes of image/png>");
  assert.equal(reading("Object", { objectValue: { a: 9007199254740993n } }), '{"a":9007199254740993}');
  assert.equal(reading("Float64", { value: null, units: "°C" }), "-");
});

test("arguments are refused with the argument at fault and the nearest known one", () => {
  const refused = (work: () => unknown) => {
    try {
      work();
    } catch (error) {
      assert.ok(error instanceof Failure && error.code === CLI_USAGE.code);
      return error.message;
    }
    return assert.fail("it was taken");
  };
  const options = { limit: { type: "string" } } as const;
  assert.equal(
    refused(() => readArguments(["--limti", "3"], options)),
    "there is no option '--limti'; did you mean '--limit'?",
  );
  assert.equal(
    refused(() => readArguments(["a"], options)),
    "'a' is not expected: the command takes options alone",
  );
  assert.equal(
    refused(() => readArguments([], options, ["DEVICE"])),
    "DEVICE is missing",
  );
  assert.equal(
    refused(() => readArguments(["a", "b"], options, ["[DEVICE]"])),
    "'b' is one argument too many",
  );
  assert.equal(
    refused(() => wholeNumber("1.5", { name: "--limit", min: 1, max: 9, default: 1 })),
    "--limit takes a whole number from 1 to 9, not '1.5'",
  );
  assert.match(
    refused(() => durationOf("soon", "--for")),
    /^--for takes a duration such as/,
  );
  assert.equal(durationOf("1d12h", "--for"), 36 * 3_600_000);
  assert.deepEqual(
    valuesOf(["a=1=2", "__proto__=x"]),
    Object.fromEntries([
      ["a", "1=2"],
      ["__proto__", "x"],
    ]),
  );
  assert.equal(
    refused(() => valuesOf(["a=1", "a=2"])),
    "'a' is given twice",
  );
  assert.equal(
    refused(() => valuesOf(["=1"])),
    "'=1' is not of the form RESOURCE=VALUE",
  );
});

test("a failure says what, the code, and what to do; the exit status tells its sort", () => {
  assert.deepEqual(failureLines(fail(NODE_NOT_RUNNING, "no node runs on the state directory /x"), terminal(60)), [
    "holdfast: no node runs on the state directory /x",
    "          (NODE_NOT_RUNNING)",
    "          Start the node: 'npm start' or 'holdfast start'.",
  ]);
  assert.deepEqual(
    [NODE_NOT_RUNNING, CLI_USAGE, TRACE_UNKNOWN, DEADLINE].map((code) => statusOf(fail(code, "x"))),
    [3, 2, 4, 1],
  );
});

const about: AboutNode = {
  node: "pump-7",
  version: "0.1.0",
  startedAtMs: NOW_MS - 184_000,
  compact: false,
  stateDirectory: "/var/lib/holdfast",
  gatewayUrl: "https://127.0.0.1:8443",
  keyProvider: { name: "key-file", promise: "protects nothing against theft of the disk" },
  confinement: [
    "every socket: TLS 1.3",
    "everything on the disk: encrypted; the key-file protects nothing against theft of the disk",
  ],
  services: [
    {
      service: "bus",
      instance: "bus-1",
      pid: 41,
      state: "passing",
      restarts: 0,
      startedAtMs: NOW_MS - 180_000,
      memoryBytes: 42_000_000,
    },
    {
      service: "core-data",
      instance: "core-data-1",
      pid: 0,
      state: "restarting",
      reason: "ended by SIGKILL; the next try is in 200 ms, and it has been so twice today",
      restarts: 2,
      startedAtMs: NOW_MS,
    },
  ],
  backlog: {
    bus: {
      first: 1,
      last: 5_000,
      sizeBytes: 3_400_000,
      mqttClients: 1,
      publishers: [],
      followers: [
        { name: "core-data", position: 1_234, connected: true },
        { name: "pipeline", position: 4_990, connected: true },
      ],
      losses: [],
    },
    pipeline: {
      position: 4_990,
      losses: [],
      gaps: { totalCount: 0, newest: [] },
      backfills: [],
      destinations: [
        {
          name: "cloud",
          kind: "cloud",
          url: "https://cloud.example:8444",
          state: "offline",
          reason: "the cloud does not answer",
          deadLetters: 0,
          waiting: { batches: 3, bytes: 12_000, oldestMs: 2_100 },
          acknowledged: { batches: 33, events: 120, readings: 1_234, lastAtMs: NOW_MS - 4_000 },
          wireBytes: { sent: 45_000, received: 8_000 },
        },
      ],
    },
    unknown: [],
  },
};

test("the status is one page of 80 columns: services with reasons, what waits, the cloud, and the keys' honest promise", () => {
  const lines = statusLines(terminal(80), about, { nowMs: NOW_MS, whole: true });
  fits(lines, 80);
  const text = lines.join("\n");
  assert.match(text, /^Holdfast 0\.1\.0 {2}node pump-7, up 3 min 4 s\n/);
  assert.match(text, /^bus +passing +3 min +42 MB +0 +41$/m);
  assert.match(text, /^core-data +restarting +- +- +2 +- +ended by SIGKILL;/m);
  assert.match(text, /^backlog +core-data is 3,766 records behind; 3 batches wait in the outbox$/m);
  assert.match(text, /^cloud +offline, 1,234 readings kept there, the last 4 s ago,/m);
  assert.match(text, /^keys +key-file: protects nothing against theft of the disk$/m);
  assert.equal(text.match(/protects nothing/g)?.length, 1);
});

test("the backlog tells followers, the outbox and losses, and what could not be asked", () => {
  const lines = backlogLines(terminal(80), about.backlog, NOW_MS);
  fits(lines, 80);
  assert.match(lines.join("\n"), /^core-data +follows +1,234 +3,766$/m);
  assert.match(lines.join("\n"), /^waiting +3 batches, 12 kB, the oldest for 2\.1 s$/m);
  assert.equal(lines.at(-1), "nothing was lost");
  const gap = {
    ...({ destination: "cloud", class: "low", epoch: 5, from: 1, to: 30 } as const),
    pipelines: ["waves"],
    ...({ events: 3_000, readings: 9_000, reason: "dropped-full", atNs: BigInt(NOW_MS) * 1_000_000n } as const),
  };
  const dropped = { ...about.backlog.pipeline!, gaps: { totalCount: 1, newest: [gap] } };
  const gapped = backlogLines(terminal(80), { ...about.backlog, pipeline: dropped }, NOW_MS);
  fits(gapped, 80);
  assert.match(
    gapped.join("\n"),
    /^1 gap in what destinations have$[^]*cloud +low +1-30 +3,000 +waves +the outbox was/m,
  );
  const loss = { reason: "the file is damaged", firstPosition: 7, lastPosition: 9, bytes: 100 };
  const half: Backlog = {
    bus: { ...about.backlog.bus!, losses: [loss] },
    pipeline: null,
    unknown: ["pipeline is not running"],
  };
  assert.deepEqual(backlogLines(pipe, half, NOW_MS).slice(-3), [
    "1 loss",
    "bus  positions 7 to 9, 100 B: the file is damaged",
    "not known: pipeline is not running",
  ]);
  assert.deepEqual(backlogInShort(half, NOW_MS), { backlog: "not known", cloud: "not known" });
});

test("a device that was never heard of is seen as such, and names go to the shell as they are", () => {
  const device = {
    name: "pump 7",
    created: 0,
    modified: 0,
    adminState: "UNLOCKED",
    operatingState: "DOWN",
    serviceName: "device-modbus",
    profileName: "Pump",
    protocols: {},
  } as const;
  const last: Reading = {
    origin: BigInt(NOW_MS - 3_000) * 1_000_000n,
    deviceName: "pump 7",
    resourceName: "Flow",
    profileName: "Pump",
    valueType: "Float64",
    value: "1.5e+00",
  };
  const lines = deviceTable(
    terminal(80),
    [
      { device, last: null },
      { device: { ...device, adminState: "LOCKED" }, last },
    ],
    NOW_MS,
  );
  assert.match(lines[1], /^pump 7 +down +device-modbus +Pump +never$/);
  assert.match(lines[2], /^pump 7 +locked +device-modbus +Pump +3 s ago +Flow 1\.5$/);
  assert.deepEqual(["pump-7", "pump 7", "it's"].map(shellWord), ["pump-7", "'pump 7'", "'it'\\''s'"]);
});

const span = (spanId: string, startMs: number, rest: Partial<StoredSpan> = {}): StoredSpan => ({
  spanId,
  service: "bus",
  operation: "append",
  startNs: BigInt(NOW_MS + startMs) * 1_000_000n,
  durationUs: 500,
  status: 0,
  ...rest,
});

test("a story is a tree in order of time; a step whose asker is unknown stands by itself, and a circle is told all the same", () => {
  const spans = [
    span("c", 3, { parentId: "b" }),
    span("b", 1, { parentId: "a" }),
    span("a", 0),
    span("d", 2, { parentId: "gone" }),
    span("x", 9, { parentId: "y" }),
    span("y", 8, { parentId: "x" }),
  ];
  const tree = treeOf(spans).map((step) => `${step.span.spanId}${step.depth}`);
  assert.deepEqual(tree, ["a0", "b1", "c2", "d0", "x0", "y1"]);
});

test("a story tells offsets, failures and when the cloud kept it, and notes that do not fit go below", () => {
  const spans = [
    span("a", 0, {
      service: "gateway",
      operation: "core-command read",
      status: 504,
      note: `DEADLINE, ${"waited ".repeat(9)}`,
    }),
    span("b", 40, {
      service: "cloud",
      operation: "accept",
      durationUs: 10_000,
      ranges: [{ publisher: "p", epoch: 1, from: 1, to: 8 }],
    }),
  ];
  const lines = storyLines(terminal(80), "0b1f5c3a", spans, NOW_MS);
  fits(lines, 80);
  assert.deepEqual(lines.slice(0, 2), [
    "0b1f5c3a",
    "12:00:00.000, 2 steps in 2 services, 50.0 ms, 1 failed, kept by the cloud after",
  ]);
  const [head = "", first = "", note = "", ...rest] = lines.slice(4);
  assert.match(head, /^ +AT +TOOK {2}STEP$/);
  assert.match(first, /^ +\+0 +500 us {2}gateway: core-command read$/);
  assert.match(note, /^ +504 DEADLINE,/);
  assert.match(rest.at(-1) ?? "", /with 7 other events$/);
});

test("log lines are shown by what they are: a request, a sentence, the last words of a crash", () => {
  const time = new Date(NOW_MS).toISOString();
  const line = (value: object) =>
    logLine(terminal(80), JSON.stringify({ level: 30, time, service: "core-data", ...value }), NOW_MS);
  const request = {
    operation: "allReadings",
    caller: "gateway",
    status: 200,
    ms: 1.234,
    requestId: "0b1f5c3a-0000-4000-8000-000000000000",
  };
  assert.equal(line(request), "12:00:00.000 info  core-data      allReadings 200 1.2 ms from gateway 0b1f5c3a");
  assert.equal(
    line({ level: 50, msg: "cannot", err: { message: "EIO" }, code: "DATABASE_IO" }),
    "12:00:00.000 error core-data      cannot: EIO (DATABASE_IO)",
  );
  assert.equal(logLine(pipe, "Segmentation\u001b[2J fault", NOW_MS), "Segmentation fault");
});

test("lines of the log are followed from the place where they were left, equal lines or not", () => {
  assert.deepEqual(after(["a", "b", "b"], ["a", "b", "b", "c"]), ["c"]);
  assert.deepEqual(after(["a", "b"], ["b", "c", "a", "b"]), []);
  assert.deepEqual(after([], ["a"]), ["a"]);
  assert.deepEqual(after(["z"], ["a", "b"]), ["a", "b"]);
});

test("an audit says whether all is there once and in order", () => {
  const whole = {
    pipeline: "all",
    name: "device-host",
    epoch: 5,
    events: 10,
    readings: 100,
    duplicates: 0,
    outOfOrder: 0,
    ranges: [{ from: 1, to: 10 }],
  };
  assert.match(auditLines(pipe, "pump-7", [whole])[0], /each once, in order, with no gap/);
  const torn = {
    ...whole,
    ranges: [
      { from: 1, to: 4 },
      { from: 6, to: 11 },
    ],
  };
  assert.match(auditLines(pipe, "pump-7", [torn]).join("\n"), /not all of it[^]*1-4, 6-11/);
});

test("the doctor says what a disk in memory, a full one and a wrong clock cost", () => {
  const disk = { type: 0xef53, bsize: 4096, bavail: 10_000_000, files: 1_000_000, ffree: 500_000 };
  const names = (facts: typeof disk) => diskFindings("/", () => facts).map(({ name, state }) => `${name} ${state}`);
  assert.deepEqual(names(disk), ["disk fine"]);
  assert.deepEqual(names({ ...disk, bavail: 100, ffree: 7 }), ["disk stops", "inodes lacks"]);
  assert.deepEqual(names({ ...disk, type: 0x0102_1994, files: 0, ffree: 0 }), ["disk fine", "disk-kind lacks"]);
  const clock = (nowMs: number, writtenMs?: number) =>
    clockFindings({ nowMs, writtenMs, rtc: true, synchronized: true })[0].state;
  assert.deepEqual(
    [clock(NOW_MS, NOW_MS - 1), clock(NOW_MS, NOW_MS + 2 * 86_400_000), clock(0)],
    ["fine", "lacks", "lacks"],
  );
  const lines = findingLines(
    terminal(80),
    diskFindings("/", () => ({ ...disk, bavail: 100 })),
    false,
  );
  fits(lines, 80);
  assert.match(lines[0], /^STOPS {2}410 kB free on the disk of \/$/);
  assert.match(lines.at(-1) ?? "", /^1 thing stops the node; 0 things are lacking, 0 fine$/);
});

test("every command is called like its file, says what it does, and helps within 80 columns", async () => {
  const names = readdirSync(join(import.meta.dirname, "commands")).map((file) => file.replace(/\.ts$/, ""));
  for (const name of names) {
    const { command } = (await import(`./commands/${name}.ts`)) as { command: Command };
    assert.equal(command.name, name);
    assert.match(command.summary, /^[A-Z].*\.$/);
    assert.match(command.help, new RegExp(`^Usage: holdfast ${name}`));
    fits(command.help.split("\n"), 80);
  }
});
