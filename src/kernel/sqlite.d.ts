/** What we use of better-sqlite3-multiple-ciphers, whose `exports` hide its own types. */
declare module "better-sqlite3-multiple-ciphers" {
  export interface NativeStatement {
    readonly reader: boolean;
    run(...parameters: unknown[]): { changes: number; lastInsertRowid: number | bigint };
    get(...parameters: unknown[]): unknown;
    all(...parameters: unknown[]): unknown[];
    iterate(...parameters: unknown[]): IterableIterator<unknown>;
    pluck(on?: boolean): this;
    raw(on?: boolean): this;
    safeIntegers(on?: boolean): this;
  }
  export interface SqliteError extends Error {
    readonly code: string;
  }
  export default class NativeDatabase {
    static readonly SqliteError: { new (message: string, code: string): SqliteError; readonly prototype: SqliteError };
    constructor(path: string, options?: { readonly?: boolean; fileMustExist?: boolean; timeout?: number });
    readonly open: boolean;
    readonly inTransaction: boolean;
    prepare(sql: string): NativeStatement;
    exec(sql: string): this;
    key(key: Buffer): number;
    rekey(key: Buffer): number;
    pragma(sql: string, options?: { simple?: boolean }): unknown;
    close(): this;
  }
}
