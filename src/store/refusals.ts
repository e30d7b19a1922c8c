/** The errors of the store and its write door, in Kubernetes' words: scripts and people know them. */
import { isKindName, resourceName } from '../api/kinds.ts'
import type { ObjectKey } from '../api/meta.ts'
import { OpError } from '../lib/errors.ts'

const nameOf = ({ kind, name }: ObjectKey): string => `${isKindName(kind) ? resourceName(kind) : kind} "${name}"`

export const notFound = (key: ObjectKey): OpError => new OpError('NotFound', `${nameOf(key)} not found`)

export const uidNotFound = (uid: string): OpError => new OpError('NotFound', `no object has the uid "${uid}"`)

export const alreadyExists = (key: ObjectKey): OpError => new OpError('AlreadyExists', `${nameOf(key)} already exists`)

export const modifiedMeanwhile = (key: ObjectKey): OpError =>
  new OpError(
    'Conflict',
    `Operation cannot be fulfilled on ${nameOf(key)}: the object has been modified; ` +
      'please apply your changes to the latest version and try again',
  )

export const uidDiffers = (key: ObjectKey, wanted: string, actual: string): OpError =>
  new OpError(
    'Conflict',
    `Operation cannot be fulfilled on ${nameOf(key)}: ` +
      `Precondition failed: UID in precondition: ${wanted}, UID in object meta: ${actual}`,
  )

export const forbidden = (key: ObjectKey, why: string): OpError =>
  new OpError('Forbidden', `${nameOf(key)} is forbidden: ${why}`)

export const tooOld = (revision: number, compacted: number): OpError =>
  new OpError('Expired', `too old resource version: ${revision} (${compacted})`)

export const tooNew = (revision: number, current: number): OpError =>
  new OpError('Expired', `too large resource version: ${revision}, current: ${current}`)

export const unresponsive = (pending: number): OpError =>
  new OpError('Expired', `the watch was closed due to unresponsiveness: ${pending} changes were waiting; list again`)
