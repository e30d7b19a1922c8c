/** One line of the hub's listing, as far as it is believed. */
import { OpError } from '../../lib/errors.ts'

export interface HubEntry {
  readonly name: string
  readonly sizeBytes: number
  /** Of the content, for files in large storage; the others have `blobId`. */
  readonly sha256: string | undefined
  /** Git's sha1 over `blob <size>\0<content>`. */
  readonly blobId: string | undefined
}

export const isCommit = (value: unknown): value is string => typeof value === 'string' && /^[0-9a-f]{40}$/.test(value)
const isSha256 = (value: unknown): value is string => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value)
const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0

/** undefined: a folder, or something in one. Unavailable when the line makes no sense. */
export function entryOf(repository: string, item: unknown): HubEntry | undefined {
  const { type, path, size, oid, lfs } = (item ?? {}) as Readonly<Record<string, unknown>>
  if (type !== 'file') return undefined
  if (typeof path !== 'string' || path === '' || path.length > 512)
    throw new OpError('Unavailable', `read hf://${repository}: its listing has a file without a name`)
  // Not a name that could mean another place on a disk.
  if (path.includes('/') || path.includes('\\') || path.startsWith('.')) return undefined
  const large = (lfs ?? {}) as Readonly<Record<string, unknown>>
  const sizeBytes = large['size'] ?? size
  const sha256 = typeof large['oid'] === 'string' ? large['oid'].replace(/^sha256:/, '') : undefined
  if (!isSize(sizeBytes) || (sha256 !== undefined && !isSha256(sha256)))
    throw new OpError('Unavailable', `read hf://${repository}: its listing tells no size or sha256 of ${path}`)
  return { name: path, sizeBytes, sha256, blobId: sha256 === undefined && isCommit(oid) ? oid : undefined }
}
