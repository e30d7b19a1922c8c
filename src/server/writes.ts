/** The calls of people, GitOps and scripts that write: each is one transaction through the store's write door. */
import { OpError } from '../lib/errors.ts'
import type { Handlers, WriteOptions, WriteReply } from '../rpc/messages.ts'
import type { Written } from '../store/objects.ts'
import { applyObject, createObject, deleteObject, patchObject, updateObject } from '../store/objects.ts'
import { checkWrite } from './trust/access.ts'
import { audited } from './audit.ts'
import type { ServerDoors } from './handlers.ts'

/** Who owns the fields of a writer that gives no name. */
const DEFAULT_MANAGER = 'mctl'
const MAX_MANAGER_CHARS = 128

export type WriteCalls = Pick<Handlers, 'create' | 'update' | 'patch' | 'apply' | 'delete'>

export function writeCalls({ store, log }: ServerDoors): WriteCalls {
  return {
    async create({ object, options }, { identity }) {
      checkWrite(identity, 'create', object.kind)
      return audited(log, { identity, verb: 'create', target: named(object), ...dry(options) }, () =>
        store.transact((tx) => reply(createObject(tx, object, managed(options)))),
      )
    },

    async update({ object, options }, { identity }) {
      checkWrite(identity, 'update', object.kind)
      return audited(log, { identity, verb: 'update', target: named(object), ...dry(options) }, () =>
        store.transact((tx) => reply(updateObject(tx, object, managed(options)))),
      )
    },

    async patch({ ref, type, patch, options, preconditions }, { identity }) {
      checkWrite(identity, 'patch', ref.kind)
      const all = { ...managed(options), ...(preconditions !== undefined && { preconditions }) }
      return audited(log, { identity, verb: 'patch', target: ref, ...dry(options) }, () =>
        store.transact((tx) => reply(patchObject(tx, ref, type, patch, all))),
      )
    },

    async apply({ object, force = false, options }, { identity }) {
      checkWrite(identity, 'apply', object.kind)
      return audited(log, { identity, verb: 'apply', target: named(object), ...dry(options) }, () =>
        store.transact((tx) => reply(applyObject(tx, object, { ...managed(options), force }))),
      )
    },

    async delete({ ref, ...options }, { identity }) {
      checkWrite(identity, 'delete', ref.kind)
      return audited(log, { identity, verb: 'delete', target: ref, ...dry(options) }, () =>
        store.transact((tx) => deleteObject(tx, ref, options)),
      )
    },
  }
}

const named = ({ kind, metadata }: { kind: string; metadata: { name: string; namespace?: string } }) => {
  const { namespace, name } = metadata
  return { kind, name, ...(namespace !== undefined && { namespace }) }
}

const dry = (options: { readonly dryRun?: boolean } | undefined) => (options?.dryRun === true ? { dryRun: true } : {})

function managed(options: WriteOptions = {}): WriteOptions & { fieldManager: string } {
  const fieldManager = options.fieldManager || DEFAULT_MANAGER
  if (fieldManager.length > MAX_MANAGER_CHARS || !/^[\x20-\x7e]+$/.test(fieldManager))
    throw new OpError('Invalid', `fieldManager: must be at most ${MAX_MANAGER_CHARS} printable ASCII characters`)
  return { ...options, fieldManager }
}

const reply = ({ object, result, warnings }: Written): WriteReply =>
  warnings.length === 0 ? { object, result } : { object, result, warnings }
