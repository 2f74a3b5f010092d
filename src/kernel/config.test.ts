import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Type } from "typebox";
import { checkConfig } from "./config.ts";
import { portOf, reachOf, readNamedFiles } from "./config-reach.ts";
import { readConfig, readConfigFile } from "./config-file.ts";
import { Failure } from "./error.ts";
import { field } from "./service.ts";

const bus = Type.Object(
  {
    sizeBytesMax: field(Type.Integer({ minimum: 1024 }), {
      description: "Size of the journal.",
      default: 4096,
      example: 8192,
    }),
    fsync: field(Type.Union([Type.Literal("always"), Type.Literal("never")]), {
      description: "When.",
      default: "always",
    }),
    retry: field(
      Type.Object(
        { waitMs: field(Type.Integer(), { description: "Wait.", default: 5 }) },
        { additionalProperties: false },
      ),
      { description: "Retry.", default: {} },
    ),
    hosts: field(Type.Array(Type.String({ maxLength: 10 }), { maxItems: 2 }), { description: "Hosts.", default: [] }),
  },
  { additionalProperties: false },
);
// As the supervisor has them: schemas out of the manifest, where TypeBox's own marks are gone.
const sections = [
  { key: "bus", schema: JSON.parse(JSON.stringify(bus)) as object },
  { key: "core-data", schema: Type.Object({}, { additionalProperties: false }) },
];

function refusal(text: string): Failure {
  try {
    readConfig(text, "holdfast.yaml", sections);
  } catch (error) {
    assert.ok(error instanceof Failure);
    return error;
  }
  throw new Error("was not refused");
}

test("what the file leaves out takes its default, and JSON is read like YAML", () => {
  const defaults = { sizeBytesMax: 4096, fsync: "always", retry: { waitMs: 5 }, hosts: [] };
  assert.deepEqual(readConfig("", "f", sections), { bus: defaults, "core-data": {} });
  assert.deepEqual(readConfig("bus:\n", "f", sections), { bus: defaults, "core-data": {} });
  assert.deepEqual(readConfig('{"bus": {"retry": {"waitMs": 7}}}', "f", sections)["bus"], {
    ...defaults,
    retry: { waitMs: 7 },
  });
});

test("an unknown key is refused and the nearest known one named", () => {
  assert.equal(
    refusal("bus: { sizeByteMax: 1 }").message,
    "holdfast.yaml: 'bus.sizeByteMax' is not a known key; did you mean 'bus.sizeBytesMax'?",
  );
  assert.equal(refusal("buss: {}").message, "holdfast.yaml: 'buss' is not a known key; did you mean 'bus'?");
  assert.equal(
    refusal("bus: { retry: { watiMs: 1 } }").message,
    "holdfast.yaml: 'bus.retry.watiMs' is not a known key; did you mean 'bus.retry.waitMs'?",
  );
  assert.match(refusal("bus: { elephants: 1 }").message, /known here: sizeBytesMax, fsync, retry, hosts/);
  assert.equal(refusal("bus: { __proto__x: 1 }").code, "CONFIG_KEY_UNKNOWN");
});

test("a wrong value is refused with the field, what was expected and what was got", () => {
  assert.equal(
    refusal("bus: { sizeBytesMax: big }").message,
    "holdfast.yaml: 'bus.sizeBytesMax' must be an integer of at least 1024, got \"big\" (a text)",
  );
  assert.equal(refusal("bus: { sizeBytesMax: 1.5 }").code, "CONFIG_VALUE_INVALID");
  assert.equal(
    refusal("bus: { fsync: maybe }").message,
    'holdfast.yaml: \'bus.fsync\' must be "always" or "never", got "maybe" (a text)',
  );
  assert.equal(
    refusal("bus: { hosts: [a, 5] }").message,
    "holdfast.yaml: 'bus.hosts[1]' must be a text of at most 10 characters, got 5 (a number)",
  );
  assert.equal(refusal("[1]").message, "holdfast.yaml: the file must be a section (keys and values), got [1] (a list)");
});

