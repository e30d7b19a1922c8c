/** `objects` is the present state, `log` its changes in order of revision, `meta` the few numbers that must survive. */
import type { Migration } from './index.ts'

export const initial: Migration = {
  name: 'initial',
  sql: `
    CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    CREATE TABLE objects(
      id INTEGER PRIMARY KEY,
      kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
      uid TEXT NOT NULL UNIQUE,
      revision INTEGER NOT NULL,
      body TEXT NOT NULL,
      UNIQUE(kind, namespace, name)
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
