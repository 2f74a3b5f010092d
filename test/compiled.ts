/** Loaded before each test file: what one has read and compiled of the source the next one need not. */
import { enableCompileCache } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";

enableCompileCache(path.join(tmpdir(), `holdfast-test-compiled-${process.getuid?.() ?? 0}`));
