/** Get and List: plain reads of the last committed state, with selectors, pages and server-rendered rows. */
import { columnsOf } from '../api/columns.ts'
import type { KindName } from '../api/kinds.ts'
import { kinds } from '../api/kinds.ts'
import type { MctlObject } from '../api/meta.ts'
import { DEFAULT_NAMESPACE } from '../api/meta.ts'
import { selectorOf } from '../api/selectors.ts'
import { OpError } from '../lib/errors.ts'
import { MAX_MESSAGE_BYTES, objectToJson } from '../rpc/json.ts'
import type { Handlers, ListReply, ListRequest, ObjectRef } from '../rpc/messages.ts'
import { notFound } from '../store/refusals.ts'
import type { Snapshot } from '../store/store.ts'
import { checkOwn, checkSelection, isOwn } from './trust/access.ts'
import type { ServerDoors } from './handlers.ts'
import { rowMaker } from './table.ts'

/** A page ends here even without a limit: it must fit into one message with its rows. */
const MAX_PAGE_BYTES = MAX_MESSAGE_BYTES - 1024 * 1024

export function readCalls(doors: ServerDoors): Pick<Handlers, 'get' | 'list'> {
  const { store } = doors
  return {
    async get({ ref, table = false }, { identity }) {
      const snapshot = store.snapshot()
      const object = find(snapshot, ref)
      checkOwn(identity, object, 'read')
      if (!table) return { object }
      return { object, columns: columnsOf(ref.kind), row: rowMaker(doors, snapshot)(object) }
    },

    async list(request, { identity }) {
      checkSelection(identity, request)
      const selects = selectorOf(request)
      const snapshot = store.snapshot()
      const after =
        request.continueToken === undefined ? undefined : readToken(request.continueToken, store.incarnation)
      const chosen = (object: MctlObject) => isOwn(identity, object) && selects(object)
      const { items, last } = pageOf(objectsOf(snapshot, request), chosen, after, request.limit)
      const resourceVersion = after?.revision ?? String(snapshot.revision)
      const token = last && { continueToken: writeToken(last, resourceVersion, store.incarnation) }
      const reply: ListReply = { items, resourceVersion, incarnation: store.incarnation, ...token }
      if (request.table !== true) return reply
      return { ...reply, columns: columnsOf(request.kind), rows: items.map(rowMaker(doors, snapshot)) }
    },
  }
}

/** NotFound in kubectl's words. A namespaced kind without a namespace is looked for in `default`. */
function find(snapshot: Snapshot, ref: ObjectRef): MctlObject {
  const namespace = kinds[ref.kind].namespaced ? ref.namespace || DEFAULT_NAMESPACE : ''
  const object = snapshot.get(ref.kind, namespace, ref.name)
  if (object === undefined) throw notFound({ ...ref, namespace })
  return object
}

const objectsOf = (snapshot: Snapshot, { kind, namespace }: ListRequest): readonly MctlObject[] =>
  snapshot.list<KindName>(kind, kinds[kind].namespaced && namespace !== '' ? namespace : undefined)

interface Position {
  readonly namespace: string
  readonly name: string
  /** Of the first page: a watch from it misses nothing that changed while later pages were read. */
  readonly revision: string
}

/** The objects after a position, up to the limit; `last` is set when there are more. */
function pageOf(
  objects: readonly MctlObject[],
  chosen: (object: MctlObject) => boolean,
  after: Position | undefined,
  limit: number | undefined,
): { items: readonly MctlObject[]; last?: MctlObject } {
  const items: MctlObject[] = []
  const maxItems = limit === undefined || limit <= 0 ? Infinity : limit
  let bytes = 0
  for (const object of objects) {
    if (after !== undefined && !isAfter(object, after)) continue
    if (!chosen(object)) continue
    const last = items.at(-1)
    bytes += objectToJson(object).length
    if (last !== undefined && (items.length >= maxItems || bytes > MAX_PAGE_BYTES)) return { items, last }
    items.push(object)
  }
  return { items }
}

function isAfter({ metadata }: MctlObject, { namespace, name }: Position): boolean {
  const own = metadata.namespace ?? ''
  return own === namespace ? metadata.name > name : own > namespace
}

function writeToken({ metadata }: MctlObject, revision: string, incarnation: string): string {
  const { namespace = '', name } = metadata
  return Buffer.from(JSON.stringify({ namespace, name, revision, incarnation })).toString('base64url')
}

/** OpError Invalid for what we never gave out, Expired for a page of the server's life before. */
function readToken(token: string, incarnation: string): Position {
  const position = parsed(token)
  const { namespace, name, revision } = position
  if (typeof namespace !== 'string' || typeof name !== 'string' || typeof revision !== 'string')
    throw new OpError('Invalid', 'continue: Invalid value: must be the token of the page before')
  if (position['incarnation'] !== incarnation)
    throw new OpError('Expired', 'the continue token is from before the last start of the server: list again')
  return { namespace, name, revision }
}

function parsed(token: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(Buffer.from(token, 'base64url').toString('utf8'))
    return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {}
  } catch {
    return {}
  }
}
