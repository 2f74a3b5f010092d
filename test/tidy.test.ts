import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { wrongArrows } from "./tidy/arrows.ts";
import { deadLinks, deadPointers, existsIn } from "./tidy/links.ts";
import { bannedWords, namelessFiles, tooLong, unlistedCodes } from "./tidy/rules.ts";
import { blank, importsOf, readTree, type Tree } from "./tidy/tree.ts";

const root = path.dirname(import.meta.dirname);
const code = readTree(root, "{src,test,bench,examples}/**/*.ts");
const pages = readTree(root, "**/*.md");

const tidy = (faults: readonly string[]) => {
  if (faults.length > 0) assert.fail(faults.join("\n"));
};
const plant = (files: { readonly [path: string]: string }): Tree =>
  Object.entries(files).map(([file, text]) => ({ path: file, text }));

test("no source file is longer than it may be", () => {
  tidy(tooLong(code));
  const lines = (count: number) => "a();\n".repeat(count);
  assert.match(
    tooLong(plant({ "src/a.ts": lines(301), "src/b.ts": lines(300), "src/c.test.ts": lines(900) })).join("|"),
    /^src\/a\.ts has 301 lines[^|]*$/,
  );
});

test("no file has a name that says nothing", () => {
  tidy(namelessFiles(code));
  const faults = namelessFiles(plant({ "src/kernel/utils.ts": "", "src/a/helper.ts": "", "src/a/balancer.ts": "" }));
  assert.equal(faults.length, 2);
});

test("no word stands in code or pages that stands for work not done", () => {
  tidy(bannedWords([...code, ...pages]));
  const faults = (text: string, file = "src/a.ts") => bannedWords(plant({ [file]: text }));
  const todo = "TO" + "DO";
  assert.match(faults(`a();\n// ${todo}: more`)[0] ?? "", new RegExp(`^src/a\\.ts:2 has '${todo}': do it now`));
  for (const text of [
    `const a = "${"FIX" + "ME"}";`,
    `// ${"HA" + "CK"}`,
    "// plain " + "for " + "now",
    "// @ts-" + "ignore",
    "// @ts-" + "expect-error",
    "const a = b as " + "any;",
    "f(a: " + "any)",
    "try { a(); } catch " + "{}",
    "try { a(); } catch (error) " + "{\n}",
  ]) {
    assert.equal(faults(text).length, 1, text);
  }
  assert.equal(faults(`later ${todo}`, "docs/a.md").length, 1);
  assert.deepEqual(faults(`no \`${todo}\` here`, "docs/a.md"), []);
  for (const text of [
    "const todo = error.todo;",
    'const a = "as ' + 'any other: any day";',
    "// as " + "any other would",
    "catch (error) { log(error); }",
    "catch {\n  // it is gone already: that is what we want\n}",
    "forNow()",
    "company: anyone",
  ]) {
    assert.deepEqual(faults(text), [], text);
  }
  assert.deepEqual(faults("// @ts-" + "expect-error: a wrong call is the test", "src/a.test.ts"), []);
});

test("imports run main -> service -> api -> kernel, and a service sees another only through its api", () => {
  tidy(wrongArrows(code));
  const from = (file: string, text: string) => wrongArrows(plant({ [file]: text })).length;
  const bad: [string, string][] = [
    ["src/kernel/bus.ts", 'import { bus } from "../services/bus/api.ts";'],
    ["src/kernel/bus.ts", 'import type { Bus } from "../services/bus/api.ts";'],
    ["src/services/a/service.ts", 'import { fold } from "../b/service.ts";'],
    ["src/services/a/service.ts", 'import type { Fold } from "../b/store.ts";'],
    ["src/services/a/service.ts", 'import { b } from "../b/api.ts";'],
    ["src/services/a/lease.ts", 'import { B_GONE, b } from "../b/lease.api.ts";'],
    ["src/services/a/service.ts", 'import { open } from "./store.ts";'],
    ["src/services/a/store.ts", 'import { decide } from "./service.ts";'],
    ["src/services/a/api.ts", 'import { Lease } from "./lease.ts";'],
    ["src/services/a/codes.ts", 'import { a } from "./api.ts";'],
    ["src/services/a/main.ts", 'import { GONE } from "../b/codes.ts";'],
    ["src/services/a/service.ts", 'import { config } from "./main.ts";'],
    ["src/services/a/main.ts", 'import { serviceB } from "../b/service.ts";'],
    ["src/services/a/main.ts", 'import { start } from "../../node/supervisor.ts";'],
    ["src/services/a/main.ts", 'const all = await import("../../main.ts");'],
    ["src/services/a/main.ts", 'export { plan } from "../../../test/plan.ts";'],
    ["src/devices/host/service.ts", 'import { poll } from "../modbus/service.ts";'],
    ["src/cli/status.ts", 'import {\n  type Lease,\n  leases,\n} from "../services/registry/service.ts";'],
    ["src/node/supervisor.ts", 'import "../services/bus/main.ts";'],
    ["src/version.ts", 'import { bus } from "./services/bus/api.ts";'],
  ];
  for (const [file, text] of bad) assert.equal(from(file, text), 1, `${file}: ${text}`);
  const good: [string, string][] = [
    ["src/main.ts", 'import { main } from "./services/bus/main.ts";'],
    [
      "src/services/a/service.ts",
      'import { fail } from "../../kernel/error.ts";\nimport { a } from "./api.ts";\nimport { Lease } from "./lease.ts";',
    ],
    [
      "src/services/a/service.ts",
      'import type { B } from "../b/api.ts";\nimport { type C, type D } from "../c/noun.api.ts";\nimport type { Store } from "./store.ts";',
    ],
    ["src/services/a/service.ts", 'import { B_GONE, type B, B_NAMES_MAX } from "../b/api.ts";'],
    [
      "src/services/a/main.ts",
      'import { b } from "../b/api.ts";\nimport { open } from "./store.ts";\nimport { make } from "./service.ts";',
    ],
    ["src/services/a/device.api.ts", 'import { GONE } from "./codes.ts";'],
    ["src/services/a/api.ts", 'import { devices } from "./device.api.ts";\nimport type { B } from "../b/api.ts";'],
    ["src/services/a/a.test.ts", 'import { serviceB } from "../b/service.ts";'],
    ["src/devices/host/service.ts", 'import { device } from "../sdk/service.ts";'],
    [
      "src/cli/status.ts",
      'import { registry } from "../services/registry/api.ts";\nimport { table } from "./table.ts";',
    ],
    ["src/services/a/service.ts", '// import { fold } from "../b/service.ts";\nconst a = 1;'],
  ];
  for (const [file, text] of good) assert.equal(from(file, text), 0, `${file}: ${text}`);
});

