/**
 * JSON bytes: how objects travel. What the store hands out is deeply frozen and shared, so its bytes are made once per
 * commit and not once per watcher; what a client sends is encoded afresh, for nobody promises that it stays as it is.
 */
import type { Manifest, MctlObject } from '../api/meta.ts'
import type { Cause } from '../lib/errors.ts'
import { OpError } from '../lib/errors.ts'
import { sharedJsonBytes } from '../lib/sharedjson.ts'

/** Largest message in either direction; `list` makes pages below it. */
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024

export const toJson = (value: unknown): Buffer => Buffer.from(JSON.stringify(value) ?? 'null')

/** Bytes of an object. Made once when it is frozen, as everything is that comes out of the store. */
export const objectToJson = (object: MctlObject): Buffer => sharedJsonBytes(object)

/** What the bytes say; `what` names them in the OpError Invalid of bytes that are no JSON. */
export function fromJson(bytes: Uint8Array | undefined, what: string): unknown {
  if (bytes === undefined || bytes.length === 0) throw invalid(what, 'Required value')
  try {
    return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'))
  } catch (cause) {
    throw invalid(what, 'Invalid value: must be JSON', cause)
  }
}

/** An object of the store, as a client reads it: the server is trusted to have made it whole. */
export const objectFromJson = (bytes: Uint8Array | undefined): MctlObject => fromJson(bytes, 'object') as MctlObject

/** A manifest from outside: just enough of a check that the write door can name the object in what it says about it. */
export function manifestFromJson(bytes: Uint8Array | undefined): Manifest {
  const value = fromJson(bytes, 'object')
  if (!isRecord(value)) throw invalid('object', 'Invalid value: must be a JSON object')
  const causes: Cause[] = []
  for (const field of ['apiVersion', 'kind'] as const)
    if (typeof value[field] !== 'string' || value[field] === '') causes.push({ field, message: 'Required value' })
  const { metadata } = value
  if (!isRecord(metadata) || typeof metadata['name'] !== 'string' || metadata['name'] === '')
    causes.push({ field: 'metadata.name', message: 'Required value' })
  else if (metadata['namespace'] !== undefined && typeof metadata['namespace'] !== 'string')
    causes.push({ field: 'metadata.namespace', message: 'Invalid value: must be a string' })
  if (causes.length > 0) throw new OpError('Invalid', summary(causes), { causes })
  return value as unknown as Manifest
}

export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

export function invalid(field: string, message: string, cause?: unknown): OpError {
  return new OpError('Invalid', `${field}: ${message}`, { causes: [{ field, message }], cause })
}

const summary = (causes: readonly Cause[]) => causes.map((c) => `${c.field}: ${c.message}`).join(', ')
