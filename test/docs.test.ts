import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readConfig } from "../src/kernel/config-file.ts";
import { services } from "../src/main.ts";
import { sectionsOf } from "../src/node/config.ts";
import { configPage } from "../src/node/config-page.ts";
import { manifestsOf } from "../src/node/manifest.ts";
import { NODE_VERSION } from "../src/node/version.ts";

const root = join(import.meta.dirname, "..");
const manifests = await manifestsOf(services);

test("docs/config.md is what the schemas say", () => {
  const page = readFileSync(join(root, "docs/config.md"), "utf8");
  assert.equal(page, configPage(sectionsOf(manifests), manifests), "write it anew with 'bin/node test/config-page.ts'");
});

test("every key of the config says what it means, has a default, and takes its own default and example", () => {
  for (const { key, schema } of sectionsOf(manifests)) {
    for (const [name, field] of Object.entries(schema.properties ?? {})) {
      assert.ok(field.description, `${key}.${name} has no description`);
      assert.notEqual(field.default, undefined, `${key}.${name} has no default`);
      if (field.example !== undefined)
        readConfig(JSON.stringify({ [key]: { [name]: field.example } }), `example of ${key}`, sectionsOf(manifests));
    }
    assert.equal(schema.additionalProperties, false, `${key} takes unknown keys`);
  }
  readConfig("", "all defaults", sectionsOf(manifests));
});

test("every service of the composition root is there under its own name", () => {
  assert.deepEqual(
    manifests.map(({ name }) => name),
    Object.keys(services),
  );
});

test("the version in the code is the package's", () => {
  assert.equal(
    (JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string }).version,
    NODE_VERSION,
  );
});