test("the scan for imports sees what a module imports, and whether only types", () => {
  const text = [
    'import a, { type B } from "./a.ts";',
    'import type { C } from "../c.ts";',
    'import { type D, type E } from "d";',
    'export * from "./e.ts";',
    'const f = await import("./f.ts"); // import "./g.ts"',
    "const h = 'import \"./h.ts\"';",
    'import * as i from "./i.ts";',
    'import "./j.ts";',
  ].join("\n");
  assert.deepEqual(
    importsOf({ path: "src/x/y.ts", text }).map((each) => [each.line, each.file ?? each.from, each.types]),
    [
      [1, "src/x/a.ts", false],
      [2, "src/c.ts", true],
      [3, "d", true],
      [4, "src/x/e.ts", false],
      [5, "src/x/f.ts", false],
      [7, "src/x/i.ts", false],
      [8, "src/x/j.ts", false],
    ],
  );
  assert.equal(blank('a("//x", /["/]/, b); // c\n`d /* ${e} */`', true), 'a("   ", /    /, b);     \n`            `');
});

test(
  "every error code is listed in docs/errors.md, and nothing else is",
  { skip: missingPage("docs/errors.md") },
  () => {
    tidy(unlistedCodes(code, readFileSync(path.join(root, "docs/errors.md"), "utf8")));
  },
);

test("an error code that is declared and not listed is found, and one that is listed and not declared", () => {
  const tree = plant({
    "src/a/api.ts": 'const A = code("A_GONE", "gone", "x");\nconst B = code(\n  "A_FULL",\n  "full", "x");',
    "src/a/a.test.ts": 'code("A_TEST", "gone", "x")',
  });
  assert.deepEqual(unlistedCodes(tree, "| `A_GONE` | `A_FULL` |"), []);
  const faults = unlistedCodes(tree, "| `A_GONE` | `A_LOST` |").join("|");
  assert.match(faults, /^src\/a\/api\.ts declares A_FULL[^|]*\|docs\/errors\.md lists A_LOST[^|]*$/);
});

test("no page links to what is not there", () => {
  tidy(deadLinks(pages, existsIn(root)));
  const planted = plant({
    "README.md":
      "# The house\n[a](docs/a.md) [b](docs/b.md) [c](docs/a.md#two-words) [d](docs/a.md#three) [e](#the-house) [f](#x) [g](https://x.y)\n```\n[h](nowhere)\n```\n",
    "docs/a.md": '## Two `words`\n[up](../README.md) [out](../../x.md "title")\n',
  });
  const faults = deadLinks(planted, (file) => planted.some((page) => page.path === file)).join("|");
  assert.match(
    faults,
    /^README\.md:2 links to docs\/b\.md, which is not there\|README\.md:2 links to docs\/a\.md#three[^|]*\|README\.md:2 links to #x[^|]*\|docs\/a\.md:2 links to \.\.\/\.\.\/x\.md[^|]*$/,
  );
});

test("what ARCHITECTURE.md points at is there", { skip: missingPage("ARCHITECTURE.md") }, () => {
  tidy(
    deadPointers({ path: "ARCHITECTURE.md", text: readFileSync(path.join(root, "ARCHITECTURE.md"), "utf8") }, readIn),
  );
});

test("a pointer to a file or a symbol that is gone is found", () => {
  const read = (file: string) =>
    file === "src/a.ts" ? "export function append() {}\nclass Journal { cut() {} }" : undefined;
  const faults = (text: string) => deadPointers({ path: "ARCHITECTURE.md", text }, read);
  assert.deepEqual(faults("see `src/a.ts · append`, `src/a.ts` · `Journal.cut`, `src/a.ts · append, cut`"), []);
  assert.match(faults("see `src/b.ts · append`")[0] ?? "", /points at src\/b\.ts, which is not there/);
  assert.match(faults("see `src/a.ts · appen`")[0] ?? "", /src\/a\.ts · appen, which is not in it/);
});

/** A page that is written last: its rule waits for it, and says so. */
function missingPage(page: string): string | false {
  return existsSync(path.join(root, page)) ? false : `${page} is not there yet`;
}

function readIn(file: string): string | undefined {
  return existsSync(path.join(root, file)) ? readFileSync(path.join(root, file), "utf8") : undefined;
}
