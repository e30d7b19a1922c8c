/**
 * `objects` is the present state, `log` its changes in order of revision, `meta` the few numbers that must survive.
 * An object's id is the revision that made it: rows are appended in order, and memory holds every index there is.
 */
import type { Migration } from './index.ts'

export const initial: Migration = {
  name: 'initial',
  sql: `
    CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    CREATE TABLE objects(
      id INTEGER PRIMARY KEY,
      body TEXT NOT NULL
    );

    CREATE TABLE log(
      revision INTEGER PRIMARY KEY,
      kind TEXT NOT NULL,
      type TEXT NOT NULL CHECK (type IN ('ADDED', 'MODIFIED', 'DELETED')),
      at_ms INTEGER NOT NULL,
      body TEXT NOT NULL
    );
  `,
}
