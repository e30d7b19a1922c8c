/** Names of the Models that the system writes: readable, and unique by source and revision. */
import { createHash } from 'node:crypto'

const MAX_SLUG_CHARS = 54

/** `slug(source)-<8 hex of sha256(source@revision)>`; a source without revisions (file:NAME) hashes `source@`. */
export function systemModelName(source: string, revision = ''): string {
  const slug = source
    .replace(/^[a-z]+:(\/\/)?/, '')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(0, MAX_SLUG_CHARS)
    .replaceAll(/^-+|-+$/g, '')
  const hash = createHash('sha256').update(`${source}@${revision}`).digest('hex').slice(0, 8)
  return slug === '' ? hash : `${slug}-${hash}`
}
