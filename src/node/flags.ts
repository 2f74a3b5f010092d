/** The flags that every Node process of ours is started with; bin/node has the same. */

/**
 * V8 14.6 compiles loops over variables of an enclosing function wrongly when it enters them half-way (Maglev OSR with
 * function context cells): reading a journal answered wrong records, in some starts. Flags are part of the compile cache's key.
 */
export const NODE_FLAGS: readonly string[] = ["--no-function-context-cells"];
