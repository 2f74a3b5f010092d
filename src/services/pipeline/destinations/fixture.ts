/** What the tests of destinations and their pace share. */
import type { Static, TSchema } from "typebox";
import { checkConfig } from "../../../kernel/config.ts";

/** Fills in the defaults of a config, as the config file's reader does. */
export const defaultsOf = <S extends TSchema>(schema: S, given: unknown): Static<S> =>
  checkConfig(schema, given, "test") as Static<S>;
