/** Tables of core-data. */

export const SCHEMA = `
  CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE publisher (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
  CREATE TABLE series (id INTEGER PRIMARY KEY, json TEXT NOT NULL);
  -- since, kept: seconds of the retention clock when the first and the last of its events were kept.
  CREATE TABLE chunk (
    id INTEGER PRIMARY KEY, series INTEGER NOT NULL, publisher INTEGER NOT NULL, epoch INTEGER NOT NULL,
    first_sequence INTEGER NOT NULL, last_sequence INTEGER NOT NULL, min_origin INTEGER NOT NULL, max_origin INTEGER NOT NULL,
    rows INTEGER NOT NULL, readings INTEGER NOT NULL, sealed INTEGER NOT NULL, since INTEGER NOT NULL, kept INTEGER NOT NULL,
    blocks BLOB NOT NULL
  );
  CREATE INDEX chunk_newest ON chunk (max_origin DESC, id DESC, series, min_origin, rows, readings);
  CREATE INDEX chunk_series ON chunk (series, max_origin DESC, id DESC, min_origin, rows, readings);
  CREATE INDEX chunk_sequence ON chunk (publisher, epoch, last_sequence, first_sequence);
  CREATE INDEX chunk_open ON chunk (series, publisher, epoch) WHERE sealed = 0;
  -- Ids that strangers chose. Those of our own services are derived from publisher, epoch and sequence.
  CREATE TABLE foreign_id (id PRIMARY KEY, publisher INTEGER NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL) WITHOUT ROWID;
`;

/** Version 2: what retention has emptied of a chunk, and an index by which what is too old is found. */
export const SCHEMA_RETENTION = `
  -- The columns that retention has emptied, by number: "0,3".
  ALTER TABLE chunk ADD COLUMN thinned TEXT NOT NULL DEFAULT '';
  CREATE INDEX chunk_kept ON chunk (series, kept, id, rows, thinned);
`;