test("a malformed file says where", () => {
  const failure = refusal("bus:\n  fsync: [always\n");
  assert.equal(failure.code, "CONFIG_FILE_MALFORMED");
  assert.match(failure.message, /line 2|line 3/);
  assert.match(refusal("bus: {}\nbus: {}\n").message, /unique/);
});

test("a file that is not there, or is no config at all, is refused", (t) => {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-config-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, "holdfast.yaml");
  assert.throws(() => readConfigFile(file, sections), { code: "CONFIG_FILE_UNREADABLE" });
  writeFileSync(file, Buffer.alloc(1_048_577, 0x20));
  assert.throws(() => readConfigFile(file, sections), { code: "CONFIG_FILE_MALFORMED" });
  writeFileSync(
    file,
    "bus:\n  a: &a [1,1,1,1,1,1,1,1,1,1]\n  b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n  c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n  d: [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n",
  );
  assert.throws(() => readConfigFile(file, sections), { code: "CONFIG_FILE_MALFORMED" });
});

const kinds = Type.Object(
  {
    ways: Type.Record(
      Type.String({ pattern: "^[a-z]+$" }),
      Type.Union([
        Type.Object(
          {
            kind: Type.Literal("https"),
            url: field(Type.String(), { description: "", default: undefined, reach: "url" }),
            tokens: Type.Record(
              Type.String({ pattern: "^[a-z]+$" }),
              Object.assign(Type.String(), { reach: "file" as const }),
            ),
            extra: Type.Optional(Type.Object({ size: Type.Integer() }, { additionalProperties: false })),
          },
          { additionalProperties: false },
        ),
        Type.Object(
          {
            kind: Type.Literal("file"),
            from: Type.Optional(field(Type.String(), { description: "", default: undefined, reach: "local-address" })),
          },
          { additionalProperties: false },
        ),
      ]),
    ),
  },
  { additionalProperties: false },
);

test("sections that differ by a kind are each checked as their own", () => {
  const check = (ways: object) => checkConfig(kinds, { ways }, "pipeline", "f");
  assert.deepEqual(check({ a: { kind: "https", url: "https://a" }, b: { kind: "file" } }), {
    ways: { a: { kind: "https", url: "https://a", tokens: {} }, b: { kind: "file" } },
  });
  assert.throws(() => check({ a: { kind: "ftp" } }), {
    message: `f: 'pipeline.ways.a.kind' must be "https" or "file", got "ftp" (a text)`,
  });
  assert.throws(() => check({ a: {} }), { message: /'pipeline.ways.a.kind' must be .* got nothing/ });
  assert.throws(() => check({ a: { kind: "https" } }), { message: /'pipeline.ways.a.url' is missing/ });
  assert.throws(() => check({ a: { kind: "file", url: "x" } }), {
    message: /'pipeline.ways.a.url' is not a known key/,
  });
});

test("what a config reaches outside is known: ports, own addresses, and the text of its files", (t) => {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-config-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, "token");
  const ways = (more: object) =>
    checkConfig(kinds, { ways: { a: { kind: "https", url: "https://a.example", tokens: { t: file } }, ...more } }, "");
  assert.throws(() => readNamedFiles(kinds, ways({}), "pipeline"), {
    code: "CONFIG_NAMED_FILE_UNREADABLE",
    message: `'pipeline.ways.a.tokens.t' names ${file}, which cannot be read (ENOENT)`,
  });
  writeFileSync(file, "s3cret");
  assert.deepEqual(readNamedFiles(kinds, ways({}), "pipeline"), { [file]: "s3cret" });
  assert.deepEqual(reachOf(kinds, ways({})), { connectPorts: [443], isBinding: false, isNaming: true });
  const more = { b: { kind: "https", url: "mqtts://[::1]:9999" }, c: { kind: "file", from: "10.0.0.1" } };
  assert.deepEqual(reachOf(kinds, ways(more)), { connectPorts: [443, 9999], isBinding: true, isNaming: true });
  assert.deepEqual(
    [portOf("mqtts://a"), portOf("nats://a"), portOf("x://a"), portOf("a")],
    [8883, 4222, undefined, undefined],
  );
});
