/**
 * Watch: the store's frames as one selection sees them. An object that leaves the selection is DELETED for its watcher,
 * one that enters is ADDED; a bookmark each minute moves the position of a watcher whose selection is quiet.
 */
import { columnsOf } from '../api/columns.ts'
import { kinds } from '../api/kinds.ts'
import type { MctlObject } from '../api/meta.ts'
import { selectorOf } from '../api/selectors.ts'
import type { Clock } from '../lib/clock.ts'
import { every, nextTurn } from '../lib/clock.ts'
import { OpError } from '../lib/errors.ts'
import type { Handlers, Identity, WatchEvent, WatchRequest } from '../rpc/messages.ts'
import type { Change, Store, WatchFrame, WatchOptions } from '../store/store.ts'
import { checkSelection, isOwn } from './trust/access.ts'
import type { ServerDoors } from './handlers.ts'
import { rowMaker } from './table.ts'

const BOOKMARK_MS = 60_000

export function watchCalls(doors: ServerDoors): Pick<Handlers, 'watch'> {
  const { store, clock } = doors
  return {
    async *watch(request, { identity, signal }) {
      checkSelection(identity, request)
      const chosen = chooser(request, identity)
      const from = startOf(request, store)
      const columns = request.table === true ? { columns: columnsOf(request.kind) } : {}
      yield { type: 'HEADER', incarnation: store.incarnation, clusterUid: store.clusterUid, ...columns }
      for await (const frame of frames(store, { kinds: [request.kind], from, signal }, clock)) {
        const event = eventOf(frame, chosen)
        if (event === undefined) continue
        if (request.table !== true || !('object' in event)) yield event
        else yield { ...event, row: rowMaker(doors, store.snapshot())(event.object) }
      }
    },
  }
}

function chooser(request: WatchRequest, identity: Identity): (object: MctlObject) => boolean {
  const selects = selectorOf(request)
  const { kind, namespace } = request
  const inNamespace = kinds[kind].namespaced && namespace !== undefined && namespace !== '' ? namespace : undefined
  return (object) =>
    (inNamespace === undefined || object.metadata.namespace === inNamespace) &&
    isOwn(identity, object) &&
    selects(object)
}

/** Where the watch begins. OpError Expired for another incarnation: its revisions may never have been, or be others. */
function startOf({ resourceVersion = '', incarnation }: WatchRequest, store: Store): 'initial' | number {
  if (resourceVersion === '' || resourceVersion === '0') return 'initial'
  // A restored store counts on from the time of day in microseconds: sixteen digits.
  if (!/^\d+$/.test(resourceVersion) || !Number.isSafeInteger(Number(resourceVersion)))
    throw new OpError(
      'Invalid',
      `resourceVersion: Invalid value: ${JSON.stringify(resourceVersion)}: must be a revision`,
    )
  if (incarnation !== undefined && incarnation !== store.incarnation)
    throw new OpError('Expired', 'the server was started anew since this resource version was read: list again')
  return Number(resourceVersion)
}

/** What one selection sees of a frame; undefined: nothing. Pure. */
export function eventOf(frame: WatchFrame, chosen: (object: MctlObject) => boolean): WatchEvent | undefined {
  const resourceVersion = String(frame.revision)
  if (frame.type === 'BOOKMARK') return { type: 'BOOKMARK', resourceVersion, initialEventsEnd: frame.initialEventsEnd }
  const type = typeFor(frame, chosen)
  return type === undefined ? undefined : { type, object: frame.object, resourceVersion }
}

function typeFor(
  { type, object, previous }: Change,
  chosen: (object: MctlObject) => boolean,
): Change['type'] | undefined {
  const isIn = chosen(object)
  if (type !== 'MODIFIED') return isIn ? type : undefined
  // Read back from the log there is no state before. To be told of a leave that was none, or of a change where it was an
  // entry, does no harm; not to be told of a leave would.
  if (previous === undefined) return isIn ? 'MODIFIED' : 'DELETED'
  const wasIn = chosen(previous)
  if (isIn) return wasIn ? 'MODIFIED' : 'ADDED'
  return wasIn ? 'DELETED' : undefined
}

/**
 * The store's frames, and a bookmark in each minute in which the position moved. Never ahead of what was not delivered: a change that is
 * committed wakes the watch in the same turn, so the revision of a turn in which nothing came is wholly delivered.
 */
async function* frames(store: Store, options: WatchOptions, clock: Clock): AsyncIterable<WatchFrame> {
  const over = new AbortController()
  const end = () => over.abort()
  if (options.signal.aborted) return
  options.signal.addEventListener('abort', end, { once: true })
  let due = false
  let sent = 0
  let wake = () => {}
  void every(clock, BOOKMARK_MS, over.signal, () => {
    due = true
    wake()
  })
  const iterator = store.watch({ ...options, signal: over.signal })[Symbol.asyncIterator]()
  try {
    for (let next = iterator.next(); ;) {
      const frame = await Promise.race([next, new Promise<undefined>((resolve) => (wake = () => resolve(undefined)))])
      if (frame?.done === true) return
      if (frame !== undefined) {
        sent = frame.value.revision
        yield frame.value
        next = iterator.next()
      } else if (due) {
        due = false
        const { revision } = store.snapshot()
        const isQuiet = await Promise.race([next.then(() => false), turn().then(() => true)])
        if (!isQuiet || revision <= sent) continue
        sent = revision
        yield { type: 'BOOKMARK', revision, initialEventsEnd: false }
      }
    }
  } finally {
    options.signal.removeEventListener('abort', end)
    // Before the return: a watch that waits for a change could not hear it.
    end()
    await iterator.return?.()
  }
}

const turn = () => new Promise<void>((resolve) => nextTurn(resolve))
