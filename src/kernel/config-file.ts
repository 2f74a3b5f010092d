/** Reads the config file. Apart from the checks, which every process has: the parser is for the node's first process alone. */
import { readFileSync, statSync } from "node:fs";
import { parseDocument } from "yaml";
import {
  checkConfig,
  CONFIG_FILE_MALFORMED,
  CONFIG_FILE_UNREADABLE,
  type ConfigSchema,
  type ConfigSection,
  type ConfigValues,
} from "./config.ts";
import { fail } from "./error.ts";

/** Above this the file is not a config; refused with CONFIG_FILE_MALFORMED before it is parsed. */
const FILE_BYTES_MAX = 1_048_576;

/** Reads a config file and checks it against the sections; a section that is absent is all defaults. CONFIG_FILE_UNREADABLE, CONFIG_FILE_MALFORMED, CONFIG_KEY_UNKNOWN, CONFIG_VALUE_INVALID. */
export function readConfigFile(file: string, sections: readonly ConfigSection[]): ConfigValues {
  return readConfig(readText(file), file, sections);
}

/** Reads a file of YAML 1.2 that somebody else checks; an empty one is `{}`. CONFIG_FILE_UNREADABLE, CONFIG_FILE_MALFORMED. */
export const readYamlFile = (file: string): unknown => readYaml(readText(file), file);

function readText(file: string): string {
  try {
    if (statSync(file).size > FILE_BYTES_MAX)
      throw fail(CONFIG_FILE_MALFORMED, `${file} is larger than ${FILE_BYTES_MAX} bytes`);
    return readFileSync(file, "utf8");
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code;
    if (reason === undefined || !/^E[A-Z]+$/.test(reason)) throw cause;
    throw fail(CONFIG_FILE_UNREADABLE, `the config file ${file} cannot be read (${reason})`, { cause });
  }
}

/** Reads a config's text; `file` opens the sentences. */
export function readConfig(text: string, file: string, sections: readonly ConfigSection[]): ConfigValues {
  const value = readYaml(text, file);
  const properties = Object.fromEntries(sections.map((s) => [s.key, s.schema]));
  const whole: ConfigSchema = {
    type: "object",
    properties,
    required: Object.keys(properties),
    additionalProperties: false,
  };
  return checkConfig(whole, value, "", file) as ConfigValues;
}

function readYaml(text: string, file: string): unknown {
  const document = parseDocument(text, {
    version: "1.2",
    schema: "core",
    uniqueKeys: true,
    stringKeys: true,
    prettyErrors: true,
  });
  const [first] = document.errors;
  if (first) throw fail(CONFIG_FILE_MALFORMED, `${file}: ${first.message.split("\n", 1)[0].replace(/:$/, "")}`);
  try {
    return document.toJS({ maxAliasCount: 100 }) ?? {};
  } catch (cause) {
    throw fail(CONFIG_FILE_MALFORMED, `${file}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}
